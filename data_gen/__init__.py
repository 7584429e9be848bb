"""Data sets of the N-EM paper, written as HDF5 files in the layout of the authors' files.

    python -m data_gen --dataset=flying_shapes

Knows nothing of `nem_tf`; the two share only the file format, which `data_gen.writer` describes.
"""

__version__ = "1"  # of the data: a change of it says that the same seed gives other sequences
