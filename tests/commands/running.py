"""Runs a command of a page, made small, and looks whether it does what the page says."""

import contextlib
import importlib
import json
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from absl import flags

from data_gen.__main__ import _flags as flags_of_data_gen
from nem_tf import cli
from nem_tf.settings import given_flags, resolve
from tests.commands.pages import FILLED, program_of
from tests.commands.presupposed import OF_TRAINING
from tests.faults.children import Child

SMALL = {  # flags that are appended: the last value wins
    "nem_tf.train": OF_TRAINING,
    "nem_tf.evaluate": ("--test_size=2", "--batch_size=2"),
    "nem_tf.demo": ("--sequences=1",),
}
SEVERAL_HOSTS = "--distribute=multi_worker"
ONE_MORE = ("--max_steps=3",)  # goes on with the run that the line before it trained on one host
OF_VIDEOS = ("--frames=12", "--test_share=0.3")
OF_PUBLISHED = ("--train_size=8", "--valid_size=4", "--test_size=4", "--workers=1")
PATIENCE = 120  # seconds, against a TensorBoard that never answers
CLOCK = 0.1  # seconds by which the clock of a file system may be behind


def run(context, line: str, place: Path, *more: str) -> str:
    """Runs a command in a directory; returns what is wrong, "" where it did what it should.

    Arguments:
        context: of `tests.faults.children.server`.
        line: the command.
        place: the directory, which stands for the root of the repository.
        more: flags appended after those that make it small.
    """
    first, *args = words_of(line, place)
    if first == "tensorboard":
        return _board(args, place)
    program, args = (args[1], args[2:]) if first == "python" else (program_of(first), args)
    args += [*small(program, args), *more]
    started = time.time()
    with contextlib.chdir(place):  # a child begins where its parent is
        ended = Child(context, program, args, place / "said", tf_config=_cluster(args)).end()
        if "Traceback" in ended.out + ended.err or ended.status:
            return f"status {ended.status}: {(ended.err.strip().splitlines() or [''])[-1][:500]}"
        if not ended.out.strip():
            return "prints nothing"
        since = 0.0 if program == "data_gen" else started  # a data set that is complete is left as it is
        missing = [] if "--help" in args else [pattern for pattern in made(program, args) if not _new(pattern, since)]
    return f"did not make {', '.join(missing)}" if missing else ""


def words_of(line: str, place: Path) -> list[str]:
    """Returns the words of a command as a shell hands them over, what a reader fills in filled in."""
    for placeholder, value in FILLED.items():
        line = line.replace(placeholder, value)
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], cwd=place, capture_output=True, check=True)
    return printed.stdout.decode().split("\0")[:-1]


def small(program: str, args: list[str]) -> tuple[str, ...]:
    """Returns the flags that make a program a matter of seconds."""
    if program == "data_gen":
        return OF_VIDEOS if any(arg.startswith("--from") for arg in args) else OF_PUBLISHED
    return (*SMALL.get(program, ()), *(ONE_MORE if SEVERAL_HOSTS in args else ()))


def _cluster(args):
    """TF_CONFIG of the one worker of a cluster, where a training is to be one of several hosts."""
    if SEVERAL_HOSTS not in args:
        return ""
    cluster = {"worker": [f"localhost:{_free_port()}"]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}})


def _free_port():
    with contextlib.closing(socket.socket()) as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _new(pattern, started):
    return any(path.stat().st_mtime >= started - CLOCK for path in Path().glob(pattern))


def made(program: str, args: list[str]) -> list[str]:
    """Returns patterns of the files that a program should have written, by its flags and what is said of it."""
    if program == "data_gen":
        options = flags_of_data_gen()
        options([program, *args])
        return [f"{options.data_dir}/{options.name or options.dataset}.h5"]
    options = flags.FlagValues()
    importlib.import_module(program).define(options)
    _, *others = options([program, *cli.flagfiles_first(args)])
    return MADE[program](options, others)


def _of_training(options, _):
    run_dir = resolve(given_flags(options)).paths.run_dir
    return [f"{run_dir}/metrics.jsonl", f"{run_dir}/latest/*.index", f"{run_dir}/events.*"]


def _of_evaluation(options, _):
    place = cli.given_trained(options).output_dir
    return [options.output or f"{place}/evaluation_*.json", *([f"{place}/*.png"] if options.generalisation else [])]


def _of_export(options, _):
    directory = options.export_dir or cli.given_trained(options).output_dir / options.format
    return [f"{directory}/{'config.json' if options.format == 'preset' else 'saved_model.pb'}"]


def _of_segmentation(options, _):
    return [f"{options.output}/*.{suffix}" for suffix in ("overlay.*", "masks.npz", "components.png")]


def _of_resume(_, flagfiles):
    return [pattern for path in flagfiles for pattern in made("nem_tf.train", [f"--flagfile={path}"])]


MADE: dict[str, Callable[[flags.FlagValues, list[str]], list[str]]] = {
    "nem_tf.train": _of_training,
    "nem_tf.evaluate": _of_evaluation,
    "nem_tf.export": _of_export,
    "nem_tf.segment": _of_segmentation,
    "nem_tf.demo": lambda options, _: [f"{options.output_dir}/*.{suffix}" for suffix in ("gif", "png")],
    "nem_tf.results": lambda options, _: [f"{options.output_dir}/results.md"],
    "nem_tf.resume": _of_resume,
}


def _board(args, place):
    """Starts TensorBoard, waits until it shows runs, and stops it."""
    port = _free_port()
    command = [sys.executable, "-m", "tensorboard.main", *args, f"--port={port}"]
    with open(place / "board.txt", "w") as said:
        board = subprocess.Popen(command, cwd=place, stdout=said, stderr=said)
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and board.poll() is None:
            if _answer(f"http://localhost:{port}/data/runs"):
                return ""
            time.sleep(0.5)
        said = (place / "board.txt").read_text().splitlines()
        return f"{shlex.join(command)} shows no runs: {(said or [''])[-1]}"
    finally:
        board.terminate()
        board.wait()


def _answer(url):
    """What a server has at a place, as JSON; nothing while it does not answer."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return None
