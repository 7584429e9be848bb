"""Programs that are killed, asked to stop, out of disk or given damaged files: nothing is lost, and all goes on.

Each campaign takes (count, seed, directory) and returns a dict a case: "kind", "case", "outcome" ("as promised" or what
was not) and "said", the last line on stderr. Case i depends on (seed, i) alone, as far as a moment of the clock can.
"""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import conftest
import h5py
import numpy as np
import run_files

from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset
from tests.faults import inputs
from tests.faults.children import PHASES, Child, Ended, Fault, server
from tests.faults.serving import served

PROMISED = "as promised"
KILLS_OF_A_RUN = 4  # before it is resumed to its end and compared
EPOCHS = 5
TRAINING_STEPS = EPOCHS * conftest.TINY_SIZES["training"] // 8
PROGRAMS = ("data_gen", "nem_tf.segment", "nem_tf.evaluate", "nem_tf.export")


class Trainings:
    """A tiny training, and what comes of it when nothing befalls it."""

    def __init__(self, directory: Path):
        self.context, self.directory = server(), directory
        data = directory / "data"
        write_dataset(data / "flying_shapes.h5", "flying_shapes", FlyingShapes(nr_frames=6), conftest.TINY_SIZES)
        self.settings = {**conftest.tiny(data, ""), "max_epochs": EPOCHS}
        self.run_dir = directory / "undisturbed"
        ended = self.run(self.run_dir)
        assert ended.status == 0, ended.err
        self.outcome = run_files.outcome_of(self.run_dir)

    def arguments(self, run_dir: Path, **changes: Any) -> list[str]:
        settings = {**self.settings, "run_dir": str(run_dir), **changes}
        return [f"--{name}={value}" for name, value in settings.items()]

    def run(self, run_dir: Path, fault: Fault | None = None, **changes: Any) -> Ended:
        """Trains into a directory, from where it stands there."""
        said = self.directory / "said" / run_dir.name
        return Child(self.context, "nem_tf.train", self.arguments(run_dir, **changes), said, fault).end()

    def judge(self, run_dir: Path) -> tuple[str, str]:
        """Resumes a run to its end: the outcome, and what was said last."""
        ended = self.run(run_dir)
        if ended.status:
            return f"does not resume, status {ended.status}", last_line(ended)
        found = run_files.outcome_of(run_dir)
        different = [part for part, value in self.outcome.items() if found[part] != value]
        return (f"other {', '.join(different)}" if different else PROMISED), last_line(ended)


def last_line(ended: Ended) -> str:
    return (ended.err.strip().splitlines() or [""])[-1][:300]


def case(kind: str, what: str, outcome: str, said: str = "") -> dict[str, str]:
    return {"kind": kind, "case": what, "outcome": outcome, "said": said}


def random_fault(rng: np.random.Generator, signum: int) -> Fault:
    """A signal at a random moment: in one of the phases of a training, or any time after its start."""
    phase = rng.choice([*PHASES, "start"])
    if phase == "start":
        return Fault("start", 1, float(rng.uniform(0, 8)), signum)
    calls = TRAINING_STEPS if phase == "step" else 2 * EPOCHS if phase == "checkpoint" else EPOCHS
    return Fault(str(phase), int(rng.integers(1, calls + 1)), float(rng.choice([0, rng.uniform(0, 0.05)])), signum)


def killed_trainings(trainings: Trainings, count: int, seed: int) -> Iterator[dict[str, str]]:
    """SIGKILL in the middle of trainings, several times each; then they are resumed to the end."""
    rng, struck = np.random.default_rng([seed, 0]), 0
    while struck < count:
        run_dir = trainings.directory / f"killed{struck}"
        faults = []
        for _ in range(min(KILLS_OF_A_RUN, count - struck)):
            fault = random_fault(rng, signal.SIGKILL)
            ended = trainings.run(run_dir, fault)
            if ended.status == -signal.SIGKILL:
                faults.append(str(fault))
            elif ended.status == 0:
                break  # its end came first
            else:
                yield case("SIGKILL of a training", "; ".join(faults), f"status {ended.status}", last_line(ended))
                return
        outcome, said = trainings.judge(run_dir)
        struck += len(faults)
        for fault in faults:
            yield case("SIGKILL of a training", f"{run_dir.name}: {fault}", outcome, said)
        shutil.rmtree(run_dir)


