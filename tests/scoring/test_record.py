"""The record of an evaluation: what its numbers are, its JSON, and what tells two evaluations apart."""

import itertools
import json
import math

import numpy as np
import pytest
from records import FOREIGN, SETTINGS, identity_of, make_record, origin_of

from nem_tf.scoring import record as records
from nem_tf.scoring.record import OtherVersionError, Record

pytestmark = pytest.mark.filterwarnings("error")


# ---- What the numbers are.


def test_a_score_is_the_mean_over_the_steps_and_the_last_step_whatever_the_training_weighs():
    ami = np.array([[0.0, 0.5, 1.0], [0.2, 0.2, 0.8]])
    scores, per_step = records.summarise([{"ami": ami}], np.array([0.0, 0.0, 1.0]))
    assert scores["ami"]["mean"] == pytest.approx((0.5 + 0.4) / 2)
    assert scores["ami"]["std"] == pytest.approx(0.05)
    assert scores["ami_last"]["mean"] == pytest.approx(0.9)
    assert scores["ami_last"]["q25"] == pytest.approx(0.85)
    assert list(scores) == ["ami", "ami_last"]
    np.testing.assert_allclose(per_step["ami"]["mean"], [0.1, 0.35, 0.9])
    np.testing.assert_allclose(per_step["ami"]["median"], [0.1, 0.35, 0.9])


def test_losses_are_per_em_step_as_training_weighs_the_steps():
    losses = {name: np.array([[1.0, 2.0, 4.0]]) for name in ("loss", "intra", "inter", "upper_bound")}
    scores, _ = records.summarise([losses], np.array([0.0, 1.0, 3.0]))
    for name in ("loss", "intra", "inter"):
        assert scores[name]["mean"] == pytest.approx((2 + 3 * 4) / 4)
        assert scores[f"{name}_last"]["mean"] == 4
    assert scores["upper_bound"]["mean"] == pytest.approx(7 / 3)
    assert scores["upper_bound_last"]["mean"] == 4


def test_a_step_that_training_ignores_may_diverge():
    losses = {"loss": np.array([[np.inf, 2.0]])}
    assert records.means(losses, np.array([0.0, 1.0]))["loss"] == 2


def test_the_ari_of_the_video_is_that_of_its_last_step():
    scores, per_step = records.summarise([{"ari_video": np.array([[0.1, 0.9]])}], np.ones(2))
    assert scores.keys() == {"ari_video"}
    assert scores["ari_video"]["mean"] == 0.9
    assert per_step["ari_video"]["mean"] == [0.1, 0.9]


def test_frames_without_a_labelled_pixel_are_left_out():
    nan = np.nan
    ami = np.array([[nan, 0.4, 0.6], [0.1, 0.3, nan], [nan, nan, nan]])
    scores, per_step = records.summarise([{"ami": ami}], np.ones(3))
    assert scores["ami"]["mean"] == pytest.approx((0.5 + 0.2) / 2)  # per sequence first
    assert scores["ami_last"]["mean"] == 0.6
    assert scores["ami_last"]["std"] == 0
    np.testing.assert_allclose(per_step["ami"]["mean"], [0.1, 0.35, 0.6])
    means = records.means({"ami": ami}, np.ones(3))
    assert means == {name: scores[name]["mean"] for name in scores}


