"""The programs as their users call them: one sentence for an error, no traceback, nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nem_tf
from nem_tf.config import from_flagfile, resolve, to_flagfile
from nem_tf.data import load_split
from nem_tf.errors import UserError
from nem_tf.evaluate import evaluate, table
from nem_tf.loop import Trainer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


def program(*args, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def refused(result, *words):
    """Non-zero exit, one sentence on the last line, no traceback."""
    assert result.returncode not in (0, -6, -11)
    assert "Traceback" not in result.stderr
    sentence = result.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in sentence
    return result


@pytest.fixture(scope="module")
def trained(tiny_data, tmp_path_factory):
    """A run of the paper's network, a few steps long."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    config = resolve({"data_dir": str(tiny_data), "run_dir": str(run_dir), "nr_steps": 2, "batch_size": 4, "k": 2,
                      "train_size": 8, "valid_size": 4, "test_size": 6, "max_epochs": 1})  # fmt: skip
    Trainer(config, load_split(config, "training"), load_split(config, "validation")).fit()
    return run_dir


def test_help_is_true_and_ends_well():
    for name in ("nem_tf.train", "nem_tf.evaluate", "nem_tf.export"):
        result = program(name, "--help")
        assert result.returncode == 0
        assert "--run_dir" in result.stdout
        assert len(result.stdout.splitlines()) < 50


def test_train_from_nothing_then_evaluate_and_export(tmp_path):
    """The user's lines in an empty directory: data are generated, the run is resumed, scored and exported."""
    flags = ("--nr_steps=2", "--batch_size=4", "--train_size=8", "--valid_size=4", "--test_size=6", "--k=4")
    result = program("nem_tf.train", "--dataset=flying_shapes", *flags, "--max_epochs=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "generating them: -m data_gen" in result.stdout
    assert "it/s" not in result.stderr  # no bars where nobody looks
    run_dir = tmp_path / "runs/flying_shapes_k4"
    assert (run_dir / "metrics.jsonl").exists()

    again = program("nem_tf.train", f"--flagfile={run_dir / 'flags.txt'}", "--max_epochs=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resuming from" in again.stdout
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 2

    scored = program("nem_tf.evaluate", "--run_dir=runs/flying_shapes_k4", "--output=scores.json", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["sequences"] == 6

    exported = program("nem_tf.export", "--run_dir=runs/flying_shapes_k4", "--export_dir=served", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "served/saved_model.pb").exists()


def test_bad_input_to_train(tmp_path, tiny_data, trained):
    refused(program("nem_tf.train", "--k=0", cwd=tmp_path), "nem_tf.train: flag --k=0")
    refused(program("nem_tf.train", "--dataset=mnist", cwd=tmp_path), "--dataset=mnist is unknown: expected")
    refused(program("nem_tf.train", "train", cwd=tmp_path), "unexpected argument 'train'")
    (tmp_path / "data").mkdir()
    foreign = tmp_path / "data/flying_shapes.h5"
    foreign.write_bytes(b"thesis")
    refused(program("nem_tf.train", cwd=tmp_path), "not a readable HDF5 file")
    assert foreign.read_bytes() == b"thesis"
    other = ("--seed=9", f"--flagfile={trained / 'flags.txt'}")
    before = sorted((path, path.stat().st_size) for path in trained.rglob("*"))
    refused(program("nem_tf.train", *other, cwd=tmp_path), "holds a run with --seed=0, not 9")
    assert sorted((path, path.stat().st_size) for path in trained.rglob("*")) == before


def test_bad_input_to_evaluate_and_export(tmp_path, trained):
    refused(program("nem_tf.evaluate", cwd=tmp_path), "--run_dir is missing")
    refused(program("nem_tf.evaluate", "--run_dir=nowhere", cwd=tmp_path), "nowhere is not a run directory")
    refused(program("nem_tf.export", "--run_dir=nowhere", "--export_dir=x", cwd=tmp_path), "not a run directory")
    refused(program("nem_tf.export", f"--run_dir={trained}", f"--export_dir={tmp_path}"), "exists: choose a new one")


def test_bad_input_to_data_gen(tmp_path):
    refused(program("data_gen", "--dataset=mnist", cwd=tmp_path), "--dataset=mnist is unknown")
    refused(program("data_gen", "--train_size=0", cwd=tmp_path), "--train_size=0")
    refused(program("data_gen", "--data_dir=/proc/data", "--train_size=1", cwd=tmp_path), "cannot write")
    assert not list(tmp_path.iterdir())


def test_evaluation_scores_every_sequence_once_and_twice_the_same(trained):
    config = from_flagfile(trained / "flags.txt")
    first, second = (evaluate(config, trained, "test", "best") for _ in range(2))
    assert first == second
    assert first["sequences"] == 6  # batches of 4 and 2
    for name, spread in first["scores"].items():
        assert spread["q25"] <= spread["median"] <= spread["q75"], name
        assert len(first["per_step"][name]) == 2
    assert first["scores"]["ami"]["mean"] == pytest.approx(np.mean(first["per_step"]["ami"]))
    assert first["scores"]["loss"]["mean"] == pytest.approx(np.sum(first["per_step"]["loss"]))
    assert "ami_arithmetic" in table(first)


def test_validation_and_evaluation_agree(trained):
    line = json.loads((trained / "metrics.jsonl").read_text())
    result = evaluate(from_flagfile(trained / "flags.txt"), trained, "validation", "best")
    for name, value in line["validation"].items():
        assert result["scores"][name]["mean"] == pytest.approx(value, rel=1e-6), name


def test_a_run_without_the_checkpoint_asked_for(tiny_config, tmp_path):
    directory = nem_tf.run_dir.open_run(tiny_config, (28, 28, 1))
    assert (directory / "flags.txt").read_text() == to_flagfile(tiny_config)
    with pytest.raises(UserError, match="has no best checkpoint yet"):
        evaluate(tiny_config, directory, "test", "best")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_while_training(tmp_path, tiny_data):
    """A limit on the size of files fails the checkpoint as a full disk does."""
    flags = f"--data_dir={tiny_data} --run_dir={tmp_path}/run --nr_steps=2 --batch_size=4 --max_epochs=1"
    sizes = "--train_size=8 --valid_size=4 --test_size=6"
    command = f"trap '' XFSZ; ulimit -f 2000; exec {sys.executable} -m nem_tf.train {flags} {sizes}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    refused(result, "nem_tf.train: cannot write a checkpoint to", "File too large")
    assert from_flagfile(tmp_path / "run/flags.txt").nr_steps == 2


def test_a_disk_that_fills_elsewhere(tmp_path):
    """Whatever write meets the full disk first, its user reads a sentence."""
    code = (
        "import errno, os\n"
        "from nem_tf import cli\n"
        "def main(): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'metrics.jsonl')\n"
        "cli.run(main, 'nem_tf.train', '')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    refused(result, "nem_tf.train: the disk is full", "metrics.jsonl")
