"""The program that trains: what a run leaves, what it goes on with, and what it refuses; it runs in this process."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY_SIZES, tiny
from run_files import AT_THE_START, checkpoint_names, events_of, kept_in, lines_of
from tensorboard.plugins.custom_scalar import layout_pb2

from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset
from nem_tf import build
from nem_tf.layers.system import Masks
from nem_tf.run import Run
from nem_tf.scoring import doctor
from nem_tf.settings import from_flagfile, resolve
from nem_tf.train import begin
from nem_tf.trained import read_run
from nem_tf.training import tensorboard, trainer
from nem_tf.training.checkpoints import restore_weights
from nem_tf.training.reporting import Reporter
from nem_tf.training.step import StepResult
from nem_tf.training.tensorboard import LAYOUT

LOSSES = {f"{name}{last}" for name in ("loss", "intra", "inter", "upper_bound") for last in ("", "_last")}
SCORES = {f"{name}{last}" for name in ("ami", "ami_arithmetic", "ari", "mbo", "confidence") for last in ("", "_last")}
SCORES |= {"ari_video"}
RELATIVE = {f"{name}{suffix}" for name in ("baseline", "relative") for suffix in ("", "_last")}
SYMPTOMS = {f"{name}{last}" for name in doctor.SYMPTOMS for last in ("", "_last")}
TRAIN = "nem_tf.train"


@pytest.fixture(autouse=True)
def often_scored_and_quickly_drawn(monkeypatch):
    monkeypatch.setattr(trainer, "SCORE_EVERY", 2)
    monkeypatch.setattr(tensorboard, "overview", lambda rows: np.zeros((2, 2, 3), np.uint8))


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A copy of the finished run, to be written to."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def flags(settings):
    return [f"--{name}={value}" for name, value in settings.items()]


def contents(directory):
    """Of all files but the lock, which stays."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != ".lock"}


def weights_in(run_dir, which, averaged=False):
    """The weights of a run, or their averages."""
    run = Run(run_dir)
    model = build.build_model(from_flagfile(run.flagfile), run.image_shape)
    restore_weights(run_dir, which, averaged, model)
    return model.get_weights()


def refused(result, *words):
    """Exit status 1, one sentence on stderr, no traceback."""
    status, _, err = result
    assert status == 1
    (sentence,) = err.strip().splitlines()
    for word in words:
        assert word in sentence
    return sentence


def training_of(settings):
    return build.Training(settings, build.load(settings, "training"), build.load(settings, "validation"))


def test_a_run_leaves_what_it_promises(tiny_run, tiny_data):
    lines = lines_of(tiny_run, times=True)
    assert [(line["epoch"], line["complete"], line["step"]) for line in lines] == [(1, True, 4), (2, True, 8)]
    for line in lines:
        assert set(line["train"]) == LOSSES | SCORES
        assert set(line["validation"]) == LOSSES | SCORES | SYMPTOMS | RELATIVE
        assert line["sequences_per_second"] > 0
    assert lines[1]["wall_time"] > lines[0]["wall_time"]
    assert lines[1]["validation"]["loss"] < lines[0]["validation"]["loss"]
    run = Run(tiny_run)
    assert from_flagfile(run.flagfile) == resolve(tiny(tiny_data, tiny_run))
    assert (run.image_shape, run.data["dataset"], run.data["seed"]) == ((28, 28, 1), "flying_shapes", 0)
    assert (run.origin, run.history) == (None, [])
    assert checkpoint_names(tiny_run) == ["ckpt-4", "ckpt-8"]
    assert checkpoint_names(tiny_run, "best") == ["ckpt-8"]
    steps = {}
    for tag, step, _ in events_of(tiny_run):
        steps.setdefault(tag, []).append(step)
    expected = {f"train/{name}": [2, 4, 6, 8] for name in LOSSES | SCORES}
    expected |= {f"validation/{name}": [4, 8] for name in LOSSES | SCORES | SYMPTOMS | RELATIVE}
    expected |= {"doctor/findings": [4, 8]}  # after eight steps nothing binds
    expected |= {f"{kind}/{sample}": [4, 8] for kind in ("overview", "animation") for sample in (0, 1)}
    expected |= {"speed/sequences_per_second": [4, 8], **{tag: [0] for tag in AT_THE_START}}
    assert steps == expected
    (layout,) = (value for tag, _, value in events_of(tiny_run) if tag == LAYOUT)
    for category in layout_pb2.Layout.FromString(layout).category:
        for chart in category.chart:
            drawn = [tag for tag in steps if any(re.search(pattern, tag) for pattern in chart.multiline.tag)]
            assert len(drawn) >= 2, chart.title


