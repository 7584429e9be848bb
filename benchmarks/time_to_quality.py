"""AMI over the wall time of trainings, and the time each took to a given AMI: one table and, on request, a plot.

    python -m benchmarks.time_to_quality runs/flying_shapes runs/flying_shapes_fast*
    python -m benchmarks.time_to_quality runs/* --score=ami_last --json=quality.json --plot=quality.png

Reads what `nem_tf.train` wrote: after every epoch the AMI of the validation split, a mean over the EM steps or of the
last step, and the minutes that training and validation had taken until then, all sessions of a resumed run together.
Trainings are to be compared where they ran on the same machine.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from matplotlib.figure import Figure

from nem_tf import cli
from nem_tf.errors import UserError
from nem_tf.run import Run, read_lines

LEVELS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95)  # of AMI
SCORES = {"ami": "AMI, mean over the EM steps", "ami_last": "AMI of the last EM step"}


class Epoch(NamedTuple):
    """Where a training stood at the end of an epoch."""

    step: int
    minutes: float
    ami: float


def read_epochs(run_dir: Path, score: str) -> list[Epoch]:
    """Of a run. The last line of an epoch counts, as an interrupted one has several.

    Raises:
        UserError: not a run directory, or no epoch is done.
    """
    metrics = Run(run_dir).metrics
    lines = read_lines(metrics)
    if not lines:
        raise UserError(f"{run_dir} has no epoch to show in {metrics.name}")
    try:
        epochs = {
            line["epoch"]: Epoch(line["step"], line["wall_time"] / 60, line["validation"][score]) for line in lines
        }
    except KeyError as error:
        raise UserError(f"{metrics} is of another version, or of data without labels: no {error.args[0]}") from error
    return [epochs[number] for number in sorted(epochs)]


def read_runs(run_dirs: Iterable[str], score: str) -> dict[str, list[Epoch]]:
    """The epochs of some runs; says on stderr which it leaves out.

    Raises:
        UserError: none is left.
    """
    runs = {}
    for name in run_dirs:
        try:
            runs[name] = read_epochs(Path(name), score)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not runs:
        raise UserError("expected directories of runs with an epoch, e.g. python -m benchmarks.time_to_quality runs/*")
    return runs


def minutes_to(epochs: Sequence[Epoch], ami: float) -> float | None:
    """At the end of the first epoch with that AMI; None if it was not reached."""
    return next((epoch.minutes for epoch in epochs if epoch.ami >= ami), None)


def curves(runs: Mapping[str, Sequence[Epoch]], ylabel: str) -> Figure:
    """AMI over minutes, a line per run."""
    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, epochs in runs.items():
        axes.plot([epoch.minutes for epoch in epochs], [epoch.ami for epoch in epochs], marker=".", label=name)
    axes.set_xlabel("minutes")
    axes.set_ylabel(ylabel)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    return figure


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    about = "AMI as a mean over the EM steps, or that of the last."
    flags.DEFINE_enum("score", "ami", list(SCORES), about, module_name=cli.OWN_GROUP, flag_values=options)
    cli.define_output(options, "plot", "File for the curves.")
    cli.define_output(options, "json", "File for the numbers.")


def main(options: flags.FlagValues, *run_dirs: str) -> None:
    runs = read_runs(run_dirs, options.score)
    width = max(map(len, runs))
    print("minutes to an AMI; in the end: training steps, minutes, AMI")
    print(f"{'run':<{width}}" + "".join(f"{level:>8g}" for level in LEVELS) + f"{'steps':>10}{'minutes':>9}{'AMI':>7}")
    for name, epochs in runs.items():
        reached = [minutes_to(epochs, level) for level in LEVELS]
        cells = "".join(f"{'-':>8}" if minutes is None else f"{minutes:>8.1f}" for minutes in reached)
        step, minutes, ami = epochs[-1]
        print(f"{name:<{width}}{cells}{step:>10,}{minutes:>9.1f}{ami:>7.3f}")
    if options.plot:
        curves(runs, SCORES[options.score]).savefig(options.plot)
    if options.json:
        found = {name: [epoch._asdict() for epoch in epochs] for name, epochs in runs.items()}
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.time_to_quality", __doc__, positional="RUN_DIR")
