"""Draws straight random trajectories that bounce off the walls (paper sections 4.2 and 4.3)."""

import numpy as np


def integer_steps(rng: np.random.Generator, room: np.ndarray, nr_frames: int) -> np.ndarray:
    """Draws paths of whole pixels: the motion of the published flying shapes.

    The start is uniform over all places, the velocity of either axis uniform over -1, 0 and 1 pixel a frame, so that
    an object may stand still. The paper shows such a motion but states no distribution: uniform is the assumption.

    Arguments:
        rng: the random stream.
        room: integers [n, objects, 2], at least 1: the largest (y, x) that keeps an object inside.
        nr_frames: T, at least 1.

    Returns:
        Integers [T, n, objects, 2], 0 to `room`: the upper left corners. A longer path begins with the shorter one.
    """
    start = rng.integers(0, room, endpoint=True)
    velocity = rng.integers(-1, 1, size=room.shape, endpoint=True)
    return _reflected(start, velocity, room, nr_frames)


def real_speeds(
    rng: np.random.Generator, room: np.ndarray, nr_frames: int, min_speed: float = 1.0, max_speed: float = 2.0
) -> np.ndarray:
    """Draws paths of any direction and speed, rounded to pixels.

    Start, direction and speed are uniform over real numbers.

    Arguments:
        rng: the random stream.
        room: integers [n, objects, 2], at least 1: the largest (y, x) that keeps an object inside.
        nr_frames: T, at least 1.
        min_speed, max_speed: pixels a frame.

    Returns:
        Integers [T, n, objects, 2], 0 to `room`: the upper left corners. A longer path begins with the shorter one.
    """
    start = rng.uniform(size=room.shape) * room
    angle = rng.uniform(0, 2 * np.pi, room.shape[:-1])
    speed = rng.uniform(min_speed, max_speed, room.shape[:-1])
    velocity = np.stack([np.sin(angle), np.cos(angle)], axis=-1) * speed[..., None]
    return np.rint(_reflected(start, velocity, room, nr_frames)).astype(int)


def _reflected(start: np.ndarray, velocity: np.ndarray, room: np.ndarray, nr_frames: int) -> np.ndarray:
    """Places [T, n, objects, 2] on the way from `start`, where a component of the velocity flips at 0 and at `room`."""
    time = np.arange(nr_frames)[:, None, None, None]
    path = np.mod(start + time * velocity, 2 * room)  # a bounce is a reflection: unfold the room, then fold back
    return np.minimum(path, 2 * room - path)
