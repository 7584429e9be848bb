"""Headers of npy files of strangers, and what reading such files may raise."""

import lzma
import tokenize
import zipfile
import zlib
from typing import BinaryIO

import numpy as np

# What a damaged npy or npz raises; TypeError, SyntaxError and TokenError are of headers, which NumPy reads as Python.
ERRORS = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, OverflowError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, TypeError, SyntaxError, tokenize.TokenError,
)  # fmt: skip


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the header of an npy file; the numbers follow where the file stands then.

    Arguments:
        file: the open file, at its beginning.

    Returns:
        Shape, whether the numbers are in Fortran's order, and dtype.

    Raises:
        Exception: the header is damaged; one of `ERRORS`.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
