"""Takes the names of the data sets apart; every other module that wants to know what a name means asks here.

The names of the splits, and of what users choose from for videos, stand here too.

Nothing but the standard library is imported, so that a program can refuse a wrong name before it loads anything slow.
"""

import re
from typing import NamedTuple

from data_gen import DataGenError

SPLITS = ("training", "validation", "test")
LAYOUTS = ("THW", "THWC", "TNHW", "NTHW", "TNHWC", "NTHWC")  # axes of an array: frames, videos, rows, columns, channels
BACKGROUNDS = ("none", "median", "first")  # what is taken from the frames of a video, see `from_files.Options`
EXPECTED = (
    "(flying|static)_shapes[_N] for N objects (3 if left out), (flying|static)_mnist_N[_D] for N digits of which D "
    "are distinct (all if left out), ballsNmass64 or ballsNcurtain64 for N balls, 1 to 8, behind a "
    "curtain 1 to 5 (balls678mass64: 6, 7 or 8), or "
    "coloured_shapes[_N][_black] for N objects over a background or over black"
)

_SHAPES = r"(?:_(?P<nr_objects>[1-9][0-9]?))?"
_MNIST = r"_(?P<nr_objects>[1-9])(?:_(?P<distinct>[1-9][0-9]*))?"
_BALLS = r"balls(?P<numbers>(?=[1-9])1?2?3?4?5?%s)%s64"  # every digit is a number of balls; larger ones hide fewer
_PATTERNS = {
    "flying_shapes": "flying_shapes" + _SHAPES,
    "static_shapes": "static_shapes" + _SHAPES,
    "flying_mnist": "flying_mnist" + _MNIST,
    "static_mnist": "static_mnist" + _MNIST,
    "balls_mass": _BALLS % ("6?7?8?", "mass"),
    "balls_curtain": _BALLS % ("", "curtain"),
    "coloured_shapes": "coloured_shapes" + _SHAPES,
    "coloured_shapes_black": f"coloured_shapes{_SHAPES}_black",
}
_DEFAULT_OBJECTS = 3
_FRAMES, _FRAMES_OF_BALLS = 21, 51
_PLAIN = r"\w[\w-]*"  # what every file system takes as it is, and no path


class Name(NamedTuple):
    """Says what the name of a data set means.

    Attributes:
        family: one of "flying_shapes", "static_shapes", "flying_mnist", "static_mnist", "balls_mass",
            "balls_curtain", "coloured_shapes" and "coloured_shapes_black".
        nr_objects: number of objects in a frame, at least 1; the largest number where sequences differ.
        distinct: number of different digits that occur in training; None if all do, and for all but digits.
        numbers: the numbers of objects that a sequence may have, in ascending order.
        frames: usual length of the sequences.
    """

    family: str
    nr_objects: int
    distinct: int | None
    numbers: tuple[int, ...]
    frames: int

    @property
    def shows_digits(self) -> bool:
        """Whether its objects are digits, which come from somewhere."""
        return self.family.endswith("mnist")


def parse(name: str) -> Name | None:
    """Takes a name apart; returns None for what is not the name of a data set that can be generated."""
    for family, pattern in _PATTERNS.items():
        found = re.fullmatch(pattern, name)
        if found:
            held = found.groupdict()
            distinct = held.get("distinct")
            numbers = tuple(map(int, held.get("numbers") or [held.get("nr_objects") or _DEFAULT_OBJECTS]))
            frames = _FRAMES_OF_BALLS if "numbers" in held else _FRAMES
            return Name(family, max(numbers), int(distinct) if distinct else None, numbers, frames)
    return None


def known(name: str) -> Name:
    """Takes a name apart that has to be one of a data set.

    Raises:
        DataGenError: no data set has this name.
    """
    parsed = parse(name)
    if parsed is None:
        raise DataGenError(f"--dataset={name} is unknown: expected {EXPECTED}")
    return parsed


def check_own(name: str, flag: str = "name") -> None:
    """Checks a name that a user chose for a data set of other rules than the published ones.

    Arguments:
        name: the name.
        flag: where it was given.

    Raises:
        DataGenError: this is the name of a published data set, or not a plain file name.
    """
    if parse(name) is not None:
        raise DataGenError(f"--{flag}={name} is the name of a published data set: choose one of your own")
    if not re.fullmatch(_PLAIN, name):
        raise DataGenError(f"--{flag}={name} is not a plain name: expected letters, digits, _ and -, and no directory")
