"""Training: it learns, it stops, it goes on where it was interrupted, and it loses nothing."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_cell

from nem_tf import loop, run_dir, scoring
from nem_tf.cell import State
from nem_tf.config import from_flagfile, resolve
from nem_tf.data import generate_missing, load_split
from nem_tf.errors import UserError
from nem_tf.losses import LossTerms
from nem_tf.model import build_model
from nem_tf.networks import NETWORKS
from nem_tf.scoring import build_setup, make_scorer, score_batches

SCORES = {"loss", "intra", "inter", "upper_bound", "ami", "ami_arithmetic", "ari", "ari_video", "mbo", "confidence"}


def trainer(settings, **changes):
    config = resolve({**settings, **changes})
    return loop.Trainer(config, load_split(config, "training"), load_split(config, "validation"))


def metrics_of(directory):
    return [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def score_every_other_step(monkeypatch):
    monkeypatch.setattr(loop, "SCORE_EVERY", 2)


@pytest.fixture
def small_network(monkeypatch):
    """Dense layers in the place of the paper's network, where the training loop is what is tested."""

    def network(image_shape, dtype):
        cell = small_cell(image_shape=image_shape)
        return {"encoder": cell.encoder, "core": cell.core, "decoder": cell.decoder}

    monkeypatch.setitem(NETWORKS, "flying_shapes", network)


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_a_run_leaves_what_it_promises(tiny_settings, capsys):
    trainer(tiny_settings).fit()
    directory = Path(tiny_settings["run_dir"])
    lines = metrics_of(directory)
    assert [(line["epoch"], line["complete"], line["step"]) for line in lines] == [(1, True, 4), (2, True, 8)]
    for line in lines:
        assert set(line["train"]) == SCORES
        assert set(line["validation"]) == SCORES | {"ami_last_step"}
        assert line["sequences_per_second"] > 0
    assert lines[1]["wall_time"] > lines[0]["wall_time"]
    assert from_flagfile(directory / "flags.txt") == resolve(tiny_settings)
    assert (directory / "latest/ckpt-8.index").exists()
    assert list((directory / "best").glob("*.index"))
    out = capsys.readouterr().out
    assert "epoch 2  step 8" in out
    assert "--max_epochs=2 reached" in out

    tags = set()
    for event_file in directory.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(event_file)):
            tags |= {value.tag for value in event.summary.value}
    assert {f"train/{name}" for name in SCORES} | {f"validation/{name}" for name in SCORES} <= tags
    assert {"overview/0", "animation/0", "overview/1", "_hparams_/session_start_info"} <= tags

    trainer(tiny_settings).fit()  # nothing left to do
    assert metrics_of(directory) == lines


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize(
    ("stop_at", "signum", "in_validation", "ema"),
    [
        (3, signal.SIGINT, False, 0.0),
        (3, signal.SIGTERM, False, 0.0),
        (6, signal.SIGTERM, False, 0.5),
        (4, signal.SIGTERM, True, 0.5),
    ],
)
def test_an_interrupted_run_gives_the_losses_of_one_that_ran_through(
    tiny_settings, tmp_path, stop_at, signum, in_validation, ema
):
    """Interrupted in the first epoch, in the second, and in the validation between them."""
    tiny_settings["ema_momentum"] = ema
    trainer(tiny_settings, run_dir=str(tmp_path / "through")).fit()

    interrupted = trainer(tiny_settings)

    def signalled(function, step):
        def signal_first(*args):
            if interrupted.step == step:
                os.kill(os.getpid(), signum)
            return function(*args)

        return signal_first

    if in_validation:
        scorer = interrupted.scorer
        interrupted.scorer = scorer._replace(step=signalled(scorer.step, stop_at))
    else:
        interrupted._train_steps = signalled(interrupted._train_steps, stop_at - 1)
    with pytest.raises(loop.Interrupted, match=f"interrupted at step {stop_at}"):
        interrupted.fit()
    assert Path(tiny_settings["run_dir"], f"latest/ckpt-{stop_at}.index").exists()
    trainer(tiny_settings).fit()

    through, resumed = metrics_of(tmp_path / "through"), metrics_of(tiny_settings["run_dir"])
    assert len(through) == len(resumed) == 2
    for one, other in zip(through, resumed):
        assert one["step"] == other["step"]
        for part in ("train", "validation"):
            np.testing.assert_allclose(list(one[part].values()), list(other[part].values()), rtol=1e-5, err_msg=part)


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_moving_averages_are_what_is_validated_and_kept(tiny_settings, tmp_path):
    """The averages are those of the weights after every step; they change neither these nor the losses of training."""
    plain = trainer(tiny_settings, run_dir=str(tmp_path / "plain"))
    train_steps, history = plain._train_steps, []

    def spied(*args):
        result = train_steps(*args)
        history.append([variable.numpy() for variable in plain.model.trainable_variables])
        return result

    plain._train_steps = spied
    plain.fit()
    averages = history[0]
    for weights in history[1:]:
        averages = [0.75 * average + 0.25 * weight for average, weight in zip(averages, weights)]

    averaged = trainer(tiny_settings, ema_momentum=0.75)
    averaged.fit()
    for ours, trained in zip(averaged.model.trainable_variables, history[-1]):
        np.testing.assert_allclose(ours, trained, rtol=1e-4, atol=1e-6)
    model = build_model(resolve(tiny_settings), plain.training.image_shape)
    assert run_dir.restore_weights(averaged.run_dir, "best", model=model).endswith("ckpt-8")
    for kept, average in zip(model.trainable_variables, averages):
        np.testing.assert_allclose(kept, average, rtol=1e-4, atol=1e-6)
    scorer = make_scorer(build_setup(averaged.config, model), jit=False)
    scores = score_batches(scorer, averaged.validation.batches(8), seed=0)
    last, before = metrics_of(averaged.run_dir)[-1], metrics_of(plain.run_dir)[-1]
    np.testing.assert_allclose(last["validation"]["loss"], scores["loss"].sum(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(last["train"]["loss"], before["train"]["loss"], rtol=1e-5)


SCHEDULE = {"curriculum": "1,2@3,3@5", "warmup_steps": 2, "decay_steps": 4}


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("settings", [{}, SCHEDULE], ids=["plain", "schedule"])
def test_steps_per_call_changes_no_loss(tiny_settings, settings, tmp_path):
    """Three steps a call fit neither the epochs of four nor the stages, and a run may go on with another number."""
    through = trainer(tiny_settings, run_dir=str(tmp_path / "through"), **settings)
    train_steps, lengths = through._train_steps, []

    def spied(frames, seeds):
        lengths.append(frames.shape[2] - 1)
        return train_steps(frames, seeds)

    through._train_steps = spied
    through.fit()
    assert lengths == ([1, 1, 1, 2, 2, 3, 3, 3] if settings else [3] * 8)
    trainer(tiny_settings, steps_per_call=3, max_steps=2, **settings).fit()
    trainer(tiny_settings, steps_per_call=3, **settings).fit()
    lines, other = metrics_of(tmp_path / "through"), metrics_of(tiny_settings["run_dir"])[1:]
    assert len(lines) == len(other) == 2
    for one, same in zip(lines, other):
        for part in ("train", "validation"):
            losses = [[line[part][name] for name in ("loss", "intra", "inter", "upper_bound")] for line in (one, same)]
            np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_more_epochs_go_on_and_max_steps_stops_inside_one(tiny_settings, tmp_path):
    trainer(tiny_settings, run_dir=str(tmp_path / "through")).fit()
    trainer(tiny_settings, max_steps=3).fit()
    (stopped,) = metrics_of(tiny_settings["run_dir"])
    assert (stopped["epoch"], stopped["complete"], stopped["step"]) == (1, False, 3)
    assert list(Path(tiny_settings["run_dir"], "best").glob("*.index"))
    trainer(tiny_settings, max_epochs=1).fit()
    trainer(tiny_settings).fit()
    np.testing.assert_allclose(
        [line["validation"]["loss"] for line in metrics_of(tiny_settings["run_dir"])[1:]],
        [line["validation"]["loss"] for line in metrics_of(tmp_path / "through")],
        rtol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_compiled_training_is_the_same_training(tiny_settings, tmp_path, monkeypatch):
    def undrawn(function, frames, *_):  # from the same seed XLA draws other numbers
        size = tf.shape(frames)[0]
        gamma = 2 + tf.sin(tf.reshape(tf.range(size * 3 * 28 * 28, dtype=tf.float32), (size, 3, 28, 28, 1)))
        gamma /= tf.reduce_sum(gamma, axis=1, keepdims=True)
        return frames, State(tf.zeros((size, 3, 7)), tf.zeros((size, 3, 28, 28, 1)), gamma)

    monkeypatch.setattr(scoring, "_draw", undrawn)
    settings = tiny_settings | {"clip_norm": 30.0, "ema_momentum": 0.9, "warmup_steps": 3, "steps_per_call": 2}
    lines, weights = {}, {}
    for jit in ("off", "on"):
        run = trainer(settings, jit=jit, run_dir=str(tmp_path / jit), max_epochs=1)
        run.fit()
        lines[jit], weights[jit] = metrics_of(run.run_dir)[-1], run.model.get_weights()
    for part, loss in itertools.product(("train", "validation"), LossTerms._fields):
        assert lines["on"][part][loss] == pytest.approx(lines["off"][part][loss], rel=1e-5)
    for on, off in zip(weights["on"], weights["off"], strict=True):
        np.testing.assert_allclose(on, off, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_early_stopping_counts_epochs_without_improvement(tiny_settings, monkeypatch, capsys):
    losses = iter([5.0, 3.0, 4.0, 3.0, 9.0, 9.0])
    validate = loop.Trainer._validate
    monkeypatch.setattr(loop.Trainer, "_validate", lambda self: {**validate(self), "loss": next(losses)})
    run = trainer(tiny_settings, max_epochs=9, patience=2)
    run.fit()
    assert [line["validation"]["loss"] for line in metrics_of(run.run_dir)] == [5, 3, 4, 3]
    assert run.checkpoints.best.latest_checkpoint.endswith("ckpt-8")
    assert "no better validation loss in 2 epochs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("what", ["weights", "gradient"])
def test_nan_stops_with_the_step_named_and_the_last_good_checkpoint_kept(tiny_settings, what):
    trainer(tiny_settings, max_epochs=1).fit()
    run = trainer(tiny_settings)
    train_step = run._train_steps

    def break_and_train(*args):
        if what == "weights":
            run.model.trainable_variables[0].assign(run.model.trainable_variables[0] * np.nan)
            return train_step(*args)
        return train_step(*args)._replace(gradient_norm=[np.inf])

    run._train_steps = break_and_train
    with pytest.raises(UserError, match=r"not finite at step 5; the last good checkpoint, .*ckpt-4, is kept"):
        run.fit()
    assert run.checkpoints.latest.latest_checkpoint.endswith("ckpt-4")
    assert trainer(tiny_settings).checkpoints.resume().endswith("ckpt-4")


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_a_corrupt_latest_checkpoint_falls_back_to_the_one_before(tiny_settings, capsys):
    trainer(tiny_settings).fit()
    latest = Path(tiny_settings["run_dir"], "latest")
    for data_file in latest.glob("ckpt-8.data*"):
        data_file.write_bytes(data_file.read_bytes()[:1000])
    run = trainer(tiny_settings)
    run.fit()
    captured = capsys.readouterr()
    assert "ckpt-8 cannot be read" in captured.err
    assert "resuming from" in captured.out
    assert run.step == 8  # trained again from step 4
    for data_file in latest.glob("*.data*"):
        data_file.write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .*latest can be read"):
        trainer(tiny_settings).fit()


@pytest.mark.slow
def test_it_learns_in_a_minute(tmp_path):
    """A real, tiny training: the loss falls and the masks beat chance by far."""
    settings = {
        **{"data_dir": str(tmp_path), "run_dir": str(tmp_path / "run"), "nr_steps": 4, "batch_size": 8},
        **{"train_size": 640, "valid_size": 16, "test_size": 1, "learning_rate": 3e-3, "max_epochs": 3},
    }
    generate_missing(resolve(settings))
    trainer(settings).fit()
    first, *_, last = metrics_of(settings["run_dir"])
    assert last["validation"]["loss"] < 0.75 * first["train"]["loss"]
    assert last["validation"]["ami"] > 0.3
    assert last["validation"]["ari"] > 0.3


def test_a_run_of_other_settings_is_refused_and_untouched(tiny_config, tmp_path):
    shape = (28, 28, 1)
    directory = run_dir.open_run(tiny_config, shape)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    other = dataclasses.replace(tiny_config, seed=5, k=2)
    with pytest.raises(UserError, match="holds a run with --k=3, not 2; --seed=0, not 5: choose another --run_dir"):
        run_dir.open_run(other, shape)
    with pytest.raises(UserError, match="holds a run on frames of"):
        run_dir.open_run(tiny_config, (24, 24, 1))
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    assert run_dir.open_run(dataclasses.replace(tiny_config, max_epochs=7), shape) == directory
    assert from_flagfile(directory / "flags.txt").max_epochs == 7


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_a_run_that_starts_from_another_takes_its_weights_and_nothing_else(tiny_settings, tmp_path, capsys):
    first = {**tiny_settings, "run_dir": str(tmp_path / "first"), "max_epochs": 1}
    trainer(first).fit()
    second = {**tiny_settings, "k": 2, "seed": 1, "init_from": first["run_dir"]}
    run = trainer(second)
    origin = json.loads(Path(tiny_settings["run_dir"], "origin.json").read_text())
    assert origin["checkpoint"].endswith("first/best/ckpt-4")
    assert origin["settings"]["seed"] == 0
    for ours, theirs in zip(run.model.trainable_variables, trainer(first).model.trainable_variables, strict=True):
        assert (ours.numpy() != theirs.numpy()).any()  # not the start of a run
    values = tf.train.load_checkpoint(origin["checkpoint"])
    values = [values.get_tensor(name) for name in values.get_variable_to_dtype_map() if "VARIABLE_VALUE" in name]
    for variable in run.model.trainable_variables:
        assert any(np.array_equal(value, variable.numpy()) for value in values)
    assert run.step == 0
    assert not any(np.any(slot.numpy()) for slot in run.optimizer.variables[2:])
    run.fit()
    assert [line["step"] for line in metrics_of(run.run_dir)] == [4, 8]
    assert "weights of" in capsys.readouterr().out

    shutil.rmtree(first["run_dir"])  # resuming needs it no more
    trainer(second).fit()
    assert "weights of" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(tiny_settings, tmp_path):
    other = resolve({**tiny_settings, "run_dir": str(tmp_path / "other"), "network": "static_n_em"})
    run_dir.open_run(other, (28, 28, 1))
    empty = run_dir.open_run(resolve({**tiny_settings, "run_dir": str(tmp_path / "empty")}), (28, 28, 1))
    for source, message in (
        (tmp_path / "nowhere", "nowhere is not a run directory"),
        (
            other.run_dir,
            "does not fit: it holds weights of --network=static_n_em for frames of .28, 28, 1., not of fly",
        ),
        (empty, "has no best checkpoint yet"),
    ):
        with pytest.raises(UserError, match=message):
            trainer(tiny_settings, init_from=str(source))
        assert not Path(tiny_settings["run_dir"]).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
def test_a_denoiser_is_scored_against_the_frame_it_saw(tiny_settings):
    run = trainer(tiny_settings, target="same_frame", k=1)
    frames = run.validation.frames[:4]
    result = scoring.forward(run.setup, frames, tf.constant([0, 1]))
    np.testing.assert_array_equal(result.target, tf.cast(frames[:, :-1], tf.float32))
    assert abs(np.mean(result.noisy != result.target) - 0.2) < 0.02
    np.testing.assert_array_equal(run.setup.targets(run.validation.groups), run.validation.groups[:, :-1])


def test_directories_that_are_no_runs(tiny_config, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").touch()
    (tmp_path / "file").touch()
    for name, message in (("thesis", "is not a run directory"), ("file", "is not a run"), ("file/run", "cannot write")):
        with pytest.raises(UserError, match=message):
            run_dir.open_run(dataclasses.replace(tiny_config, run_dir=str(tmp_path / name)), (28, 28, 1))


def test_a_checkpoint_that_cannot_be_written(tmp_path):
    variable = tf.Variable(1.0)
    checkpoints = run_dir.Checkpoints(tmp_path, variable=variable)
    checkpoints.save(checkpoints.latest, 1)
    full = tf.errors.ResourceExhaustedError(None, None, "No space left on device")
    checkpoints.latest.save = lambda **_: (_ for _ in ()).throw(full)
    with pytest.raises(UserError, match=r"cannot write a checkpoint to .*No space left"):
        checkpoints.save(checkpoints.latest, 2)
    assert checkpoints.resume().endswith("ckpt-1")


def test_settings_that_do_not_fit(tiny_settings):
    with pytest.raises(UserError, match="--loss_step_weights takes"):
        trainer(tiny_settings, loss_step_weights="1,2,3,4")
    with pytest.raises(UserError, match="--curriculum=2,3@4, stage of 2 steps: --loss_step_weights takes"):
        trainer(tiny_settings, loss_step_weights="1,2,3", curriculum="2,3@4")
    assert not Path(tiny_settings["run_dir"]).exists()
