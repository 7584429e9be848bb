"""Animations, and folders of pictures, decoded by Pillow."""

import contextlib
import struct
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data_gen.frames.clip import RATE, Clip, Frame, add_note, check_size, one_sentence

# What Pillow raises for a damaged or a huge file; a TypeError where an earlier version meets the end of a GIF.
ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    struct.error,
    Image.DecompressionBombError,
)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `check_size` refuses what it warns of
UNSAID = Fraction(1, 10)  # seconds that browsers show a frame of an animation that does not say for how long


def animation(path: Path, name: str) -> Clip:
    """Opens an animation.

    Raises:
        DataGenError: it cannot be read, or has too large frames.
    """
    kind = path.suffix.lower()[1:]
    with one_sentence(lambda: f"{name} is no {kind} that can be read", ERRORS), _opened(path) as image:
        length = getattr(image, "n_frames", 1)
        image.load()  # a WebP knows the duration of a frame after that
        rate = 1 / _duration(image)
    return Clip(name, path.stem, f".{kind}", _animated(path, name, length), length, rate=rate)


def pictures(paths: Sequence[Path], name: str) -> Clip:
    """Opens the pictures of a folder, as a clip of its name; one alone has its own.

    Raises:
        DataGenError: the first cannot be read, or is too large.
    """
    stems = [path.stem for path in paths]
    names = stems if len({*stems}) == len(stems) else [path.name for path in paths]
    notes: list[str] = []
    stem = paths[0].stem if len(paths) == 1 else paths[0].parent.resolve().name
    return Clip(name, stem, "", _in_turn(paths, notes), len(paths), notes=notes, names=names)


def is_still(path: Path) -> bool:
    """Tells whether a WebP is a picture and no animation; one that cannot be read is refused later."""
    with contextlib.suppress(*ERRORS), _opened(path) as image:
        return getattr(image, "n_frames", 1) == 1
    return False


@contextlib.contextmanager
def _opened(path):
    with Image.open(str(path)) as image:  # an earlier Pillow resolves a Path, and stumbles over a link to itself
        check_size(image.height, image.width)
        yield image


def _duration(image):
    return Fraction(round(image.info.get("duration", 0)), 1000) or UNSAID


def _animated(path, name, length) -> Iterator[Frame]:
    number, start = 0, Fraction(0)
    with one_sentence(lambda: f"{name} is damaged at frame {number}", ERRORS), _opened(path) as image:
        for number in range(length):
            image.seek(number)
            check_size(image.height, image.width)  # a frame of a GIF may be larger than the first
            image.load()
            yield Frame(np.asarray(image.convert("RGBA")), start, _duration(image))
            start += _duration(image)


def _in_turn(paths, notes) -> Iterator[Frame]:
    for number, path in enumerate(paths):
        with one_sentence(lambda: f"{path} is no picture that can be read", ERRORS), _opened(path) as image:  # noqa: B023
            yield Frame(_pixels(ImageOps.exif_transpose(image), notes), number / RATE)


def _pixels(image, notes):
    """uint8 [H, W, C] of a picture."""
    if image.mode == "F":
        raise ValueError("it has floating-point pixels; expected whole numbers")
    if image.mode.startswith("I"):  # grey of 16 bits
        add_note(notes, "16 bit to 8 bit")
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[..., None]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
