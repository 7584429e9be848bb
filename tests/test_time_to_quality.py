"""AMI over the wall time of trainings."""

import json

import numpy as np
import pytest

from benchmarks.time_to_quality import Epoch, curves, minutes_to, read_epochs, read_runs
from nem_tf.errors import UserError
from nem_tf.run import append_line
from nem_tf.scoring.figures import rendered


def write_epochs(run_dir, *lines):
    """Of (epoch, step, seconds, AMI)."""
    run_dir.mkdir()
    for epoch, step, seconds, ami in lines:
        values = {"epoch": epoch, "step": step, "wall_time": seconds, "validation": {"ami": ami}}
        append_line(run_dir / "metrics.jsonl", values)
    return run_dir


def test_the_last_line_of_an_epoch_counts(tmp_path):
    lines = ((1, 5, 30, 0.9), (1, 10, 60, 0.4), (2, 20, 120, 0.6), (3, 30, 180, 0.5))  # the first of one interrupted
    epochs = read_epochs(write_epochs(tmp_path / "run", *lines), "ami")
    assert epochs == [Epoch(10, 1, 0.4), Epoch(20, 2, 0.6), Epoch(30, 3, 0.5)]
    assert [minutes_to(epochs, ami) for ami in (0.4, 0.45, 0.6, 0.7)] == [1, 2, 2, None]
    with pytest.raises(UserError, match="another version, or of data without labels: no ami_last"):
        read_epochs(tmp_path / "run", "ami_last")
    assert len(np.unique(rendered(curves({"run": epochs}, "AMI")))) > 20


def test_a_directory_without_an_epoch_is_left_out(tmp_path, capsys):
    done, begun = write_epochs(tmp_path / "done", (1, 5, 60, 0.5)), tmp_path / "begun"
    assert read_runs([str(begun), str(done)], "ami") == {str(done): [(5, 1, 0.5)]}
    assert f"left out: {begun} has no epoch to show" in capsys.readouterr().err
    with pytest.raises(UserError, match="expected directories of runs with an epoch"):
        read_runs([str(begun)], "ami")


def test_it_reads_what_a_training_writes(program, tiny_run, tmp_path):
    status, out, err = program(
        "benchmarks.time_to_quality",
        "--score=ami_last",
        f"--json={tmp_path}/q.json",
        f"--plot={tmp_path}/q.png",
        tiny_run,
    )
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith(str(tiny_run))
    (epochs,) = json.loads((tmp_path / "q.json").read_text()).values()
    assert [epoch["step"] for epoch in epochs] == [4, 8]
    assert (tmp_path / "q.png").exists()
