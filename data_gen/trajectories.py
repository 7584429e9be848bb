"""Straight random trajectories that bounce off the walls (paper sections 4.2 and 4.3)."""

import numpy as np


def bouncing(
    rng: np.random.Generator, room: np.ndarray, nr_frames: int, min_speed: float, max_speed: float
) -> np.ndarray:
    """Draws start, direction and speed of every object uniformly; each position is a function of time alone, so a
    longer path begins with the shorter one.

    Arguments:
        room: [n, objects, 2], the largest (y, x) that keeps the object inside.
        nr_frames: T, at least 1.
        min_speed, max_speed: pixels per frame.

    Returns: integers [T, n, objects, 2], the upper left corners.
    """
    start = rng.uniform(size=room.shape) * room
    angle = rng.uniform(0, 2 * np.pi, room.shape[:-1])
    speed = rng.uniform(min_speed, max_speed, room.shape[:-1])
    velocity = np.stack([np.sin(angle), np.cos(angle)], axis=-1) * speed[..., None]
    time = np.arange(nr_frames)[:, None, None, None]
    path = np.mod(start + time * velocity, 2 * room)  # a bounce is a reflection: unfold the room, then fold back
    return np.rint(np.minimum(path, 2 * room - path)).astype(int)
