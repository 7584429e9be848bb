"""Trainings of a list in turn: in the place of each a small program that writes what happens to it."""

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from nem_tf import resume
from nem_tf.errors import Interrupted, UserError

TRAINING = """
import pathlib, signal, sys, time
diary, name, kind = sys.argv[1:]
def note(word):
    with open(diary, "a") as file:
        file.write(f"{name} {word}\\n")
def stop(*_):
    note("stopped")
    sys.exit(128 + signal.SIGTERM)
signal.signal(signal.SIGTERM, stop)
note("begun")
if kind == "long":
    time.sleep(60)
if kind == "killed":
    signal.raise_signal(signal.SIGKILL)
while kind == "first pair" and pathlib.Path(diary).read_text().count("begun") < 2:
    time.sleep(0.02)
time.sleep(0.2)
note("ended")
sys.exit(kind == "bad")
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Calls the program with flagfiles whose content is the kind of training; returns the diary."""
    popen = subprocess.Popen
    diary = tmp_path / "diary"

    def train(command, start_new_session):
        assert command[:3] == [sys.executable, "-m", "nem_tf.train"]
        assert start_new_session  # what is sent to a group of processes comes to a training once
        path = tmp_path / command[3].removeprefix("--flagfile=").rpartition("/")[2]
        return popen([sys.executable, "-c", TRAINING, str(diary), path.name, path.read_text().splitlines()[0]])

    monkeypatch.setattr(resume.subprocess, "Popen", train)

    def run(*kinds, jobs=1, minutes=None):
        paths = [tmp_path / str(i) for i in range(len(kinds))]
        for path, kind in zip(paths, kinds, strict=True):
            path.write_text(kind if "--run_dir" in kind else f"{kind}\n--run_dir={path.name}")
        try:
            resume.main(SimpleNamespace(jobs=jobs, minutes=minutes), *map(str, paths))
        finally:
            run.diary = diary.read_text().splitlines() if diary.exists() else []
        return run.diary

    return run


def test_one_after_the_other(trained):
    assert trained("short", "short") == ["0 begun", "0 ended", "1 begun", "1 ended"]


def test_side_by_side(trained):
    diary = trained("first pair", "first pair", "short", jobs=2)  # the first two end when both have begun
    assert sorted(diary[:2]) == ["0 begun", "1 begun"]
    assert sorted(diary[-1:] + diary[2:-1]) == ["0 ended", "1 ended", "2 begun", "2 ended"]


def test_what_begins_from_another_one_waits_for_it(trained):
    diary = trained("--run_dir=a", "--init_from=./a\n--run_dir=b", "--init_from=b\n--run_dir=c", "--run_dir=d", jobs=3)
    assert {"3 begun", "3 ended"} < set(diary)
    assert [line for line in diary if line[0] != "3"] == [
        f"{number} {word}" for number in range(3) for word in ("begun", "ended")
    ]


def test_what_begins_from_another_one_waits_for_it_wherever_that_stands(trained):
    diary = trained("--init_from=b\n--run_dir=c", "--init_from=a\n--run_dir=b", "--run_dir=a", jobs=3)
    assert diary == [f"{number} {word}" for number in (2, 1, 0) for word in ("begun", "ended")]


def test_those_that_begin_from_each_other_and_one_that_begins_from_itself_are_begun(trained):
    diary = trained("--init_from=b\n--run_dir=a", "--init_from=a\n--run_dir=b", "--init_from=c\n--run_dir=c")
    assert sorted(diary) == sorted(f"{number} {word}" for number in range(3) for word in ("begun", "ended"))


@pytest.mark.parametrize("kind", ["bad", "killed"])
def test_nothing_begins_from_what_failed(trained, capsys, kind):
    places = [f"{kind}\n--run_dir=a", "--init_from=a\n--run_dir=b", "--init_from=b\n--run_dir=c", "--run_dir=d"]
    with pytest.raises(UserError, match=r"failed, see above: .*/0$"):
        trained(*places)
    assert [line for line in trained.diary if line[0] in "12"] == []
    assert trained.diary[-2:] == ["3 begun", "3 ended"]
    said = [line.rpartition("/")[0][-13:] for line in capsys.readouterr().out.splitlines() if "not begun" in line]
    assert len(said) == 2


def test_a_place_in_the_home_directory_is_the_same_however_it_is_written(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    diary = trained("--run_dir=~/a", f"--run_dir=b\n--init_from={tmp_path}/a", jobs=2)
    assert diary == ["0 begun", "0 ended", "1 begun", "1 ended"]


def test_no_two_train_in_one_directory(trained):
    diary = trained("--run_dir=a", "--run_dir=./a", "--run_dir=b", jobs=3)
    assert [line for line in diary if line[0] != "2"] == ["0 begun", "0 ended", "1 begun", "1 ended"]


def test_a_flagfile_that_is_named_twice_is_trained_once(trained, tmp_path):
    (tmp_path / "0").write_text("short")
    resume.main(SimpleNamespace(jobs=2, minutes=None), str(tmp_path / "0"), str(tmp_path / "0"))
    assert (tmp_path / "diary").read_text().splitlines() == ["0 begun", "0 ended"]


def test_a_failure_keeps_no_other_from_training(trained):
    with pytest.raises(UserError, match=r"failed, see above: .*/0$"):
        trained("bad", "short")
    assert trained.diary == ["0 begun", "0 ended", "1 begun", "1 ended"]


def test_when_the_time_is_over_what_is_under_way_is_asked_to_stop(trained, monkeypatch, tmp_path):
    """And ends well: it resumes. A fresh one is not begun."""
    monkeypatch.setattr(resume.time, "monotonic", lambda: 100 * len(begun_in(tmp_path)))
    assert trained("long", "short", minutes=1) == ["0 begun", "0 stopped"]


@pytest.mark.parametrize("error", [Interrupted("ended by a signal", signal.SIGTERM), BrokenPipeError()])
def test_whatever_ends_it_ends_its_trainings(trained, monkeypatch, tmp_path, error):
    def sleep(seconds):
        time_sleep(seconds)
        if len(begun_in(tmp_path)) == 2:
            monkeypatch.setattr(resume.time, "sleep", time_sleep)
            raise error

    time_sleep = time.sleep
    monkeypatch.setattr(resume.time, "sleep", sleep)
    with pytest.raises(type(error)):
        trained("long", "long", jobs=2)
    assert sorted(trained.diary) == ["0 begun", "0 stopped", "1 begun", "1 stopped"]


def begun_in(directory):
    """What the diary there says has begun: only then can a training be asked to stop."""
    path = directory / "diary"
    return [line for line in path.read_text().splitlines() if line.endswith("begun")] if path.exists() else []


def test_what_it_expects(program, tmp_path):
    status, _, err = program("nem_tf.resume")
    assert status == 1
    assert "expected flagfiles" in err
    status, _, err = program("nem_tf.resume", tmp_path / "gone.flags")
    assert status == 1
    assert "gone.flags is missing: expected a flagfile" in err
    (tmp_path / "any.flags").write_bytes(b"\x00\xff\xfe")
    status, out, err = program("nem_tf.resume", "--minutes=0", tmp_path / "any.flags")
    assert (status, out, err) == (0, "the time is over: nothing was trained\n", "")
