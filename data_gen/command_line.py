"""What the programs of both packages have in common where they meet a shell."""

import os
import re
import sys

from absl import flags

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


def in_words(error: flags.Error) -> str:
    """Returns what absl says of a wrong flag, with what was expected in place of Python's own words for it."""
    text = str(error)
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