def test_a_score_that_no_sequence_has_is_none_and_warns_of_nothing():
    ami = np.full((2, 3), np.nan)
    for draws in ([{"ami": ami}], [{"ami": ami}] * 2):
        scores, per_step = records.summarise(draws, np.ones(3))
        assert set(scores["ami"].values()) == set(scores["ami_last"].values()) == {None}
        assert per_step["ami"]["q75"] == [None] * 3
    assert math.isnan(records.means({"ami": ami}, np.ones(3))["ami"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["loss", "upper_bound"])
def test_the_loss_of_a_diverged_model_is_not_left_out(name, bad):
    losses = {name: np.array([[1.0, 1.0], [1.0, bad]])}
    for draws in ([losses], [losses] * 2):
        scores, per_step = records.summarise(draws, np.ones(2))
        assert scores[name]["mean"] is None
        assert scores[f"{name}_last"]["mean"] is None
        assert per_step[name]["mean"] == [1, None]
    assert not math.isfinite(records.means(losses, np.ones(2))[name])


def test_several_initialisations_are_pooled_and_the_spread_of_their_means_is_told():
    draws = [{"ami": np.array([[0.2], [0.4]])}, {"ami": np.array([[0.6], [0.8]])}]
    scores, per_step = records.summarise(draws, np.ones(1))
    assert scores["ami"]["mean"] == pytest.approx(0.5)
    assert scores["ami"]["initialisation_std"] == pytest.approx(np.std([0.3, 0.7], ddof=1))
    assert per_step["ami"]["mean"] == [pytest.approx(0.5)]
    assert "initialisation_std" not in records.summarise(draws[:1], np.ones(1))[0]["ami"]


def test_what_cannot_be_summarised_is_refused():
    with pytest.raises(ValueError, match=r"ami: expected \[N, 2\], received \[4, 3\]"):
        records.means({"ami": np.ones((4, 3))}, np.ones(2))
    with pytest.raises(ValueError, match="add up to 0"):
        records.means({"ami": np.ones((4, 2))}, np.zeros(2))


# ---- To and from JSON.


def test_json_round_trip_is_exact_and_strict():
    draw = {"loss": np.array([[0.1 + 0.2, 1e-300]]), "ami": np.array([[np.nan, 1 / 3]])}
    scores, per_step = records.summarise([draw], np.ones(2))
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
        ("trained.model", None, "trained misses the field model"),
        ("tested.model.k", "3", "tested.model: k should be of type int"),
        ("tested.seed", None, "tested misses the field seed"),
        ("training.finished", None, "training misses the field finished"),
        ("training.origin", {"trained": {}}, "training.origin misses the field data"),
        ("scores.ami", 0.5, "scores.ami should be a JSON object, received 0.5"),
        ("scores.ami.q25", None, "scores.ami misses the field q25"),
        ("per_step.ami.mean", 0.5, "per_step.ami: mean should be of type list"),
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


@pytest.mark.parametrize("values", [{"settings": {}, "scores": {}}, {"version": 3, "more": 1}])
def test_another_version_is_told_from_damage(values):
    with pytest.raises(OtherVersionError, match=f"this program reads version {records.VERSION}"):
        Record.from_json(json.dumps(values))


# ---- What tells evaluations apart.

PLAIN = make_record()
EVALUATIONS = {
    "plain": {},
    "latest": {"record": {"which": "latest"}},
    "validation": {"record": {"split": "validation"}},
    "three draws": {"record": {"initialisations": 3}},
    "rollout": {"record": {"rollout_from": 10}},
    "rollout from the first frame": {"record": {"rollout_from": 0}},
    "more components": {"tested": {"k": 5}},
    "longer": {"tested": {"nr_steps": 50}},
    "longer, more components": {"tested": {"nr_steps": 50, "k": 5}},
    "noisier": {"tested": {"noise_prob": 0.3}},
    "other noise": {"tested": {"noise": "masked_uniform"}},
    "fewer sequences": {"tested": {"test_size": 100}},
    "other draws": {"tested": {"seed": 7}},
    "other weights of the steps": {"tested": {"loss_step_weights": "1,2"}},
    "weights of the steps that look alike": {"tested": {"loss_step_weights": "1;2"}},
    "other objects": {"tested": {"dataset": "flying_shapes_5"}},
    "other objects from another seed": {
        "tested": {"dataset": "flying_shapes_5"},
        "tested_data": identity_of("flying_shapes_5", seed=1),
    },
    "other objects by other rules": {
        "tested": {"dataset": "flying_shapes_5"},
        "tested_data": identity_of("flying_shapes_5", settings="faster"),
    },
    "the file was made again": {"tested_data": identity_of(seed=1)},
    "the file was made by other rules": {"tested_data": identity_of(settings="faster")},
    "own file": {"tested": {"dataset": "/a/toy.h5"}, "tested_data": FOREIGN},
    "own file of that name elsewhere": {
        "tested": {"dataset": "/b/toy.h5"},
        "tested_data": {**FOREIGN, "sha256": "6" * 64},
    },
    "own file with a name like a setting": {
        "tested": {"dataset": "toy_k5.h5"},
        "tested_data": {**FOREIGN, "file": "toy_k5.h5"},
    },
    "own file, more components": {"tested": {"dataset": "/a/toy.h5", "k": 5}, "tested_data": FOREIGN},
    "published name in a path": {
        "tested": {"dataset": "old/flying_shapes_5.h5"},
        "tested_data": identity_of("flying_shapes_5", settings="old"),
    },
}


def test_no_evaluation_takes_the_place_of_another_one():
    made = {name: make_record(**changes) for name, changes in EVALUATIONS.items()}
    stems = {name: records.file_stem(record) for name, record in made.items()}
    for one, other in itertools.combinations(stems, 2):
        assert stems[one] != stems[other], (one, other)
        assert records.experiment_key(made[one]) != records.experiment_key(made[other]), (one, other)
    for stem in stems.values():
        assert set(stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-"), stem


@pytest.mark.parametrize(
    ("evaluation", "stem"),
    [
        ("plain", "evaluation_test"),
        ("validation", "evaluation_validation"),
        ("longer, more components", "evaluation_test_nr_steps50_k5"),
        ("latest", "evaluation_test_checkpointlatest"),
        ("rollout", "evaluation_test_rollout_from10"),
        ("other objects", "evaluation_test_flying_shapes_5_<data>"),
        ("own file", "evaluation_test_toy_<data>"),
    ],
)
def test_file_names(evaluation, stem):
    record = make_record(**EVALUATIONS[evaluation])
    assert records.file_stem(record) == stem.replace("<data>", records.digest(record.tested_data))


def test_what_changes_no_score_changes_no_name():
    other = make_record(tested={"batch_size": 8, "jit": "on", "data_dir": "elsewhere"})
    assert records.file_stem(other) == records.file_stem(PLAIN)
    assert records.title(other) == records.title(PLAIN)
    assert records.as_trained(other)


def test_a_long_setting_makes_no_long_name():
    other = make_record(tested={"loss_step_weights": "1" * 300})
    assert len(records.file_stem(other)) < 80


@pytest.mark.parametrize(
    ("evaluation", "special"),
    [
        ("plain", set()),
        ("longer, more components", set()),
        ("other objects", set()),
        ("other draws", {"seed"}),
        ("fewer sequences", {"test_size"}),
        ("latest", {"checkpoint"}),
        ("rollout from the first frame", {"rollout_from"}),
        ("the file was made again", {"data"}),
        ("the file was made by other rules", {"data"}),
        ("other objects from another seed", {"data"}),
        ("own file", {"data"}),
        ("published name in a path", {"data"}),
    ],
)
def test_what_is_special_about_a_test(evaluation, special):
    record = make_record(**EVALUATIONS[evaluation])
    assert records.special(record).keys() == special
    assert records.as_trained(record) == (evaluation == "plain")


def test_titles():
    assert records.title(PLAIN) == "flying_shapes, K 3, 20 steps"
    assert records.title(make_record(**EVALUATIONS["own file"])) == (
        f"toy, K 3, 20 steps, data {records.digest(FOREIGN)}"
    )
    assert records.title(make_record(tested={"noise_prob": 0.5}, record={"rollout_from": 3})) == (
        "flying_shapes, K 3, 20 steps, noise_prob 0.5, rollout_from 3"
    )


def test_repetitions_differ_in_the_seed_alone():
    key = records.experiment_key(PLAIN)
    assert hash(key) == hash(records.experiment_key(make_record()))
    for same in (
        {"seed": 3},
        {"seed": 3, "run_dir": "runs/other", "data_dir": "there", "jit": "on", "shares": 2},
        {"training": {"step": 9999, "epoch": 12, "wall_time": 1.0, "finished": "max_epochs"}},
        {"tested": {"batch_size": 1}},
    ):
        assert records.experiment_key(make_record(**same)) == key, same


OTHER_SETTINGS = [{name: "other"} for group in records.TRAINED for name in SETTINGS[group]]


@pytest.mark.parametrize(
    "changes",
    [changes for changes in OTHER_SETTINGS if not changes.keys() & {"k", "nr_steps"}]
    + [
        {"k": 4},
        {"nr_steps": 10},
        {"trained_data": identity_of(seed=1)},
        {"trained_data": FOREIGN},
        {"training": {"finished": None}},
        {"training": {"history": [{"step": 5, "learning_rate": 1e-4}]}},
        {"max_steps": 781, "training": {"step": 781}},
    ],
    ids=str,
)  # fmt: skip
def test_any_other_difference_makes_another_experiment(changes):
    assert records.experiment_key(make_record(**changes)) != records.experiment_key(PLAIN)


def test_unfinished_runs_are_told_apart_by_where_they_stand():
    at = {step: make_record(training={"finished": None, "step": step}) for step in (781, 390000)}
    assert records.experiment_key(at[781]) != records.experiment_key(at[390000])
    again = make_record(seed=1, training={"finished": None, "step": 781})
    assert records.experiment_key(again) == records.experiment_key(at[781])


def staged(seed, learning_rate=0.001, data=None, stages=2):
    """A run of so many stages, whose directories and seeds are those of its seed."""
    record = make_record(seed=seed, learning_rate=learning_rate, trained_data=data)
    for stage in range(1, stages):
        record = make_record(seed=seed, init_from=f"runs/{stage}_{seed}", training={"origin": origin_of(record)})
    return record


def test_a_staged_run_is_repeated_with_all_its_stages():
    def key(*args, **kwargs):
        return records.experiment_key(staged(*args, **kwargs))

    assert key(0) == key(1)
    assert key(0, stages=3) == key(1, stages=3)
    others = [(0, 0.002), (0, 0.001, FOREIGN), (0, 0.001, None, 1), (0, 0.001, None, 3), (0, 0.002, None, 3)]
    assert len({key(0), *(key(*other) for other in others)}) == 6
