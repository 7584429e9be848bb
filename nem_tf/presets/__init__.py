"""Trained models that are shipped: a directory each, with its settings, its weights and a card that says what it is."""
