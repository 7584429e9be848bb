"""The programs of benchmarks/ run and print their tables, made so small that their figures say nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = {
    "ami": ("--sequences=1", "--rounds=1"),
    "feed": ("--size=16", "--sequences=100", "--steps=1", "--rounds=1"),
    "gpu": ("--k=2", "--batch_size=2", "--precision=float32", "--nr_steps=2", "--rounds=1", "--minutes=5",
            "--minutes_of_training=0"),
    "overheads": ("--rounds=1",),
    "relational": ("--k=2", "--batch_size=1", "--nr_steps=1", "--rounds=1"),
    "scale": ("--rounds=1",),
    "speed": ("--network=flying_shapes", "--k=2", "--batch_size=2", "--precision=float32", "--nr_steps=2",
              "--rounds=1"),
}  # fmt: skip
ELSEWHERE = {"long_run": "test_long_run.py", "time_to_quality": "test_time_to_quality.py"}  # tests of their own


def test_every_program_of_the_page_is_run_here_or_has_tests_of_its_own():
    named = set(re.findall(r"python -m benchmarks\.(\w+)", (ROOT / "benchmarks/README.md").read_text()))
    assert named == {*SMALL, *ELSEWHERE}
    assert all((ROOT / "tests" / name).is_file() for name in ELSEWHERE.values())


@pytest.mark.slow
@pytest.mark.page
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs(name, tmp_path):
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr
    assert re.search(r"\d\.\d", ended.stdout), ended.stdout