def asked_trainings(trainings: Trainings, count: int, seed: int) -> Iterator[dict[str, str]]:
    """SIGTERM or Ctrl-C: the exit status is that of the signal, and nothing is lost."""
    rng = np.random.default_rng([seed, 1])
    done = 0
    while done < count:
        signum = [signal.SIGTERM, signal.SIGINT][done % 2]
        run_dir = trainings.directory / f"asked{done}"
        fault = random_fault(rng, signum)
        ended = trainings.run(run_dir, fault)
        if ended.status == 0:  # its end came first
            shutil.rmtree(run_dir)
            continue
        done += 1
        what = f"{signal.Signals(signum).name}, {fault}"
        # A signal before the program catches any ends it as any program.
        if ended.status not in (128 + signum, -signum) or "Traceback" in ended.err:
            outcome, said = f"status {ended.status}", last_line(ended)
        else:
            outcome, said = trainings.judge(run_dir)
        yield case("SIGTERM, Ctrl-C", what, outcome, said)
        shutil.rmtree(run_dir, ignore_errors=True)


def killed_programs(trainings: Trainings, count: int, seed: int) -> Iterator[dict[str, str]]:
    """SIGKILL of what writes one thing: it is there whole, or as it was; run again it is there, and no litter."""
    rng, whole = np.random.default_rng([seed, 2]), {}
    for number in range(count):
        program = PROGRAMS[number % len(PROGRAMS)]
        place = trainings.directory / f"program{number}"
        place.mkdir()
        target, args, content = _written(trainings, program, place)
        said = trainings.directory / "said" / place.name
        if program not in whole:
            undisturbed = Child(trainings.context, program, args, said).end()
            assert undisturbed.status == 0, undisturbed.err
            whole[program] = _listing(place), content(target)
            shutil.rmtree(place)
            place.mkdir()
        listing, expected = whole[program]
        delay = float(rng.uniform(0, {"data_gen": 3, "nem_tf.export": 12}.get(program, 8)))
        ended = Child(trainings.context, program, args, said, Fault("start", 1, delay)).end()
        what = f"{program} after {delay:.2f} s" + ("" if ended.status < 0 else ", ended before")
        outcome = PROMISED
        if target.exists():
            try:
                found = content(target)
            except Exception:  # half a file surfaces as anything
                found = {"half": "a file"}
            # Of several files each is there whole or not at all.
            some = program == "nem_tf.segment" and found.items() <= expected.items()
            outcome = PROMISED if found == expected or some else "half-written"
        if ended.status < 0 and not (program == "nem_tf.export" and target.exists()):
            ended = Child(trainings.context, program, args, said).end()
            if ended.status:
                outcome = f"does not run again, status {ended.status}"
        litter = sorted(set(_listing(place)) - set(listing))
        if litter and outcome == PROMISED:
            outcome = f"litter: {', '.join(litter[:3])}"
        yield case("SIGKILL of other programs", what, outcome, last_line(ended))
        shutil.rmtree(place)


def _written(trainings, program, place):
    """What a program writes into a directory, the arguments for that, and what reads it."""
    run, data = [f"--run_dir={trainings.run_dir}", "--own_code"], trainings.settings["data_dir"]
    sizes = ["--train_size=3000", "--valid_size=10", "--test_size=10", "--workers=1"]
    return {
        "data_gen": (place / "flying_shapes.h5", [f"--data_dir={place}", *sizes], _of_hdf5),
        "nem_tf.segment": (place, [f"{data}/flying_shapes.h5", *run, f"--output={place}"], _of_directory),
        "nem_tf.evaluate": (place / "scores.json", [*run, f"--output={place}/scores.json"], _of_json),
        "nem_tf.export": (place / "model", [*run, f"--export_dir={place}/model"], _of_directory),
    }[program]


