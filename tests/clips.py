"""Small videos that tests write and read."""

from fractions import Fraction

import numpy as np

from nem_tf.media.videos import VideoWriter

UNEVEN = [Fraction(each, 100) for each in (0, 10, 30, 40, 100)]  # seconds


def colours(n=5, height=24, width=32):
    """Flat patches that move, which no codec harms much; uint8 [n, H, W, 3]."""
    frames = np.zeros((n, height, width, 3), np.uint8)
    for t in range(n):
        frames[t, 8:16, 4 + 2 * t : 16 + 2 * t] = (220, 60, 40)
    return frames


def write(path, frames, starts=None, rate=10, suffix=None):
    with VideoWriter(path, suffix or path.suffix, frames.shape[1:3], Fraction(rate)) as writer:
        for t, frame in enumerate(frames):
            writer.add(frame, starts[t] if starts else Fraction(t, rate))
    return path
