"""What the programs of both packages have in common where they meet a shell."""

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_WORDS = (
    (r"invalid literal for int\(\) with base \d+: ", "expected a whole number, not "),
    (r"could not convert string to float: ", "expected a number, not "),
    (r"\('Non-boolean argument to boolean flag', (.*)\)", r"expected true or false, not \1"),
    (r"ERROR:: Unable to open flagfile: \[Errno \d+\] (.*): '(.*)'", r"--flagfile=\2 cannot be read: \1"),
)


def open_closed_streams() -> None:
    """Gives a process whose stdin, stdout or stderr was closed, as a daemon's may be, one that nothing comes out of."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


def drop_output() -> None:
    """Keeps Python from writing what is left once more when it ends, and from saying that it cannot."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def in_words(error: Exception) -> str:
    """Returns what an error says, on one line, and of a wrong flag what was expected in place of Python's own words."""
    text = str(error).replace("\n", "\\n")  # the name of a file may hold one
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
