"""The record of an evaluation: what was scored, how it was trained, and the scores.

A record is JSON: settings are plain dictionaries here, by group and name, so that tables are made from records alone.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from nem_tf.scoring.summary import SPREAD

VERSION = 2

TESTED = ("data", "model", "objective", "budget")  # groups of settings in which a test may differ from the training
TRAINED = (*TESTED, "optimisation")  # groups of settings that repetitions have in common

_SETTINGS = {**dict.fromkeys(TRAINED, dict), "seed": int}
TRAINING = {  # what is known of a training
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
    # its "form" and whether its frames have "noise"; None: no roll-out, or a draw with noise
    rollout: dict | None = None
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
        if self.rollout is not None:
            _check(self.rollout, {"form": str}, "rollout")
        _check(self.training, TRAINING, "training")
        check_origin(self.training["origin"], "training.origin")
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
        values = {**_ADDED, **values}
        _check(values, _TYPES, "the record")
        unknown = values.keys() - _TYPES.keys()
        if unknown:
            raise ValueError(f"the record has a field that it should not have: {min(unknown)}")
        return cls(**values)


def check_origin(origin: object, where: str) -> None:
    """Raises a ValueError of one sentence unless it says where first weights came from, and theirs, or is None."""
    while origin is not None:
        _check(origin, _ORIGIN, where)
        _check_settings(origin["trained"], f"{where}.trained")
        origin = origin["origin"]


LARGEST = 2**63  # no count is larger; a float could not hold a much larger one
_ADDED = {"rollout": None}  # fields that records of this version may lack, since they came later
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
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{where} is {value!s:.20}..: too large a number")
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
