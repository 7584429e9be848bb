"""Draws flying shapes (paper section 4.2), and static shapes (section 4.1): the first frame of a flying sequence."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_gen import DataGenError
from data_gen.generator import Member, OfItsFields, images_and_labels
from data_gen.trajectories import integer_steps, real_speeds

_SQUARE = """
    #######
    #######
    ##...##
    ##...##
    ##...##
    #######
    #######
"""
_TRIANGLES = {
    12: """
    .....##.....
    ....####....
    ...######...
    ..###..###..
    .###....###.
    ############
    ############
    """,
    13: """
    ......#......
    .....###.....
    ....#####....
    ...###.###...
    ..###...###..
    .###########.
    #############
    """,
}
LARGEST = 64  # height and width of a frame: every sprite is kept at every place of it
MOTIONS = {"integer": integer_steps, "real": real_speeds}


def _parsed(drawing: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in drawing.split()])


def _sprites(triangle: str) -> tuple[np.ndarray, ...]:
    up = _parsed(triangle)
    return _parsed(_SQUARE), up, up[::-1]


SPRITES = {width: _sprites(drawing) for width, drawing in _TRIANGLES.items()}  # bool [h, w]: square, triangle up, down


@dataclass(frozen=True)
class FlyingShapes(OfItsFields):
    """Generates flying-shapes sequences.

    Every object draws its shape, with replacement, its start and its velocity, and keeps shape and speed. Objects pass
    through each other; a pixel is lit where at least one is.

    Attributes:
        nr_objects: number of objects, at least 1.
        nr_frames: T, length of the sequences.
        size: H and W, larger than every shape, `LARGEST` at most.
        motion: "integer", as published, or "real": any direction, 1 to 2 pixels a frame (`data_gen.trajectories`).
        triangle: width of the triangles, 12 as published, or 13.

    Raises:
        DataGenError: motion or triangle is unknown, or the size too small or too large.
    """

    white: ClassVar[int] = 1
    disk_share: ClassVar[float] = 0.15

    nr_objects: int = 3
    nr_frames: int = 21
    size: int = 28
    motion: str = "integer"
    triangle: int = 12

    def __post_init__(self):
        for rule, held, allowed in (("motion", self.motion, MOTIONS), ("triangle", self.triangle, SPRITES)):
            if held not in allowed:
                raise DataGenError(f"--{rule}={held} is unknown: expected {' or '.join(map(str, allowed))}")
        if self.size <= self.triangle:
            raise DataGenError(f"--size={self.size} is too small: a triangle alone has {self.triangle} pixels")
        if self.size > LARGEST:
            raise DataGenError(f"--size={self.size} is too large for shapes: expected {LARGEST} at most")

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, 1)

    @property
    def members(self) -> tuple[Member, Member]:
        return images_and_labels(self.frame_shape)

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws n sequences; the splits differ in nothing but their random streams.

        Returns:
            features: uint8 [T, n, H, W, 1], 0 or 1.
            groups: uint8 [T, n, H, W, 1]; 0 is background and overlap, 1 to `nr_objects` are the objects.
        """
        sprites = SPRITES[self.triangle]
        shapes = rng.integers(len(sprites), size=(n, self.nr_objects))
        room = np.array([np.subtract(self.size, sprite.shape) for sprite in sprites])[shapes]  # [n, objects, 2]
        position = MOTIONS[self.motion](rng, room, self.nr_frames)  # [T, n, objects, (y, x)]

        covered = np.zeros((self.nr_frames, n, self.size, self.size), np.uint8)
        groups = np.zeros_like(covered)
        placements = _placements(self.triangle, self.size)
        for k in range(self.nr_objects):
            mask = placements[shapes[:, k], position[:, :, k, 0], position[:, :, k, 1]]  # [T, n, H, W]
            covered += mask
            groups += mask * np.uint8(k + 1)
        groups *= covered == 1
        return (covered > 0).astype(np.uint8)[..., None], groups[..., None]


@functools.cache
def _placements(triangle: int, size: int) -> np.ndarray:
    """Draws every sprite at every place, uint8 [sprite, y, x, H, W], so that rendering is one gather."""
    sprites = SPRITES[triangle]
    shortest = min(min(sprite.shape) for sprite in sprites)
    table = np.zeros((len(sprites), size - shortest + 1, size - shortest + 1, size, size), np.uint8)
    for index, sprite in enumerate(sprites):
        height, width = sprite.shape
        for y in range(size - height + 1):
            for x in range(size - width + 1):
                table[index, y, x, y : y + height, x : x + width] = sprite
    return table
