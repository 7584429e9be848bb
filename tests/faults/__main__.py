"""A campaign of faults: nothing is lost, and whatever a file holds, a sentence is what one gets.

    python -m tests.faults --seed=0 --json=faults.json      # all of it: hours on two cores
    python -m tests.faults --share=0.05                     # a twentieth of each kind: some minutes
    python -m tests.faults --only="killed trainings"

Run it from the root of the repository. Prints a table kind x outcome and every case that is not as promised; the exit
status is 1 if there is any.
"""

import collections
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))  # where conftest and its helpers are

from nem_tf import cli
from nem_tf.errors import UserError
from tests.faults.processes import CAMPAIGNS, PROMISED, Trainings

BETWEEN = 20  # seconds from one line of how far it is to the next


def cases(only: str, share: float, seed: int, directory: Path) -> Iterator[dict[str, str]]:
    """Runs the campaigns one after the other."""
    trainings = Trainings(directory)
    for name, (campaign, count) in CAMPAIGNS.items():
        if only in name:
            count = math.ceil(share * count)
            yield from tqdm(
                campaign(trainings, count, seed), desc=name, unit="case", mininterval=BETWEEN, file=sys.stdout
            )


def table(found: list[dict[str, str]]) -> str:
    """Counts by kind: how many there were, and how many were as promised."""
    counts = collections.Counter((each["kind"], each["outcome"] == PROMISED) for each in found)
    lines = [f"{'kind':<32}{'cases':>7}{PROMISED:>14}"]
    for kind in dict.fromkeys(each["kind"] for each in found):
        good, bad = counts[kind, True], counts[kind, False]
        lines.append(f"{kind:<32}{good + bad:>7}{good:>14}")
    return "\n".join(lines)


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_integer("seed", 0, "Seed of what is done, and when.", lower_bound=0, **this)
    flags.DEFINE_float("share", 1.0, "Share of the cases of each kind.", lower_bound=0.0, **this)
    flags.DEFINE_string("only", "", f"Campaigns whose name holds this, of {', '.join(CAMPAIGNS)}.", **this)
    cli.define_output(options, "json", "File for the cases.")


def main(options: flags.FlagValues) -> None:
    found, started = [], time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        for each in cases(options.only, options.share, options.seed, Path(directory)):
            found.append(each)
            if each["outcome"] != PROMISED:
                tqdm.write("{kind}: {case}: {outcome}\n    {said}".format(**each))
    print(table(found))
    print(f"{len(found)} cases in {(time.monotonic() - started) / 60:.1f} minutes, seed {options.seed}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    broken = sum(each["outcome"] != PROMISED for each in found)
    if broken:
        raise UserError(f"{broken} of {len(found)} cases are not as promised, see above")


if __name__ == "__main__":
    cli.run(main, define, "tests.faults", __doc__)
