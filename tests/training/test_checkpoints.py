"""Checkpoints: what they hold, which are kept, and what becomes of those that cannot be read or written."""

import gc
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from run_files import checkpoint_names, damage
from toy import DATA, Weights

from nem_tf.errors import UserError
from nem_tf.training.checkpoints import Checkpoints, latest_progress, progress_of, restore_weights
from nem_tf.training.progress import Progress

ELSEWHERE = b'model_checkpoint_path: "elsewhere/ckpt-9"'  # TensorFlow's list, of another place
OTHER = {"file": "toy.h5", "sha256": "1"}


class Trained:
    """A model of one weight with the moving average of it, and where its training stands."""

    def __init__(self, run_dir, data=DATA, **options):
        self.weight, self.average = tf.Variable(0.0), tf.Variable(0.0)
        self.progress = Progress(["loss"], [])
        tracked = {"model": Weights(self.weight), "averages": Weights(self.average), "progress": self.progress}
        self.checkpoints = Checkpoints(run_dir, data, before_save=self.refresh, **options, **tracked)

    def refresh(self):
        self.average.assign(self.weight / 2)

    def save(self, step, which="latest"):
        self.weight.assign(10.0 * step)
        self.progress.step.assign(step)
        self.progress.kept_loss.assign(100 - step)
        self.checkpoints.save(which, step)


@pytest.mark.parametrize("run_dir", [".", "..", "run"])
def test_a_directory_may_be_called_from_where_one_is(tmp_path, monkeypatch, run_dir):
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    Trained(Path(run_dir)).save(2, "best")
    again = Trained(Path(run_dir))
    assert again.checkpoints.kept_loss() == 98
    assert progress_of(again.checkpoints.newest("best"))["step"] == 2


@pytest.mark.parametrize("name", ["run", "a[1]", "what?", "*", "[]"])
def test_what_is_written_is_read_whatever_the_directory_is_called(tmp_path, name):
    run_dir = tmp_path / name
    first = Trained(run_dir)
    assert not run_dir.exists()
    assert first.checkpoints.resume() is None
    assert first.checkpoints.newest() is None
    run_dir.mkdir()
    for step in range(1, 6):
        first.save(step)
        first.save(step, "best")
    assert checkpoint_names(run_dir) == ["ckpt-3", "ckpt-4", "ckpt-5"]
    assert checkpoint_names(run_dir, "best") == ["ckpt-5"]
    assert len(list((run_dir / "latest").iterdir())) == 3 * 2 + 1  # nothing else stays behind

    second = Trained(run_dir)
    path = str(run_dir / "latest/ckpt-5")
    assert second.checkpoints.resume() == second.checkpoints.newest() == path
    assert (float(second.weight), float(second.average), int(second.progress.step)) == (50, 25, 5)
    assert second.checkpoints.kept_loss() == 95
    assert progress_of(path)["step"] == latest_progress(run_dir)["step"] == 5
    model = Weights(tf.Variable(0.0))
    assert restore_weights(run_dir, "latest", False, model) == path


@pytest.mark.parametrize("which", ["latest", "best"])
@pytest.mark.parametrize("averaged", [False, True])
def test_both_chains_hold_the_weights_and_their_averages(tmp_path, which, averaged):
    """The averages are those of the moment of saving."""
    Trained(tmp_path).save(3, which)
    model = Weights(tf.Variable(0.0))
    assert restore_weights(tmp_path, which, averaged, model).endswith(f"{which}/ckpt-3")
    assert float(model.variable) == (15 if averaged else 30)


def test_a_run_without_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} has no best checkpoint yet"):
        restore_weights(tmp_path, "best", False, Weights(tf.Variable(0.0)))
    assert latest_progress(tmp_path) == {}
    assert Trained(tmp_path).checkpoints.kept_loss() is None


@pytest.mark.parametrize("content", [None, b"", b"no list", bytes(range(256)), ELSEWHERE])
def test_checkpoints_are_found_whatever_their_list_says(tmp_path, content):
    """Resumed and scored; and the oldest goes when there are more than are kept."""
    trained = Trained(tmp_path)
    for step in (1, 2, 3):
        trained.save(step)
    listed = tmp_path / "latest/checkpoint"
    listed.unlink()
    if content is not None:
        listed.write_bytes(content)
    second = Trained(tmp_path)
    assert second.checkpoints.resume() == str(tmp_path / "latest/ckpt-3")
    assert restore_weights(tmp_path, "latest", False, Weights(tf.Variable(0.0))).endswith("ckpt-3")
    assert latest_progress(tmp_path)["step"] == 3
    second.save(4)
    assert Trained(tmp_path).checkpoints.resume() == str(tmp_path / "latest/ckpt-4")
    assert checkpoint_names(tmp_path) == ["ckpt-2", "ckpt-3", "ckpt-4"]


def test_what_cannot_be_read_is_passed_over_by_training_and_scoring_alike(tmp_path, capsys):
    trained = Trained(tmp_path)
    for step in (1, 2, 3):
        trained.save(step)
    damage(tmp_path, "latest", "ckpt-3", keep=3)
    (tmp_path / "latest/ckpt-2.index").unlink()
    again = Trained(tmp_path)
    assert again.checkpoints.resume() == str(tmp_path / "latest/ckpt-1")
    assert float(again.weight) == 10
    said = capsys.readouterr().err
    assert [f"ckpt-{step} cannot be read" in said for step in (1, 2, 3)] == [False, True, True]
    path = restore_weights(tmp_path, "latest", True, model := Weights(tf.Variable(0.0)))
    assert float(model.variable) == 5
    assert progress_of(path)["step"] == latest_progress(tmp_path)["step"] == 1
    again.save(4)
    assert Trained(tmp_path).checkpoints.resume().endswith("ckpt-4")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in directories")
