"""What a training tells: metrics.jsonl, TensorBoard, the printed line; each step once, whatever was there before."""

import json

import numpy as np
import pytest
import tensorflow as tf
from run_files import AT_THE_START, events_of, lines_of

from nem_tf.layers.system import Forward
from nem_tf.run import Run
from nem_tf.scoring.doctor import Finding
from nem_tf.training.reporting import Reporter
from nem_tf.training.tensorboard import Summaries, keep_events

LOSSES = {"loss": 1.5, "intra": 1.0}
SCORES = {**LOSSES, "ami": 0.25, "ami_last": 0.5, "ari": float("nan")}


def line_of(step, validation=SCORES, train=LOSSES):
    return {
        "epoch": step // 4,
        "complete": True,
        "step": step,
        "train": dict(train),
        "validation": dict(validation),
        "sequences_per_second": 12.34,
        "wall_time": 90.0,
    }


def forward(rng, samples=2, steps=3, k=2):
    shape = (samples, steps, 6, 5, 1)
    gamma = rng.dirichlet(np.ones(k), (samples, steps, 6, 5)).transpose(0, 1, 4, 2, 3)[..., None]
    outputs = {"predictions": rng.random((samples, steps, k, 6, 5, 1)), "gamma": gamma}
    return Forward(rng.random(shape), rng.random(shape), outputs, None)


def reported(run_dir, steps, start=(0, 0), **options):
    reporter = Reporter(Run(run_dir), {"seed": 3}, **options)
    reporter.start(*start)
    for step in steps:
        reporter.trained(step - 1, LOSSES)
        reporter.validated(line_of(step))
    reporter.close()


def test_lines_of_no_validation_are_no_hindrance(tmp_path):
    reported(tmp_path, [4])
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text('{}\n\n{"step": "x"}\n' + whole)
    reported(tmp_path, [], start=(4, 4))
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_constructing_writes_nothing(tmp_path):
    Reporter(Run(tmp_path / "run"), {})
    assert not (tmp_path / "run").exists()


def test_a_validation_is_a_line_of_json_scalars_pictures_and_a_printed_line(tmp_path, rng, capsys):
    reported(tmp_path, [4], pictured=lambda: forward(rng))
    text = (tmp_path / "metrics.jsonl").read_text()
    expected = line_of(4) | {"validation": SCORES | {"ari": None}}  # JSON has no NaN
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == expected
    events = {(tag, step): value for tag, step, value in events_of(tmp_path)}
    assert set(events) == {
        *((tag, 0) for tag in AT_THE_START),
        ("train/loss", 3),
        ("train/intra", 3),
        ("validation/loss", 4),
        ("validation/intra", 4),
        ("validation/ami", 4),
        ("validation/ami_last", 4),
        ("speed/sequences_per_second", 4),
        *((f"{kind}/{sample}", 4) for kind in ("overview", "animation") for sample in (0, 1)),
    }
    assert events["validation/ami_last", 4] == 0.5
    width, height, png = events["overview/1", 4]
    assert (png[:4], int(width) > 100, int(height) > 50) == (b"\x89PNG", True, True)
    assert events["animation/0", 4][2][:3] == b"GIF"
    assert events["animation/0", 4] != events["animation/1", 4]
    out = capsys.readouterr().out
    assert out == (
        "epoch 1  step 4  loss 1.50  validation loss 1.50  AMI 0.250  AMI of the last step 0.500  ARI -  "
        "12.3 sequences/s  1.5 min\n"
    )


def test_what_the_doctor_finds_is_printed_and_kept(tmp_path, capsys):
    findings = [Finding("blobs", "they hold places", "Longer"), Finding("switching", "they change", "Windows")]
    reported(tmp_path, [4], examine=lambda scores: findings if scores["ami_last"] == 0.5 else [])
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["doctor"] == ["blobs", "switching"]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  blobs: they hold places. Longer", "  switching: they change. Windows"
    ]  # fmt: skip
    (text,) = (value for tag, _, value in events_of(tmp_path) if tag == "doctor/findings")
    assert text == b"**blobs**: they hold places. Longer\n\n**switching**: they change. Windows"


