"""Several processes: two that want the same file, and one that is ended or killed with its workers."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import pytest
from small_sets import signals_heeded, visible

from data_gen import writer
from data_gen.generate import generate
from data_gen.workers import Workers

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds; a safety net, not an expectation


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("first", "second", "outcome"), [(120, 2, "complete"), (2, 120, "extended")])
def test_the_second_of_two_waits_and_then_finds_what_the_first_wrote(
    tmp_path, monkeypatch, capsys, first, second, outcome
):
    """Two threads stand for two processes: the lock does not tell them apart."""
    path = tmp_path / "flying_shapes.h5"
    compress, drawing, go_on = writer._compressed_block, threading.Event(), threading.Event()
    outcomes, said = {}, []

    def slowly(*task):
        drawing.set()
        assert go_on.wait(PATIENCE)
        return compress(*task)

    def run(size):
        outcomes[size] = generate(path, "flying_shapes", {"training": size}, 2, workers=1)

    def waits():
        said.append(capsys.readouterr().err)
        return "".join(said).count(f"waiting for another process that writes {path}") == 1

    monkeypatch.setattr(writer, "_compressed_block", slowly)
    threads = [threading.Thread(target=run, args=(size,), daemon=True) for size in (first, second)]
    threads[0].start()
    assert drawing.wait(PATIENCE)
    threads[1].start()
    until(waits)
    assert len(visible(tmp_path)) == 1
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert outcomes == {first: "written", second: outcome}
    with h5py.File(path) as file:
        assert file["training/features"].shape[1] == 120
    assert visible(tmp_path) == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"])
def test_a_generator_that_is_ended_leaves_nothing_that_runs_or_is_half_written(tmp_path, how):
    """The workers inherit stderr: its end is read only when all of them are gone."""
    number = getattr(signal, how)
    with signals_heeded():
        process = subprocess.Popen(
            [sys.executable, "-m", "data_gen", "--train_size=300000", "--nr_steps=4", "--workers=2"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    data = tmp_path / "data"
    try:
        until(lambda: any(path.stat().st_size > 100_000 for path in data.glob(".*.partial")))
        if how in ("SIGINT", "SIGHUP"):
            os.killpg(process.pid, number)  # as the terminal does
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert out == ""
    if how == "SIGKILL":
        assert len(visible(data)) == 1
        assert generate(data / "flying_shapes.h5", "flying_shapes", {"test": 1}, 2) == "written"
        assert visible(data) == ["flying_shapes.h5"]
    else:
        assert process.returncode == 128 + number
        said, ended = err.splitlines()
        assert "takes up to" in said
        assert ended == f"data_gen: ended by {how}; no unfinished file is left"
        assert visible(data) == []


def how_it_takes_what_a_terminal_sends(_):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return {signal.SIGINT, signal.SIGHUP} <= blocked, signal.getsignal(signal.SIGINT)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal masks")
def test_what_a_terminal_sends_is_not_for_workers_neither_while_they_start_nor_later():
    with signals_heeded(), Workers(2) as pool:
        assert list(pool.map(how_it_takes_what_a_terminal_sends, [(0,), (1,)])) == [(True, signal.SIG_IGN)] * 2
    assert not {signal.SIGINT, signal.SIGHUP} & signal.pthread_sigmask(signal.SIG_BLOCK, ())


def exit_status_of(task):
    os._exit(task)


def test_a_worker_that_dies_is_told_in_a_sentence():
    with Workers(2) as pool, pytest.raises(writer.DataGenError, match=r"a worker process .* was killed"):
        list(pool.map(exit_status_of, [(3,), (3,)]))


def test_a_script_without_a_guard_is_told_so_and_waits_for_nobody(tmp_path):
    """Its worker processes run it again, and met the lock of the one that waited for them."""
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "from data_gen.shapes import FlyingShapes\n"
        "from data_gen.writer import write_dataset\n"
        "write_dataset(Path('shapes.h5'), 'shapes', FlyingShapes(2, 3), {'training': 640}, workers=2)\n"
    )
    result = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE,
    )
    assert result.stderr.splitlines()[-1].endswith('needs `if __name__ == "__main__":` around its calls')
    assert visible(tmp_path) == ["script.py"]
