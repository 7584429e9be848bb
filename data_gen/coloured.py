"""Draws coloured shapes over a background: videos as a fixed camera sees them, with the truth of every pixel."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_gen import DataGenError
from data_gen.generator import Member, OfItsFields, images_and_labels
from data_gen.shapes import SPRITES
from data_gen.trajectories import real_speeds

ENLARGED = 2  # the sprites of flying shapes, so many times as large
BACKGROUNDS = ("scene", "black")


@dataclass(frozen=True)
class ColouredShapes(OfItsFields):
    """Generates sequences of the sprites of flying shapes, enlarged, each in a colour of its own.

    No data set of the paper: it has what those lack, colour, a background and objects that hide each other. An object
    draws its shape, its hue, start, direction and speed uniformly and keeps them; the later one hides the earlier.

    Attributes:
        nr_objects: number of objects in a frame, at least 1.
        nr_frames: T, length of the sequences.
        background: "scene", one smooth coloured picture that is the same in every frame of every sequence, or "black".
        size: H and W, larger than every shape.
        min_speed, max_speed: pixels a frame.

    Raises:
        DataGenError: the background is unknown, or the size too small.
    """

    white: ClassVar[int] = 255
    disk_share: ClassVar[float] = 0.15

    nr_objects: int = 3
    nr_frames: int = 21
    background: str = "scene"
    size: int = 64
    min_speed: float = 1.0
    max_speed: float = 3.0

    def __post_init__(self):
        if self.background not in BACKGROUNDS:
            raise DataGenError(f"background={self.background} is unknown: expected {' or '.join(BACKGROUNDS)}")
        widest = max(max(sprite.shape) for sprite in _sprites())
        if self.size <= widest:
            raise DataGenError(f"size={self.size} is too small: a triangle alone has {widest} pixels")

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, 3)

    @property
    def members(self) -> tuple[Member, Member]:
        return images_and_labels(self.frame_shape)

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws n sequences; the splits differ in nothing but their random streams.

        Returns:
            features: uint8 [T, n, H, W, 3], 0 to 255.
            groups: uint8 [T, n, H, W, 1]; 0 is the background, 1 to `nr_objects` the object that is seen there.
        """
        sprites = _sprites()
        shapes = rng.integers(len(sprites), size=(n, self.nr_objects))
        colours = _hues(rng.uniform(size=(n, self.nr_objects)))
        room = np.array([np.subtract(self.size, sprite.shape) for sprite in sprites])[shapes]  # [n, objects, 2]
        position = real_speeds(rng, room, self.nr_frames, self.min_speed, self.max_speed)  # [T, n, objects, (y, x)]

        behind = scene(self.size) if self.background == "scene" else np.zeros(self.frame_shape, np.uint8)
        features = np.tile(behind, (self.nr_frames, n, 1, 1, 1))
        groups = np.zeros((*features.shape[:-1], 1), np.uint8)
        for time, sequence, k in np.ndindex(self.nr_frames, n, self.nr_objects):
            sprite = sprites[shapes[sequence, k]]
            y, x = position[time, sequence, k]
            window = np.s_[time, sequence, y : y + sprite.shape[0], x : x + sprite.shape[1]]
            features[window][sprite] = colours[sequence, k]
            groups[window][sprite] = k + 1
        return features, groups


@functools.cache
def _sprites() -> tuple[np.ndarray, ...]:
    """Enlarges the published sprites, bool [h, w] each."""
    return tuple(np.kron(sprite, np.ones((ENLARGED, ENLARGED), bool)) for sprite in SPRITES[12])


def _hues(hue: np.ndarray) -> np.ndarray:
    """Returns full, bright colours, uint8 [..., 3], for hues from 0 to 1."""
    phases = hue[..., None] + np.array([0, 1 / 3, 2 / 3])
    return np.rint(255 * np.clip(np.abs(phases % 1 * 6 - 3) - 1, 0, 1)).astype(np.uint8)


@functools.cache
def scene(size: int) -> np.ndarray:
    """Paints the background of "scene", uint8 [size, size, 3]: waves of few colours, from dark to medium bright."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(2 * np.pi * (a * y + b * x + c)) for a, b, c in ((1, 0.5, 0), (0.5, 1, 0.3), (1, 1, 0.6))]
    return np.rint(255 * (0.4 + 0.2 * np.stack(waves, axis=-1))).astype(np.uint8)
