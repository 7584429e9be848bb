"""The record of an evaluation and its JSON."""

import json

import numpy as np
import pytest
from records import make_record

from nem_tf.scoring import record as records
from nem_tf.scoring import summary
from nem_tf.scoring.record import OtherVersionError, Record

pytestmark = pytest.mark.filterwarnings("error")


def test_json_round_trip_is_exact_and_strict():
    draw = {"loss": np.array([[0.1 + 0.2, 1e-300]]), "ami": np.array([[np.nan, 1 / 3]])}
    scores, per_step = summary.summarise([draw], np.ones(2))
    scores["ami"]["std"] = np.float32(np.nan)
    written = make_record(
        tested={"seed": np.int64(4)},
        training={"history": [{"step": 3, "changed": ("learning_rate", 1e-4)}]},
        record={"scores": scores, "per_step": per_step},
    )
    text = written.to_json()
    read = Record.from_json(text)
    assert read == written
    assert read.to_json() == text
    assert json.loads(text, parse_constant=pytest.fail)["version"] == records.VERSION
    assert read.scores["ami"]["std"] is None
    assert read.per_step["ami"]["mean"] == [None, 1 / 3]
    assert read.training["history"][0]["changed"] == ["learning_rate", 1e-4]


def test_a_record_does_not_change_with_what_it_was_made_from():
    history = []
    written = make_record(training={"history": history})
    history.append("later")
    assert written.training["history"] == []


def broken(path, value):
    """The JSON of a record with the field at a path set to a value; None takes the field away."""
    values = json.loads(make_record().to_json())
    *parents, name = path.split(".")
    inner = values
    for parent in parents:
        inner = inner[parent]
    inner.pop(name)
    if value is not None:
        inner[name] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sequences", None, "the record misses the field sequences"),
        ("version", None, "the record misses the field version"),
        ("sequences", "five", "sequences should be of type int, received 'five'"),
        ("sequences", True, "sequences should be of type int, received True"),
        ("rollout_from", 1.5, "rollout_from should be of type int | None, received 1.5"),
        ("rollout", "soft", "rollout should be of type dict | None, received 'soft'"),
        ("rollout", {"noise": True}, "rollout misses the field form"),
        ("trained.model", None, "trained misses the field model"),
        ("tested.model.k", "3", "tested.model: k should be of type int"),
        ("tested.seed", None, "tested misses the field seed"),
        ("training.finished", None, "training misses the field finished"),
        ("training.origin", {"trained": {}}, "training.origin misses the field data"),
        ("scores.ami", 0.5, "scores.ami should be a JSON object, received 0.5"),
        ("scores.ami.q25", None, "scores.ami misses the field q25"),
        ("per_step.ami.mean", 0.5, "per_step.ami: mean should be of type list"),
        ("scores.ami.mean", 10**400, "scores.ami.mean is 10000000000000000000..: too large a number"),
    ],
)
def test_a_field_that_is_missing_or_of_another_type_is_named(path, value, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011, the message is compared below
        Record.from_json(broken(path, value))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_record_is_refused():
    text = make_record().to_json()
    with pytest.raises(ValueError, match="JSON object"):
        Record.from_json("[]")
    with pytest.raises(ValueError, match="field that it should not have: more"):
        Record.from_json(json.dumps({**json.loads(text), "more": 1}))
    with pytest.raises(ValueError, match="NaN is not JSON"):
        Record.from_json(text.replace("0.01", "NaN", 1))
    with pytest.raises(ValueError, match=r".+"):
        Record.from_json(text[:100])
    with pytest.raises(ValueError, match="JSON cannot hold"):
        make_record(training={"history": [object()]})
    with pytest.raises(ValueError, match="not a string"):
        make_record(training={"origin": {1: 2}})


def test_a_record_from_before_there_were_several_roll_outs_is_read():
    values = json.loads(make_record(record={"rollout_from": 3}).to_json())
    del values["rollout"]
    assert Record.from_json(json.dumps(values)) == make_record(record={"rollout_from": 3})


@pytest.mark.parametrize("values", [{"settings": {}, "scores": {}}, {"version": 3, "more": 1}])
def test_another_version_is_told_from_damage(values):
    with pytest.raises(OtherVersionError, match=f"this program reads version {records.VERSION}"):
        Record.from_json(json.dumps(values))
