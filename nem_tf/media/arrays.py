"""NumPy's files and HDF5 as clips, read frame by frame."""

import contextlib
import functools
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from nem_tf.errors import UserError
from nem_tf.media.clip import Clip, Frame

NUMPY, HDF5 = (".npy", ".npz"), (".h5", ".hdf5")
ARRAYS = NUMPY + HDF5
RATE = Fraction(10)  # frames a second of what has no time
FRAMES = "frames"  # which array is taken where there are several
BLOCK = 16  # frames that are read at once from a file without chunks
# The largest values of what people store: fractions or binary; 8, 10, 12 and 16 bits.
WHITES, FRACTION_WHITES = (1, 255, 1023, 4095, 65535), (1, 255)


class Array(NamedTuple):
    """Numbers [T, H, W] or [T, H, W, C] in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterator[np.ndarray]]  # reads them from the start, some frames at once
    white: int | None = None  # the largest value, where the file says it


def array_clips(path: Path, name: str, split: str, sequences: int) -> Iterator[Clip]:
    """Yields a clip, animations by their kind; of a data set of this package one a sequence.

    The values are looked at first: numbers in [0, 1], or from 0 to 255 or to what else integers may reach, which
    becomes 1.

    Arguments:
        path, name: the file, and what its user calls it.
        split, sequences: of a data set, which and how many.

    Raises:
        UserError: it cannot be read, holds no such numbers, or several arrays of which none is named `frames`.
    """
    find = _in_numpy if path.suffix.lower() in NUMPY else functools.partial(_in_hdf5, split=split, sequences=sequences)
    for suffix, array in _read(path, name, lambda: list(find(path, name))):
        label = f"{name} {suffix}".strip()
        shape, notes = array.shape, []
        if array.dtype.kind not in "buif" or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in range(5)):
            raise UserError(
                f"{label} holds {array.dtype} {shape}: expected numbers [T, H, W] or [T, H, W, C] with 1 to 4 channels"
            )
        if 0 in shape:
            raise UserError(f"{label} has no frames: it holds {array.dtype} {shape}")
        white = _read(path, name, functools.partial(_white, array, label))
        if white != 1:
            notes.append(f"0..{white} to 0..1")
        stem = "_".join([path.stem, *suffix.split()])
        yield Clip(label, stem, ".gif", _frames(path, name, array, white), shape[0], RATE, notes)


def _frames(path, name, array, white):
    number = 0
    blocks = array.blocks()
    while (block := _read(path, name, lambda: next(blocks, None))) is not None:
        for pixels in block.astype(np.float32) / np.float32(white):
            yield Frame(pixels.reshape(*array.shape[1:3], -1), number / RATE)
            number += 1


def _read(path, name, read):
    """read(), its errors as sentences."""
    try:
        return read()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        kind = "an HDF5" if path.suffix.lower() in HDF5 else f"an {path.suffix.lower()[1:]}"
        raise UserError(f"{name} is not {kind} file that can be read, or a truncated one: {error}") from error


def _white(array, label):
    """The value that becomes 1, after a look at all of them."""
    low, high, number = np.inf, -np.inf, 0
    for block in array.blocks():
        if not np.isfinite(block).all():
            bad = number + int(np.argmin(np.isfinite(block).reshape(len(block), -1).all(1)))
            raise UserError(f"{label}: frame {bad} holds NaN or infinity: expected numbers in [0, 1] or [0, 255]")
        low, high, number = min(low, block.min()), max(high, block.max()), number + len(block)
    whites = [array.white] if array.white else FRACTION_WHITES if array.dtype.kind == "f" else WHITES
    fitting = [white for white in whites if high <= white]
    if low < 0 or not fitting:
        expected = " or ".join(f"[0, {white}]" for white in whites)
        raise UserError(f"{label} holds values from {low:g} to {high:g}: expected numbers in {expected}")
    return fitting[0]


def _in_numpy(path, name):
    member = None
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as archive:
            names = [each.removesuffix(".npy") for each in archive.namelist()]
        member = _the_one(name, names) + ".npy"

    @contextlib.contextmanager
    def opened():
        if member is None:
            with path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                yield file

    with opened() as file:
        shape, fortran, dtype = _header(file)
    if dtype.hasobject or (fortran and len(shape) > 1):
        kind = "Python objects" if dtype.hasobject else "numbers in Fortran's order"
        raise UserError(f"{name} holds {kind}: expected numbers as np.save writes np.ascontiguousarray(frames)")

    def blocks():
        size = int(np.prod(shape[1:])) * dtype.itemsize
        with opened() as file:
            _header(file)
            for _ in range(shape[0]):
                values = file.read(size)
                if len(values) < size:
                    raise EOFError(f"it ends before frame {shape[0] - 1}")
                yield np.frombuffer(values, dtype).reshape(1, *shape[1:])

    yield "", Array(shape, dtype, blocks)


def _header(file):
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _in_hdf5(path, name, split, sequences):
    with h5py.File(path) as file:
        place = f"{split}/features"
        if isinstance(file.get(place), h5py.Dataset) and file[place].ndim == 5:
            shape = file[place].shape
            for n in range(min(sequences, shape[1])):
                yield f"{split} {n}", _hdf5_array(path, file[place], n)
            return
        names = []
        file.visititems(lambda each, item: names.append(each) if isinstance(item, h5py.Dataset) else None)
        yield "", _hdf5_array(path, file[_the_one(name, names, f", or a data set with {place} [T, N, H, W, C]")])


def _hdf5_array(path, dataset, n=None):
    place, white = dataset.name, dataset.attrs.get("white")
    shape = dataset.shape if n is None else (dataset.shape[0], *dataset.shape[2:])
    step = dataset.chunks[0] if dataset.chunks else BLOCK

    def blocks():
        with h5py.File(path) as file:
            for start in range(0, shape[0], step):
                chosen = slice(start, start + step)
                yield file[place][chosen] if n is None else file[place][chosen, n]

    return Array(shape, dataset.dtype, blocks, white and int(white))


def _the_one(name, names, otherwise=""):
    """The only array of a file, or the one that is named `frames`."""
    if FRAMES in names or len(names) == 1:
        return FRAMES if FRAMES in names else names[0]
    held = ", ".join(names[:4]) + (", .." if len(names) > 4 else "")
    raise UserError(f"{name} holds {held or 'nothing'}: expected one array, or one named {FRAMES}{otherwise}")
