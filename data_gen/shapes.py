"""Flying shapes (paper section 4.2), and static shapes (section 4.1): the first frame of a flying sequence."""

import functools
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from data_gen.trajectories import bouncing

_SPRITES = (
    """
    #######
    #######
    ##...##
    ##...##
    ##...##
    #######
    #######
    """,
    """
    ......#......
    .....###.....
    ....#####....
    ...###.###...
    ..###...###..
    .###########.
    #############
    """,
)


def _parse(drawing: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in drawing.split()])


SQUARE, TRIANGLE_UP = map(_parse, _SPRITES)
SPRITES = (SQUARE, TRIANGLE_UP, TRIANGLE_UP[::-1])


@dataclass(frozen=True)
class FlyingShapes:
    """Generator of flying-shapes sequences.

    Every object draws its shape, start, direction and speed uniformly and keeps them.
    """

    white: ClassVar[int] = 1  # the largest value of a feature
    disk_share: ClassVar[float] = 0.15  # compressed bytes over raw ones, at most; with 5 objects: measured 0.08

    nr_objects: int = 3
    nr_frames: int = 21
    size: int = 28  # height and width of a frame
    min_speed: float = 1.0  # pixels per frame
    max_speed: float = 2.0

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, 1)

    @property
    def settings(self) -> dict:
        """What the sequences depend on, beside the seed; without the length, which only says where they stop."""
        settings = asdict(self)
        del settings["nr_frames"]
        return settings

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws n sequences; the splits differ in nothing but their random streams.

        Returns:
            features: uint8 [T, n, H, W, 1], 0 or 1.
            groups: uint8 [T, n, H, W, 1]; 0 is background and overlap, 1.. the objects.
        """
        shapes = rng.integers(len(SPRITES), size=(n, self.nr_objects))
        room = np.array([np.subtract(self.size, sprite.shape) for sprite in SPRITES])[shapes]  # [n, objects, 2]
        position = bouncing(rng, room, self.nr_frames, self.min_speed, self.max_speed)  # [T, n, objects, (y, x)]

        covered = np.zeros((self.nr_frames, n, self.size, self.size), np.uint8)
        groups = np.zeros_like(covered)
        for k in range(self.nr_objects):
            mask = _placements(self.size)[shapes[:, k], position[:, :, k, 0], position[:, :, k, 1]]  # [T, n, H, W]
            covered += mask
            groups += mask * np.uint8(k + 1)
        groups *= covered == 1
        return (covered > 0).astype(np.uint8)[..., None], groups[..., None]


@functools.cache
def _placements(size: int) -> np.ndarray:
    """Every sprite at every place: uint8 [sprite, y, x, H, W]. Rendering is then one gather."""
    shortest = min(min(sprite.shape) for sprite in SPRITES)
    table = np.zeros((len(SPRITES), size - shortest + 1, size - shortest + 1, size, size), np.uint8)
    for index, sprite in enumerate(SPRITES):
        height, width = sprite.shape
        for y in range(size - height + 1):
            for x in range(size - width + 1):
                table[index, y, x, y : y + height, x : x + width] = sprite
    return table
