"""The order of steps, validations, checkpoints and reports: where a training ends, and that an interrupted one, a
crashed one and one that ran through are the same training. The step is a toy, all else is real; see `toy`."""

import io
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from run_files import AT_THE_START, checkpoint_names, damage, events_of, kept_in, lines_of, outcome_of
from toy import STEPS, Result, Terms, Toy

from nem_tf import pace
from nem_tf.errors import Interrupted, UserError
from nem_tf.training import reporting, tensorboard, trainer
from nem_tf.training.tensorboard import Summaries

EPOCHS = 2
LAST = EPOCHS * STEPS


class CrashError(Exception):
    """What nobody expects."""


@pytest.fixture(scope="module", autouse=True)
def often_scored_and_quickly_drawn():
    gif = io.BytesIO()
    Image.new("RGB", (2, 2)).save(gif, "GIF")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "SCORE_EVERY", 2)
        patch.setattr(tensorboard, "picture_rows", lambda result, sample: {})
        patch.setattr(tensorboard, "overview", lambda rows: np.zeros((2, 2, 3), np.uint8))
        patch.setattr(tensorboard, "animation", lambda rows: gif.getvalue())
        yield


def pictured():
    return SimpleNamespace(target=np.zeros((1, 1)), outputs={})


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """What a training leaves that nothing interrupts."""
    run_dir = tmp_path_factory.mktemp("through")
    Toy(run_dir, pictured=pictured).fit()
    return outcome_of(run_dir)


def interrupted_at(run_dir, step, **changes):
    """Trains until a signal comes after that step."""
    toy = Toy(run_dir, stop=lambda: signal.SIGTERM if toy.at == step else 0, pictured=pictured, **changes)
    with pytest.raises(Interrupted, match=f"interrupted at step {step}; the same command resumes") as caught:
        toy.fit()
    assert caught.value.signum == signal.SIGTERM
    return toy


def interrupted_in_validation(run_dir, step, **changes):
    """Trains until a signal comes after the first batch of the validation at that step."""
    asked = []

    def validate(after_batch):
        if toy.at == step:
            asked.append(signal.SIGINT)
        return Toy.validate(toy, after_batch)

    toy = Toy(run_dir, stop=lambda: asked[0] if asked else 0, pictured=pictured, **changes)
    toy.validate = validate
    with pytest.raises(Interrupted, match=f"interrupted at step {step}") as caught:
        toy.fit()
    assert caught.value.signum == signal.SIGINT
    return toy


# ---- Where a training ends.


@pytest.mark.parametrize(
    ("limits", "steps_per_call", "reached", "validated"),
    [
        ({"max_epochs": 1}, 1, "--max_epochs=1 reached", [(1, True, 4)]),
        ({"max_epochs": 2}, 3, "--max_epochs=2 reached", [(1, True, 4), (2, True, 8)]),
        ({"max_steps": 3}, 1, "--max_steps=3 reached", [(1, False, 3)]),
        ({"max_steps": 4}, 3, "--max_steps=4 reached", [(1, True, 4)]),
        ({"max_steps": 6, "max_epochs": 9}, 5, "--max_steps=6 reached", [(1, True, 4), (2, False, 6)]),
        ({"max_steps": 99, "max_epochs": 1}, 1, "--max_epochs=1 reached", [(1, True, 4)]),
    ],
)
def test_a_training_ends_at_its_limit(tmp_path, capsys, limits, steps_per_call, reached, validated):
    toy = Toy(tmp_path, steps_per_call=steps_per_call, **limits)
    assert toy.fit() == reached
    assert [(line["epoch"], line["complete"], line["step"]) for line in lines_of(tmp_path)] == validated
    step = validated[-1][2]
    assert toy.seen == [(i, 5) for i in range(step)]
    assert checkpoint_names(tmp_path)[-1] == f"ckpt-{step}"
    assert checkpoint_names(tmp_path, "best")
    out = capsys.readouterr().out
    assert f"finished at step {step}: {reached}" in out
    assert [f"epoch {epoch}  step {at}  loss " in out for epoch, _, at in validated] == [True] * len(validated)
    left = outcome_of(tmp_path)

    again = Toy(tmp_path, steps_per_call=steps_per_call, **limits)
    assert again.fit() == reached
    assert not again.seen
    assert outcome_of(tmp_path) == left


