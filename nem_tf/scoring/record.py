"""The record of an evaluation: what was scored, how it was trained, and the scores; how records are told apart.

A record is JSON: settings are plain dictionaries here, by group and name, so that tables are made from records alone.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

import numpy as np

VERSION = 2
SPREAD = ("mean", "std", "q25", "median", "q75")
STEP_LOSSES = ("loss", "intra", "inter")  # averaged over the steps as the objective weighs them
CERTAIN = (*STEP_LOSSES, "upper_bound")  # defined for any frame: NaN is a model that has diverged
ACCUMULATED = ("ari_video",)  # at every step a score of all frames so far: the last one is the score of the video

TESTED = ("data", "model", "objective", "budget")  # groups of settings in which a test may differ from the training
TRAINED = (*TESTED, "optimisation")  # groups of settings that repetitions have in common
IN_TITLE = ("dataset", "k", "nr_steps")  # what every title names

_SETTINGS = {**dict.fromkeys(TRAINED, dict), "seed": int}
_TRAINING = {
    "step": int,
    "epoch": int,
    "wall_time": float | int,
    "finished": str | None,
    "history": list,
    "origin": dict | None,
}
_ORIGIN = {"trained": dict, "data": dict, "step": int, "origin": dict | None}


class OtherVersionError(ValueError):
    """A record that another version of this package wrote."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One evaluation of a trained run.

    Holds what JSON can hold, whatever it is made from: tuples and arrays become lists, NaN and infinity None. Two
    records are equal if their JSON is.

    Raises:
        ValueError: a field is missing within a field, or has another type than it should; one sentence.
    """

    version: int = VERSION
    run_dir: str
    checkpoint: str  # the files that the weights were read from
    which: str  # "best" or "latest"
    split: str  # "training", "validation" or "test"
    sequences: int
    initialisations: int  # draws of noise and initial responsibilities per sequence
    rollout_from: int | None  # the last frame that the model saw; None: it saw all of them
    trained: dict  # settings of the run: {group: {name: value}, .., "seed": int}
    tested: dict  # the same, as they were for this evaluation
    trained_data: dict  # identity of the data that the run was trained on
    tested_data: dict  # identity of the data that it was scored on
    training: dict  # step, epoch, wall_time in seconds, finished (the reason, or None), history and origin
    scores: dict  # name -> spread over the sequences: mean, std, q25, median, q75 [, initialisation_std]
    per_step: dict  # name -> spread over the sequences at every EM step: lists of [T]

    def __post_init__(self):
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name), field.name))
        _check({field.name: getattr(self, field.name) for field in fields(self)}, _TYPES, "the record")
        if self.version != VERSION:
            raise OtherVersionError(f"the record is of version {self.version}, this program reads version {VERSION}")
        for name in ("trained", "tested"):
            _check_settings(getattr(self, name), name)
        _check(self.training, _TRAINING, "training")
        origin = self.training["origin"]
        while origin is not None:
            _check(origin, _ORIGIN, "training.origin")
            _check_settings(origin["trained"], "training.origin.trained")
            origin = origin["origin"]
        for name, spread in self.scores.items():
            _check(spread, dict.fromkeys(SPREAD, float | int | None), f"scores.{name}")
        for name, spread in self.per_step.items():
            _check(spread, dict.fromkeys(SPREAD, list), f"per_step.{name}")

    def to_json(self) -> str:
        """Returns strict JSON: `from_json` gives an equal record."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Reads what `to_json` returned.

        Raises:
            OtherVersionError: another version of this package wrote it.
            ValueError: not JSON, or a field is missing, unknown or of another type; one sentence.
        """
        values = json.loads(text, parse_constant=_refuse_constant)
        if not isinstance(values, dict):
            raise ValueError(f"expected a JSON object, received {type(values).__name__}")
        if "version" not in values and {"settings", "scores"} <= values.keys():
            raise OtherVersionError(f"the record is of version 1, this program reads version {VERSION}")
        if isinstance(values.get("version"), int) and values["version"] != VERSION:
            raise OtherVersionError(
                f"the record is of version {values['version']}, this program reads version {VERSION}"
            )
        _check(values, _TYPES, "the record")
        unknown = values.keys() - _TYPES.keys()
        if unknown:
            raise ValueError(f"the record has a field that it should not have: {min(unknown)}")
        return cls(**values)


_TYPES = {field.name: field.type for field in fields(Record)}


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def _plain(value, where):
    """Returns what JSON would make of a value."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"{where} has a key that is not a string")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON cannot hold")


