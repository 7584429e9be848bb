"""What the programs of both packages have in common where they meet a shell."""

import contextlib
import os
import re
import sys

_WORDS = (
    (r"invalid literal for int\(\) with base \d+: ", "expected a whole number, not "),
    (r"could not convert string to float: ", "expected a number, not "),
    (r"\('Non-boolean argument to boolean flag', (.*)\)", r"expected true or false, not \1"),
    (r"ERROR:: Unable to open flagfile: \[Errno \d+\] (.*): '(.*)'", r"--flagfile=\2 cannot be read: \1"),
    (r"\{\{function_node .*?\}\} ", ""),  # TensorFlow's
    (r"\S+; (.*) \[Op:SaveV2\]", r"\1"),
    (r"Can't \w+ write \w+ \(.*error message = '([^']+)'.*\)", r"\1"),  # HDF5's
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


def in_words(error: Exception) -> str:
    """Returns what an error says, on one line; of a wrong flag and a failed write without what libraries say around."""
    text = str(error).replace("\n", "\\n")  # the name of a file may hold one
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
