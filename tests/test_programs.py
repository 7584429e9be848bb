"""The programs as their users call them: one sentence for an error, no traceback, nothing lost."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import nem_tf
from nem_tf.config import from_flagfile, resolve, to_flagfile
from nem_tf.data import load_split
from nem_tf.errors import UserError
from nem_tf.evaluation import evaluate, table
from nem_tf.loop import Trainer
from nem_tf.model import build_model
from nem_tf.scoring import build_setup, forward

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


def programs(*calls, cwd=None):
    """Several at once: most of their time is TensorFlow's start."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda call: program(*call, cwd=cwd), calls))


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
    names = ("nem_tf.train", "nem_tf.evaluate", "nem_tf.export", "nem_tf.results")
    for result in programs(*((name, "--help") for name in names)):
        assert result.returncode == 0
        assert "this program:" in result.stdout or "run:" in result.stdout
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


def test_bad_input_to_train(tmp_path, trained):
    (tmp_path / "data").mkdir()
    foreign = tmp_path / "data/flying_shapes.h5"
    foreign.write_bytes(b"thesis")
    before = sorted((path, path.stat().st_size) for path in trained.rglob("*"))
    calls = {
        ("--k=0",): "nem_tf.train: flag --k=0",
        ("--dataset=mnist",): "--dataset=mnist is unknown: expected",
        ("train",): "unexpected argument 'train'",
        (): "not a readable HDF5 file",
        ("--seed=9", f"--flagfile={trained / 'flags.txt'}"): "holds a run with --seed=0, not 9",
    }
    results = programs(*(("nem_tf.train", *args) for args in calls), cwd=tmp_path)
    for result, sentence in zip(results, calls.values()):
        refused(result, sentence)
    assert foreign.read_bytes() == b"thesis"
    assert sorted((path, path.stat().st_size) for path in trained.rglob("*")) == before


def test_bad_input_to_evaluate_export_and_results(tmp_path, trained):
    (tmp_path / "notes").mkdir()
    calls = {
        ("nem_tf.evaluate",): "--run_dir is missing",
        ("nem_tf.evaluate", "--run_dir=nowhere"): "nowhere is not a run directory",
        ("nem_tf.evaluate", f"--run_dir={trained}", "--output=nowhere/x.json"): "expected a file in a directory that",
        ("nem_tf.evaluate", f"--run_dir={trained}", "--generalisation", "--k=4"): "leave out --k",
        ("nem_tf.export", "--run_dir=nowhere", "--export_dir=x"): "not a run directory",
        ("nem_tf.export", f"--run_dir={trained}", f"--export_dir={tmp_path}"): "exists: choose a new one",
        ("nem_tf.results", "notes"): "none of the 1 directories has test scores",
        ("nem_tf.results",): "expected run directories",
    }
    for result, sentence in zip(programs(*calls, cwd=tmp_path), calls.values()):
        refused(result, sentence)


def test_bad_input_to_data_gen(tmp_path):
    refused(program("data_gen", "--dataset=mnist", cwd=tmp_path), "--dataset=mnist is unknown")
    refused(program("data_gen", "--train_size=-1", cwd=tmp_path), "--train_size=-1")
    nothing = ("--train_size=0", "--valid_size=0", "--test_size=0")
    refused(program("data_gen", *nothing, cwd=tmp_path), "there is nothing to write")
    refused(program("data_gen", "--dataset=flying_mnist_2", "--mnist=nowhere", cwd=tmp_path), "--mnist=nowhere")
    refused(program("data_gen", "--data_dir=/proc/data", "--train_size=1", cwd=tmp_path), "cannot write")
    assert not list(tmp_path.iterdir())


def test_evaluation_scores_every_sequence_once_and_the_same_in_any_batches(trained):
    config = from_flagfile(trained / "flags.txt")
    one, same, other = (evaluate(trained, config, dataclasses.replace(config, batch_size=n)) for n in (4, 4, 3))
    assert one == same
    assert one["sequences"] == 6  # batches of 4 and 2, or 3 and 3
    for name, spread in one["scores"].items():
        assert spread["q25"] <= spread["median"] <= spread["q75"], name
        assert spread["mean"] == pytest.approx(other["scores"][name]["mean"], rel=1e-4), name
        assert len(one["per_step"][name]["q25"]) == 2
    assert one["scores"]["ami"]["mean"] == pytest.approx(np.mean(one["per_step"]["ami"]["mean"]))
    assert one["scores"]["loss"]["mean"] == pytest.approx(np.sum(one["per_step"]["loss"]["mean"]))
    for name in ("ari_video", "upper_bound"):
        assert one["scores"][name]["mean"] == pytest.approx(one["per_step"][name]["mean"][-1])
    assert "ami_arithmetic" in table(one)


def test_validation_and_evaluation_agree(trained):
    line = json.loads((trained / "metrics.jsonl").read_text())
    config = from_flagfile(trained / "flags.txt")
    result = evaluate(trained, config, config, "validation")
    assert result["per_step"]["ami"]["mean"][-1] == pytest.approx(line["validation"].pop("ami_last_step"), rel=1e-6)
    for name, value in line["validation"].items():
        assert result["scores"][name]["mean"] == pytest.approx(value, rel=1e-6), name


