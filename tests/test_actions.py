"""Actions through the programs: a square that moves where its action says, from the file to every program's output."""

import json
import shutil

import h5py
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_cell, tiny
from PIL import Image

import nem_tf
from nem_tf import build
from nem_tf.evaluation import sequences_for
from nem_tf.layers import RelationalCore, RNNEMCell
from nem_tf.run import Run
from nem_tf.scoring.passes import sequence_seeds
from nem_tf.settings import resolve
from nem_tf.train import train
from nem_tf.trained import CONFIG, read_run
from nem_tf.training.trainer import Trainer
from nem_tf.unrolling import Rollout

DIRECTIONS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])  # (y, x), which each of four actions moves by
SIDE, SQUARE = 12, 3


def acting_network(image_shape, mixture, dtype="float32", *, nr_actions=0, **cell):
    """A network of one's own that takes actions."""
    small = small_cell(image_shape=image_shape, mixture=mixture)
    core = RelationalCore(7, attention_units=5, nr_actions=nr_actions)
    return RNNEMCell(small.encoder, core, small.decoder, mixture, **cell)


def write(path, with_actions=True, **others):
    """A file in which a square goes where its actions say; `others` replace the actions of a split."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for split, size in {"training": 16, "validation": 5, "test": 6}.items():
            actions = rng.integers(0, 4, (6, size))
            moves = DIRECTIONS[actions] * SQUARE
            places = rng.integers(0, SIDE, (size, 2)) + np.cumsum(moves, axis=0) - moves  # before the first, at frame 0
            features = np.zeros((6, size, SIDE, SIDE, 1), np.uint8)
            for t, n in np.ndindex(6, size):
                rows, columns = ((place + np.arange(SQUARE)) % SIDE for place in places[t, n])
                features[t, n, rows[:, None], columns] = 1
            file[f"{split}/features"], file[f"{split}/groups"] = features, features
            if with_actions:
                file[f"{split}/actions"] = others.get(split, np.eye(4)[actions])
    return path


def settings_for(path, run_dir, **changes):
    chosen = {"dataset": str(path), "network": "test_actions:acting_network", "train_size": 16, "valid_size": 5}
    return {**tiny(path.parent, run_dir), **chosen, "k": 2, "passes": 1, "max_epochs": 1, **changes}


def flags(settings, **changes):
    return [f"--{name}={value}" for name, value in {**settings, **changes}.items()]


@pytest.fixture(scope="module")
def square(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "square.h5")


@pytest.fixture(scope="module")
def run_dir(square, tmp_path_factory):
    """A run of two steps; not to be written to."""
    run_dir = tmp_path_factory.mktemp("runs") / "square"
    train(resolve(settings_for(square, run_dir)), tf.distribute.get_strategy())
    return run_dir


@pytest.fixture
def refused(program):
    """Runs a program that must end with one sentence, which it returns."""

    def run(*args):
        status, _, err = program(*args)
        assert status == 1
        (sentence,) = err.strip().splitlines()
        assert sentence.startswith(f"{args[0]}: ")
        return sentence

    return run


def test_a_run_keeps_how_many_actions_its_model_takes(run_dir, square):
    assert json.loads((run_dir / "data.json").read_text())["nr_actions"] == 4
    trained = read_run(run_dir)
    assert (Run(run_dir).nr_actions, trained.nr_actions) == (4, 4)
    model = build.build_model(trained.settings, trained.image_shape, trained.nr_actions)
    build.restore(trained, model)
    assert model.cell.nr_actions == 4
    assert build.load(trained.settings, "training").nr_actions == 4


def test_the_run_is_resumed_as_it_was(run_dir, square, tmp_path, program):
    shutil.copytree(run_dir, tmp_path / "run")
    status, out, err = program("nem_tf.train", f"--flagfile={run_dir}/flags.txt", f"--run_dir={tmp_path / 'run'}")
    assert (status, err) == (0, "")
    assert "resuming from" in out
    assert "finished at step 2:" in out
    assert "does without" not in out


def test_validation_and_pictures_take_the_actions_of_their_sequences(square, tmp_path):
    """The loss, the doctor's comparison of videos, and the attention that TensorBoard shows."""
    settings = resolve(settings_for(square, tmp_path / "run", valid_size=4))
    splits = [build.load(settings, split) for split in ("training", "validation")]
    training = build.Training(settings, *splits)
    for variable in training.model.trainable_variables:
        variable.assign(3 * variable)
    batch = splits[1].batch(splits[1].in_order(4)[0])
    system, seeds = training.system, sequence_seeds(settings.seed, 0, 4)
    result = system.forward(batch.frames, seeds, actions=batch.actions)
    assert training._validated(lambda: None)["loss"] == pytest.approx(result.terms.loss.numpy().mean(), rel=1e-4)
    pictured = training.validation.pictured().outputs
    np.testing.assert_allclose(pictured["theta"], result.outputs["theta"][:2], atol=1e-4)
    np.testing.assert_allclose(pictured["attention"], system.attention(result.outputs, batch.actions)[:2], atol=1e-4)
    validation = training.validation
    seen, step = [], validation._scorer.step

    def spied(frames, seeds, actions):
        seen.append((frames, actions))
        return step(frames, seeds, actions=actions)

    validation._scorer = validation._scorer._replace(step=spied)
    validation._indifference(batch)
    for (frames, actions), places in zip(seen, (0, 1), strict=True):
        np.testing.assert_array_equal(frames, np.roll(batch.frames, places, axis=0))
        np.testing.assert_array_equal(actions, np.roll(batch.actions, places, axis=0))


