"""Moves balls of different masses and radii in a square box: straight paths, elastic bounces (2-D billiards).

The rules are those of the bouncing balls of Sutskever, Hinton and Taylor (2008), with masses, as the data of R-NEM
(van Steenkiste et al., 2018) show them: no gravity, no friction, no spin; a few small steps per frame; balls that
touch after a step exchange momentum along the line of their centres. Two details are tighter here. A ball that would
leave the box is reflected in place, not only in direction, so that it never does; and only balls that approach each
other exchange momentum, so that two that overlap cannot stick together.

Axes: n sequences, K balls, P = K (K - 1) / 2 pairs in the order of `pairs`. A ball that a sequence lacks is NaN: it
touches nothing. Sums are taken one after the other and nothing is left to BLAS, so that all machines agree to the bit.
"""

from typing import NamedTuple

import numpy as np

_TRIES = 1 << 11  # starts that are drawn together; part of what a seed means


class Motion(NamedTuple):
    """What happened, in pixels and pixels a frame. A longer one begins with the shorter."""

    position: np.ndarray  # float [T, n, K, 2], (y, x) of the centres
    velocity: np.ndarray  # float [T, n, K, 2]
    struck: np.ndarray  # bool [T, n, P], whether a pair collides on the way from a frame to the next


def pairs(nr_balls: int) -> list[tuple[int, int]]:
    """Returns the pairs of balls: (0, 1), (0, 2), .., (1, 2), .."""
    return [(i, j) for i in range(nr_balls) for j in range(i + 1, nr_balls)]


def free_starts(rng: np.random.Generator, radius: np.ndarray, present: np.ndarray, size: float) -> np.ndarray:
    """Draws where balls start: uniform over all placements in which no ball touches another or a wall.

    All balls of a sequence are drawn anew until they fit, because placing one after the other would favour some
    placements. The result depends on n as well as on the random stream.

    Arguments:
        rng: the random stream.
        radius: [n, K].
        present: bool [n, K], which balls there are.
        size: of the box.

    Returns:
        float [n, K, 2], NaN for balls that are not there.
    """
    start = np.empty((*radius.shape, 2))
    waiting = np.arange(len(radius))
    while len(waiting):
        r = radius[waiting, None, :, None]  # [waiting, 1, K, 1]
        tries = max(1, _TRIES // len(waiting))
        drawn = r + rng.random((len(waiting), tries, *start.shape[1:])) * (size - 2 * r)
        drawn[~np.broadcast_to(present[waiting, None], drawn.shape[:-1])] = np.nan
        fits = ~_touching(drawn, radius[waiting, None]).any(-1)  # [waiting, tries]
        found = fits.any(1)
        start[waiting[found]] = drawn[found, fits[found].argmax(1)]
        waiting = waiting[~found]
    return start


def scaled_velocities(rng: np.random.Generator, present: np.ndarray, speed: float) -> np.ndarray:
    """Draws velocities of any direction whose squares sum to speed**2 over the balls of a sequence, however many.

    They are normally distributed but for that common factor.

    Arguments:
        rng: the random stream.
        present: bool [n, K], which balls there are.
        speed: the square root of the sum.

    Returns:
        float [n, K, 2], NaN for balls that are not there.
    """
    drawn = rng.standard_normal((*present.shape, 2))
    squares = np.where(present, drawn[..., 0] ** 2 + drawn[..., 1] ** 2, 0.0)
    drawn *= (speed / np.sqrt(squares.cumsum(1)[:, -1]))[:, None, None]
    drawn[~present] = np.nan
    return drawn


def moved(
    position: np.ndarray,
    velocity: np.ndarray,
    radius: np.ndarray,
    mass: np.ndarray,
    size: float,
    nr_frames: int,
    steps_per_frame: int,
) -> Motion:
    """Follows balls for a number of frames, the first of which is the start.

    Arguments:
        position, velocity: [n, K, 2] at the start.
        radius, mass: [n, K].
        size: of the box.
        nr_frames: T.
        steps_per_frame: number of small steps; a collision is seen at the end of one.
    """
    position, velocity = position.copy(), velocity.copy()
    couples = pairs(position.shape[1])
    motion = Motion(
        np.empty((nr_frames, *position.shape)),
        np.empty((nr_frames, *position.shape)),
        np.zeros((nr_frames, len(position), len(couples)), bool),
    )
    for frame in range(nr_frames):  # the step after the last frame says which balls collide there
        motion.position[frame], motion.velocity[frame] = position, velocity
        for _ in range(steps_per_frame):
            position += velocity / steps_per_frame
            _reflect(position, velocity, radius, size)
            motion.struck[frame] |= _collide(position, velocity, radius, mass, couples)
    return motion


def _reflect(position: np.ndarray, velocity: np.ndarray, radius: np.ndarray, size: float) -> None:
    """Turns balls back at the walls, in place."""
    low = radius[..., None]
    high = size - low
    below, above = position < low, position > high
    position[:] = np.where(below, 2 * low - position, np.where(above, 2 * high - position, position))
    velocity[:] = np.where(below, np.abs(velocity), np.where(above, -np.abs(velocity), velocity))


def _touching(position: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Tells which pairs are closer than the sum of their radii: [.., K, 2] and [.., K] to bool [.., P]."""
    first, second = np.triu_indices(position.shape[-2], 1)  # in the order of `pairs`
    away = position[..., first, :] - position[..., second, :]
    reach = radius[..., first] + radius[..., second]
    return away[..., 0] ** 2 + away[..., 1] ** 2 < reach**2


def _collide(
    position: np.ndarray, velocity: np.ndarray, radius: np.ndarray, mass: np.ndarray, couples: list[tuple[int, int]]
) -> np.ndarray:
    """Changes the velocities, in place, of touching balls that approach each other, pair by pair.

    Along the unit vector u between the centres the velocities v exchange the momentum of an elastic collision,
    2 m M / (m + M) u.(V - v); across it nothing changes. Energy and momentum are kept whatever the distance is.

    Returns:
        bool [n, P], which pairs did.
    """
    struck = _touching(position, radius)
    for pair in np.flatnonzero(struck.any(0)):
        i, j = couples[pair]
        here = np.flatnonzero(struck[:, pair])
        away = position[here, i] - position[here, j]  # [here, 2]
        away /= np.sqrt(away[:, 0] ** 2 + away[:, 1] ** 2)[:, None]
        change = velocity[here, j] - velocity[here, i]
        closing = away[:, 0] * change[:, 0] + away[:, 1] * change[:, 1]  # above 0 if they approach
        struck[here, pair] = closing > 0
        here, away, closing = (array[closing > 0] for array in (here, away, closing))
        m, other = mass[here, i], mass[here, j]
        momentum = (2 * m * other / (m + other) * closing)[:, None] * away
        velocity[here, i] += momentum / m[:, None]
        velocity[here, j] -= momentum / other[:, None]
    return struck
