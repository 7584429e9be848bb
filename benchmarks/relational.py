"""What it costs that components see each other: a training step of R-NEM over one of RNN-EM of the same sizes.

    python -m benchmarks.relational [--batch_size=8] [--nr_steps=10] [--json=relational.json]

The systems take turns in one process on one core, step by step, and what is compared is the time of that core, which
other programs on the machine disturb less than the time on the wall; on a GPU it is the time on the wall.
"""

import json
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.speed import training_step
from nem_tf import build, cli
from nem_tf.settings import resolve
from nem_tf.training import devices

NETWORKS = ("balls_rnn_em", "balls_r_nem", "balls_r_nem_no_attention")  # the first is what the others are divided by
IMAGE = (64, 64, 1)


def seconds(k: int, batch_size: int, nr_steps: int, rounds: int) -> dict[str, np.ndarray]:
    """Of the training steps of each network, [rounds]."""
    devices.use_cores(1)
    clock = time.perf_counter if tf.config.list_logical_devices("GPU") else time.process_time
    frames = (np.random.default_rng(0).random((batch_size, nr_steps + 1, *IMAGE)) < 0.1).astype(np.float32)
    steps, taken = {}, {network: [] for network in NETWORKS}
    for network in NETWORKS:
        settings = resolve({"dataset": "balls4mass64", "network": network, "k": k, "batch_size": batch_size,
                            "nr_steps": nr_steps, "shares": 1})  # fmt: skip
        system = build.build_system(settings, build.build_model(settings, IMAGE))
        steps[network] = training_step(settings, system, frames)
        for _ in range(2):
            steps[network]().numpy()
    for _ in range(rounds):
        for network, step in steps.items():
            start = clock()
            step().numpy()
            taken[network].append(clock() - start)
    return {network: np.array(times) for network, times in taken.items()}


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_integer("k", 5, "Number of components.", lower_bound=2, **this)
    flags.DEFINE_integer("batch_size", 8, "Number of sequences in a step.", lower_bound=1, **this)
    flags.DEFINE_integer("nr_steps", 10, "Number of EM steps.", lower_bound=1, **this)
    flags.DEFINE_integer("rounds", 15, "Number of times everything is measured.", lower_bound=1, **this)
    cli.define_output(options, "json", "File for the numbers.")


def main(options: flags.FlagValues) -> None:
    taken = seconds(options.k, options.batch_size, options.nr_steps, options.rounds)
    print(f"K {options.k}, {options.batch_size} sequences, {options.nr_steps} EM steps: medians, quartiles of ratios")
    numbers = {}
    for network, times in taken.items():
        low, ratio, high = np.quantile(times / taken[NETWORKS[0]], [0.25, 0.5, 0.75])
        print(f"{network:<26}{np.median(times):8.3f} s{ratio:8.2f} ({low:.2f}-{high:.2f})")
        numbers[network] = {"seconds": np.median(times), "ratio": ratio, "ratio_quartiles": [low, high]}
    if options.json:
        Path(options.json).write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.relational", __doc__)