def _check(values, types, where):
    """Raises a ValueError unless the dictionary has every name with a value of its type."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} should be a JSON object, received {values!r}")
    for name, expected in types.items():
        if name not in values:
            raise ValueError(f"{where} misses the field {name}")
        value = values[name]
        if not isinstance(value, expected) or isinstance(value, bool):
            kind = getattr(expected, "__name__", str(expected))
            raise ValueError(f"{where}: {name} should be of type {kind}, received {value!r:.60}")


def _check_settings(settings, where):
    _check(settings, _SETTINGS, where)
    _check(settings["data"], {"dataset": str, "nr_steps": int}, f"{where}.data")
    _check(settings["model"], {"k": int}, f"{where}.model")


# ---- What the numbers are.


def summarise(draws: Sequence[Mapping[str, np.ndarray]], step_weights: np.ndarray) -> tuple[dict, dict]:
    """Reduces the scores of a pass to the `scores` and the `per_step` of a record.

    Every sequence counts once, whatever the number of its frames with a score: each score is first reduced to one
    number per sequence. `X` is the mean over the T steps and `X_last` that of the last step. The losses are per EM
    step, the steps weighted as in training: sum_t w_t loss_t / sum_t w_t. `ari_video`, which accumulates, is that of
    the last step. NaN of a score is a frame without a labelled pixel and is left out; NaN of a loss is not, and makes
    its mean None.

    Arguments:
        draws: one or more initialisations of one pass: name -> [N, T]. Grouping scores may be absent.
        step_weights: [T], not all of them 0.

    Returns:
        scores: name -> {mean, std, q25, median, q75} over all sequences and draws, None where no sequence has the
            score; with several draws also `initialisation_std`, the standard deviation of the draws' means.
        per_step: name -> the same at every step, lists of [T].

    Raises:
        ValueError: the scores do not have T steps, or the weights add up to 0.
    """
    reduced = [_per_sequence(draw, step_weights) for draw in draws]
    scores = {}
    for name in reduced[0]:
        scores[name] = _spread(_known(np.concatenate([draw[name] for draw in reduced]), name))
        if len(draws) > 1:
            means = np.array([_mean(_known(draw[name], name)) for draw in reduced])
            scores[name]["initialisation_std"] = _number(_std(_known(means, name), ddof=1))
    per_step = {}
    for name in draws[0]:
        steps = np.concatenate([draw[name] for draw in draws]).T
        spreads = [_spread(_known(np.asarray(values, float), name)) for values in steps]
        per_step[name] = {key: [spread[key] for spread in spreads] for key in SPREAD}
    return scores, per_step


def means(scores: Mapping[str, np.ndarray], step_weights: np.ndarray) -> dict[str, float]:
    """Returns the means of `summarise`, NaN where no sequence has the score.

    Arguments:
        scores: name -> [N, T].
        step_weights: [T], not all of them 0.
    """
    return {name: _mean(_known(values, name)) for name, values in _per_sequence(scores, step_weights).items()}


def _per_sequence(scores, step_weights):
    """name -> [N, T] becomes name and name_last -> [N]."""
    weights = np.asarray(step_weights, float)
    if not weights.sum():
        raise ValueError(f"the weights of the steps add up to 0: {weights.tolist()}")
    reduced = {}
    for name, values in scores.items():
        values = np.asarray(values, float)
        if values.ndim != 2 or values.shape[1:] != weights.shape:
            raise ValueError(f"{name}: expected [N, {len(weights)}], received {list(values.shape)}")
        if name in ACCUMULATED:
            reduced[name] = values[:, -1]
            continue
        with np.errstate(invalid="ignore"):
            if name in STEP_LOSSES:
                counted = weights != 0  # a step that training ignores may have diverged: 0 * inf is NaN
                reduced[name] = values[:, counted] @ weights[counted] / weights.sum()
            elif name in CERTAIN:
                reduced[name] = values.mean(1)
            else:
                known = ~np.isnan(values)
                reduced[name] = np.where(known, values, 0).sum(1) / known.sum(1)
        reduced[f"{name}_last"] = values[:, -1]
    return reduced


def _known(values, name):
    """Leaves out the NaN of frames without a labelled pixel, [S] -> [S'], but not that of a diverged model."""
    return values if name.removesuffix("_last") in CERTAIN else values[~np.isnan(values)]


def _mean(values):
    return float(values.mean()) if len(values) else math.nan


def _std(values, ddof=0):
    with np.errstate(invalid="ignore"):  # infinite losses have none
        return values.std(ddof=ddof) if len(values) > ddof else math.nan


def _spread(values):
    with np.errstate(invalid="ignore"):
        quartiles = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [math.nan] * 3
    return dict(zip(SPREAD, map(_number, (_mean(values), _std(values), *quartiles))))


def _number(value):
    return float(value) if math.isfinite(value) else None


# ---- How evaluations are told apart.


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
    found |= {"rollout_from": record.rollout_from} if record.rollout_from is not None else {}
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
    run stands. How and where it ran (execution, paths) is not among it. A run that started from another one has for
    `init_from` the facts of that run, whose directory is another one for every seed.
    """
    facts = _trained_facts(record.trained, record.trained_data, record.training["origin"])
    if record.training["finished"] is None:
        facts["unfinished at step"] = record.training["step"]
    facts["history"] = record.training["history"]
    facts["split"] = record.split
    facts |= {f"tested {name}": value for name, value in differences(record).items()}
    return facts | ({"tested data": record.tested_data} if record.tested_data != record.trained_data else {})


def experiment_key(record: Record) -> str:
    """Returns the same string for two records if, and only if, they are repetitions: see `experiment_facts`."""
    return canonical(experiment_facts(record))


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