def test_early_stopping_counts_epochs_without_improvement(tmp_path):
    toy = Toy(tmp_path, losses=[5.0, 3.0, 4.0, 3.0, 9.0, 9.0], patience=2, max_epochs=9)
    assert toy.fit() == "no better validation loss in 2 epochs"
    assert [line["validation"]["loss"] for line in lines_of(tmp_path)] == [5, 3, 4, 3]
    assert toy.at == 4 * STEPS
    assert Toy(tmp_path, losses=[0] * 9, patience=2, max_epochs=9).fit() == "no better validation loss in 2 epochs"
    more = Toy(tmp_path, losses=[9.0] * 4 + [2.0] + [9.0] * 2, patience=3, max_epochs=7)
    assert more.fit() == "--max_epochs=7 reached"  # the fifth epoch was better


def test_patience_does_not_count_a_validation_inside_an_epoch(tmp_path):
    """--max_steps may be raised again and again."""
    for max_steps in range(1, STEPS):
        Toy(tmp_path, losses=[5.0], patience=1, max_steps=max_steps).fit()
    toy = Toy(tmp_path, losses=[5.0, 6.0], patience=1)
    toy.fit()
    assert toy.at == 2 * STEPS


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_validation_that_gives_no_number_is_never_the_best_and_does_not_hide_a_better_one(tmp_path, bad):
    toy = Toy(tmp_path, losses=[bad, 5.0, bad, 4.0, 6.0, 7.0], patience=2, max_epochs=9)
    toy.fit()
    assert [line["validation"]["loss"] for line in lines_of(tmp_path)] == [None, 5, None, 4, 6, 7]
    assert kept_in(tmp_path, "best")["progress/step"] == 4 * STEPS
    assert toy.checkpoints.kept_loss() == 4
    assert [step for tag, step, _ in events_of(tmp_path) if tag == "validation/loss"] == [8, 16, 20, 24]


def test_without_a_progress_bar_the_log_says_once_how_fast_it_goes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pace, "SECONDS", 0)
    Toy(tmp_path / "told", max_epochs=2).fit()
    lines = [line for line in capsys.readouterr().out.splitlines() if "of this epoch" in line]
    assert lines == [f"step 1 of {STEPS} of this epoch; about 0.0 minutes to a validation"]
    monkeypatch.setattr(pace, "SECONDS", 1e9)
    Toy(tmp_path / "quick", max_epochs=2).fit()
    assert "of this epoch" not in capsys.readouterr().out


# ---- What is trained.


def test_every_step_gets_its_number_as_seed_and_the_frames_of_its_stage(tmp_path):
    toy = Toy(tmp_path, curriculum="2,3@3,4@5", steps_per_call=3)
    toy.fit()
    assert toy.seen == [(step, 1 + (2 if step < 3 else 3 if step < 5 else 4)) for step in range(LAST)]


def test_the_masks_of_the_last_step_of_a_call_are_scored_with_its_labels(tmp_path):
    """Every call here passes a multiple of 2, the steps between two scorings."""
    toy = Toy(tmp_path, steps_per_call=3)
    toy.fit()
    scored = [(step, value) for tag, step, value in events_of(tmp_path) if tag == "train/ari"]
    assert [step for step, _ in scored] == [3, 4, 7, 8]
    assert all(value > 1 for _, value in scored)


@pytest.mark.parametrize("steps_per_call", [3, 5])
def test_steps_per_call_changes_nothing(tmp_path, through, steps_per_call):
    Toy(tmp_path, steps_per_call=steps_per_call, max_steps=5).fit()
    Toy(tmp_path, steps_per_call=steps_per_call).fit()
    found = outcome_of(tmp_path)
    assert found["latest"]["model/variable"] == through["latest"]["model/variable"]
    for line, one in zip([found["lines"][0], found["lines"][-1]], through["lines"]):
        assert line["train"]["loss"] == pytest.approx(one["train"]["loss"], rel=1e-12)
        assert line["validation"] == one["validation"]