def test_constructing_writes_nothing(tiny_settings):
    training = training_of(resolve(tiny_settings))
    assert not training.run.path.exists()


@pytest.mark.parametrize("target", ["next_frame", "same_frame"])
def test_masks_in_training_are_scored_with_the_labels_of_the_frames_that_the_steps_predict(tiny_settings, target):
    training = training_of(resolve({**tiny_settings, "target": target, "curriculum": "2"}))
    for call in training.trainer._feed.calls(0, 0, 0):
        perfect = call.groups[:, 1:] if target == "next_frame" else call.groups
        masks = Masks(tf.constant(perfect), tf.ones(perfect.shape))
        scores = training.trainer._score(StepResult(None, None, masks), call)
        assert scores.keys() == SCORES
        assert scores["ari"] == scores["mbo_last"] == pytest.approx(1)


@pytest.mark.slow
def test_interrupted_by_a_signal_and_resumed_in_other_calls_it_is_the_same_run(
    program, tiny_settings, tiny_run, monkeypatch
):
    """What is spent and how it is computed may change on a resume; the losses do not."""
    trained = Reporter.trained

    def trained_and_asked_to_stop(reporter, step, values):
        trained(reporter, step, values)
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Reporter, "trained", trained_and_asked_to_stop)
    status, out, err = program(TRAIN, *flags(tiny_settings))
    assert status == 128 + signal.SIGTERM
    assert err.strip() == "nem_tf.train: interrupted at step 6; the same command resumes from there"
    assert out.startswith("one ")  # the device
    assert f"training into {tiny_settings['run_dir']}" in out
    assert "epoch 1  step 4" in out
    run_dir = Path(tiny_settings["run_dir"])
    assert checkpoint_names(run_dir) == ["ckpt-4", "ckpt-6"]

    monkeypatch.setattr(Reporter, "trained", trained)
    status, out, err = program(TRAIN, *flags(tiny_settings), "--steps_per_call=3", "--jit=off")
    assert (status, err) == (0, "")
    assert f"resuming from {run_dir}/latest/ckpt-6" in out
    assert "finished at step 8: --max_epochs=2 reached" in out
    assert from_flagfile(run_dir / "flags.txt").execution.steps_per_call == 3
    for line, expected in zip(lines_of(run_dir), lines_of(tiny_run), strict=True):
        assert line["step"] == expected["step"]
        for part, names in (("train", LOSSES), ("validation", LOSSES | SCORES)):
            found, through = ([each[part][name] for name in sorted(names)] for each in (line, expected))
            np.testing.assert_allclose(found, through, rtol=1e-5, atol=1e-7)
    resumed, through = (kept_in(path, "latest") for path in (run_dir, tiny_run))
    trained = [name for name in through if name.startswith("optimizer/")]
    assert len(trained) > 20  # weights and Adam's moments
    for name in trained:
        np.testing.assert_allclose(resumed[name], through[name], rtol=1e-4, atol=1e-6, err_msg=name)
    tags = [event[:2] for event in events_of(run_dir)]
    assert len(tags) == len(set(tags))


@pytest.mark.slow
def test_moving_averages_are_what_is_scored_and_training_is_what_it_was(program, tiny_settings, tiny_run, tmp_path):
    """Both chains hold the weights as trained and their averages; validation, evaluation and export take these."""
    run_dir = Path(tiny_settings["run_dir"])
    assert program(TRAIN, *flags(tiny_settings), "--ema_momentum=0.75")[0] == 0
    for line, plain in zip(lines_of(run_dir), lines_of(tiny_run), strict=True):
        for name in LOSSES:
            assert line["train"][name] == pytest.approx(plain["train"][name], rel=1e-6)
        assert line["validation"]["loss"] != pytest.approx(plain["validation"]["loss"], rel=1e-6)
    for which in ("latest", "best"):
        for weights, plain in zip(weights_in(run_dir, which), weights_in(tiny_run, which), strict=True):
            np.testing.assert_allclose(weights, plain, rtol=1e-6, atol=1e-7)
        averages = weights_in(run_dir, which, averaged=True)
        differing = [(average != weights).any() for average, weights in zip(averages, weights_in(run_dir, which))]
        assert sum(differing) > len(differing) / 2
        slots = [np.asarray(value) for name, value in kept_in(run_dir, which).items() if name.startswith("optimizer")]
        for average in averages:  # those of the moment of saving
            assert any(np.array_equal(average, slot) for slot in slots)

    status, *_ = program("nem_tf.evaluate", f"--run_dir={run_dir}", "--split=validation", f"--output={tmp_path}/v.json")
    assert status == 0
    scores = json.loads((tmp_path / "v.json").read_text())["scores"]
    for name, value in lines_of(run_dir)[-1]["validation"].items():
        if name in SYMPTOMS:
            continue
        assert scores[name]["mean"] == pytest.approx(value, rel=1e-6), name
    assert program("nem_tf.export", f"--run_dir={run_dir}")[0] == 0
    served = tf.train.load_checkpoint(str(run_dir / "saved_model/variables/variables"))
    exported = [served.get_tensor(name) for name, shape in served.get_variable_to_shape_map().items() if shape]
    for average in averages:
        assert any(np.array_equal(average, weights) for weights in exported if weights.shape == average.shape)


