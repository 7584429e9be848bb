"""Runs every command of README.md and docs/*.md, in the order in which they stand, made small by flags appended to it.

    python -m tests.commands
    python -m tests.commands --only=segment         # the pages whose name holds this

Run it from the root of the repository. Every page has a temporary directory with what it presupposes. A command has
failed if its exit status is not 0, it prints a traceback or nothing, or what it should make is not there. What is not
run, and why, is in `tests/commands/pages.py`. The exit status is 1 if one failed.
"""

import collections
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the helpers of the tests are

from nem_tf import cli
from nem_tf.errors import UserError
from tests.commands import presupposed
from tests.commands.pages import Command, commands_of, read_pages
from tests.commands.running import run
from tests.faults.children import server


def run_page(context, page: str, commands: list[Command]) -> Iterator[tuple[str, float, str]]:
    """Runs the commands of a page; yields the line of each, its seconds and "ok" or what became of it."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        if any(not command.why_not for command in commands):
            presupposed.make_files(place)
            for line, more in presupposed.BEFORE.get(page, ()):
                wrong = run(context, line, place, *more)
                if wrong:
                    yield f"{line} (presupposed)", 0.0, f"failed: {wrong}"
        for command in commands:
            started = time.monotonic()
            if command.why_not:
                outcome = f"not run: {command.why_not}"
            else:
                wrong = run(context, command.line, place)
                outcome = f"failed: {wrong}" if wrong else "ok"
            yield command.line, time.monotonic() - started, outcome


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "only", "", "Pages whose name holds this.", module_name=cli.OWN_GROUP, flag_values=options
    )  # fmt: skip


def main(options: flags.FlagValues) -> None:
    context, started = server(), time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    for page, text in read_pages().items():
        if options.only not in page:
            continue
        for line, seconds, outcome in run_page(context, page, commands_of(page, text)):
            counts[outcome.partition(":")[0]] += 1
            print(f"{page}: {line}: {seconds:.1f} s, {outcome}", flush=True)
    minutes = (time.monotonic() - started) / 60
    print(", ".join(f"{number} {outcome}" for outcome, number in counts.items()), f"in {minutes:.1f} minutes")
    if counts["failed"]:
        raise UserError(f"{counts['failed']} commands failed, see above")


if __name__ == "__main__":
    cli.run(main, define, "tests.commands", __doc__)