@pytest.mark.parametrize("interrupted", [None, 3])
def test_the_means_of_an_epoch_are_those_of_its_steps(tmp_path, interrupted):
    """Losses over all of them, scores over those that were scored, also where a signal came between them."""
    losses = {}

    def spied(toy):
        def step(*args):
            result = Toy.step(toy, *args)
            losses[toy.at] = result.terms.loss.mean()
            return result

        toy.step = step
        return toy

    if interrupted:
        toy = spied(Toy(tmp_path, stop=lambda: signal.SIGTERM if toy.at == interrupted else 0))
        with pytest.raises(Interrupted):
            toy.fit()
    spied(Toy(tmp_path)).fit()
    events = {(tag, step): value for tag, step, value in events_of(tmp_path)}
    for epoch, line in enumerate(lines_of(tmp_path, times=True)):
        steps = range(epoch * STEPS, (epoch + 1) * STEPS)
        assert line["train"]["loss"] == pytest.approx(np.mean([losses[step] for step in steps]))
        scored = [events["train/ari", step + 1] for step in steps if (step + 1) % 2 == 0]
        assert line["train"]["ari"] == pytest.approx(np.mean(scored))
        assert line["sequences_per_second"] > 0
    assert lines_of(tmp_path, times=True)[1]["wall_time"] > lines_of(tmp_path, times=True)[0]["wall_time"] > 0


def test_time_is_that_of_steps_and_validations_in_all_sessions_together(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def slow(toy):
        def step(*args):
            clock[0] += 1
            return Toy.step(toy, *args)

        def validate(*args):
            clock[0] += 10
            return Toy.validate(toy, *args)

        toy.step, toy.validate = step, validate
        return toy

    slow(Toy(tmp_path, max_steps=6)).fit()
    clock[0] += 1000  # nobody trains
    slow(Toy(tmp_path)).fit()
    lines = lines_of(tmp_path, times=True)
    assert [(line["step"], line["wall_time"]) for line in lines] == [(4, 14), (6, 26), (8, 38)]
    assert [line["sequences_per_second"] for line in lines] == [3, 3, 3]


def test_a_batch_without_a_labelled_pixel_does_not_enter_the_means(tmp_path):
    scores = iter([np.nan, 0.5, 0.25, 0.75])
    toy = Toy(tmp_path)
    toy.score = lambda result, call: {"ari": next(scores)}
    toy.fit()
    assert [line["train"]["ari"] for line in lines_of(tmp_path)] == [0.5, 0.5]
    assert [step for tag, step, _ in events_of(tmp_path) if tag == "train/ari"] == [4, 6, 8]


def test_without_labels_there_are_losses_and_nothing_else(tmp_path, capsys):
    toy = Toy(tmp_path, scores=())
    toy.score = lambda result, call: {}
    toy.validate = lambda after_batch: {"loss": 5.0}
    toy.fit()
    assert [(list(line["train"]), list(line["validation"])) for line in lines_of(tmp_path)] == [
        (["loss"], ["loss"])
    ] * 2
    tags = {tag for tag, _, _ in events_of(tmp_path)}
    assert tags == {"train/loss", "validation/loss", "speed/sequences_per_second", *AT_THE_START}
    assert "AMI" not in capsys.readouterr().out


# ---- Interrupted, and resumed.


def test_constructing_writes_nothing(tmp_path):
    Toy(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 2, LAST])
def test_a_run_interrupted_after_any_step_ends_as_one_that_ran_through(tmp_path, through, step):
    toy = interrupted_at(tmp_path, step)
    assert checkpoint_names(tmp_path)[-1] == f"ckpt-{step}"
    assert len(lines_of(tmp_path) if toy.run.metrics.exists() else []) == (step - 1) // STEPS
    toy = Toy(tmp_path, pictured=pictured)
    toy.fit()
    assert toy.resumed_from == str(tmp_path / f"latest/ckpt-{step}")
    assert [seed for seed, _ in toy.seen] == list(range(step, LAST))
    assert outcome_of(tmp_path) == through


def test_it_parts_from_the_others_once_all_is_written(tmp_path):
    there = []
    Toy(tmp_path / "ended", part=lambda: there.append(checkpoint_names(tmp_path / "ended")[-1])).fit()
    interrupted_at(tmp_path / "asked", 2, part=lambda: there.append(checkpoint_names(tmp_path / "asked")[-1]))
    assert there == [f"ckpt-{LAST}", "ckpt-2"]


