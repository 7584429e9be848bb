"""Flying shapes: binary shapes on straight random trajectories that bounce off the walls (paper section 4.2)."""

import functools
from dataclasses import asdict, dataclass

import numpy as np

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

    Every object draws its shape, start, direction and speed uniformly and keeps them; each position is a function of
    time alone, so a longer sequence begins with the shorter one.
    """

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

    def sequences(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws n sequences.

        Returns:
            features: uint8 [T, n, H, W, 1], 0 or 1.
            groups: uint8 [T, n, H, W, 1]; 0 is background and overlap, 1.. the objects.
        """
        shapes = rng.integers(len(SPRITES), size=(n, self.nr_objects))
        room = np.array([np.subtract(self.size, sprite.shape) for sprite in SPRITES])[shapes]  # [n, objects, 2]
        start = rng.uniform(size=room.shape) * room
        angle = rng.uniform(0, 2 * np.pi, shapes.shape)
        speed = rng.uniform(self.min_speed, self.max_speed, shapes.shape)
        velocity = np.stack([np.sin(angle), np.cos(angle)], axis=-1) * speed[..., None]

        time = np.arange(self.nr_frames)[:, None, None, None]
        path = np.mod(start + time * velocity, 2 * room)  # a bounce is a reflection: unfold the room, then fold back
        position = np.rint(np.minimum(path, 2 * room - path)).astype(int)  # [T, n, objects, (y, x)]

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
