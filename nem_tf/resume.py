"""Trains the runs of a list in turn, for a while:  python -m nem_tf.resume --minutes=50 flags/flying_*.flags

For a machine that one has for an hour: every run goes on from its last checkpoint, one that is finished is passed over,
and when the time is over the run in hand writes its checkpoint. The same command goes on from there, here or on another
machine to which runs/ was copied. A run that begins from the weights of another one of the list waits for that,
whichever is named first, and is not begun where that one failed.
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

POLL = 0.2
STOPPED = -signal.SIGTERM  # the exit status of a training that was asked to stop, and has written its checkpoint


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
    failed = [path for path, status in ended.items() if status not in (0, STOPPED)]
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

    Yields each flagfile that was begun with the exit status of its training, `STOPPED` where it was asked to stop. What
    begins from one that failed is not begun.

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
                command = [sys.executable, "-m", "nem_tf.train", f"--flagfile={path}"]
                # In a session of its own: what ends a group of processes would end it twice, without its checkpoint.
                running[path] = subprocess.Popen(command, start_new_session=True)
            if time.monotonic() >= end:
                waiting.clear()
                yield from _stopped(running)
                running.clear()
            for path, process in list(running.items()):
                if process.poll() is not None:
                    del running[path]
                    status = _status(process.returncode)
                    if status:
                        _leave_out(path, waiting, places)
                    yield path, status
            time.sleep(POLL)
    except BaseException:  # a signal, or nobody reads what is printed: no training is left behind
        for _ in _stopped(running):
            pass
        raise


def _next(waiting, running, places):
    """The first that waits for none: for its first weights for no other, for its directory for none before it."""
    before = {places[path].run_dir for path in running}
    others = before | {places[path].run_dir for path in waiting}
    for path in waiting:
        run_dir, init_from = places[path]
        if run_dir not in before and init_from not in others - {run_dir}:
            return path
        before.add(run_dir)
    # Those that begin from each other wait for ever: the first training says what is wrong with that.
    return waiting[0] if waiting and not running else None


def _leave_out(path, waiting, places):
    """Has nothing begin from what did not end well, nor from what is left out for that."""
    run_dir = places[path].run_dir
    left_out = [other for other in waiting if places[other].init_from == run_dir != places[other].run_dir]
    for other in left_out:
        waiting.remove(other)
        print(f"{other}: not begun, since it begins from {path}", flush=True)
    for other in left_out:
        _leave_out(other, waiting, places)


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
    """Asks trainings to stop, waits until they have written their checkpoints, and yields them with their status."""
    for process in running.values():
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    for path, process in running.items():
        yield path, _status(process.wait())


def _status(code):
    return STOPPED if code in (-signal.SIGTERM, 128 + signal.SIGTERM) else code


if __name__ == "__main__":
    cli.run(main, define, "nem_tf.resume", __doc__, positional="FLAGFILE")
