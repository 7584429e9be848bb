"""Records of evaluations that never took place, for the tests of what is made from records."""

import copy

from nem_tf.scoring.record import Record
from nem_tf.scoring.summary import SPREAD
from nem_tf.settings import Settings

SETTINGS = Settings().replace(run_dir="runs/flying_shapes_k3").to_dict()
FOREIGN = {"file": "toy.h5", "sha256": "5" * 64}


def settings_of(settings=SETTINGS, **changes):
    """The settings with some of them changed by name, whatever their group."""
    settings = copy.deepcopy(settings)
    for name, value in changes.items():
        groups = [group for group in settings.values() if isinstance(group, dict) and name in group]
        (groups[0] if groups else settings)[name] = value
    return settings


def identity_of(dataset="flying_shapes", **changes):
    """The identity of generated data."""
    return {"dataset": dataset, "generator": "data_gen", "version": "2", "seed": 0, "settings": dataset, **changes}


def spread(mean, steps=None):
    """A spread, its mean given and all else 0.01; of so many steps."""
    values = {key: mean if key == "mean" else 0.01 for key in SPREAD}
    return values if steps is None else {key: [value] * steps for key, value in values.items()}


def make_record(tested=(), training=(), scores=None, trained_data=None, tested_data=None, record=(), **trained):
    """A record of a finished run.

    Arguments:
        tested: settings of the test that differ from the training's.
        training: fields of `training` that differ.
        scores: name -> mean.
        trained_data, tested_data: identities; by default those of the names of the data sets.
        record: other fields of the record.
        trained: settings of the run that differ from SETTINGS.
    """
    trained = settings_of(**trained)
    tested = settings_of(trained, **dict(tested))
    scores = scores or {"loss": 100.0, "ami": 0.9, "ami_last": 0.95, "upper_bound": 60.0, "upper_bound_last": 50.0}
    steps = tested["data"]["nr_steps"]
    fields = {
        "run_dir": trained["paths"]["run_dir"],
        "checkpoint": "best/ckpt-10",
        "which": "best",
        "split": "test",
        "sequences": 5,
        "initialisations": 1,
        "rollout_from": None,
        "trained": trained,
        "tested": tested,
        "trained_data": trained_data or identity_of(trained["data"]["dataset"]),
        "tested_data": tested_data or trained_data or identity_of(tested["data"]["dataset"]),
        "training": {
            "step": 7810,
            "epoch": 10,
            "wall_time": 12.5,
            "finished": "patience",
            "history": [],
            "origin": None,
            **dict(training),
        },
        "scores": {name: spread(mean) for name, mean in scores.items()},
        "per_step": {name: spread(mean, steps) for name, mean in scores.items() if not name.endswith("_last")},
        **dict(record),
    }
    return Record(**fields)


def origin_of(record):
    """What a run that starts from the weights of another one keeps of it."""
    return {
        "trained": record.trained,
        "data": record.trained_data,
        "step": record.training["step"],
        "origin": record.training["origin"],
    }
