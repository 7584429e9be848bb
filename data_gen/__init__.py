"""Data sets of N-EM (Greff et al., 2017) and R-NEM (van Steenkiste et al., 2018), in the authors' HDF5 layout.

    python -m data_gen --dataset=flying_shapes

A program calls `data_gen.generate.generate` instead. This package knows nothing of `nem_tf`: the two share the file
format, which `data_gen.writer` describes, and the names of the data sets, which `data_gen.names` takes apart.
"""

__version__ = "2"  # of the data: raise it when the same seed and settings give other sequences than before


class DataGenError(Exception):
    """Says that what was asked for cannot be done; the message is one sentence for the user."""
