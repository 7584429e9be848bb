"""Scores of a grouping, the record of an evaluation, and the tables and figures made from records.

`metrics`, `record`, `tables` and `figures` need NumPy alone, and matplotlib once something is drawn: no TensorFlow and
no settings. `passes` runs a model over a data set and knows TensorFlow.
"""
