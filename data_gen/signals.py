"""Which signals end a program, and when they may."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


def ending_signals() -> list[signal.Signals]:
    """Returns what beside Ctrl-C asks a program to end: SIGTERM, and SIGHUP, of a terminal that is closed.

    Without those that are ignored, as nohup has SIGHUP, and that the system does not have, as Windows.
    """
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [signum for signum in known if signal.getsignal(signum) != signal.SIG_IGN]


@contextlib.contextmanager
def handled(signums: list[signal.Signals], handler: Callable | signal.Handlers) -> Iterator[None]:
    """Has signals handled so meanwhile; outside the main thread, where Python delivers none, as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in signums}
    try:
        yield
    finally:
        for signum, previous in before.items():
            signal.signal(signum, previous)


@contextlib.contextmanager
def ended_later() -> Iterator[None]:
    """Has Ctrl-C and the signals that end a program wait meanwhile.

    For calls of h5py, which an exception from outside leaves with half an object and a traceback of its own on stderr.
    """
    came: list[int] = []
    with handled([signal.SIGINT, *ending_signals()], lambda signum, _: came.append(signum)):
        yield
    for signum in came:
        signal.raise_signal(signum)