def test_nobody_waits_for_a_pipe(tmp_path, capsys):
    trained = Trained(tmp_path)
    trained.save(1)
    trained.save(2)
    for name in ("ckpt-2.index", "checkpoint"):
        (tmp_path / "latest" / name).unlink()
        os.mkfifo(tmp_path / "latest" / name)
    again = Trained(tmp_path)
    assert again.checkpoints.resume() == str(tmp_path / "latest/ckpt-1")
    assert "ckpt-2 cannot be read (OSError)" in capsys.readouterr().err
    assert latest_progress(tmp_path)["step"] == 1
    again.save(3)
    assert Trained(tmp_path).checkpoints.resume() == str(tmp_path / "latest/ckpt-3")


def test_what_cannot_be_a_checkpoint_takes_the_place_of_none(tmp_path):
    """And what a killed process left of one that it was writing is removed."""
    for step in (1, 2, 3):
        Trained(tmp_path).save(step)
    (tmp_path / "latest/ckpt-99999999999999999999.index").touch()
    (tmp_path / "latest/ckpt-77.index").mkdir()
    (tmp_path / "latest/ckpt-5_temp").mkdir()
    (tmp_path / "latest/ckpt-5_temp/part-00000-of-00001.index").touch()
    again = Trained(tmp_path)
    assert again.checkpoints.resume() == str(tmp_path / "latest/ckpt-3")
    again.save(4)
    mine = ["ckpt-2", "ckpt-3", "ckpt-4"]
    assert checkpoint_names(tmp_path) == sorted([*mine, "ckpt-77", "ckpt-99999999999999999999"])
    assert not (tmp_path / "latest/ckpt-5_temp").exists()


def test_what_is_left_of_a_restore_that_failed_is_no_news(tmp_path, monkeypatch):
    """TensorFlow names every value of it when it forgets it, which may be at the very end."""
    Trained(tmp_path).save(1, "best")
    (values,) = tmp_path.glob("best/ckpt-1.data-*")
    values.write_bytes(values.read_bytes().replace(np.float32(5).tobytes(), np.float32(6).tobytes()))
    monkeypatch.setattr(tf.get_logger(), "handlers", [heard := Heard()])
    monkeypatch.setattr(tf.get_logger(), "filters", [])
    with pytest.raises(UserError, match="no checkpoint"):
        restore_weights(tmp_path, "best", True, Weights(tf.Variable(0.0)))
    gc.collect()
    assert not heard.records


class Heard(logging.Handler):
    """What is logged."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record.getMessage())


def test_none_that_can_be_read_is_one_sentence(tmp_path):
    Trained(tmp_path).save(1)
    Trained(tmp_path).save(1, "best")
    for which in ("latest", "best"):
        damage(tmp_path, which, "ckpt-1", keep=0)
    with pytest.raises(UserError, match=f"no checkpoint in {tmp_path}/latest can be read"):
        Trained(tmp_path).checkpoints.resume()
    with pytest.raises(UserError, match=f"no checkpoint in {tmp_path}/best can be read"):
        restore_weights(tmp_path, "best", False, Weights(tf.Variable(0.0)))
    assert latest_progress(tmp_path) == {}
    assert Trained(tmp_path).checkpoints.kept_loss() is None


def test_a_checkpoint_of_another_network_is_one_sentence(tmp_path):
    Trained(tmp_path).save(1)
    with pytest.raises(UserError, match="can be read"):
        restore_weights(tmp_path, "latest", False, Weights(tf.Variable(np.zeros(7))))


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    """The run directory's own note of its data may be gone or wrong; what was trained says it too."""
    Trained(tmp_path).save(1)
    with pytest.raises(UserError, match=r'latest/ckpt-1 was trained on other data \(.*"0".*\) than those .*"1"'):
        Trained(tmp_path, OTHER).checkpoints.resume()
    assert Trained(tmp_path, dict(reversed(DATA.items()))).checkpoints.resume()  # the same, in another order


def test_only_the_process_that_writes_writes(tmp_path):
    other = Trained(tmp_path, writes=False)
    other.save(1)
    other.save(1, "best")
    assert not list(tmp_path.iterdir())
    Trained(tmp_path).save(2)
    reader = Trained(tmp_path, writes=False)
    assert reader.checkpoints.resume().endswith("ckpt-2")


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "{{function_node x}} /runs/ckpt-2: No space left on device"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_the_last_checkpoint(tmp_path, monkeypatch, error):
    trained = Trained(tmp_path)
    trained.save(1)

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(trained.checkpoints._checkpoint, "_write", full)
    with pytest.raises(UserError, match=rf"cannot write a checkpoint to {tmp_path}/latest: .*No space left") as caught:
        trained.save(2)
    assert "{{" not in str(caught.value)
    assert Trained(tmp_path).checkpoints.resume().endswith("ckpt-1")