def test_an_evaluation_takes_the_actions_of_its_file_also_where_it_imagines_the_frames(
    program, run_dir, square, tmp_path
):
    output = tmp_path / "scores.json"
    status, _, err = program(
        "nem_tf.evaluate", f"--run_dir={run_dir}", "--nr_steps=4", "--rollout_from=0", "--batch_size=3",
        f"--output={output}",
    )  # fmt: skip
    assert (status, err) == (0, "")
    losses = json.loads(output.read_text())["per_step"]["loss"]["mean"]
    trained = read_run(run_dir)
    settings = trained.settings.replace(nr_steps=4)
    model = build.build_model(settings, trained.image_shape, trained.nr_actions)
    build.restore(trained, model)
    split = build.load(settings, "test")
    batch, system = split.batch(split.in_order(6)[0]), build.build_system(settings, model)
    late = batch.actions.copy()
    late[:, 1:] = np.roll(late[:, 1:], 1, axis=-1)  # of the frames that are imagined
    for actions, others in ((batch.actions, 0), (late, 3)):
        result = system.forward(batch.frames, sequence_seeds(settings.seed, 0, 6), Rollout(0), actions=actions)
        same = np.isclose(losses, result.terms.loss.numpy().mean(0), rtol=1e-5)
        assert same.tolist() == [True] * (4 - others) + [False] * others