@pytest.mark.parametrize("step", [STEPS, LAST])
def test_a_validation_that_a_signal_cuts_short_is_made_good_on_resume(tmp_path, through, step):
    interrupted_in_validation(tmp_path, step)
    toy = Toy(tmp_path, pictured=pictured)
    toy.fit()
    assert len(toy.seen) == LAST - step
    assert outcome_of(tmp_path) == through


def test_the_validation_of_max_steps_is_made_good_on_resume(tmp_path):
    through = tmp_path / "through"
    Toy(through, max_steps=3, pictured=pictured).fit()
    run = tmp_path / "run"
    interrupted_in_validation(run, 3, max_steps=3)
    assert not checkpoint_names(run, "best")
    toy = Toy(run, max_steps=3, pictured=pictured)
    assert toy.fit() == "--max_steps=3 reached"
    assert not toy.seen
    assert len(lines_of(run)) == 1
    assert outcome_of(run) == outcome_of(through)


def test_interrupted_again_and_again(tmp_path, through):
    for step in (1, 2, STEPS, STEPS + 1, LAST):
        interrupted_at(tmp_path, step)
        if step in (STEPS, LAST):
            interrupted_in_validation(tmp_path, step)
    Toy(tmp_path, pictured=pictured).fit()
    assert outcome_of(tmp_path) == through


def test_a_longer_training_goes_on_where_the_shorter_one_ended(tmp_path, through):
    """It keeps the line of the validation inside an epoch."""
    for limits in ({"max_steps": 3}, {"max_epochs": 1}, {"max_steps": 6}, {"max_epochs": EPOCHS}):
        Toy(tmp_path, pictured=pictured, **limits).fit()
    found = outcome_of(tmp_path)
    assert [(line["step"], line["complete"]) for line in found["lines"]] == [
        (3, False),
        (4, True),
        (6, False),
        (8, True),
    ]
    assert [line for line in found["lines"] if line["complete"]] == through["lines"]
    assert found["latest"] == through["latest"]
    assert [event for event in found["events"] if event[1] not in (3, 6) or event[0].startswith("train/")] == through[
        "events"
    ]


def test_a_process_that_does_not_write_trains_and_leaves_nothing(tmp_path):
    toy = Toy(tmp_path / "run", writes=False)
    toy.fit()
    assert toy.at == LAST
    assert not list((tmp_path / "run").iterdir())


# ---- NaN, and damaged checkpoints.


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize(("steps_per_call", "step"), [(1, 5), (3, 6)])
def test_nan_stops_with_the_step_named_and_the_last_good_checkpoint_kept(tmp_path, what, steps_per_call, step):
    Toy(tmp_path, max_epochs=1).fit()
    before = outcome_of(tmp_path)
    toy = Toy(tmp_path, steps_per_call=steps_per_call)

    def break_and_train(frames, seeds, actions):
        result = Toy.step(toy, frames, seeds, actions)
        bad = seeds[:, 1] == step - 1
        loss = np.where(bad[:, None] & (what == "loss"), np.nan, result.terms.loss)
        return Result(Terms(loss), np.where(bad & (what == "gradient"), np.inf, 1.0), result.masks)

    toy.step = break_and_train
    message = rf"not finite at step {step}; the last good checkpoint, {tmp_path}/latest/ckpt-4, is kept: .*--amend"
    with pytest.raises(UserError, match=message):
        toy.fit()
    assert outcome_of(tmp_path) == before
    assert Toy(tmp_path).fit() == "--max_epochs=2 reached"


def test_nan_in_the_first_step(tmp_path):
    toy = Toy(tmp_path)
    toy.step = lambda *args: Result(Terms(np.full((1, 4), np.nan)), np.ones(1), None)
    with pytest.raises(
        UserError,
        match="not finite at step 1; try another --learning_rate or --clip_norm; frames that show nothing",
    ):
        toy.fit()
    assert not checkpoint_names(tmp_path)


def test_a_corrupt_checkpoint_falls_back_to_the_one_before(tmp_path, through, capsys):
    Toy(tmp_path, pictured=pictured).fit()
    damage(tmp_path, "latest", "ckpt-8")
    toy = Toy(tmp_path, pictured=pictured)
    toy.fit()
    assert "ckpt-8 cannot be read" in capsys.readouterr().err
    assert toy.resumed_from == str(tmp_path / "latest/ckpt-4")
    assert outcome_of(tmp_path) == through


