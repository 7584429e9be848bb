"""AMI over the wall time of trainings."""

import numpy as np
import pytest

from benchmarks.time_to_quality import curves, minutes_to, read_epochs, read_runs
from nem_tf.errors import UserError
from nem_tf.figures import rendered
from nem_tf.run_dir import append_metrics


def test_the_last_line_of_an_epoch_counts(tmp_path):
    lines = ((1, 5, 30, 0.9), (1, 10, 60, 0.4), (2, 20, 120, 0.6), (3, 30, 180, 0.5))  # the first of one interrupted
    for epoch, step, seconds, ami in lines:
        append_metrics(tmp_path, {"epoch": epoch, "step": step, "wall_time": seconds, "validation": {"ami": ami}})
    epochs = read_epochs(tmp_path, "ami")
    assert epochs == [(10, 1, 0.4), (20, 2, 0.6), (30, 3, 0.5)]
    assert [minutes_to(epochs, ami) for ami in (0.4, 0.45, 0.6, 0.7)] == [1, 2, 2, None]
    with pytest.raises(UserError, match="another version: it has no ami_last_step"):
        read_epochs(tmp_path, "ami_last_step")
    assert len(np.unique(rendered(curves({"run": epochs}, "AMI")))) > 20


def test_a_directory_without_an_epoch_is_left_out(tmp_path, capsys):
    done = tmp_path / "done"
    done.mkdir()
    append_metrics(done, {"epoch": 1, "step": 5, "wall_time": 60, "validation": {"ami": 0.5}})
    begun = tmp_path / "begun"
    assert read_runs([str(begun), str(done)], "ami") == {str(done): [(5, 1, 0.5)]}
    assert f"left out: {begun} has no epoch to show" in capsys.readouterr().err
    with pytest.raises(UserError, match="expected directories of runs with an epoch"):
        read_runs([str(begun)], "ami")
