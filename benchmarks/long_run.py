"""Whether memory and time stay flat over hours of training: a figure.

    python -m benchmarks.long_run --hours=3 --plot=docs/long_run.png

Trains flying shapes in epochs of some seconds, each with its validation, its pictures and its checkpoint, so that what
grows with them grows thousands of times. Time is that of the processor, which other programs disturb less than the
time on the wall. Linux only: it reads /proc. A run that has ended is drawn again by --samples and --plot alone.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from nem_tf import cli
from nem_tf.errors import UserError

BETWEEN = 20.0  # seconds from one sample to the next
WINDOW = 15  # samples that a time per epoch is a mean over
SETTINGS = {"dataset": "flying_shapes", "train_size": 64, "valid_size": 32, "batch_size": 16, "nr_steps": 4,
            "ema_momentum": 0.99, "learning_rate": 1e-4, "max_epochs": 1_000_000, "patience": 1_000_000,
            "shares": 1}  # fmt: skip
_TICKS = os.sysconf("SC_CLK_TCK")

Sample = dict[str, float]  # seconds, megabytes (resident), processor (seconds), epochs: all since the start but memory


def sample(process: int, run_dir: Path, start: float) -> Sample:
    """Reads how a training stands."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{process}/status").read_text()
    metrics = run_dir / "metrics.jsonl"
    return {
        "seconds": time.monotonic() - start,
        "megabytes": int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6,
        "processor": sum(map(int, fields[11:13])) / _TICKS,
        "epochs": len(metrics.read_text().splitlines()) if metrics.exists() else 0,
    }


def watched(run_dir: Path, seconds: float) -> list[Sample]:
    """Trains for so long, and returns a sample every `BETWEEN` seconds.

    Raises:
        UserError: the training ended by itself.
    """
    settings = {**SETTINGS, "run_dir": str(run_dir), "data_dir": str(run_dir.parent)}
    command = [sys.executable, "-m", "nem_tf.train", *(f"--{name}={value}" for name, value in settings.items())]
    with (run_dir.parent / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as training:
        start, samples = time.monotonic(), []
        try:
            while time.monotonic() < start + seconds:
                time.sleep(BETWEEN)
                if training.poll() is not None:
                    said = Path(log.name).read_text().strip().rpartition("\n")[2]
                    raise UserError(f"the training ended after {time.monotonic() - start:.0f} s: {said}")
                samples.append(sample(training.pid, run_dir, start))
        finally:
            training.send_signal(signal.SIGTERM)
    return samples


def figure(samples: list[Sample]) -> Figure:
    """Resident memory, and processor time of an epoch, over the hours."""
    column = {name: np.array([each[name] for each in samples]) for name in samples[0]}
    hours = column["seconds"] / 3600
    epochs, used = (column[name][WINDOW:] - column[name][:-WINDOW] for name in ("epochs", "processor"))
    figure = Figure(figsize=(10, 2.8), dpi=100, layout="constrained")
    memory, pace = figure.subplots(1, 2)
    memory.plot(hours, column["megabytes"])
    memory.set(ylim=(0, None), xlabel="hours", ylabel="resident memory, MB")
    pace.plot(hours[WINDOW:], used / np.maximum(epochs, 1))
    total = int(column["epochs"][-1])
    pace.set(ylim=(0, None), xlabel=f"hours ({total:,} epochs in all)", ylabel="processor seconds an epoch")
    return figure


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_float("hours", 3.0, "How long to train.", lower_bound=0.05, **this)
    flags.DEFINE_string("samples", "", "File of an earlier run's --json, to be drawn instead.", **this)
    cli.define_output(options, "plot", "File for the figure.")
    cli.define_output(options, "json", "File for the samples.")


def main(options: flags.FlagValues) -> None:
    if options.samples:
        samples = json.loads(Path(options.samples).read_text())
    else:
        with tempfile.TemporaryDirectory() as directory:
            samples = watched(Path(directory) / "run", 3600 * options.hours)
    first, settled, last = samples[0], samples[len(samples) // 4], samples[-1]
    print(
        f"{last['seconds'] / 3600:.1f} hours, {last['epochs']:,} epochs; memory {first['megabytes']:,.0f} MB at first, "
        f"{settled['megabytes']:,.0f} MB after a quarter, {last['megabytes']:,.0f} MB at last"
    )
    if options.plot:
        figure(samples).savefig(options.plot)
    if options.json:
        Path(options.json).write_text(json.dumps(samples) + "\n")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.long_run", __doc__)