@pytest.mark.slow
def test_a_file_of_ones_own_in_a_directory_of_any_name(program, tmp_path, monkeypatch, rng):
    """Grey, of two channels, without labels, named by its path: losses alone are shown, in every place."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with h5py.File(tmp_path / "toy.h5", "w") as file:
        for split, size in TINY_SIZES.items():
            file[f"{split}/features"] = rng.random((4, size, 6, 5, 2)).astype(np.float32)
    sizes = ("--train_size=8", "--valid_size=4", "--test_size=3", "--batch_size=8", "--nr_steps=3", "--max_epochs=1")
    sizes += ("--passes=1",)
    run = "--run_dir=~/runs/a[1]"
    status, out, err = program(
        TRAIN, "--dataset=~/toy.h5", run, "--mixture=gaussian", "--network=conftest:small_network", *sizes
    )
    assert (status, err) == (0, "")
    assert "AMI" not in out
    assert re.search(r"toy\.h5, chosen: .*--prior=mean .*--noise=masked_uniform", out), out
    assert "--passes" not in out  # given
    run_dir = tmp_path / "runs/a[1]"
    (line,) = lines_of(run_dir)
    assert set(line["train"]) == LOSSES
    assert set(line["validation"]) == LOSSES | SYMPTOMS | RELATIVE
    tags = {"/".join(tag.split("/")[:2]) for tag, _, _ in events_of(run_dir)}
    expected = {"speed/sequences_per_second", *AT_THE_START, "overview/0", "animation/1"}
    assert tags >= expected | {f"validation/{name}" for name in LOSSES}
    assert not any(name in tag for tag in tags for name in ("ami", "ari", "mbo", "confidence"))
    assert Run(run_dir).data.keys() == {"file", "sha256"}
    assert Run(run_dir).image_shape == (6, 5, 2)

    status, out, err = program("nem_tf.evaluate", run, "--k=2")
    assert (status, err) == (0, "")
    assert "loss" in out
    assert "ami" not in out
    record = json.loads((run_dir / "evaluation_test_k2.json").read_text(), parse_constant=pytest.fail)
    assert set(record["scores"]) == LOSSES | RELATIVE
    assert set(record["per_step"]) == {name for name in LOSSES | RELATIVE if not name.endswith("_last")}
    status, out, _ = program(TRAIN, f"--flagfile={run_dir}/flags.txt")
    assert (status, f"resuming from {run_dir}/latest/ckpt-1" in out) == (0, True)


@pytest.mark.slow
def test_amended_on_the_way(program, copied, tiny_data):
    """With a learning rate of 0 nothing moves any more."""
    settings = tiny(tiny_data, copied)
    changes = ("--learning_rate=0", "--clip_norm=5", "--max_epochs=3")
    before = contents(copied)
    sentence = refused(program(TRAIN, *flags(settings), *changes), "holds a run with --learning_rate=0.001, not 0.0")
    assert "--clip_norm=0.0, not 5.0" in sentence
    assert "or --amend the run" in sentence
    assert contents(copied) == before

    status, out, err = program(TRAIN, *flags(settings), *changes, "--amend")
    assert (status, err) == (0, "")
    assert "amended at step 8: learning_rate 0.001 to 0.0, clip_norm 0.0 to 5.0" in out
    amended = {"learning_rate": {"from": 0.001, "to": 0.0}, "clip_norm": {"from": 0.0, "to": 5.0}}
    assert Run(copied).history == [{"step": 8, "amended": amended}]
    assert from_flagfile(copied / "flags.txt").optimisation.learning_rate == 0
    second, third = lines_of(copied)[1:]
    assert third["step"] == 12
    assert third["validation"] == second["validation"]
    assert kept_in(copied, "latest")["progress/stale_epochs"] == 1

    latest = read_run(copied, "latest")
    checkpoint, record = build.restore(latest, build.build_model(latest.settings, latest.image_shape))
    assert checkpoint == str(copied / "latest/ckpt-12")
    assert record["history"] == Run(copied).history
    assert (record["step"], record["finished"]) == (12, "--max_epochs=3 reached")
    before = contents(copied)
    refused(program(TRAIN, *flags(settings), *changes, "--amend", "--k=2", "--seed=3"), "--k=3, not 2", "--seed=0, not")
    assert contents(copied) == before


def test_a_run_that_starts_from_another_takes_its_weights_and_nothing_else(tiny_settings, tiny_run, capsys):
    settings = resolve({**tiny_settings, "k": 2, "seed": 1, "init_from": str(tiny_run)})
    training = training_of(settings)
    drawn = training.model.get_weights()
    begin(training, {})
    for weights, kept, start in zip(training.model.get_weights(), weights_in(tiny_run, "best"), drawn, strict=True):
        np.testing.assert_array_equal(weights, kept)
        assert (weights != start).any()
    assert (int(training.progress.step), int(training.progress.validated_step)) == (0, 0)
    assert not any(np.any(slot.numpy()) for slot in training.optimizer.variables[2:])
    origin = Run(settings.paths.run_dir).origin
    assert (origin["run_dir"], origin["step"], origin["origin"]) == (str(tiny_run), 8, None)
    assert origin["trained"]["model"]["k"] == 3
    assert origin["data"] == Run(tiny_run).data
    assert f"weights of {tiny_run} at step 8" in capsys.readouterr().out

    training.checkpoints.save("latest", 0)
    elsewhere = settings.replace(init_from="gone")  # resuming needs it no more
    begin(training_of(elsewhere), {})
    assert "weights of" not in capsys.readouterr().out
    assert Run(settings.paths.run_dir).origin == origin


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(program, tiny_settings, tiny_run, tmp_path):
    bare = resolve({**tiny_settings, "run_dir": str(tmp_path / "bare")})
    Run(bare.paths.run_dir).write((tiny_run / "flags.txt").read_text(), (28, 28, 1), {}, {})
    for changes, words in (
        ({"init_from": tmp_path / "nowhere"}, "nowhere is not a run directory"),
        ({"init_from": bare.paths.run_dir}, "has no best checkpoint yet"),
        (
            {"init_from": tiny_run, "network": "static_rnn_em"},
            "does not fit: its weights are of network conftest:small_network, not static_rnn_em",
        ),
    ):
        refused(program(TRAIN, *flags({**tiny_settings, **changes})), words)
        assert not Path(tiny_settings["run_dir"]).exists()
    missing = {**tiny_settings, "data_dir": str(tmp_path / "missing"), "init_from": tiny_run, "prior": "mean"}
    refused(program(TRAIN, *flags(missing)), "its weights are of prior black, not mean")
    assert not (tmp_path / "missing").exists()  # it takes long to generate data


def test_a_run_of_other_data_is_refused_and_untouched(program, copied, tiny_data, tmp_path):
    """Of the same name, generated with another seed; and a file of one's own that was changed."""
    data_dir = tmp_path / "data"
    write_dataset(data_dir / "flying_shapes.h5", "flying_shapes", FlyingShapes(nr_frames=6), TINY_SIZES, seed=1)
    before = contents(copied)
    sentence = refused(program(TRAIN, *flags(tiny(data_dir, copied)), "--max_epochs=3"), "was trained on other data")
    assert "'seed': 0" in sentence
    assert "'seed': 1" in sentence
    assert contents(copied) == before
    write_dataset(tmp_path / "larger/flying_shapes.h5", "flying_shapes", FlyingShapes(nr_frames=7), TINY_SIZES)
    status, _, _ = program(TRAIN, *flags(tiny(tmp_path / "larger", copied)))  # the same, longer and larger
    assert status == 0


