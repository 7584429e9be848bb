"""Data sets: one HDF5 file each, its identity, and what is read from it into batches. They know no model."""

from nem_tf.data.file import identity_of, load_split, source_of
from nem_tf.data.split import Batch, Split

__all__ = ["Batch", "Split", "identity_of", "load_split", "source_of"]
