"""Tables made from records of evaluations: for a terminal, and the paper's as Markdown.

Rows are experiments: records that differ in nothing but the seed of the training, and in how and where it ran
(execution with its precision, paths), are one row, all others are rows of their own. What a row is called and what the
paper reports of it depends on settings, so the caller says.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nem_tf.scoring.figures import Curve
from nem_tf.scoring.naming import (
    as_trained,
    canonical,
    differences,
    digest,
    experiment_facts,
    experiment_key,
    special,
    title,
    training_facts,
)
from nem_tf.scoring.record import Record
from nem_tf.scoring.summary import ACCUMULATED, split_name


class Published(NamedTuple):
    """An AMI that the paper reports."""

    mean: float
    std: float  # over its runs


class Name(NamedTuple):
    """What a row is called: what was trained, and the settings that are not those of the paper's experiment.

    The settings are many, so a table has a number for them: see `Notes`.
    """

    what: str
    settings: str = ""

    def __str__(self):
        return f"{self.what} ({self.settings})" if self.settings else self.what


class Notes:
    """Numbers the settings of the rows of several tables, so that a row stays short enough to be read."""

    def __init__(self):
        self._numbers: dict[str, int] = {}

    def short(self, name: Name) -> str:
        """Returns what a row is called, with the number of its settings, a new one for settings not seen before."""
        if not name.settings:
            return name.what
        return f"{name.what} [{self._numbers.setdefault(name.settings, len(self._numbers) + 1)}]"

    def listed(self) -> str:
        """Returns a line for every number: the settings that it stands for."""
        return "\n".join(f"- [{number}] {settings}" for settings, number in self._numbers.items())


GROUPING_COLUMNS = {  # heading -> score; None: not a score
    "experiment": None,
    "tested on": None,
    "runs": None,
    "training steps": None,
    "AMI, mean over steps": "ami",
    "AMI, last step": "ami_last",
    "AMI, published": None,
    "ARI, mean over steps": "ari",
    "ARI, last step": "ari_last",
    "ARI of the video": "ari_video",
    "mBO": "mbo",
}
GROUPING_NOTE = (
    "AMI is normalised by the maximum of the entropies, as in the paper. The program of its authors prints two "
    "numbers, the mean over the EM steps, weighted as in the loss, and the last step; nobody knows which of the two "
    "the tables of the paper hold, so both stand beside the published mean ± standard deviation. The mean here is that "
    "of all steps alike; of static shapes, whose loss is that of the last step, both of theirs are the last step."
)


_TITLES = {"": "mean", "_last": "last step", "_last10": "last 10", "_seen": "seen", "_imagined": "imagined"}


RELATIONAL_COLUMNS = {  # heading -> part of the evaluations of a run, and score
    "experiment": None,
    "runs": None,
    "training steps": None,
    "relative loss": ("own", "relative"),
    "of collisions": ("own", "collision_relative"),
    "imagined": ("rollout", "relative_imagined"),
    "ARI, mean over steps": ("own", "ari"),
    "ARI, last step": ("own", "ari_last"),
    "ARI, last 10": ("own", "ari_last10"),
    "kept": ("own", "kept"),
    "6-8 balls, relative loss": ("more", "relative"),
    "6-8 balls, of collisions": ("more", "collision_relative"),
    "6-8 balls, ARI": ("more", "ari"),
}
RELATIONAL_NOTE = (
    "Losses are cross entropies of max_k psi_k, which any K can be compared by, relative to what repeats the current "
    "frame as the next one: below 1 is better than that. Of collisions: of the pixels of balls that collide in the "
    "frame that is predicted. Imagined: 10 steps more than in training, of which no frame is seen. Kept: share of the "
    "balls that come out from behind the curtain in the component that they were in before. The paper draws bars "
    "without numbers; what it claims is R-NEM below RNN-EM below RNN, by more on collisions."
)


def table(record: Record) -> str:
    """Returns the scores of one evaluation for a terminal, all means of a score in one line."""
    names: dict[str, dict[str, float | None]] = {}
    for name, spread in record.scores.items():
        score, suffix = split_name(name)
        names.setdefault(score, {})[suffix] = spread["mean"]
    suffixes = [suffix for suffix in _TITLES if any(suffix in found for found in names.values()) or suffix == "_last"]
    width = max(16, *(len(score) + 1 for score in names))
    heads = [*(_TITLES[suffix] for suffix in suffixes), "std", "q25", "median", "q75"]
    lines = [
        f"{title(record)}: {record.sequences:,} {record.split} sequences, {record.checkpoint}",
        f"{'score':<{width}}{''.join(f'{name:>11}' for name in heads)}",
    ]
    for score, found in names.items():
        if score in ACCUMULATED:
            found = {"_last": found[""]}
        spread = record.scores[score]
        numbers = [
            *(found.get(suffix) for suffix in suffixes),
            *(spread[key] for key in ("std", "q25", "median", "q75")),
        ]
        lines.append(f"{score:<{width}}{''.join(f'{fixed(number, 4):>11}' for number in numbers)}".rstrip())
    if "ami" in record.per_step:
        ami = record.per_step["ami"]["mean"]
        lines.append(f"ami of steps 1 to {len(ami)}: {' '.join(fixed(value, 2) for value in ami)}")
    return "\n".join(lines)


def repetitions(records: Iterable[Record]) -> list[list[Record]]:
    """Puts the records of one experiment together, in the order in which they come."""
    groups = defaultdict(list)
    for record in records:
        groups[experiment_key(record)].append(record)
    return list(groups.values())


def grouping_table(
    records: Iterable[Record],
    published: Callable[[Record], Published | tuple[float, float] | None],
    experiment: Callable[[Record], Name],
) -> list[list[Name | str]]:
    """Returns the rows below GROUPING_COLUMNS, one per experiment that has grouping scores of several components.

    Arguments:
        records: in any order.
        published: gives the AMI that the paper reports of a record's experiment and test, if it does.
        experiment: gives the name of the trained system of a record. Where two experiments have one name, what tells
            them apart is added to its settings.
    """
    groups = [group for group in repetitions(records) if "ami" in group[0].scores and group[0].tested["model"]["k"] > 1]
    names = _told_apart([(experiment(group[0]), title(group[0])) for group in groups], groups)
    rows = []
    for (name, test), group in zip(names, groups):
        reported = published(group[0])
        known = {
            "experiment": name,
            "tested on": test,
            "runs": str(len(group)),
            "training steps": _training_steps(group),
            "AMI, published": f"{reported[0]:.3f} ± {reported[1]:.3f}" if reported else "",
        }
        cells = [known[heading] if score is None else _over_runs(group, score)
                 for heading, score in GROUPING_COLUMNS.items()]  # fmt: skip
        rows.append((name, not as_trained(group[0]), test, cells))
    return [cells for *_, cells in sorted(rows)]


def relational_table(
    records: Iterable[Record],
    part: Callable[[Record], str | None],
    experiment: Callable[[Record], Name],
    order: Callable[[Record], Any],
) -> list[list[Name | str]]:
    """Returns the rows below RELATIONAL_COLUMNS, one per trained system, of all its evaluations that have a part here.

    Arguments:
        records: in any order.
        part: says which part of the row an evaluation is: "own", the test of the run's own data, "rollout" or "more",
            the test with more objects; None of any other. Of several of one run that with the most sequences counts.
        experiment: gives the name of the trained system of a record. Where two have one name, what tells them apart is
            added to its settings.
        order: what rows are sorted by before their names.
    """
    trainings = defaultdict(lambda: defaultdict(dict))
    for record in records:
        found = part(record)
        if found is not None and "relative" in record.scores:
            of_runs = trainings[canonical(training_facts(record))][found]
            rival = of_runs.get(_run(record))  # another test of the same, of more or fewer sequences
            if rival is None or record.sequences > rival.sequences:
                of_runs[_run(record)] = record
    groups = [[record for of_runs in parts.values() for record in of_runs.values()] for parts in trainings.values()]
    names = _told_apart([(experiment(group[0]),) for group in groups], groups, training_facts)
    rows = []
    for (name,), group, parts in zip(names, groups, trainings.values()):
        one_per_run = list({_run(record): record for record in group}.values())
        known = {"experiment": name, "runs": str(len(one_per_run)), "training steps": _training_steps(one_per_run)}
        cells = []
        for heading, shown in RELATIONAL_COLUMNS.items():
            if shown is None:
                cells.append(known[heading])
                continue
            of_part, score = shown
            # One component groups nothing: all is in it, and stays there.
            means_nothing = group[0].trained["model"]["k"] == 1 and not split_name(score)[0].endswith("relative")
            cells.append("" if means_nothing else _over_runs([*parts[of_part].values()], score))
        rows.append((order(group[0]), name, cells))
    return [cells for *_, cells in sorted(rows)]


def _run(record: Record) -> tuple[str, int]:
    """What tells runs apart; beside a shipped model lie the evaluations of other seeds, too."""
    return record.run_dir, record.trained["seed"]


def cross_entropies(
    records: Iterable[Record], objects: Callable[[Record], int | None]
) -> dict[Name, dict[int, list[float]]]:
    """Returns Fig. 6 of the paper: system -> number of objects -> cross entropy of the last step, a value per run.

    Of the runs that were tested as trained, with as many components as objects or with one. For RNN-EM it is an upper
    bound, the cross entropy of max_k psi_k; for the recurrent autoencoder (K = 1) the cross entropy itself. Runs of a
    system that differ in more than the objects and the seed are systems of their own, where some number of objects has
    two such; else the name says that each number has a recipe of its own.

    Arguments:
        records: in any order.
        objects: gives the number of objects in the data of a record, None where the figure does not show such data.
    """
    variants = defaultdict(list)
    for record in records:
        nr_objects = objects(record)
        shown = nr_objects is not None and record.tested["model"]["k"] in (1, nr_objects) and as_trained(record)
        if shown and _mean_of(record, "upper_bound_last") is not None:
            variants[_system(record), canonical(_facts_but_objects(record))].append(record)
    systems = defaultdict(list)
    for (system, _), group in variants.items():
        systems[system].append(group)
    named = []
    for system, groups in systems.items():
        numbers = [n for group in groups for n in {objects(record) for record in group}]
        if len(groups) > 1 and len(set(numbers)) == len(numbers):
            named.append((Name(system, "a recipe for each number of objects"), [*itertools.chain(*groups)]))
        else:
            names = _told_apart([(Name(system),)] * len(groups), groups, _facts_but_objects)
            named += [(name, group) for (name,), group in zip(names, groups)]
    losses = {}
    for name, group in sorted(named, key=lambda pair: pair[0]):
        values = defaultdict(list)
        for record in group:
            values[objects(record)].append(_mean_of(record, "upper_bound_last"))
        losses[name] = dict(sorted(values.items()))
    return losses


def longer_sequences(records: Iterable[Record]) -> list[Curve]:
    """Returns Fig. 7 of the paper: AMI over time of the longest test of every run that goes on after its trained steps.

    The test may have another size than the run's own, and differs in nothing else.
    """
    longest = {}
    for record in records:
        same_task = differences(record).keys() <= {"nr_steps", "test_size"} and "data" not in special(record)
        if not (same_task and record.tested["model"]["k"] > 1 and "ami" in record.per_step):
            continue
        run = _run(record)
        beaten = longest[run].tested if run in longest else record.trained
        if record.tested["data"]["nr_steps"] > beaten["data"]["nr_steps"]:
            longest[run] = record
    directories = Counter(record.run_dir for record in longest.values())  # one may hold evaluations of several seeds
    curves = []
    for record in longest.values():
        seed = f", seed {record.trained['seed']}" if directories[record.run_dir] > 1 else ""
        name = f"{record.run_dir}{seed}\n{title(record)}"
        curves.append(Curve(name, record.per_step["ami"], record.trained["data"]["nr_steps"]))
    return curves


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean over runs and the standard deviation over them, NaN of a single run."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def over_runs(values: Sequence[float]) -> str:
    """Returns the mean over runs, and ± the standard deviation where there are several; nothing of no value."""
    if not values:
        return ""
    mean, std = mean_and_std(values)
    return f"{mean:.3f}" + (f" ± {std:.3f}" if len(values) > 1 else "")


def markdown(header: Sequence[str], rows: Iterable[Sequence[Name | str]], notes: Notes) -> str:
    """Returns a Markdown table whose columns stand below each other in a terminal, names as `notes` shortens them."""
    shortened = [[notes.short(cell) if isinstance(cell, Name) else cell for cell in row] for row in rows]
    lines = [[cell.replace("|", "&#124;") for cell in cells] for cells in (header, *shortened)]
    widths = [max(3, *map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, cells, widths))} |" for cells in lines)


def fixed(number: float | None, digits: int) -> str:
    """Returns a score to so many digits, a dash where there is none: None or NaN."""
    return "-" if number is None or math.isnan(number) else f"{number:.{digits}f}"


def _mean_of(record, score):
    return record.scores[score]["mean"] if score in record.scores else None


def _over_runs(group, score):
    return over_runs([value for record in group if (value := _mean_of(record, score)) is not None])


def _training_steps(group):
    steps = sorted({record.training["step"] for record in group})
    text = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    return text if group[0].training["finished"] else f"{text}, unfinished"


def _system(record):
    system = "recurrent autoencoder" if record.trained["model"]["k"] == 1 else "RNN-EM (upper bound)"
    return f"{system}, {'next step' if record.trained['model']['target'] == 'next_frame' else 'denoising'}"


def _facts_but_objects(record):
    """What the bars of one system have in common for every number of objects."""
    facts = experiment_facts(record)
    data = {key: value for key, value in facts["trained data"].items() if key not in ("dataset", "settings")}
    return {**facts, "dataset": None, "k": None, "trained data": data}


def _told_apart(names: list[tuple], groups, facts: Callable[[Record], Mapping[str, Any]] = experiment_facts):
    """Adds to the settings of every name that occurs several times in what facts its group differs from its namesakes.

    A name is a tuple of a `Name` and what is written beside it.
    """
    namesakes = defaultdict(list)
    for name, group in zip(names, groups):
        namesakes[name].append(facts(group[0]))
    told_apart = []
    for (first, *rest), group in zip(names, groups):
        own, others = facts(group[0]), namesakes[first, *rest]
        differing = [key for key in own if any(canonical(other.get(key)) != canonical(own[key]) for other in others)]
        added = (f"{key} {_brief(own[key])}" for key in differing)
        told_apart.append((first._replace(settings=", ".join(filter(None, [first.settings, *added]))), *rest))
    return told_apart


def _brief(value):
    return digest(value) if isinstance(value, dict | list) else str(value) or "none"
