"""Draws bouncing balls (R-NEM, van Steenkiste et al., 2018, section 4.1): of two masses, or behind a curtain."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_gen import DataGenError, billiards
from data_gen.generator import Member, OfItsFields, images_and_labels


@dataclass(frozen=True)
class Balls(OfItsFields):
    """Generates sequences of bouncing balls.

    The authors' generator was never published. Box, radii, masses, speed and curtain were read off the animations that
    they ship; the physics is that of `data_gen.billiards`. Unknown, and assumed, are: the start (uniform over all
    placements without contact), the place of the curtain (uniform over all places), the number of balls of a sequence
    (uniform over `numbers`), what `collisions` marks (see `members`), and that hidden pixels have no label.

    Attributes:
        numbers: how many balls a sequence may have, in ascending order.
        nr_frames: T, length of the sequences.
        radii, masses: of the kinds of balls, in units and in multiples of the lightest; every ball draws its kind.
        side: length of a side of the box, in units.
        speed: square root of the sum over balls of the squared speed at the start, in units a frame.
        curtain: side in pixels of a black square that hides what is behind it, 0 for none; stays where it is.
        size: H and W.
        steps_per_frame: small steps in which the balls move.

    Raises:
        DataGenError: so many balls leave too little room to be placed at random.
    """

    white: ClassVar[int] = 1
    most_covered: ClassVar[float] = 0.45  # share of the room of the centres; more would take forever to place

    numbers: tuple[int, ...] = (4,)
    nr_frames: int = 51
    radii: tuple[float, ...] = (1.2, 1.5)
    masses: tuple[float, ...] = (1.0, 6.0)
    side: float = 15.0
    speed: float = 0.5
    curtain: int = 0
    size: int = 64
    steps_per_frame: int = 2

    def __post_init__(self):
        covered = self.nr_objects * np.pi * max(self.radii) ** 2 / (self.side - 2 * max(self.radii)) ** 2
        if covered > self.most_covered:
            raise DataGenError(f"{self.nr_objects} balls are too many for a box of {self.size} pixels")

    @property
    def nr_objects(self) -> int:
        return max(self.numbers)

    @property
    def disk_share(self) -> float:
        return 0.008 * self.nr_objects

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, 1)

    @property
    def members(self) -> tuple[Member, ...]:
        path, absent = (self.nr_objects, 2), "(y, x), NaN for a ball that the sequence lacks"
        return (
            *images_and_labels(self.frame_shape),
            Member(
                "collisions",
                self.frame_shape,
                about="1 on the visible pixels of balls that collide with a ball between this frame and the one "
                "before or the one after; walls do not count",
            ),
            Member(
                "events",
                (1, 1, 1),
                about="number of pairs of balls that collided since the frame before, hidden ones among them",
            ),
            Member("positions", path, np.float32, f"centres of the balls 1, 2, .. in pixels, {absent}"),
            Member("velocities", path, np.float32, f"velocities of the balls 1, 2, .. in pixels a frame, {absent}"),
        )

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, ...]:
        """Draws n sequences; the splits differ in nothing but their random streams.

        Returns:
            features: uint8 [T, n, H, W, 1], 0 or 1; 0 behind the curtain.
            groups: uint8 [T, n, H, W, 1]; 0 is background, overlap and curtain, 1 to `nr_objects` are the balls.
            collisions: uint8 [T, n, H, W, 1], 0 or 1.
            events: uint8 [T, n, 1, 1, 1].
            positions, velocities: float32 [T, n, nr_objects, 2].
        """
        motion, radius, hidden = self.motion(rng, n)
        since = np.concatenate([np.zeros_like(motion.struck[:1]), motion.struck[:-1]])  # [T, n, P]
        colliding = _balls_of(motion.struck | since, self.nr_objects)
        images = _drawn(motion.position, radius, colliding, self.size)  # [T, n, H, W] each
        for image in images:
            image[:, hidden] = 0
        return (
            *(image[..., None] for image in images),
            since.sum(-1, dtype=np.uint8)[..., None, None, None],
            motion.position.astype(np.float32),
            motion.velocity.astype(np.float32),
        )

    def motion(self, rng: np.random.Generator, n: int) -> tuple[billiards.Motion, np.ndarray, np.ndarray]:
        """Draws what happens in n sequences.

        Returns:
            The motion in pixels, the radii in pixels [n, nr_objects], and which pixels are hidden, bool [n, H, W].
        """
        unit = self.size / self.side  # pixels
        balls = (n, self.nr_objects)
        present = np.arange(self.nr_objects) < rng.choice(self.numbers, size=(n, 1))
        kind = rng.integers(len(self.masses), size=balls)
        radius, mass = np.array(self.radii)[kind] * unit, np.array(self.masses)[kind]
        velocity = billiards.scaled_velocities(rng, present, self.speed * unit)
        corner = rng.integers(0, self.size - self.curtain, size=(n, 2), endpoint=True)
        position = billiards.free_starts(rng, radius, present, self.size)
        motion = billiards.moved(position, velocity, radius, mass, self.size, self.nr_frames, self.steps_per_frame)
        after = np.arange(self.size) - corner[..., None]  # [n, (y, x), pixels], from the edge of the curtain on
        behind = (after >= 0) & (after < self.curtain)
        return motion, radius, behind[:, 0, :, None] & behind[:, 1, None, :]


def _balls_of(struck: np.ndarray, nr_balls: int) -> np.ndarray:
    """Tells which balls belong to one of the pairs: bool [.., P] to [.., K]."""
    balls = np.zeros((*struck.shape[:-1], nr_balls), bool)
    for pair, couple in enumerate(billiards.pairs(nr_balls)):
        for ball in couple:
            balls[..., ball] |= struck[..., pair]
    return balls


def _drawn(
    position: np.ndarray, radius: np.ndarray, marked: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws discs: a pixel belongs to a ball if its centre, (i + 0.5, j + 0.5), is no farther than the radius.

    Of every ball only a square around it is looked at.

    Arguments:
        position: [T, n, K, 2], (y, x) of the centres; NaN draws nothing.
        radius: [n, K].
        marked: bool [T, n, K].
        size: H and W.

    Returns:
        uint8 [T, n, H, W] each: the lit pixels; the number of the ball, from 1, where there is one only, else 0; the
        pixels of marked balls.
    """
    nr_frames, n, nr_balls = position.shape[:3]
    covered, groups, marks = np.zeros((3, nr_frames * n, size * size), np.uint8)
    patch = int(2 * radius.max()) + 2
    row = np.arange(nr_frames * n)[:, None, None] * (size * size)
    for k in range(nr_balls):
        centre = position[:, :, k].reshape(-1, 2)  # [T * n, 2]
        corner = np.nan_to_num(np.floor(centre - patch / 2)).clip(0, size - patch).astype(int)
        pixel = corner[..., None] + np.arange(patch)  # [T * n, (y, x), patch]
        squares = (pixel + 0.5 - centre[..., None]) ** 2
        reach = np.tile(radius[:, k] ** 2, nr_frames)[:, None, None]
        disc = (squares[:, 0, :, None] + squares[:, 1, None, :] <= reach).astype(np.uint8)
        where = row + pixel[:, 0, :, None] * size + pixel[:, 1, None, :]  # no place twice: one ball in every frame
        covered.reshape(-1)[where] += disc
        groups.reshape(-1)[where] += disc * np.uint8(k + 1)
        here = np.flatnonzero(marked[:, :, k])
        marks.reshape(-1)[where[here]] |= disc[here]
    groups *= covered == 1
    shape = (nr_frames, n, size, size)
    return (covered > 0).astype(np.uint8).reshape(shape), groups.reshape(shape), marks.reshape(shape)
