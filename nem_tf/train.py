"""Trains RNN-EM:  python -m nem_tf.train --dataset=flying_shapes --k=4"""

import sys

from absl import flags

from nem_tf import cli
from nem_tf.config import define_flags, given_flags, resolve
from nem_tf.data import generate_missing, load_split
from nem_tf.loop import Interrupted, Trainer


def main() -> None:
    config = resolve(given_flags(flags.FLAGS))
    generate_missing(config)
    trainer = Trainer(config, load_split(config, "training"), load_split(config, "validation"))
    try:
        trainer.fit()
    except Interrupted as interrupted:
        print(f"nem_tf.train: {interrupted}", file=sys.stderr)
        sys.exit(128 + interrupted.signum)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    cli.run(main, "nem_tf.train", __doc__)