@pytest.mark.parametrize(
    ("training", "validation", "words"),
    [
        (
            (4, 8, 8, 6, 1), (4, 8, 6, 8, 1),
            "validation/features has frames of (6, 8, 1), and training/features of (8, 6, 1): expected the same",
        ),
        (
            (1, 8, 8, 6, 1), (4, 8, 8, 6, 1),
            "validation/features has several, and training/features one frame a sequence, a still image: expected the",
        ),
    ],
    ids=["another size", "videos for still images"],
)  # fmt: skip
def test_validation_on_other_frames_is_refused(program, tiny_settings, tmp_path, training, validation, words):
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file["training/features"] = np.zeros(training, np.uint8)
        file["validation/features"] = np.zeros(validation, np.uint8)
    refused(program(TRAIN, *flags({**tiny_settings, "dataset": path, "train_size": 8})), words)
    assert not Path(tiny_settings["run_dir"]).exists()


def test_data_of_other_rules_under_a_published_name_are_refused(program, tiny_settings, tmp_path):
    path = tmp_path / "data/flying_shapes.h5"
    write_dataset(path, "flying_shapes", FlyingShapes(nr_frames=6, triangle=13), TINY_SIZES)
    before = path.read_bytes()
    settings = {**tiny_settings, "data_dir": tmp_path / "data"}
    refused(program(TRAIN, *flags(settings)), "was made by other rules than the published ones of flying_shapes")
    assert path.read_bytes() == before
    assert not Path(tiny_settings["run_dir"]).exists()