def test_what_the_doctor_finds_again_is_named_only(tmp_path, capsys):
    findings = iter([["blobs"], ["blobs", "switching"], [], ["blobs", "switching"]])
    said = {name: Finding(name, "as ever", "More") for name in ("blobs", "switching")}
    reported(tmp_path, [4, 8, 12, 16], examine=lambda scores: [said[name] for name in next(findings)])
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("epoch")]
    assert said == [
        "  blobs: as ever. More", "  switching: as ever. More", "  still: blobs", "  still: blobs, switching"
    ]  # fmt: skip


def test_of_data_without_labels_it_tells_losses(tmp_path, capsys):
    reporter = Reporter(Run(tmp_path), {})
    reporter.start(0, 0)
    reporter.validated(line_of(4, validation=LOSSES))
    reporter.close()
    (line,) = lines_of(tmp_path)
    assert line["validation"] == LOSSES
    assert {tag for tag, _, _ in events_of(tmp_path) if tag.startswith("validation/")} == {
        "validation/loss",
        "validation/intra",
    }
    assert capsys.readouterr().out == ("epoch 1  step 4  loss 1.50  validation loss 1.50  12.3 sequences/s  1.5 min\n")


def test_a_silent_one_says_and_writes_nothing(tmp_path, capsys, rng):
    reported(tmp_path, [4, 8], silent=True, pictured=lambda: pytest.fail("a picture"))
    Reporter(Run(tmp_path), {}, silent=True).say("hello")
    assert not list(tmp_path.iterdir())
    assert not capsys.readouterr().out


def test_reports_after_the_checkpoint_are_taken_back(tmp_path):
    """Of training steps those after its step, of validations those after the last one that it knows of."""
    reported(tmp_path, [4, 8, 12])
    reported(tmp_path, [], start=(9, 8))
    assert [line["step"] for line in lines_of(tmp_path)] == [4, 8]
    steps = {}
    for tag, step, _ in events_of(tmp_path):
        steps.setdefault(tag, []).append(step)
    assert steps["train/loss"] == [3, 7]
    assert steps["validation/loss"] == steps["speed/sequences_per_second"] == [4, 8]
    assert all(steps[tag] == [0] for tag in AT_THE_START)
    reported(tmp_path, [12], start=(8, 8))
    assert [line["step"] for line in lines_of(tmp_path)] == [4, 8, 12]
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 3  # of every process its own
    assert not list(tmp_path.glob(".*"))


def test_files_of_which_all_is_kept_are_not_touched(tmp_path):
    reported(tmp_path, [4])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    reported(tmp_path, [], start=(4, 4))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_an_event_file_may_be_cut_anywhere(tmp_path):
    """What was whole is kept."""
    summaries = Summaries(tmp_path)
    for step in range(4):
        summaries.scalars("train", {"loss": float(step)}, step)
    summaries.close()
    (path,) = tmp_path.iterdir()
    content, counts = path.read_bytes(), []
    for length in range(0, len(content) + 1, 7):
        path.write_bytes(content[:length])
        tags = keep_events(tmp_path, lambda tag, step: True)
        kept = events_of(tmp_path)
        assert kept == [("train/loss", step, float(step)) for step in range(len(kept))]
        assert tags == ({"train/loss"} if kept else set())
        counts.append(len(kept))
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3} | {counts[-1]}


def test_the_bar_is_for_terminals(tmp_path, capsys):
    with Reporter(Run(tmp_path), {}).bar("epoch 1", 10) as bar:
        bar.update(5)
        bar.set_postfix({"loss": "1"}, refresh=False)
    assert not capsys.readouterr().err


def test_tensorflow_is_given_no_number_of_python(tmp_path, monkeypatch):
    """It keeps all that it has made tensors of, for ever: tens of kilobytes an epoch."""
    given = []
    monkeypatch.setattr(
        tf.summary, "scalar", lambda name, value: given.extend([value, tf.summary.experimental.get_step()])
    )
    Summaries(tmp_path).scalars("train", {"loss": 1.5, "ami": np.float64(0.5)}, 3)
    assert given == [1.5, 3, 0.5, 3]
    assert not any(isinstance(number, int | float) for number in given)
