"""Generates a data set of the paper:  python -m data_gen --dataset=flying_shapes"""

import os
import re
import sys
import time
from pathlib import Path

from absl import app, flags

from data_gen.flying_shapes import FlyingShapes
from data_gen.writer import SPLITS, DataGenError, write_dataset

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", "flying_shapes", "flying_shapes (3 objects) or flying_shapes_N for N objects.")
flags.DEFINE_string("data_dir", "data", "Where DATASET.h5 is written.")
flags.DEFINE_integer("train_size", 50_000, "Training sequences.", lower_bound=1)
flags.DEFINE_integer("valid_size", 10_000, "Validation sequences.", lower_bound=1)
flags.DEFINE_integer("test_size", 10_000, "Test sequences.", lower_bound=1)
flags.DEFINE_integer("nr_steps", 20, "EM steps the sequences serve: they have one frame more.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Same seed, same bytes.", lower_bound=0)
flags.DEFINE_integer("workers", None, "Processes; by default one per core. Does not change the data.", lower_bound=1)


def generator_of(dataset: str, nr_frames: int) -> FlyingShapes:
    """The generator of a named data set.

    Raises:
        DataGenError: no such data set.
    """
    match = re.fullmatch(r"flying_shapes(?:_([1-9]\d?))?", dataset)
    if match is None:
        raise DataGenError(f"--dataset={dataset} is unknown: expected flying_shapes or flying_shapes_N for N objects")
    return FlyingShapes(nr_objects=int(match[1] or 3), nr_frames=nr_frames)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        sys.exit(f"data_gen: unexpected argument {argv[1]!r}; settings are given as --flag=value")
    start = time.monotonic()
    path = Path(FLAGS.data_dir) / f"{FLAGS.dataset}.h5"
    sizes = dict(zip(SPLITS, (FLAGS.train_size, FLAGS.valid_size, FLAGS.test_size)))
    try:
        generator = generator_of(FLAGS.dataset, FLAGS.nr_steps + 1)
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