def _listing(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.name.endswith(".lock"))


def _of_hdf5(path):
    with h5py.File(path) as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: item[()].tobytes()}) if hasattr(item, "shape") else None)
        return found


def _of_json(path):
    record = json.loads(path.read_text())
    return {name: value for name, value in record.items() if name != "seconds"}


def _of_directory(path):
    """The size of every file that is due; not of a graph, which no two processes number alike."""
    files = [each for each in path.rglob("*") if each.is_file() and ".partial" not in str(each.relative_to(path))]
    return {str(each.relative_to(path)): each.suffix != ".pb" and each.stat().st_size for each in files}


def killed_workers(trainings: Trainings, count: int, seed: int) -> Iterator[dict[str, str]]:
    """SIGKILL of one of two workers, every other time of the chief: the other one says so, and all goes on."""
    rng = np.random.default_rng([seed, 3])
    through = trainings.directory / "workers"
    for ended in _both(trainings, through, None, 0):
        assert ended.status == 0, ended.err
    expected = run_files.lines_of(through)
    for number in range(count):
        run_dir, victim = trainings.directory / f"workers{number}", number % 2
        phase = str(rng.choice(["step", "validation", "report"] if victim == 0 else ["step", "validation"]))
        fault = Fault(phase, int(rng.integers(1, EPOCHS)), float(rng.uniform(0, 0.05)))
        ends = _both(trainings, run_dir, fault, victim)
        other = ends[1 - victim]
        what = f"{'chief' if victim == 0 else 'other'}, {fault}"
        outcome, said = PROMISED, last_line(other)
        if not other.is_sentence or "another worker was lost" not in other.err:
            outcome = f"the other one ends with {other.status}"
        else:
            for ended in _both(trainings, run_dir, None, 0):
                if ended.status:
                    outcome, said = f"does not resume, status {ended.status}", last_line(ended)
            if outcome == PROMISED and not _alike(run_files.lines_of(run_dir), expected):
                outcome = "other lines"
        yield case("SIGKILL of a worker", what, outcome, said)
        shutil.rmtree(run_dir, ignore_errors=True)


def _both(trainings, run_dir, fault, victim):
    """Two workers of one training to their ends; the fault befalls one of them."""
    with closing(socket.socket()) as first, closing(socket.socket()) as second:
        for free in (first, second):
            free.bind(("localhost", 0))
        addresses = [f"localhost:{free.getsockname()[1]}" for free in (first, second)]
    args = trainings.arguments(run_dir, distribute="multi_worker")
    workers = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        said = trainings.directory / "said" / run_dir.name
        befalls, name = fault if index == victim else None, f"worker{index}"
        workers.append(Child(trainings.context, "nem_tf.train", args, said, befalls, json.dumps(config), name))
    return [worker.end() for worker in workers]


def _alike(lines, expected):
    """The same steps, and the same losses but for the order in which two processes add up."""
    losses = [[(line["step"], line["validation"]["loss"]) for line in each] for each in (lines, expected)]
    return np.shape(losses[0]) == np.shape(losses[1]) and np.allclose(*losses, rtol=1e-3)


