"""Every command of the pages is run by `python -m tests.commands` or is in its table of those that are not."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from absl import flags

from tests.commands import running
from tests.commands.pages import FILLED, NOT_RUN, commands_of, program_of, read_pages
from tests.commands.presupposed import BEFORE
from tests.faults.children import Ended

PAGES = read_pages()
COMMANDS = [command for page, text in PAGES.items() for command in commands_of(page, text)]
RUN = [command for command in COMMANDS if not command.why_not]
ELSEWHERE = ("make ", "python -m tests.")  # have a target of make, which continuous integration calls
HOW_LONG = r"\b(minutes?|hours?|days?|GPUs?)\b"


def words_of(line):
    """The program and its arguments, without a shell that looks for files."""
    first, *words = shlex.split(line)
    return (words[1], words[2:]) if first == "python" else (program_of(first), words)


def test_commands_are_found():
    block = "```\n$ nem-data --seed=1 \\\n  --k=2   # days\nprinted\n```\n"
    page = f"`python -m a.b` `nem-train\n--k=1`\n{block}```python\nmake x\n```"
    found = [(command.line, command.remark, command.is_line) for command in commands_of("page", page)]
    assert found == [("nem-train --k=1", "", False), ("nem-data --seed=1    --k=2", "days", True)]
    assert len(RUN) >= 0.9 * len([command for command in COMMANDS if not command.line.startswith(ELSEWHERE)])


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_says_why_not(page):
    """Also one in a form that `commands_of` does not know: every line of code with a program in it is looked at."""
    lines = [command.line for command in COMMANDS if command.page == page]
    for label, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", PAGES[page], re.DOTALL | re.MULTILINE):
        for line in block.splitlines() if label not in ("python", "bibtex") else ():
            if re.search(r"\bpython\d? |\bnem-\w|tensorboard ", line):
                assert any(line.partition(" #")[0].strip() in found for found in lines), line
    for command in RUN:
        if command.page == page and command.line.split()[0] != "tensorboard":
            program, _ = words_of(command.line)
            assert program in {*running.MADE, "data_gen"}, f"nobody says what {command.line} makes"


def test_the_tables_hold_nothing_that_is_gone():
    for begin in NOT_RUN:
        assert any(command.line.startswith(begin) for command in COMMANDS), begin
    for placeholder in FILLED:
        assert any(placeholder in command.line for command in RUN), placeholder
    assert BEFORE.keys() <= PAGES.keys()


@pytest.mark.parametrize("program", running.SMALL)
def test_what_makes_a_program_small_are_flags_of_it(program):
    options = flags.FlagValues()
    importlib.import_module(program).define(options)
    assert options([program, *running.SMALL[program]]) == [program]


def test_what_takes_long_says_so():
    """A training does not end by itself within minutes, and the balls of 70,000 sequences collide.

    Not of the README, which is short and says in its text what a training takes.
    """
    silent = []
    for command in RUN:
        if command.page.startswith("docs/") and command.is_line and not command.line.startswith("tensorboard"):
            program, args = words_of(command.line)
            is_long = program == "nem_tf.train" or (program == "data_gen" and "balls" in " ".join(args))
            if is_long and not re.search(HOW_LONG, command.remark):
                silent.append(f"{command.page}: {command.line}")
    assert not silent, "how long it takes belongs behind the #"


@pytest.mark.parametrize(
    ("status", "out", "err", "writes", "wrong"),
    [
        (0, "a table", "", True, ""),
        (1, "", "refused", False, "status 1: refused"),
        (0, "Traceback", "", True, "status 0"),
        (0, "", "", True, "prints nothing"),
        (0, "a table", "", False, "did not make results/results.md"),
    ],
)
def test_what_a_command_does_wrong_is_seen(monkeypatch, tmp_path, status, out, err, writes, wrong):
    class Child:
        def __init__(self, context, program, args, said, **others):
            assert (program, args) == ("nem_tf.results", ["runs/a", "runs/b"])

        def end(self):
            if writes:
                Path("results").mkdir()
                Path("results/results.md").write_text("a table")
            return Ended(status, out, err)

    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    monkeypatch.setattr(running, "Child", Child)
    found = running.run(None, "python -m nem_tf.results runs/*", tmp_path)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


def test_a_file_that_was_there_before_is_not_what_a_command_made(monkeypatch, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/results.md").write_text("old")
    monkeypatch.setattr(running, "CLOCK", -3600)  # it is an hour old
    monkeypatch.setattr(
        running, "Child", lambda *args, **others: type("", (), {"end": lambda self: Ended(0, "x", "")})()
    )
    assert running.run(None, "nem-results runs", tmp_path) == "did not make results/results.md"
