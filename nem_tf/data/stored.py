"""Sequences that stay in their file and are read when they are asked for, where memory is too small for them."""

import concurrent.futures
import os
import zlib
from pathlib import Path

import h5py
import numpy as np
from h5py._objects import phil

from nem_tf.errors import UserError

MEMORY_SHARE = 0.25  # of the free memory that a split may take before it is read from its file
READERS = 4  # threads that decompress, most of which wait
_CGROUP = Path("/sys/fs/cgroup")


class Stored:
    """The first N sequences of a (T, N, H, W, C) data set, in its file; the same methods as those of `Packed`.

    Several threads may take at a time.

    Arguments:
        dataset: of a file that may be closed afterwards: this one opens it again.
        shape: (N, T, H, W, C) of what is taken, N and T at most those of the data set.
        dtype: uint8 or float32, of what is taken.
    """

    def __init__(self, dataset: h5py.Dataset, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._path = dataset.file.filename
        self._dataset = h5py.File(self._path)[dataset.name]
        self._whole_chunks = _is_deflated_by_sequence(dataset)
        self._pool = concurrent.futures.ThreadPoolExecutor(READERS)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes in memory: none."""
        return 0

    def take(self, index: np.ndarray, window: slice = slice(None)) -> np.ndarray:
        """Returns frames of some sequences, [len(index), frames in the window, H, W, C].

        Raises:
            UserError: the file is damaged.
        """
        start, stop, _ = window.indices(self.shape[1])
        out = np.empty((len(index), max(0, stop - start), *self.shape[2:]), self.dtype)

        def fill(place):
            out[place] = self._read(int(index[place]), start, stop)

        if out.size:
            try:
                list(self._pool.map(fill, range(len(index))))
            except (OSError, ValueError, RuntimeError, zlib.error) as error:
                raise UserError(f"{self._path} is damaged: {self._dataset.name} cannot be read ({error})") from error
        return out

    def _read(self, number, start, stop):
        """Frames of one sequence. Whole chunks are read under h5py's lock and decompressed outside of it."""
        if not self._whole_chunks:
            return self._dataset[start:stop, number]
        with phil:  # every call of h5py takes its lock but this one, which crashes beside others
            mask, packed = self._dataset.id.read_direct_chunk((0, number, 0, 0, 0))
        plain = packed if mask else zlib.decompress(packed)
        frames, _, *image = self._dataset.shape
        return np.frombuffer(plain, self._dataset.dtype).reshape(frames, *image)[start:stop]


def is_by_sequence(dataset: h5py.Dataset) -> bool:
    """Tells whether one sequence of a (T, N, H, W, C) data set can be read without others."""
    return dataset.chunks is None or dataset.chunks[1] == 1


def _is_deflated_by_sequence(dataset: h5py.Dataset) -> bool:
    """Tells whether a chunk is one whole sequence, compressed by gzip and nothing else; all chunks have to be there."""
    frames, size, *image = dataset.shape
    filters = dataset.id.get_create_plist()
    return (
        dataset.chunks == (frames, 1, *image)
        and filters.get_nfilters() == 1
        and dataset.compression == "gzip"
        and dataset.id.get_num_chunks() == size
    )


def free_memory() -> int:
    """Returns the bytes of memory that this process may still take: those of the machine, or of its container."""
    free = _of_machine()
    try:
        limit, used = ((_CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        inactive = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())["inactive_file"]
        return min(free, int(limit) - int(used) + int(inactive))
    except (OSError, ValueError, KeyError):  # no container, or "max": no limit
        return free


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows
        return 4 << 30
