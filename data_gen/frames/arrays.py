"""NumPy's files and HDF5 as clips, read a frame at a time."""

import contextlib
import dataclasses
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from data_gen import DataGenError, claims
from data_gen.frames.clip import RATE, Clip, Frame, check_size, one_sentence
from data_gen.names import LAYOUTS, SPLITS
from data_gen.npy import ERRORS, read_header

CHANNELS = (1, 2, 3, 4)
NAMED = "frames"  # which array is taken where there are several
# The largest values of what people store: fractions or binary; 8, 10, 12 and 16 bits.
WHITES, FRACTION_WHITES = (1, 255, 1023, 4095, 65535), (1, 255)


def array_clips(
    path: Path, name: str, layout: str | None = None, split: str | None = None, sequences: int | None = None
) -> Iterator[Clip]:
    """Yields the clips of a file, animations by their kind; each is to be read before the next is asked for.

    Of several arrays it takes the one that is named `frames`, or all of three axes and more; of a data set of this
    package the features. The values are looked at first: numbers in [0, 1], or from 0 to 255 or to what else integers
    may reach, which becomes 1.

    Arguments:
        path, name: the file, and what its user calls it.
        layout: one of `data_gen.names.LAYOUTS`; None to read it off the shapes.
        split: of a data set, which; None for all.
        sequences: of an array of many clips, how many; None for all.

    Raises:
        DataGenError: the file cannot be read, holds no numbers in such a range, or none of the layout.
    """
    arrays = _arrays(path, name, split)
    # Opened once for all: to open an .npz means to read the names of all its members.
    with _readable(path, name), _opened(path) as file:
        for array in arrays:
            axes = _layout_of(array, layout)
            with array.values_of(file, "TN" in axes) as values:
                white = array.white or _white(array, axes, values)
                length, many = (array.shape[axes.index(axis)] if axis in axes else 1 for axis in "TN")
                taken = min(many, sequences or many)
                for n in range(taken):
                    which = (f"{array.name}[{n}]", f"{array.stem}_{n}") if "N" in axes else (array.name, array.stem)
                    pixels = _frames(array, axes, values, n, which[0], white)
                    # The user may not have set the flag of `nem_tf.segment`, which is how to see more.
                    notes = [f"the first {taken} of {many} by --sequences"] if n == 0 and taken < many else []
                    yield Clip(*which, ".gif", pixels, length, white=white, notes=notes, of_data_set=array.of_data_set)


def array_length(path: Path, name: str, layout: str | None = None) -> int | None:
    """Returns how many frames the clips of a file have at least where an array holds many of them, else None.

    Raises:
        DataGenError: as `array_clips`.
    """
    layouts = [(array, _layout_of(array, layout)) for array in _arrays(path, name)]
    return min((array.shape[axes.index("T")] for array, axes in layouts if "N" in axes), default=None)


# ---- Which arrays there are, by their headers.


@dataclasses.dataclass(frozen=True)
class _Array:
    """Numbers in a file; `member` of an .npz or HDF5, `label` of one of several, `white` of a data set."""

    path: Path
    file_name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    member: str = ""
    label: str = ""
    white: int | None = None

    @property
    def of_data_set(self) -> bool:
        return self.white is not None

    @property
    def name(self) -> str:
        return self.file_name + (self.label and f":{self.label}")

    @property
    def stem(self) -> str:
        return "_".join([self.path.stem, *filter(None, self.label.split("/"))])

    @contextlib.contextmanager
    def values_of(self, file, at_random: bool) -> Iterator["_Plain | h5py.Dataset"]:
        """Opens what gives its values by index, in the open file; `at_random` if not in the order of the file."""
        with contextlib.ExitStack() as stack:
            if isinstance(file, h5py.File):
                yield file[self.member]
                return
            if isinstance(file, zipfile.ZipFile):
                file = stack.enter_context(file.open(self.member))
                if at_random:  # which a packed file cannot
                    unpacked = stack.enter_context(tempfile.TemporaryFile())
                    shutil.copyfileobj(file, unpacked)
                    file = unpacked
                    file.seek(0)
            yield _Plain(file, *read_header(file))


class _Plain:
    """Frames of an open .npy file, read by seeking: a map of the file would count as memory."""

    def __init__(self, file, shape, fortran, dtype):
        self._file, self._shape, self._dtype, self._start = file, shape, dtype, file.tell()

    def __getitem__(self, index):
        size = _bytes(self._shape[len(index) :], self._dtype)
        self._file.seek(self._start + int(np.ravel_multi_index(index, self._shape[: len(index)])) * size)
        return np.frombuffer(self._file.read(size), self._dtype).reshape(self._shape[len(index) :])


def _is_hdf5(path):
    return path.suffix.lower() in (".h5", ".hdf5")


def _readable(path, name):
    """Says in one sentence that a file cannot be read."""
    kind = "HDF5" if _is_hdf5(path) else path.suffix.lower()[1:]
    return one_sentence(lambda: f"{name} cannot be read as {kind}; it may be damaged or truncated", ERRORS)


def _opened(path):
    if _is_hdf5(path):
        return h5py.File(path, rdcc_nbytes=claims.LARGEST_CHUNK)
    return zipfile.ZipFile(path) if path.suffix.lower() == ".npz" else path.open("rb")


def _arrays(path: Path, name: str, split: str | None = None) -> list[_Array]:
    with _readable(path, name):
        if _is_hdf5(path):
            return _in_hdf5(path, name, split)
        return _in_npz(path, name) if path.suffix.lower() == ".npz" else [_in_npy(path, name)]


def _in_npy(path, name):
    with path.open("rb") as file:
        return _plain(file, path.stat().st_size, path, name)