def test_no_readable_checkpoint_is_a_sentence_and_nothing_is_touched(tmp_path):
    Toy(tmp_path).fit()
    for path in (tmp_path / "latest").glob("*.data*"):
        path.write_bytes(b"")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"no checkpoint in .*latest can be read; another --run_dir begins anew"):
        Toy(tmp_path).fit()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# ---- The best is the best.


def best_step(run_dir):
    return kept_in(run_dir, "best")["progress/step"]


def test_both_chains_say_the_same_of_the_same_weights(through):
    """An evaluation of either says after which epoch."""
    assert through["best"] == through["latest"]
    assert through["best"]["progress/epoch"] == EPOCHS


def test_a_better_one_from_inside_an_epoch_is_not_replaced_by_a_worse_one(tmp_path):
    Toy(tmp_path, losses=[2.0], max_steps=3).fit()
    Toy(tmp_path, losses=[5.0, 4.0, 1.0]).fit()
    assert best_step(tmp_path) == 3
    Toy(tmp_path, losses=[5.0, 4.0, 1.0], max_epochs=3).fit()
    assert best_step(tmp_path) == 3 * STEPS


def test_a_crash_between_best_and_latest_does_not_lose_the_best(tmp_path):
    toy = Toy(tmp_path, losses=[5.0, 1.0, 3.0], max_epochs=3)

    def crash(line):
        if line["epoch"] == 2:
            raise CrashError

    toy.reporter.validated = crash
    with pytest.raises(CrashError):
        toy.fit()
    assert best_step(tmp_path) == 2 * STEPS
    Toy(tmp_path, losses=[5.0, 2.0, 3.0], max_epochs=3).fit()  # as if another device rounded otherwise
    assert best_step(tmp_path) == 2 * STEPS
    assert Toy(tmp_path).checkpoints.kept_loss() == 1.0


def test_a_fallback_to_an_older_checkpoint_does_not_lose_the_best(tmp_path):
    Toy(tmp_path, losses=[5.0, 1.0]).fit()
    damage(tmp_path, "latest", "ckpt-8")
    Toy(tmp_path, losses=[5.0, 2.0, 3.0], max_epochs=3).fit()
    assert best_step(tmp_path) == 2 * STEPS
    assert Toy(tmp_path).checkpoints.kept_loss() == 1.0


def test_a_best_checkpoint_that_cannot_be_read_is_replaced(tmp_path):
    Toy(tmp_path, losses=[1.0], max_epochs=1).fit()
    damage(tmp_path, "best", "ckpt-4", keep=0)
    for index in (tmp_path / "best").glob("*.index"):
        index.write_bytes(b"")
    Toy(tmp_path, losses=[1.0, 5.0]).fit()
    assert best_step(tmp_path) == 8


# ---- Crashes.


def test_a_checkpoint_is_written_inside_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", -1)
    toy = Toy(tmp_path)

    def crash(*args):
        if toy.at == 3:
            raise CrashError
        return Toy.step(toy, *args)

    toy.step = crash
    with pytest.raises(CrashError):
        toy.fit()
    assert checkpoint_names(tmp_path) == ["ckpt-1", "ckpt-2", "ckpt-3"]
    Toy(tmp_path, max_epochs=1).fit()
    assert checkpoint_names(tmp_path) == ["ckpt-2", "ckpt-3", "ckpt-4"]
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 600)
    Toy(tmp_path).fit()
    assert checkpoint_names(tmp_path) == ["ckpt-3", "ckpt-4", "ckpt-8"]