def full_disks(trainings: Trainings, count: int, seed: int) -> Iterator[dict[str, str]]:
    """A disk of so many bytes, and one that turns read-only: a sentence, and on a larger disk all goes on."""
    whole = sum(path.stat().st_size for path in trainings.run_dir.rglob("*") if path.is_file())
    rng = np.random.default_rng([seed, 4])
    for number in range(count):
        place = trainings.directory / f"disk{number}"
        place.mkdir()
        read_only = number % 4 == 3
        size = whole * 4 if read_only else int(whole * (number + 1) / count)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 4096 * 4096 + 4096}", "none", str(place)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            place.rmdir()
            return  # only root may
        kind = "read-only directory" if read_only else "full disk"
        try:
            fault = None
            if read_only:
                phase = str(rng.choice(["step", "checkpoint", "report"]))
                command = ("mount", "-o", "remount,ro", str(place))
                fault = Fault(phase, int(rng.integers(1, EPOCHS + 1)), 0.0, command=command)
            ended = trainings.run(place / "run", fault)
            outcome = PROMISED if ended.status == 0 or ended.is_sentence else f"status {ended.status}"
            said = last_line(ended)
            kept = trainings.directory / f"kept{number}"
            if (place / "run").exists():
                shutil.copytree(place / "run", kept)
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)
            place.rmdir()
        if outcome == PROMISED:
            outcome, resumed = trainings.judge(kept)
            said = said or resumed
        what = f"{fault.phase} {fault.call}" if fault else f"{size:,} of {whole:,} bytes"
        yield case(kind, what, outcome, said)
        shutil.rmtree(kept, ignore_errors=True)


def damaged_runs(trainings: Trainings, count: int, seed: int) -> Iterator[dict[str, str]]:
    """A flipped byte in each file of the checkpoints, and metrics cut in a line: resumed, the run is as it was."""
    rng = np.random.default_rng([seed, 5])
    # Half-way, so that there is something left to train.
    half = trainings.directory / "half"
    ended = trainings.run(half, max_epochs=EPOCHS - 2)
    assert ended.status == 0, ended.err
    files = sorted(path.relative_to(half) for which in ("latest", "best") for path in (half / which).iterdir())
    for number in range(count):
        run_dir = trainings.directory / f"damaged{number}"
        shutil.copytree(half, run_dir)
        if number % 5 == 4:
            path = run_dir / "metrics.jsonl"
            content = path.read_bytes()
            cut = int(rng.integers(0, len(content)))
            path.write_bytes(content[:cut])
            ended = trainings.run(run_dir)
            outcome = PROMISED if ended.status == 0 else f"status {ended.status}"
            if ended.status == 0:
                # What was cut off is gone; all else is there once.
                lines = run_files.lines_of(run_dir)
                if any(line not in trainings.outcome["lines"] for line in lines) or len({
                    line["step"] for line in lines}) != len(lines):  # fmt: skip
                    outcome = "other lines"
            yield case("metrics cut in a line", f"at {cut} of {len(content)}", outcome, last_line(ended))
        else:
            path = run_dir / files[number % len(files)]
            content = bytearray(path.read_bytes())
            at = int(rng.integers(len(content)))
            content[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(content)
            outcome, said = trainings.judge(run_dir)
            yield case("flipped bit of a checkpoint", f"{files[number % len(files)]} at {at}", outcome, said)
        shutil.rmtree(run_dir)


def served_models(trainings: Trainings, count: int, seed: int) -> Iterator[dict[str, str]]:
    """See `tests.faults.serving`."""
    for kind, what, wrong in served(trainings.directory, count, seed):
        yield case(kind, what, wrong or PROMISED)


def spoiled_inputs(trainings: Trainings, count: int, seed: int) -> Iterator[dict[str, str]]:
    """See `tests.faults.inputs`."""
    for each in inputs.campaign(count, seed, trainings.directory / "inputs"):
        outcome = PROMISED if each["outcome"] in inputs.FINE else each["outcome"]
        yield case(f"input: {each['kind']}", each["case"], outcome, each["said"])


CAMPAIGNS: dict[str, tuple[Callable[..., Iterator[dict[str, str]]], int]] = {
    "killed trainings": (killed_trainings, 100),
    "asked trainings": (asked_trainings, 30),
    "killed programs": (killed_programs, 30),
    "killed workers": (killed_workers, 20),
    "full disks": (full_disks, 20),
    "damaged runs": (damaged_runs, 30),
    "served models": (served_models, 60),
    "spoiled inputs": (spoiled_inputs, 500),
}
