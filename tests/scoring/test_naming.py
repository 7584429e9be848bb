"""What tells two evaluations apart."""

import itertools

import pytest
from records import FOREIGN, SETTINGS, identity_of, make_record, origin_of

from nem_tf.scoring import naming
from nem_tf.scoring import record as records

pytestmark = pytest.mark.filterwarnings("error")


PLAIN = make_record()
EVALUATIONS = {
    "plain": {},
    "latest": {"record": {"which": "latest"}},
    "validation": {"record": {"split": "validation"}},
    "three draws": {"record": {"initialisations": 3}},
    "rollout": {"record": {"rollout_from": 10}},
    "soft rollout": {"record": {"rollout_from": 10, "rollout": {"form": "soft", "noise": True}}},
    "rollout without noise": {"record": {"rollout_from": 10, "rollout": {"form": "draw", "noise": False}}},
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
    stems = {name: naming.file_stem(record) for name, record in made.items()}
    for one, other in itertools.combinations(stems, 2):
        assert stems[one] != stems[other], (one, other)
        assert naming.experiment_key(made[one]) != naming.experiment_key(made[other]), (one, other)
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
        ("soft rollout", "evaluation_test_rollout_from10_rolloutsoft"),
        ("rollout without noise", "evaluation_test_rollout_from10_rollout_noisefalse"),
        ("other objects", "evaluation_test_flying_shapes_5_<data>"),
        ("own file", "evaluation_test_toy_<data>"),
    ],
)
def test_file_names(evaluation, stem):
    record = make_record(**EVALUATIONS[evaluation])
    assert naming.file_stem(record) == stem.replace("<data>", naming.digest(record.tested_data))


def test_what_changes_no_score_changes_no_name():
    other = make_record(tested={"batch_size": 8, "jit": "on", "data_dir": "elsewhere"})
    assert naming.file_stem(other) == naming.file_stem(PLAIN)
    assert naming.title(other) == naming.title(PLAIN)
    assert naming.as_trained(other)


def test_a_rollout_of_an_earlier_record_is_one_of_draws_with_noise():
    old, new = ({"rollout_from": 10, "rollout": form} for form in (None, {"form": "draw", "noise": True}))
    assert naming.file_stem(make_record(record=old)) == naming.file_stem(make_record(record=new))


def test_a_long_setting_makes_no_long_name():
    other = make_record(tested={"loss_step_weights": "1" * 300})
    assert len(naming.file_stem(other)) < 80


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
    assert naming.special(record).keys() == special
    assert naming.as_trained(record) == (evaluation == "plain")


def test_titles():
    assert naming.title(PLAIN) == "flying_shapes, K 3, 20 steps"
    assert naming.title(make_record(**EVALUATIONS["own file"])) == (
        f"toy, K 3, 20 steps, data {naming.digest(FOREIGN)}"
    )
    assert naming.title(make_record(tested={"noise_prob": 0.5}, record={"rollout_from": 3})) == (
        "flying_shapes, K 3, 20 steps, noise_prob 0.5, rollout_from 3"
    )


def test_repetitions_differ_in_the_seed_alone():
    key = naming.experiment_key(PLAIN)
    assert hash(key) == hash(naming.experiment_key(make_record()))
    for same in (
        {"seed": 3},
        {"seed": 3, "run_dir": "runs/other", "data_dir": "there", "jit": "on", "shares": 2},
        {"training": {"step": 9999, "epoch": 12, "wall_time": 1.0, "finished": "max_epochs"}},
        {"tested": {"batch_size": 1}},
    ):
        assert naming.experiment_key(make_record(**same)) == key, same


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
    assert naming.experiment_key(make_record(**changes)) != naming.experiment_key(PLAIN)


def test_unfinished_runs_are_told_apart_by_where_they_stand():
    at = {step: make_record(training={"finished": None, "step": step}) for step in (781, 390000)}
    assert naming.experiment_key(at[781]) != naming.experiment_key(at[390000])
    again = make_record(seed=1, training={"finished": None, "step": 781})
    assert naming.experiment_key(again) == naming.experiment_key(at[781])


def staged(seed, learning_rate=0.001, data=None, stages=2):
    """A run of so many stages, whose directories and seeds are those of its seed."""
    record = make_record(seed=seed, learning_rate=learning_rate, trained_data=data)
    for stage in range(1, stages):
        record = make_record(seed=seed, init_from=f"runs/{stage}_{seed}", training={"origin": origin_of(record)})
    return record


def test_a_staged_run_is_repeated_with_all_its_stages():
    def key(*args, **kwargs):
        return naming.experiment_key(staged(*args, **kwargs))

    assert key(0) == key(1)
    assert key(0, stages=3) == key(1, stages=3)
    others = [(0, 0.002), (0, 0.001, FOREIGN), (0, 0.001, None, 1), (0, 0.001, None, 3), (0, 0.002, None, 3)]
    assert len({key(0), *(key(*other) for other in others)}) == 6
