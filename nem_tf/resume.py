"""Trains the runs of a list in turn, for a while:  python -m nem_tf.resume --minutes=50 flags/flying_*.flags

For a machine that one has for an hour: every run goes on from its last checkpoint, one that is finished is passed over,
and when the time is over the run in hand writes its checkpoint. The same command goes on from there, here or on another
machine to which runs/ was copied. With --jobs, a run that begins from the weights of another one waits for that.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from nem_tf import cli
from nem_tf.errors import UserError
from nem_tf.settings import given_flags, resolve
from nem_tf.train import define as define_training

GRACE = 600.0  # seconds that a training is given to write its checkpoint: it may be validating
POLL = 0.2


class _Places(NamedTuple):
    """The directories of a training, by its flagfile."""

    run_dir: str
    init_from: str  # where its first weights are, "" where they are drawn


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_float("minutes", None, "Time after which trainings stop; by default when all are finished.",
                       lower_bound=0.0, **this)  # fmt: skip
    flags.DEFINE_integer(
        "jobs", 1, "Trainings side by side: two or three keep a GPU busy, which one of this size does not.",
        lower_bound=1, **this,
    )  # fmt: skip


def main(options: flags.FlagValues, *flagfiles: str) -> None:
    if not flagfiles:
        raise UserError("expected flagfiles, e.g. python -m nem_tf.resume --minutes=50 flags/flying_*.flags")
    for path in flagfiles:
        if not Path(path).expanduser().is_file():
            raise UserError(f"{path} is missing: expected a flagfile of nem_tf.train")
    end = float("inf") if options.minutes is None else time.monotonic() + 60 * options.minutes
    ended = dict(train_in_turn(flagfiles, options.jobs, end))
    failed = [path for path, status in ended.items() if status > 0]
    if not ended:
        print("the time is over: nothing was trained")
    if failed:
        raise UserError(f"failed, see above: {', '.join(failed)}")


def train_in_turn(flagfiles: Sequence[str], jobs: int, end: float) -> Iterator[tuple[str, int]]:
    """Trains from flagfiles, `jobs` at a time, until all have ended or the clock says so.

    Arguments:
        flagfiles: of nem_tf.train, in their order, each once.
        jobs: how many side by side.
        end: moment of `time.monotonic`; the trainings that are under way are then asked to stop, and no other is begun.

    Yields each flagfile that was begun with the exit status of its training, below 0 where it was stopped.

    Raises:
        Interrupted: this program was asked to stop; its trainings were, and have.
    """
    waiting, running = list(dict.fromkeys(flagfiles)), {}
    places = {path: _places(path) for path in flagfiles}
    try:
        while waiting or running:
            while (path := _next(waiting, running, places)) and len(running) < jobs and time.monotonic() < end:
                waiting.remove(path)
                print(f"{path}: training", flush=True)
                running[path] = subprocess.Popen([sys.executable, "-m", "nem_tf.train", f"--flagfile={path}"])
            if time.monotonic() >= end:
                waiting.clear()
                yield from _stopped(running)
                running.clear()
            for path, process in list(running.items()):
                if process.poll() is not None:
                    del running[path]
                    yield path, process.returncode
            time.sleep(POLL)
    except BaseException:  # a signal, or nobody reads what is printed: no training is left behind
        for _ in _stopped(running):
            pass
        raise


def _next(waiting, running, places):
    """The first that waits for none, under way or before it: neither for its first weights nor for its directory."""
    before = {places[path].run_dir for path in running}
    for path in waiting:
        if not {places[path].init_from, places[path].run_dir} & before:
            return path
        before.add(places[path].run_dir)
    return None


def _places(path: str) -> _Places:
    options = flags.FlagValues()
    define_training(options)
    try:
        options(["nem_tf.train", *cli.flagfiles_first([f"--flagfile={path}"])])
        settings = resolve(given_flags(options))
    except (flags.Error, UserError, UnicodeError):  # which its training says
        return _Places(path, "")
    places = (settings.paths.run_dir, settings.optimisation.init_from)
    return _Places(*(os.path.realpath(os.path.expanduser(place)) if place else "" for place in places))


def _stopped(running):
    """Asks trainings to stop, and yields them with -SIGTERM where they did so for this reason."""
    for process in running.values():
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    for path, process in running.items():
        status = process.wait(GRACE)
        asked = status in (-signal.SIGTERM, 128 + signal.SIGTERM)
        yield path, -signal.SIGTERM if asked else status


if __name__ == "__main__":
    cli.run(main, define, "nem_tf.resume", __doc__, positional="FLAGFILE")