def test_the_demo_rolls_out_with_actions(program, run_dir, tmp_path):
    status, _, err = program(
        "nem_tf.demo", f"--preset={run_dir}", "--sequences=1", "--nr_steps=3", "--rollout_from=0",
        f"--output_dir={tmp_path}",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert Image.open(tmp_path / f"{run_dir.name}_rollout_from0.gif").n_frames == 3


def test_a_preset_and_a_saved_model_take_them(program, run_dir, square, tmp_path, refused):
    for form in ("preset", "saved_model"):
        arguments = (f"--run_dir={run_dir}", f"--format={form}", f"--export_dir={tmp_path / form}")
        status, _, err = program("nem_tf.export", *arguments)
        assert (status, err) == (0, "")
    assert json.loads((tmp_path / "preset" / CONFIG).read_text())["nr_actions"] == 4
    model, settings = nem_tf.from_preset(tmp_path / "preset")
    batch = build.load(settings, "test", nr_actions=4).batch(build.load(settings, "test").in_order(6)[0])
    frames = np.float32(batch.frames)
    served = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    given = {"frames": tf.constant(frames), "actions": tf.constant(batch.actions)}
    masks = model.segment(frames, actions=batch.actions).responsibilities
    np.testing.assert_allclose(served["serving_default"](**given)["masks"], masks, atol=1e-4)
    with_seed = served["with_k_and_seed"](**given, k=tf.constant(2), seed=tf.constant(0))
    np.testing.assert_allclose(with_seed["masks"], masks, atol=1e-4)
    state = served["init"](batch_size=tf.constant(6), k=tf.constant(2))
    for t in range(2):
        outputs = served["step"](frame=frames[:, t], actions=batch.actions[:, t], **state)
        state = {name: outputs[name] for name in state}
        np.testing.assert_allclose(outputs["masks"], masks[:, t], atol=1e-4)
    sentence = refused("nem_tf.segment", "x.mp4", f"--preset={tmp_path / 'preset'}")
    assert "preset takes actions with its frames, which a video does not have: expected a model that takes" in sentence


def test_a_file_without_actions_trains_without_them_and_this_is_said(program, tmp_path, refused, monkeypatch):
    """And is later tested on files with actions, which are left alone."""
    monkeypatch.setattr(Trainer, "fit", lambda trainer: None)
    path, acted = write(tmp_path / "plain.h5", with_actions=False), write(tmp_path / "acted.h5")
    status, out, err = program("nem_tf.train", *flags(settings_for(path, tmp_path / "run")))
    assert (status, err) == (0, "")
    assert f"--dataset={path} has no actions: --network=test_actions:acting_network does without them" in out
    trained = read_run(tmp_path / "run")
    assert trained.nr_actions == 0
    assert sequences_for(trained, trained.settings.replace(dataset=str(acted)), "test", 0).nr_actions == 0
    sentence = refused("nem_tf.train", *flags(settings_for(acted, tmp_path / "other"), init_from=tmp_path / "run"))
    assert sentence.endswith("run does not fit: it takes actions of 0 entries, and the data have 4")


def test_a_network_that_takes_none_ignores_them(square, tmp_path):
    settings = resolve(settings_for(square, tmp_path / "run", network="conftest:small_network"))
    split = build.load(settings, "training")
    assert split.nr_actions == 0
    assert build.Training(settings, split, split).model.cell.nr_actions == 0


def test_an_older_run_takes_none(run_dir, square, tmp_path, refused):
    """It says nothing of actions. A network that could take them has not, and is not resumed as one that does."""
    shutil.copytree(run_dir, tmp_path / "run")
    described = json.loads((tmp_path / "run/data.json").read_text())
    del described["nr_actions"]
    (tmp_path / "run/data.json").write_text(json.dumps(described))
    assert read_run(tmp_path / "run").nr_actions == 0
    sentence = refused(
        "nem_tf.train", f"--flagfile={run_dir}/flags.txt", f"--run_dir={tmp_path / 'run'}", "--max_epochs=2"
    )
    assert "run takes actions of 0 entries, and the data have 4: choose another --run_dir" in sentence


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"training": np.full((6, 16, 4), np.inf)}, "training/actions holds NaN or infinity"),
        ({"validation": np.zeros((6, 5, 3))}, "validation/actions must be numbers (T, N, A) = (6, 5, 4), is (6, 5, 3)"),
        ({"training": np.zeros((6, 16, 145)), "validation": np.zeros((6, 5, 145))}, "at most 144 actions, one a pixel"),
    ],
)
def test_actions_that_do_not_fit_are_one_sentence(refused, tmp_path, others, words):
    path = write(tmp_path / "square.h5", **others)
    assert words in refused("nem_tf.train", *flags(settings_for(path, tmp_path / "run")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("with_actions", "words"), [(False, "has no test/actions"), (True, "is (6, 6, 3)")])
def test_a_model_is_not_tested_on_other_actions(refused, run_dir, tmp_path, with_actions, words):
    path = write(tmp_path / "other.h5", with_actions, test=np.zeros((6, 6, 3)))
    sentence = refused("nem_tf.evaluate", f"--run_dir={run_dir}", f"--dataset={path}")
    assert all(each in sentence for each in (str(path), words, "(T, N, A) = (6, 6, 4)"))