def files_of(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_process_killed_at_any_point_leaves_a_run_that_ends_as_one_that_ran_through(tmp_path, monkeypatch, through):
    """The directory is copied as it is on the disk after everything that a training writes, and resumed.

    In the first epoch there is a checkpoint after every step.
    """
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", -1)
    run, copies = tmp_path / "run", []

    def snapshot(point):
        if not copies or files_of(copies[-1][0]) != files_of(run):
            copy = tmp_path / f"{len(copies)}"
            shutil.copytree(run, copy)
            copies.append((copy, point))

    def watched(owner, name):
        function = getattr(owner, name)

        def around(*args, **kwargs):
            result = function(*args, **kwargs)
            snapshot(f"after {name} at step {toy.at}")
            return result

        monkeypatch.setattr(owner, name, around)

    toy = Toy(run, pictured=pictured)
    run.mkdir()
    snapshot("at the start")
    for owner, names in (
        (reporting, ("append_line",)),
        (Summaries, ("scalars", "pictures")),
        *((chain.manager, ("save", "_record_state")) for chain in toy.checkpoints._chains.values()),
    ):
        for name in names:
            watched(owner, name)
    validate = toy.validate

    def validate_and_write_less_often(after_batch):
        monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 600)
        return validate(after_batch)

    toy.validate = validate_and_write_less_often
    toy.fit()
    monkeypatch.undo()
    assert outcome_of(run) == through
    assert len(copies) > 20
    for copy, point in copies:
        Toy(copy, pictured=pictured).fit()
        assert outcome_of(copy) == through, point


@pytest.mark.parametrize(
    "place", ["a step", "a batch of the validation", "the pictures", "after the line", "after the report", "best"]
)
def test_an_exception_anywhere_leaves_a_run_that_ends_as_one_that_ran_through(tmp_path, through, place):
    """Unlike a killed process, it has all reports on the disk."""
    toy = Toy(tmp_path, pictured=lambda: pictures())

    def crash(*_):
        if toy.at > STEPS + 1:
            raise CrashError

    def after(function):
        def both(*args):
            function(*args)
            crash()

        return both

    def pictures():
        if place == "the pictures":
            crash()
        return pictured()

    def step(*args):
        crash()
        return Toy.step(toy, *args)

    with pytest.MonkeyPatch.context() as patch:
        if place == "a step":
            toy.step = step
        elif place == "a batch of the validation":
            toy.validate = lambda after_batch: Toy.validate(toy, after(after_batch))
        elif place == "after the line":
            patch.setattr(reporting, "append_line", after(reporting.append_line))
        elif place == "after the report":
            toy.reporter.validated = after(toy.reporter.validated)
        elif place == "best":
            manager = toy.checkpoints._chains["best"].manager
            patch.setattr(manager, "_record_state", after(manager._record_state))
        with pytest.raises(CrashError):
            toy.fit()
    toy = Toy(tmp_path, pictured=pictured)
    toy.fit()
    assert toy.seen[:1] == ([(STEPS, 5)] if place == "a step" else [])  # else all was trained
    assert outcome_of(tmp_path) == through


@pytest.mark.parametrize("cut", [1, 20])
def test_a_half_written_line_and_a_half_written_event_are_written_again(tmp_path, through, cut):
    Toy(tmp_path, pictured=pictured).fit()
    damage(tmp_path, "latest", "ckpt-8")  # so that epoch 2 is trained again
    for path in (tmp_path / "metrics.jsonl", *tmp_path.glob("events.out*")):
        path.write_bytes(path.read_bytes()[:-cut])
    Toy(tmp_path, pictured=pictured).fit()
    assert outcome_of(tmp_path) == through


def test_reports_that_came_after_the_checkpoint_go_also_where_nothing_is_left_to_do(tmp_path):
    Toy(tmp_path, max_epochs=1).fit()
    left = lines_of(tmp_path), events_of(tmp_path)
    Toy(tmp_path).fit()
    damage(tmp_path, "latest", "ckpt-8")
    Toy(tmp_path, max_epochs=1).fit()
    assert (lines_of(tmp_path), events_of(tmp_path)) == left


def test_a_checkpoint_that_cannot_be_written_ends_the_training_with_a_sentence(tmp_path, monkeypatch):
    Toy(tmp_path, max_epochs=1).fit()
    (tmp_path / "latest/ckpt-8.index").mkdir()  # in the way
    Path(tmp_path / "latest/ckpt-8.index/file").touch()
    with pytest.raises(UserError, match=rf"cannot write a checkpoint to {tmp_path}/latest: ."):
        Toy(tmp_path).fit()
    shutil.rmtree(tmp_path / "latest/ckpt-8.index")
    toy = Toy(tmp_path)
    toy.fit()
    assert toy.resumed_from.endswith("ckpt-4")
