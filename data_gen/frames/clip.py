"""What every reader returns: frames one after the other, and what is known of them."""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from data_gen import DataGenError

RATE = Fraction(10)  # frames a second of what has no time
LARGEST = 2**25  # pixels of a frame, a little more than 8K; a header may claim anything
UNEVEN = 1.5  # times the shortest gap between frames: more than the rounding of a GIF's hundredths makes of 25 a second


class Frame(NamedTuple):
    """A picture and when it is shown."""

    pixels: np.ndarray  # uint8, or float32 in [0, 1], [H, W, C]; C is 1 grey, 2 with alpha, 3 colour, 4 with alpha
    start: Fraction  # seconds since the first frame
    duration: Fraction | None = None  # seconds for which it is shown, where its file says so


class Clip:
    """Frames of one size, to be gone through once. The first of them is read at once.

    Arguments:
        name: as its user knows it.
        stem: what its outputs are named after.
        suffix: of a file of its kind, e.g. ".mp4"; "" for a folder of pictures.
        frames: they are read as they are asked for.
        length: number of the frames as the file has it, which need not be so; None where it does not say.
        seconds: time from the first frame to the end of the last, as the file has it; None where it does not say.
        rate: frames a second, the mean where it varies.
        notes: what was converted to read them; a reader adds to it while it reads.
        names: of its pictures, if it is a folder.
        white: what the file has for the largest value, which is 255 or 1 of the frames.
        of_data_set: whether it is a sequence of a data set, made ready for a model already.

    Raises:
        DataGenError: there is no frame, or it cannot be read.
    """

    def __init__(
        self,
        name: str,
        stem: str,
        suffix: str,
        frames: Iterator[Frame],
        length: int | None = None,
        seconds: Fraction | None = None,
        rate: Fraction = RATE,
        notes: list[str] | None = None,
        names: list[str] | None = None,
        white: int = 255,
        of_data_set: bool = False,
    ):
        self.name, self.stem, self.suffix = name, stem, suffix
        self.rate, self.names, self.white, self.of_data_set = rate, names, white, of_data_set
        self.length = round(seconds * rate) if length is None and seconds is not None else length
        self._is_counted = length is not None
        self.notes = [] if notes is None else notes
        self.count = 0  # frames that were gone through
        self._seconds = seconds
        self._last_start = Fraction(0)  # when the frame that was read last is shown
        self._gaps: tuple[Fraction, Fraction] | None = None  # the shortest and the longest between two frames
        self._frames = frames
        first = next(frames, None)
        if first is None:
            raise DataGenError(f"{name} has no frames: expected at least one")
        self._first: Frame | None = first
        self.size: tuple[int, int] = first.pixels.shape[:2]  # height, width

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames.

        Raises:
            DataGenError: one cannot be read, or is of another size.
        """
        self.count, first, self._first = 1, self._first, None  # not to be held while the others are read
        yield first
        del first
        for frame in self._frames:
            if frame.pixels.shape[:2] != self.size:
                here, before = (f"{width}x{height}" for height, width in (frame.pixels.shape[:2], self.size))
                which = self.names[self.count] if self.names else f"frame {self.count}"
                why = ", since the pictures of a folder are one clip" if self.names else ""
                raise DataGenError(f"{self.name}: {which} is {here}, after {before}: expected frames of one size{why}")
            gap = frame.start - self._last_start
            low, high = self._gaps or (gap, gap)
            self._gaps, self._last_start = (min(low, gap), max(high, gap)), frame.start
            self.count += 1
            yield frame

    @property
    def is_uneven(self) -> bool:
        """Whether the frames up to now come at uneven times."""
        return self._gaps is not None and self._gaps[1] > UNEVEN * self._gaps[0]

    @property
    def cut_short(self) -> str:
        """What there is to say if all frames are gone through and the file announced more, else ""."""
        # Either may be off: a count by one or by frames that nobody sees, a time by the rate being that of some frames.
        longest = max(1 / self.rate, self._gaps[1] if self._gaps else 0)
        has_fewer = self.count < self.length - 1 if self._is_counted else self._seconds is not None
        is_early = self._seconds is None or self._seconds - self._last_start > 2 * longest
        return f"of {self.length} announced: it may be cut short" if has_fewer and is_early else ""

    def close(self) -> None:
        """Closes its file."""
        self._frames.close()


def composed(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels without their alpha channel, over black: [H, W, 2 or 4] -> [H, W, 1 or 3], others as they are."""
    if pixels.shape[-1] not in (2, 4):
        return pixels
    values, alpha = pixels[..., :-1], pixels[..., -1:]
    if pixels.dtype != np.uint8:
        return values * alpha
    if (alpha == 255).all():
        return values
    return ((values.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)


def is_transparent(pixels: np.ndarray) -> bool:
    """Tells whether a frame has an alpha channel, and a pixel that is not opaque."""
    opaque = 255 if pixels.dtype == np.uint8 else 1
    return pixels.shape[-1] in (2, 4) and bool((pixels[..., -1] < opaque).any())


def check_size(height: int, width: int) -> None:
    """Refuses a frame that is too large, before it is decoded.

    Raises:
        ValueError: the frame has more than `LARGEST` pixels.
    """
    if height * width > LARGEST:
        raise ValueError(f"it has frames of {width}x{height}; expected {LARGEST} pixels at most")


def add_note(notes: list[str], note: str) -> None:
    """Adds what was converted, once."""
    if note not in notes:
        notes.append(note)


@contextlib.contextmanager
def one_sentence(begin: Callable[[], str], errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turns errors of reading into a DataGenError: "`begin()`: the reason"."""
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise DataGenError(f"{begin()}: {reason}") from error