def test_two_trainings_in_one_directory(program, copied, tiny_data):
    with Run(copied).lock():
        before = contents(copied)
        refused(program(TRAIN, *flags(tiny(tiny_data, copied))), f"another process is training in --run_dir={copied}")
        assert contents(copied) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 0}, "--k=0"),
        ({"k": "three"}, "--k=three"),
        ({"dataset": "mnist"}, "--dataset=mnist is unknown: expected"),
        ({"dataset": "toy.h5"}, "toy.h5 is missing"),
        ({"batch_size": 64}, "--train_size=32 is less than one batch: --batch_size=64"),
        ({"curriculum": "4"}, "--curriculum=4 and --nr_steps=3"),
        ({"loss_step_weights": "1,2,3,4"}, "--loss_step_weights=1,2,3,4, for 3 EM steps: 4 step weights for 3"),
        ({"curriculum": "2,3@4", "loss_step_weights": "1,2,3"}, "--loss_step_weights=1,2,3, for 2 EM steps"),
        ({"shares": 3}, "--shares=3: expected a divisor of a device's 8 sequences"),
        ({"network": "conftest:no_network"}, "--network=conftest:no_network cannot be loaded"),
        ({"network": "flying_mnist", "widths": "a"}, "--widths=a: expected whole numbers"),
        ({"mixture": "gaussian", "e_sigma": 0}, "--e_sigma"),
        ({"mnist": "keras"}, "--mnist=keras is for data with digits, and --dataset=flying_shapes shows none"),
    ],
)
def test_a_refusal_is_one_sentence_and_nothing_is_written(program, tiny_settings, changes, words):
    settings = {**tiny_settings, **changes}
    refused(program(TRAIN, *flags(settings)), "nem_tf.train: ", words)
    assert not Path(tiny_settings["run_dir"]).exists()


def test_a_directory_that_is_no_run_is_refused_and_untouched(program, tiny_settings, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("chapter 1")
    (tmp_path / "file").touch()
    for name, words in (
        ("thesis", "is not a run directory"),
        ("file", "is not a run"),
        ("file/run", "cannot write --run_dir"),
    ):
        refused(program(TRAIN, *flags({**tiny_settings, "run_dir": tmp_path / name})), words)
    assert contents(tmp_path) == {tmp_path / "thesis/chapter1.tex": b"chapter 1", tmp_path / "file": b""}


@pytest.mark.slow
def test_it_learns(program, tmp_path, rng):
    """A real, tiny training: of two squares somewhere in its own half of an image each component takes one."""
    sizes = {"training": 1024, "validation": 16}
    with h5py.File(tmp_path / "squares.h5", "w") as file:
        for split, size in sizes.items():
            groups = np.zeros((1, size, 8, 8, 1), np.uint8)
            for image in groups[0]:
                for number, columns in ((1, (0, 2)), (2, (4, 6))):
                    row, column = rng.integers(0, 6), rng.integers(*columns)
                    image[row : row + 3, column : column + 3] = number
            file[f"{split}/groups"] = groups
            file[f"{split}/features"] = groups > 0
    status, _, err = program(
        TRAIN, f"--dataset={tmp_path}/squares.h5", f"--run_dir={tmp_path}/run", "--network=conftest:small_network",
        "--k=2", "--nr_steps=3", "--noise_prob=0.1", "--batch_size=16", "--train_size=1024", "--valid_size=16",
        "--learning_rate=1e-2", "--max_epochs=4", "--steps_per_call=16", "--passes=1",
    )  # fmt: skip
    assert status == 0, err
    first, *_, last = lines_of(tmp_path / "run")
    assert last["validation"]["loss"] < 0.75 * first["train"]["loss"]
    assert last["validation"]["ami"] > 0.15
    assert last["validation"]["ari"] > 0.15
