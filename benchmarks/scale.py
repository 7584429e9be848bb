"""What a training step costs over batch, components, EM steps and size of the image: a figure and its numbers.

    python -m benchmarks.scale --plot=docs/scale.png [--json=scale.json]

One of the four is varied at a time, from B 16, K 3, T 10, images of 28 x 28. What is measured is the time of one core,
which other programs on the machine disturb less than the time on the wall. Linear cost is a straight line through the
first point with slope 1. Some minutes.
"""

import json
import time
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from benchmarks.speed import training_step
from nem_tf import build, cli
from nem_tf.settings import resolve
from nem_tf.training import devices

BASE = {"batch_size": 16, "k": 3, "nr_steps": 10, "size": 28}
VARIED = {
    "batch_size": ("sequences, B", (8, 16, 32, 64)),
    "k": ("components, K", (2, 4, 8, 16)),
    "nr_steps": ("EM steps, T", (5, 10, 20, 40)),
    "size": ("pixels, H x W", (28, 56, 84, 112)),
}


def seconds(batch_size: int, k: int, nr_steps: int, size: int, rounds: int) -> float:
    """Of one core, of a training step: the median of the rounds. The network is that of flying shapes, for any size."""
    settings = resolve({"dataset": "flying_shapes", "network": "convolutional", "widths": "32,64", "shares": 1,
                        "batch_size": batch_size, "k": k, "nr_steps": nr_steps})  # fmt: skip
    image = (size, size, 1)
    system = build.build_system(settings, build.build_model(settings, image))
    frames = (np.random.default_rng(0).random((batch_size, nr_steps + 1, *image)) < 0.2).astype(np.float32)
    step = training_step(settings, system, frames)
    step().numpy()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        step().numpy()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def figure(found: dict[str, list[float]]) -> Figure:
    """A panel for each of what is varied, on logarithmic axes, with the line of linear cost."""
    figure = Figure(figsize=(10, 2.8), dpi=100, layout="constrained")
    for axes, (name, (label, values)) in zip(figure.subplots(1, len(found)), VARIED.items()):
        x = np.array(values, float) ** (2 if name == "size" else 1)
        axes.loglog(x, x * found[name][0] / x[0], color="0.7", linestyle="--", label="linear")
        axes.loglog(x, found[name], marker="o", label="measured")
        axes.set_xticks(x, [f"{value}" if name != "size" else f"{value}$^2$" for value in values])
        axes.minorticks_off()
        axes.set_xlabel(label)
    figure.axes[0].set_ylabel("seconds of a core, a training step")
    figure.axes[0].legend(fontsize="small")
    return figure


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_integer("rounds", 5, "Number of times everything is measured.", lower_bound=1, **this)
    cli.define_output(options, "plot", "File for the figure.")
    cli.define_output(options, "json", "File for the numbers.")


def main(options: flags.FlagValues) -> None:
    devices.use_cores(1)
    found = {}
    print(", ".join(f"{name} {value}" for name, value in BASE.items()) + " unless varied; seconds of a core")
    for name, (label, values) in VARIED.items():
        found[name] = [seconds(**{**BASE, name: value}, rounds=options.rounds) for value in values]
        print(
            f"{label:<16}" + "".join(f"{value:>6}: {taken:6.2f}" for value, taken in zip(values, found[name])),
            flush=True,
        )
    if options.plot:
        figure(found).savefig(options.plot)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.scale", __doc__)
