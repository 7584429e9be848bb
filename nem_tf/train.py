"""Trains RNN-EM:  python -m nem_tf.train --dataset=flying_shapes --k=4"""

import sys

import tensorflow as tf
from absl import flags

from nem_tf import cli
from nem_tf.config import define_flags, given_flags, resolve
from nem_tf.data import generate_missing, load_split
from nem_tf.distribution import agree, is_chief, make_strategy, use_cores
from nem_tf.errors import UserError
from nem_tf.loop import Interrupted, Trainer


def main() -> None:
    config = resolve(given_flags(flags.FLAGS))
    use_cores(config)
    strategy = make_strategy(config)
    if is_chief(strategy):
        generate_missing(config)
    try:
        agree(strategy, {"data is there": 1.0})
        trainer = Trainer(config, load_split(config, "training"), load_split(config, "validation"), strategy)
        trainer.fit()
    except (tf.errors.UnavailableError, tf.errors.InternalError, tf.errors.AbortedError) as error:
        if config.distribute != "multi_worker":
            raise
        place = ("Graph execution error", "Detected at", "  File")  # where it was noticed, of no use to the reader
        reasons = (line for line in error.message.splitlines() if line and not line.startswith(place))
        raise UserError(
            "another worker was lost; start all of them again to go on from the last checkpoint "
            f"({next(reasons, error.message)})"
        ) from error
    except Interrupted as interrupted:
        print(f"nem_tf.train: {interrupted}", file=sys.stderr)
        sys.exit(128 + interrupted.signum)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    cli.run(main, "nem_tf.train", __doc__)
