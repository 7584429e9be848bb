"""SIGTERM and Ctrl-C: a wish to stop that training grants between two steps, from whichever thread and worker."""

import os
import signal
import threading

import pytest
from run_files import checkpoint_names, lines_of, outcome_of
from toy import Toy

from nem_tf import cli
from nem_tf.errors import Interrupted
from nem_tf.training import signals
from nem_tf.training.signals import caught_signals, stop_wish

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_as_before(closed_terminals_end):
    before = [signal.getsignal(signum) for signum in SIGNALS]
    yield
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def fit(run_dir, at=None, signum=None, times=1, **changes):
    """Trains a toy as the program does; in the step after `at` the process sends signals to itself."""
    with caught_signals() as caught:
        toy = Toy(run_dir, stop=stop_wish(caught, None), **changes)

        def step(*args):
            result = Toy.step(toy, *args)
            if toy.at == at:
                for _ in range(times):
                    os.kill(os.getpid(), signum)
            return result

        toy.step = step
        toy.fit()
    return toy


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("at", [2, 3, 5])
def test_a_signal_in_a_step_ends_the_training_after_it_and_nothing_is_lost(tmp_path, signum, at):
    """In the middle of an epoch, at its end, and in the next one."""
    with pytest.raises(Interrupted, match=f"interrupted at step {at + 1}") as caught:
        fit(tmp_path / "run", at, signum)
    assert caught.value.signum == signum
    assert checkpoint_names(tmp_path / "run")[-1] == f"ckpt-{at + 1}"
    fit(tmp_path / "run")
    fit(tmp_path / "through")
    assert outcome_of(tmp_path / "run") == outcome_of(tmp_path / "through")


def test_a_second_signal_dies_as_usual(tmp_path):
    """Whoever cannot wait for the step presses Ctrl-C again."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, 2, signal.SIGINT, times=2)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not checkpoint_names(tmp_path)


def test_the_program_ends_with_the_status_of_the_signal(tmp_path, capsys):
    def main(options):
        fit(tmp_path, 2, signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        cli.run(main, lambda options: None, "nem_tf.train", "Trains.", argv=[])
    assert end.value.code == 128 + signal.SIGTERM
    assert "nem_tf.train: interrupted at step 3; the same command resumes from there" in capsys.readouterr().err


@pytest.mark.parametrize("by_program", [False, True])
def test_a_training_outside_the_main_thread(tmp_path, by_program):
    """Python delivers signals to the main thread alone, and lets no other set a handler: a notebook, a server."""
    failed = []

    def train():
        try:
            fit(tmp_path)
        except BaseException as error:
            failed.append(error)

    def program():
        cli.run(lambda options: train(), lambda options: None, "nem_tf.train", "Trains.", argv=[])

    thread = threading.Thread(target=program if by_program else train)
    thread.start()
    thread.join()
    assert not failed
    assert [line["step"] for line in lines_of(tmp_path)] == [4, 8]


@pytest.mark.parametrize(
    ("own", "share_of_workers", "expected"),
    [([], 0.0, 0), ([], 0.5, signal.SIGTERM), ([signal.SIGINT], 0.5, signal.SIGINT), ([signal.SIGTERM], 1.0, 15)],
)
def test_all_workers_stop_if_one_was_asked_to(monkeypatch, own, share_of_workers, expected):
    asked = []

    def agree(strategy, values):
        asked.append(values["stop"])
        return {"stop": share_of_workers}

    monkeypatch.setattr(signals, "is_multi_worker", lambda strategy: True)
    monkeypatch.setattr(signals, "agree", agree)
    assert stop_wish(own, None)() == expected
    assert asked == [float(bool(own))]