def test_several_initialisations_are_several_seeds(trained):
    config = from_flagfile(trained / "flags.txt")
    both = evaluate(trained, config, config, initialisations=2)
    single = [evaluate(trained, config, dataclasses.replace(config, seed=seed)) for seed in (0, 1)]
    for name, spread in both["scores"].items():
        means = [result["scores"][name]["mean"] for result in single]
        assert spread["mean"] == pytest.approx(np.mean(means)), name
        assert spread["initialisation_std"] == pytest.approx(np.std(means, ddof=1), abs=1e-9), name
    assert single[0]["scores"]["loss"] != single[1]["scores"]["loss"]


def test_a_rollout_is_the_evaluation_up_to_its_last_frame_and_then_its_own(trained, tiny_data):
    """Until the rollout begins, scores are those of seeing; after it, frames not seen change nothing but the scores."""
    config = dataclasses.replace(from_flagfile(trained / "flags.txt"), nr_steps=4, k=3)
    seen = evaluate(trained, config, config)
    rolled = evaluate(trained, config, config, rollout_from=2)
    for name in ("loss", "upper_bound"):
        one, other = (result["per_step"][name]["mean"] for result in (seen, rolled))
        np.testing.assert_allclose(one[:2], other[:2], rtol=1e-5)
        assert one[3] != other[3]
    np.testing.assert_allclose(*(r["per_step"]["upper_bound"]["mean"][2] for r in (seen, rolled)), rtol=1e-5)
    assert len(evaluate(trained, config, config, rollout_from=0)["per_step"]["ami"]["mean"]) == 4
    other = evaluate(trained, config, dataclasses.replace(config, batch_size=5), rollout_from=2)
    assert other["scores"]["loss"]["mean"] == pytest.approx(rolled["scores"]["loss"]["mean"], rel=1e-4)

    model = build_model(config, (28, 28, 1))
    setup = build_setup(config, model)
    frames = load_split(config, "test").frames[:2]
    changed = tf.concat([frames[:, :3], 1 - frames[:, 3:]], axis=1)
    outputs = [forward(setup, f, tf.constant([[0, 1], [0, 2]]), rollout_from=2).outputs for f in (frames, changed)]
    for name in outputs[0]:
        np.testing.assert_array_equal(outputs[0][name], outputs[1][name])
    with pytest.raises(UserError, match=r"--rollout_from=4 expects .* a frame before the last of --nr_steps=4"):
        evaluate(trained, config, config, rollout_from=4)


def test_generalisation_then_the_tables(trained, tmp_path):
    """Any run on other K, other numbers of objects, static and longer sequences; then the paper's tables of it."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    data = f"--data_dir={tmp_path}"
    result = program("nem_tf.evaluate", f"--run_dir={run}", data, "--generalisation", "--test_size=3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list(run.glob("evaluation_test*.json"))) == 7
    other = json.loads((run / "evaluation_test_flying_shapes_5_k3_test_size3.json").read_text())
    assert other["settings"]["k"] == 3
    longer = json.loads((run / "evaluation_test_nr_steps50_test_size3.json").read_text())
    assert len(longer["per_step"]["ami"]["mean"]) == 50
    assert Image.open(run / "generalisation_test.png").size[0] > 600
    tags = set()
    for event_file in run.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(event_file)):
            tags |= {value.tag for value in event.summary.value}
    assert "generalisation/test" in tags

    (tmp_path / "notes").mkdir()
    tables = program("nem_tf.results", str(run), "notes", f"--output_dir={tmp_path / 'results'}", cwd=tmp_path)
    assert tables.returncode == 0, tables.stderr
    assert "notes is not a run directory: left out" in tables.stderr
    assert "flying_shapes_5, K 5, 2 steps, test_size 3" in tables.stdout
    assert (tmp_path / "results/fig7.png").exists()


def test_a_run_without_the_checkpoint_asked_for(tiny_config, tmp_path):
    directory = nem_tf.run_dir.open_run(tiny_config, (28, 28, 1))
    assert (directory / "flags.txt").read_text() == to_flagfile(tiny_config)
    with pytest.raises(UserError, match="has no best checkpoint yet"):
        evaluate(directory, tiny_config, tiny_config)


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


@pytest.mark.skipif(sys.platform != "linux", reason="TensorFlow has oneDNN on Linux")
def test_convolutions_are_those_of_onednn_unless_the_user_says_otherwise():
    convolution = "tf.function(tf.nn.conv2d)(tf.ones([8, 9, 9, 16]), tf.ones([3, 3, 16, 16]), 1, 'SAME')"
    code = f"import nem_tf, tensorflow as tf; {convolution}"
    for environment, expected in (({}, True), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, False)):
        unset = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
        environment = {**unset, "ONEDNN_VERBOSE": "1", "PYTHONPATH": str(ROOT), **environment}
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert result.returncode == 0
        assert (",convolution," in result.stdout) == expected
