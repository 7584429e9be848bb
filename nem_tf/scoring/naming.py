"""How evaluations are told apart: titles, names of files, and which runs are repetitions of one experiment."""

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Any

from nem_tf.scoring.record import TESTED, TRAINED, Record

IN_TITLE = ("dataset", "k", "nr_steps")  # what every title names


def differences(record: Record) -> dict[str, Any]:
    """Returns what differs from the plain test of the run: the setting's name, or the option's -> its value here."""
    trained, tested = record.trained, record.tested
    found = {
        name: value
        for group in TESTED
        for name, value in tested[group].items()
        if name not in trained[group] or trained[group][name] != value
    }
    found |= {"seed": tested["seed"]} if tested["seed"] != trained["seed"] else {}
    found |= {"initialisations": record.initialisations} if record.initialisations > 1 else {}
    if record.rollout_from is not None:
        found |= {"rollout_from": record.rollout_from, **_other_rollout(record.rollout or {})}
    return found | ({"checkpoint": record.which} if record.which != "best" else {})


def as_trained(record: Record) -> bool:
    """Tells whether the test differs from the training in nothing but the split."""
    return not differences(record) and record.tested_data == record.trained_data


def special(record: Record) -> dict[str, Any]:
    """Returns what a test of the run with this data set, K and number of steps would not have by itself.

    `data` is a digest of the data's identity. It is there where the name of the data set does not say it: other data
    under the name that the run was trained on, a file of one's own, another seed or source than the training's.
    """
    found = {name: value for name, value in differences(record).items() if name not in IN_TITLE}
    return found | ({"data": digest(record.tested_data)} if _is_other_source(record) else {})


def title(record: Record) -> str:
    """Returns what was evaluated, in one line."""
    data = record.tested["data"]
    parts = [short_name(data["dataset"]), f"K {record.tested['model']['k']}", f"{data['nr_steps']} steps"]
    return ", ".join([*parts, *(f"{name} {_text(value)}" for name, value in special(record).items())])


def file_stem(record: Record) -> str:
    """Returns the name of an evaluation's file, without its suffix: the split, and all that differs from the training.

    Two evaluations of a run with one name are the same evaluation. Data other than the training's are told apart by a
    digest of their identity, since another file can stand under the same name tomorrow.
    """
    found = differences(record)
    dataset = found.pop("dataset", None)
    parts = ["evaluation", record.split]
    other_data = record.tested_data != record.trained_data
    if other_data and dataset is not None:
        parts.append(_in_file_name(short_name(dataset)))
    parts += [f"{name}{_in_file_name(_text(value))}" for name, value in found.items()]
    return "_".join([*parts, *([digest(record.tested_data)] if other_data else [])])


def experiment_facts(record: Record) -> dict[str, Any]:
    """Returns what repetitions of an experiment have in common: everything but the seed of the training.

    The settings by name, the identity of the data, the test, the amendments of a resumed run, and where an unfinished
    run stands. How and where it ran (execution with its precision, paths) is not among it. A run that started from
    another one has for `init_from` the facts of that run, whose directory is another one for every seed.
    """
    facts = {**training_facts(record), "split": record.split}
    facts |= {f"tested {name}": value for name, value in differences(record).items()}
    return facts | ({"tested data": record.tested_data} if record.tested_data != record.trained_data else {})


def training_facts(record: Record) -> dict[str, Any]:
    """Returns what repetitions of a training have in common: see `experiment_facts`, without the test."""
    facts = _trained_facts(record.trained, record.trained_data, record.training["origin"])
    if record.training["finished"] is None:
        facts["unfinished at step"] = record.training["step"]
    facts["history"] = record.training["history"]
    return facts


def experiment_key(record: Record) -> str:
    """Returns the same string for two records if, and only if, they are repetitions: see `experiment_facts`."""
    return canonical(experiment_facts(record))


def training_key(record: Record) -> str:
    """Returns the same string for two records if they are of one training, wherever its weights lie.

    That is of the same seed, and of as many steps in as many seconds: a shipped model is the run that it was made of.
    Where nothing is known of them, as of a model that another program trained, the scores have to be the same.
    """
    known = record.training if record.training["step"] else record.scores
    return canonical([training_facts(record), record.trained["seed"], known])


def canonical(value: Any) -> str:
    """Returns the one JSON text of a value: sorted keys, no space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Returns 8 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:8]


def short_name(dataset: str) -> str:
    """Returns the name of a data set, or the stem of the path to a file of one's own."""
    return PurePosixPath(re.split(r"[/\\]", dataset)[-1]).stem


def _trained_facts(trained, data, origin):
    facts = {name: value for group in TRAINED for name, value in trained[group].items()}
    facts["trained data"] = data
    if origin is not None:
        facts["init_from"] = _trained_facts(origin["trained"], origin["data"], origin["origin"])
    return facts


def _other_rollout(rollout):
    """What differs from a roll-out that is fed draws with noise."""
    found = {"rollout": rollout["form"]} if rollout.get("form", "draw") != "draw" else {}
    return found | ({} if rollout.get("noise", True) else {"rollout_noise": False})


def _is_other_source(record):
    """Whether the tested data are not what their name promises beside the data of the training."""
    trained, tested = record.trained_data, record.tested_data
    dataset = record.tested["data"]["dataset"]
    if tested == trained:
        return False
    if dataset == record.trained["data"]["dataset"] or dataset != short_name(dataset):
        return True
    said_by_the_name = {"dataset", "settings"}
    return any(trained.get(key) != tested.get(key) for key in (trained.keys() | tested.keys()) - said_by_the_name)


def _text(value):
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)


def _in_file_name(text):
    """Keeps a short word of harmless characters; of any other text a digest tells it from those that look alike."""
    safe = re.sub(r"[^A-Za-z0-9_.+-]", "-", text)
    return text if safe == text and len(text) <= 40 else f"{safe[:20]}-{digest(text)}"
