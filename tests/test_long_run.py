"""The long run of the benchmarks: what is sampled and what is drawn."""

import os
import sys
import time

import numpy as np
import pytest

from benchmarks import long_run
from nem_tf.errors import UserError


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_sample_is_what_the_system_says(tmp_path):
    before, start = time.process_time(), time.monotonic() - 5
    found = long_run.sample(os.getpid(), tmp_path, start)
    assert 5 <= found["seconds"] <= time.monotonic() - start
    assert before - 0.1 <= found["processor"] <= time.process_time() + 0.1  # it counts hundredths
    assert found["epochs"] == 0
    (tmp_path / "metrics.jsonl").write_text("{}\n{}\n")
    assert long_run.sample(os.getpid(), tmp_path, 0)["epochs"] == 2
    kept = np.ones(int(3e8), np.uint8)
    more = long_run.sample(os.getpid(), tmp_path, 0)["megabytes"]
    assert more - found["megabytes"] == pytest.approx(kept.nbytes / 1e6, abs=30)


def test_a_training_that_ends_by_itself_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(long_run, "SETTINGS", {**long_run.SETTINGS, "k": 0})
    monkeypatch.setattr(long_run, "BETWEEN", 0.5)
    with pytest.raises(UserError, match=r"the training ended after \d+ s: .*--k=0"):
        long_run.watched(tmp_path / "run", 600)


def test_memory_and_the_time_of_an_epoch_are_drawn_over_the_hours():
    """Epochs of four seconds of the processor, ten of them between two samples."""
    samples = [
        {"seconds": 60.0 * i, "megabytes": 500.0 + i, "processor": 40.0 * i, "epochs": 10 * i} for i in range(60)
    ]
    memory, pace = long_run.figure(samples).axes
    np.testing.assert_allclose(memory.lines[0].get_ydata(), 500 + np.arange(60))
    np.testing.assert_allclose(memory.lines[0].get_xdata()[-1], 59 / 60)
    np.testing.assert_allclose(pace.lines[0].get_ydata(), 4)
    assert "590 epochs" in pace.get_xlabel()
