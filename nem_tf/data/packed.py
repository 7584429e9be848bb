"""Small whole numbers in memory, in as many bits as the largest of them needs."""

import numpy as np


class Packed:
    """Whole numbers below 256 of N sequences, in bit planes: binary frames take an eighth of their bytes.

    Arguments:
        size: N.
        shape: of a sequence, (T, H, W, C).
    """

    def __init__(self, size: int, shape: tuple[int, ...]):
        self.shape = (size, *shape)
        self._row = int(np.prod(shape[1:]))  # numbers of a frame
        self._planes: list[np.ndarray] = []  # uint8 [N, T, ceil(row / 8)] each, the lowest bit first

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return sum(plane.nbytes for plane in self._planes)

    def put(self, start: int, block: np.ndarray) -> None:
        """Stores the sequences start, start + 1, .. from whole numbers [n, T, H, W, C] in [0, 255]."""
        block = np.ascontiguousarray(block, np.uint8).reshape(*block.shape[:2], self._row)
        while 1 << len(self._planes) <= block.max(initial=0):
            self._planes.append(np.zeros((*self.shape[:2], -(-self._row // 8)), np.uint8))
        for bit, plane in enumerate(self._planes):
            plane[start : start + len(block)] = np.packbits(block >> bit & 1, axis=-1)

    def take(self, index: np.ndarray, window: slice = slice(None)) -> np.ndarray:
        """Returns frames of some sequences, uint8 [len(index), frames in the window, H, W, C]."""
        frames = range(self.shape[1])[window]
        out = np.zeros((len(index), len(frames), self._row), np.uint8)
        for bit, plane in enumerate(self._planes):
            out |= np.unpackbits(plane[index, window], axis=-1, count=self._row) << bit
        return out.reshape(*out.shape[:2], *self.shape[2:])


class Plain:
    """Floating-point numbers of N sequences, float32; the same methods as those of `Packed`."""

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
