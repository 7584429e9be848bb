"""Takes the names of the data sets apart; every other module that wants to know what a name means asks here.

Nothing but the standard library is imported, so that a program can refuse a wrong name before it loads anything slow.
"""

import re
from typing import NamedTuple

from data_gen import DataGenError

EXPECTED = (
    "(flying|static)_shapes[_N] for N objects (3 if left out), or (flying|static)_mnist_N[_D] for N digits of which D "
    "are distinct (all if left out)"
)

_SHAPES = r"(?:_(?P<nr_objects>[1-9][0-9]?))?"
_MNIST = r"_(?P<nr_objects>[1-9])(?:_(?P<distinct>[1-9][0-9]*))?"
_ENDINGS = {"flying_shapes": _SHAPES, "static_shapes": _SHAPES, "flying_mnist": _MNIST, "static_mnist": _MNIST}
_DEFAULT_OBJECTS = 3
_PLAIN = r"\w[\w-]*"  # what every file system takes as it is, and no path


class Name(NamedTuple):
    """Says what the name of a data set means.

    Attributes:
        family: one of "flying_shapes", "static_shapes", "flying_mnist" and "static_mnist".
        nr_objects: number of objects in a frame, at least 1.
        distinct: number of different digits that occur; None if all do, and for shapes.
    """

    family: str
    nr_objects: int
    distinct: int | None


def parse(name: str) -> Name | None:
    """Takes a name apart; returns None for what is not the name of a data set of the paper."""
    for family, ending in _ENDINGS.items():
        found = re.fullmatch(family + ending, name)
        if found:
            held = found.groupdict()
            distinct = held.get("distinct")
            return Name(family, int(held["nr_objects"] or _DEFAULT_OBJECTS), int(distinct) if distinct else None)
    return None


def known(name: str) -> Name:
    """Takes a name apart that has to be one of a data set.

    Raises:
        DataGenError: it is not.
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
        DataGenError: it is the name of a published data set, or not a plain file name.
    """
    if parse(name) is not None:
        raise DataGenError(f"--{flag}={name} is the name of a published data set: choose one of your own")
    if not re.fullmatch(_PLAIN, name):
        raise DataGenError(f"--{flag}={name} is not a plain name: expected letters, digits, _ and -, and no directory")
