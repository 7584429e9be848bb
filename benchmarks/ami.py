"""Scores of a batch of masks, vectorised, against scikit-learn called mask by mask, side by side in one run.

python -m benchmarks.ami [--sequences=64]
"""

import time

import numpy as np
from absl import flags
from sklearn.metrics import adjusted_mutual_info_score

from data_gen.shapes import FlyingShapes
from nem_tf import cli
from nem_tf.scoring.metrics import ami, contingency


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_integer("sequences", 64, "Number of sequences of 20 masks.", lower_bound=1, **this)
    flags.DEFINE_integer("rounds", 5, "Number of times everything is measured.", lower_bound=1, **this)


def main(options: flags.FlagValues) -> None:
    rng = np.random.default_rng(0)
    _, groups = FlyingShapes(nr_frames=20).sequences(rng, options.sequences, "test")
    groups = groups[..., 0]
    assignment = np.where(rng.random(groups.shape) < 0.7, groups, rng.integers(0, 4, groups.shape))
    flat = [labels.reshape(-1, 28 * 28) for labels in (groups, assignment)]

    def vectorised():
        return ami(contingency(groups, assignment), "max").ravel()

    def one_by_one():
        return [adjusted_mutual_info_score(g[g > 0], a[g > 0], average_method="max") for g, a in zip(*flat)]

    seconds = {}
    for function in (vectorised, one_by_one) * options.rounds:
        start = time.perf_counter()
        function()
        seconds.setdefault(function.__name__, []).append(time.perf_counter() - start)
    difference = np.abs(vectorised() - one_by_one()).max()
    ratios = np.divide(seconds["one_by_one"], seconds["vectorised"])
    print(f"AMI (max) of {len(flat[0])} masks of 28x28, {options.rounds} rounds")
    for name, times in seconds.items():
        print(f"{name:<12} median {1e3 * np.median(times):8.1f} ms  {1e3 * min(times):.1f} .. {1e3 * max(times):.1f}")
    print(f"ratio: median {np.median(ratios):.0f}, {ratios.min():.0f} .. {ratios.max():.0f}")
    print(f"largest difference {difference:.1e}")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.ami", __doc__)
