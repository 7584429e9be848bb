"""Scores of a grouping, the record of an evaluation, and the tables and figures made from records.

`metrics`, `summary`, `record`, `naming`, `tables` and `figures` need NumPy alone, matplotlib once something is drawn,
and the `doctor` SciPy: no TensorFlow and no settings. `passes` runs a model over a data set and knows TensorFlow.
"""