def _in_npz(path, name):
    arrays = []
    with zipfile.ZipFile(path) as archive:
        for member in (each for each in archive.infolist() if each.filename.endswith(".npy")):
            with archive.open(member) as file:
                arrays.append(_plain(file, member.file_size, path, name, member.filename, member.compress_size))
    return _chosen(arrays, name)


def _plain(file, size, path, name, member="", packed=None):
    shape, fortran, dtype = read_header(file)
    array = _Array(path, name, shape, dtype, member, member.removesuffix(".npy"))
    if dtype.hasobject or (fortran and len(shape) > 1):
        kind = "Python objects" if dtype.hasobject else "numbers in Fortran's order"
        raise DataGenError(
            f"{array.name} holds {kind}: expected numbers as np.save writes np.ascontiguousarray(frames)"
        )
    missing = file.tell() + _bytes(shape, dtype) - size
    if missing > 0:
        raise EOFError(f"it ends {missing} bytes before {_told(array)} is complete")
    _check_packing(array, size if packed is None else packed)
    return array


def _in_hdf5(path, name, split):
    arrays = []
    with h5py.File(path) as file:
        features = [f"{each}/features" for each in SPLITS if getattr(file.get(f"{each}/features"), "ndim", 0) == 5]
        if split is not None and features:
            if f"{split}/features" not in features:
                raise DataGenError(f"{name} has no {split} split: expected one of {', '.join(features)}")
            features = [f"{split}/features"]

        for member, link in claims.members_of(file).items():
            item = file[member] if isinstance(link, h5py.HardLink) else None
            if isinstance(item, h5py.Dataset) and item.shape is not None and (member in features or not features):
                white = claims.white_of(item) if features else None
                label = member.removesuffix("/features")
                arrays.append(_Array(path, name, item.shape, item.dtype, member, label, white))
        chosen = arrays if features else _chosen(arrays, name)
        for array in chosen:
            _check_packing(array, file[array.member].id.get_storage_size(), file[array.member].chunks)
            claims.check_chunks(file[array.member])
    return chosen


def _chosen(arrays, name):
    """The array that is named `frames`, or all of three axes and more; the name of the only one is that of the file."""
    named = [array for array in arrays if array.label.rpartition("/")[2] == NAMED]
    chosen = named or [array for array in arrays if len(array.shape) >= 3] or arrays
    if not chosen:
        raise DataGenError(f"{name} holds nothing: expected an array of frames")
    return [dataclasses.replace(chosen[0], label="")] if len(chosen) == 1 else chosen


def _check_packing(array, packed, chunks=None):
    try:
        claims.check_claims(array.name, array.dtype, array.shape, packed, chunks)
    except ValueError as error:
        raise DataGenError(str(error)) from error


def _bytes(shape, dtype):
    return math.prod(shape) * dtype.itemsize  # whole numbers of Python do not overflow


def _told(array):
    return f"{array.dtype} {array.shape}"


def _layout_of(array: _Array, layout: str | None) -> str:
    shape, told = array.shape, _told(array)
    if layout is None:
        four = "THWC" if shape[-1:] and shape[-1] in CHANNELS else "TNHW"  # as Moving MNIST has it
        axes = {3: "THW", 4: four, 5: "TNHWC"}.get(len(shape), "")
    else:
        axes = layout
    fits = len(shape) == len(axes) > 0
    if array.dtype.kind not in "buif" or not fits or (axes[-1] == "C" and shape[-1] not in CHANNELS):
        expected = " or ".join(LAYOUTS if layout is None else [layout])
        raise DataGenError(
            f"{array.name} holds {told}: expected numbers {expected}, N for videos, C 1 to 4; --layout chooses"
        )
    if min(shape) < 1:
        raise DataGenError(f"{array.name} has no frames: it holds {told}")
    with one_sentence(lambda: f"{array.name} cannot be read", ERRORS):
        check_size(*(shape[axes.index(axis)] for axis in "HW"))
    return axes


# ---- Their values.


def _white(array, axes, values):
    """The value that becomes 1, after a look at all of them."""
    low, high = math.inf, -math.inf
    for index in np.ndindex(*(side for side, axis in zip(array.shape, axes) if axis in "NT")):
        pixels = values[index]
        least, most = pixels.min().item(), pixels.max().item()
        if not (math.isfinite(least) and math.isfinite(most)):
            video = f"[{index[axes.index('N')]}]" if "N" in axes else ""
            raise DataGenError(
                f"{array.name}{video}: frame {index[axes.index('T')]} holds NaN or infinity: expected numbers in "
                "[0, 1] or [0, 255]"
            )
        low, high = min(low, least), max(high, most)
    whites = FRACTION_WHITES if array.dtype.kind == "f" else WHITES
    fitting = [white for white in whites if low >= 0 and high <= white]
    if not fitting:
        expected = " or ".join(f"[0, {white}]" for white in whites)
        raise DataGenError(f"{array.name} holds values from {low:g} to {high:g}: expected numbers in {expected}")
    return fitting[0]


def _frames(array, axes, values, n, name, white):
    t, whole = 0, white == 255 and array.dtype.kind != "f"
    with one_sentence(lambda: f"{name}: frame {t} cannot be read", ERRORS):
        for t in range(array.shape[axes.index("T")]):
            pixels = values[tuple({"T": t, "N": n}[axis] for axis in axes if axis in "TN")]
            if array.white and not (pixels.min() >= 0 and pixels.max() <= white):
                raise DataGenError(
                    f"{name}: frame {t} holds values from {pixels.min():g} to {pixels.max():g}: expected numbers in "
                    f"[0, {white}], as the attribute white says"
                )
            pixels = pixels.astype(np.uint8) if whole else pixels.astype(np.float32) / np.float32(white)
            yield Frame(pixels if "C" in axes else pixels[..., None], t / RATE)
