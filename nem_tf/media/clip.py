"""What every reader returns: frames one after the other, and what is known of them."""

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from nem_tf.errors import UserError


class Frame(NamedTuple):
    """A picture and when it is shown."""

    pixels: np.ndarray  # uint8, or float32 in [0, 1], [H, W, C]; C is 1 grey, 2 with alpha, 3 colour, 4 with alpha
    start: Fraction  # seconds since the first frame


class Clip:
    """Frames of one size, to be gone through once. The first of them is read at once.

    Arguments:
        name: as its user knows it.
        stem: what its outputs are named after.
        suffix: of a file of its kind, e.g. ".mp4"; "" for a folder of pictures.
        frames: they are read as they are asked for.
        length: number of the frames as the file has it, which need not be so; None where it does not say.
        rate: frames a second, the mean where it varies.
        notes: what was converted to read them; a reader adds to it while it reads.
        names: of its pictures, if it is a folder.

    Raises:
        UserError: there is no frame, or it cannot be read.
    """

    def __init__(
        self,
        name: str,
        stem: str,
        suffix: str,
        frames: Iterator[Frame],
        length: int | None = None,
        rate: Fraction = Fraction(10),
        notes: list[str] | None = None,
        names: list[str] | None = None,
    ):
        self.name, self.stem, self.suffix = name, stem, suffix
        self.length, self.rate, self.names = length, rate, names
        self.notes = [] if notes is None else notes
        self._frames = frames
        self._first = next(frames, None)
        if self._first is None:
            raise UserError(f"{name} has no frames: expected at least one")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self._first.pixels.shape[:2]

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames.

        Raises:
            UserError: one cannot be read, or is of another size.
        """
        yield self._first
        for number, frame in enumerate(self._frames, start=1):
            if frame.pixels.shape[:2] != self.size:
                here, before = (f"{width}x{height}" for height, width in (frame.pixels.shape[:2], self.size))
                which = self.names[number] if self.names else f"frame {number}"
                raise UserError(f"{self.name}: {which} is {here}, after {before}: expected frames of one size")
            yield frame

    def close(self) -> None:
        """Closes its file."""
        self._frames.close()
