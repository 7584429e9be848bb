"""Training in pieces of one purpose each; `trainer` orders them and is given all of them. They know no settings."""
