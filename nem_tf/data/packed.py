"""Sequences in memory, small: a default run reads 60,000 of them with their labels."""

import math
import zlib
from collections.abc import Iterable

import numpy as np


def _planes(block: np.ndarray, bits: int) -> np.ndarray:
    """The bit planes of whole numbers [n, T, H, W, C], the lowest bit first: uint8 [bits, n, T, ceil(H*W*C / 8)]."""
    rows = np.ascontiguousarray(block, np.uint8).reshape(*block.shape[:2], -1)
    planes = [np.packbits(rows & np.uint8(1 << bit), axis=-1) for bit in range(bits)]  # whatever is not 0 packs to 1
    return np.stack(planes) if bits else np.empty((0, *rows.shape))


def _numbers(planes: Iterable[np.ndarray], row: int, out: np.ndarray | int = 0) -> np.ndarray:
    """The numbers [.., row] of bit planes [.., ceil(row / 8)] each."""
    for bit, plane in enumerate(planes):
        out = out | np.unpackbits(plane, axis=-1, count=row) << bit
    return out


class Packed:
    """Whole numbers below 256 of N sequences, in bit planes: binary frames take an eighth of their bytes.

    Arguments:
        size: N.
        shape: of a sequence, (T, H, W, C).
    """

    dtype = np.dtype(np.uint8)  # of what is taken

    def __init__(self, size: int, shape: tuple[int, ...]):
        self.shape = (size, *shape)
        self._row = math.prod(shape[1:])  # numbers of a frame
        self._stored: list[np.ndarray] = []  # uint8 [N, T, ceil(row / 8)] each, the lowest bit first

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return sum(plane.nbytes for plane in self._stored)

    def put(self, start: int, block: np.ndarray) -> None:
        """Stores the sequences start, start + 1, .. from whole numbers [n, T, H, W, C] in [0, 255]."""
        while 1 << len(self._stored) <= block.max(initial=0):
            self._stored.append(np.zeros((*self.shape[:2], -(-self._row // 8)), np.uint8))
        for plane, stored in zip(_planes(block, len(self._stored)), self._stored):
            stored[start : start + len(block)] = plane

    def take(self, index: np.ndarray, window: slice = slice(None)) -> np.ndarray:
        """Returns frames of some sequences, uint8 [len(index), frames in the window, H, W, C]."""
        shape = (len(index), len(range(self.shape[1])[window]))
        planes = (plane[index, window] for plane in self._stored)
        return _numbers(planes, self._row, np.zeros((*shape, self._row), np.uint8)).reshape(*shape, *self.shape[2:])


class Deflated:
    """Whole numbers below 256 of N sequences, each sequence compressed; the same methods as those of `Packed`.

    For labels, which are asked for less often than frames: few numbers in large areas take a tenth of the bits.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, size: int, shape: tuple[int, ...]):
        self.shape = (size, *shape)
        self._sequences: list[bytes] = [b""] * size

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return sum(map(len, self._sequences))

    def put(self, start: int, block: np.ndarray) -> None:
        planes = _planes(block, bits=max(1, int(block.max(initial=0)).bit_length()))
        for number in range(len(block)):
            self._sequences[start + number] = zlib.compress(planes[:, number].tobytes(), level=1)

    def take(self, index: np.ndarray, window: slice = slice(None)) -> np.ndarray:
        frames, *image = self.shape[1:]
        row = math.prod(image)
        out = np.empty((len(index), len(range(frames)[window]), row), np.uint8)
        for sequence, number in zip(out, index):
            planes = np.frombuffer(zlib.decompress(self._sequences[number]), np.uint8)
            sequence[:] = _numbers(planes.reshape(-1, frames, -(-row // 8))[:, window], row)
        return out.reshape(*out.shape[:2], *image)


class Plain:
    """Floating-point numbers of N sequences, float32; the same methods as those of `Packed`."""

    dtype = np.dtype(np.float32)

    def __init__(self, size: int, shape: tuple[int, ...]):
        self.shape = (size, *shape)
        self._values = np.empty(self.shape, np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return self._values.nbytes

    def put(self, start: int, block: np.ndarray) -> None:
        self._values[start : start + len(block)] = block

    def take(self, index: np.ndarray, window: slice = slice(None)) -> np.ndarray:
        return self._values[index, window]
