"""Programs as children, forked from a server that has imported TensorFlow, and what befalls them in the middle."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from nem_tf import cli

TESTS = Path(__file__).parents[1]
PRELOADED = (
    "conftest", "nem_tf.evaluation", "nem_tf.training.signals", "nem_tf.segmentation", "nem_tf.demonstration",
    "nem_tf.serving", "nem_tf.results", "nem_tf.pretrained", "data_gen.from_files",
)  # fmt: skip
POSITIONAL = {"nem_tf.segment": "FILE", "nem_tf.results": "RUN_DIR", "nem_tf.resume": "FLAGFILE"}
# Where a training may be hit: what is called then, as module:class.method.
PHASES = {
    "step": "nem_tf.training.step:TrainStep.__call__",
    "checkpoint": "nem_tf.training.checkpoints:Checkpoints.save",
    "validation": "nem_tf.training.validation:Validation.__call__",
    "pictures": "nem_tf.training.tensorboard:Summaries.pictures",
    "report": "nem_tf.training.reporting:Reporter.validated",
}
PATIENCE = 900  # seconds, against a hang: nothing here is that slow


class Fault(NamedTuple):
    """What befalls a program: a signal or a command, so many seconds after the n-th call of something begins."""

    phase: str  # of `PHASES`, or "start": of the program
    call: int
    delay: float
    signum: int = signal.SIGKILL
    command: tuple[str, ...] = ()  # in place of the signal

    def __str__(self) -> str:
        return f"{self.phase} {self.call} + {self.delay:.3f} s"

    def arm(self) -> None:
        if self.phase == "start":
            self._strike_later()
            return
        module, _, place = PHASES[self.phase].partition(":")
        owner, name = place.split(".")
        owner = getattr(importlib.import_module(module), owner)
        method, calls = getattr(owner, name), []

        def counted(*args, **options):
            calls.append(1)
            if len(calls) == self.call:
                self._strike_later()
            return method(*args, **options)

        setattr(owner, name, counted)

    def _strike_later(self):
        def strike():
            time.sleep(self.delay)
            if self.command:
                subprocess.run(self.command, check=False)
            else:
                os.kill(os.getpid(), self.signum)

        threading.Thread(target=strike, daemon=True).start()


class Ended(NamedTuple):
    """How a child ended."""

    status: int  # exit status, negative: the signal that killed it
    out: str
    err: str

    @property
    def is_sentence(self) -> bool:
        return self.status > 0 and "Traceback" not in self.err


def server() -> multiprocessing.context.BaseContext:
    """The context of processes that are forked from one with everything imported."""
    places = [str(TESTS), str(TESTS.parent)]
    sys.path[:0] = places
    os.environ["PYTHONPATH"] = os.pathsep.join(places)  # the server has a path of its own
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


class Child:
    """A program that runs.

    Arguments:
        context: of `server`.
        program: its module, e.g. "nem_tf.train".
        args: its arguments.
        directory: for what it prints.
        fault: what befalls it.
        tf_config: TF_CONFIG of a worker.
        name: of the files for what it prints.
    """

    def __init__(
        self,
        context: multiprocessing.context.BaseContext,
        program: str,
        args: list[object],
        directory: Path,
        fault: Fault | None = None,
        tf_config: str = "",
        name: str = "said",
    ):
        directory.mkdir(parents=True, exist_ok=True)
        self._said = [directory / f"{name}.out", directory / f"{name}.err"]
        for path in self._said:
            path.unlink(missing_ok=True)
        target = (program, [str(arg) for arg in args], [str(path) for path in self._said], fault, tf_config)
        self.process = context.Process(target=_work, args=target)
        self.process.start()

    def end(self) -> Ended:
        """Waits for it."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        out, err = (path.read_text() if path.exists() else "" for path in self._said)
        return Ended(self.process.exitcode, out, err)


def _work(program, args, said, fault, tf_config):
    for path, stream in zip(said, (sys.stdout, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    if tf_config:
        os.environ["TF_CONFIG"] = tf_config
    from nem_tf.training import trainer

    trainer.SCORE_EVERY = 2
    if fault:
        fault.arm()
    call(program, args)


def call(program: str, args: list[str]) -> None:
    """Runs a program in this process, as `python -m` does.

    Raises:
        SystemExit: where it does not end well, of data_gen also where it does.
    """
    sys.path.insert(0, os.getcwd())
    if program == "data_gen":
        from data_gen.__main__ import main

        sys.exit(main(["data_gen", *args]))
    module = importlib.import_module(program)
    cli.run(module.main, module.define, program, module.__doc__, POSITIONAL.get(program, ""), argv=args)
