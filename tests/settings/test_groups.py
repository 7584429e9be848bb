"""The groups of settings: their bounds, for whoever gives a value; and what a run is made of."""

import dataclasses
import math
from pathlib import Path

import pytest
from all_settings import OTHER

from nem_tf.errors import UserError
from nem_tf.settings import FIELDS, GROUPS, Settings, check_resume, differences

IDENTITY = {"data", "model", "objective", "optimisation", None}  # None: the seed
RUN = Path("runs/one")


def outside(field):
    """Values that a setting must not take."""
    bounds = field.metadata
    if field.type is bool:
        return [0, 1, "true", None]
    if field.type is str:
        return [3, None, *(["colourful"] if {"choices", "registry"} & set(bounds) else [])]
    values = ["3", None, True, [3]]
    values += [bounds["lower"] - 1, bounds["lower"] - 1e-9][: 1 + (field.type is float)]
    if "upper" in bounds:
        values += [bounds["upper"] + 1]
    return values + [math.nan, math.inf, -math.inf] + ([2.5] if field.type is int else [])


def test_defaults_are_the_papers():
    settings = Settings()
    assert (settings.data.dataset, settings.model.k, settings.data.nr_steps) == ("flying_shapes", 3, 20)
    assert (settings.optimisation.batch_size, settings.optimisation.learning_rate) == (64, 1e-3)
    assert (settings.data.noise_prob, settings.budget.patience) == (0.2, 10)
    sizes = (settings.data.train_size, settings.data.valid_size, settings.budget.test_size)
    assert sizes == (50_000, 10_000, 10_000)
    assert settings.optimisation.clip_norm == 0


def test_every_setting_has_a_name_of_its_own_and_a_sentence():
    names = [field.name for group in GROUPS.values() for field in dataclasses.fields(group)] + ["seed"]
    assert sorted(names) == sorted(FIELDS) == sorted(OTHER)
    for _, field in FIELDS.values():
        assert field.metadata["help"].endswith(".")


@pytest.mark.parametrize("name", FIELDS)
def test_bounds_hold_for_python_callers(name):
    group, field = FIELDS[name]
    for value in outside(field):
        with pytest.raises(UserError, match=f"^--{name}="):
            Settings().replace(**{name: value})
        with pytest.raises(UserError, match=f"^--{name}="):
            (GROUPS[group] if group else Settings)(**{name: value})
    for bound in ("lower", "upper"):
        if bound in field.metadata:
            limit = Settings().replace(**{name: field.metadata[bound]}).flat()[name]
            assert limit == field.metadata[bound]


@pytest.mark.parametrize("name", ["hold_steps", "learning_rate"])
def test_a_number_beyond_all_that_tensorflow_has_is_refused(name):
    """Python has integers that are too large for a float."""
    for value in (2**63, 10**400, -(10**400)):
        with pytest.raises(UserError, match=f"--{name} is too large: expected a (whole )?number below 2\\^63"):
            Settings().replace(**{name: value})


def test_a_whole_number_is_a_number():
    settings = Settings().replace(clip_norm=500, learning_rate=1)
    assert settings == Settings().replace(clip_norm=500.0, learning_rate=1.0)
    assert type(settings.optimisation.clip_norm) is float


@pytest.mark.parametrize("text", ["runs/\udcff", "runs/\0", "runs/a\nb"])
def test_what_a_flagfile_could_not_hold_is_no_setting(text):
    with pytest.raises(UserError, match=r"^--run_dir='runs/.*': expected text in UTF-8 without NUL or line breaks"):
        Settings().replace(run_dir=text)


def test_settings_are_frozen():
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.model.k = 3
    assert settings.replace(k=4) != settings == Settings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curriculum": "6,10"}, "^--curriculum=6,10 and --nr_steps=20: .* is no curriculum"),
        ({"curriculum": "6,10@5", "nr_steps": 9}, "^--curriculum=6,10@5 and --nr_steps=9: "),
        ({"loss_step_weights": "first"}, "^--loss_step_weights=first, for 20 EM steps: "),
        ({"loss_step_weights": "1,2,3", "nr_steps": 2}, "^--loss_step_weights=1,2,3, for 2 EM steps: 3 step weights"),
        ({"loss_step_weights": "1,2,3", "curriculum": "2,20@9"}, "^--loss_step_weights=1,2,3, for 2 EM steps: "),
    ],
)
def test_what_does_not_fit_together(changes, message):
    with pytest.raises(UserError, match=message):
        Settings().replace(**changes)


def test_settings_of_a_test():
    """It has no curriculum, and of a list of step weights for more steps the last ones."""
    trained = Settings().replace(curriculum="4,20@9", loss_step_weights="1,2,3")
    assert trained.for_test(nr_steps=2, k=5) == Settings().replace(loss_step_weights="2,3", nr_steps=2, k=5)
    assert trained.for_test() == trained.replace(curriculum="")
    assert trained.for_test(nr_steps=3) == trained.replace(curriculum="", nr_steps=3)
    with pytest.raises(UserError, match="--nr_steps=0"):
        trained.for_test(nr_steps=0)


def test_a_setting_that_there_is_not():
    with pytest.raises(UserError, match=r"^--colour is no setting: expected one of dataset, "):
        Settings().replace(colour="red")


def test_all_settings_through_dictionaries():
    settings = Settings().replace(**OTHER)
    assert settings.flat() == OTHER
    assert list(settings.flat()) == list(FIELDS)
    assert Settings.from_dict(settings.to_dict()) == settings
    for name in FIELDS:
        assert settings.replace(**{name: Settings().flat()[name]}).flat()[name] != OTHER[name]


@pytest.mark.parametrize(
    "nested",
    [
        {**Settings().to_dict(), "colour": {}},
        {**Settings().to_dict(), "model": {"colour": 3}},
        {**Settings().to_dict(), "model": 3},
        {name: group for name, group in Settings().to_dict().items() if name != "seed"},
        {**Settings().to_dict(), "model": {"k": 0}},
        [],
    ],
    ids=["group", "setting", "no group", "no seed", "bound", "list"],
)
def test_dictionaries_that_are_no_settings(nested):
    with pytest.raises(UserError, match=r"these are no settings of this program|--k=0"):
        Settings.from_dict(nested)


@pytest.mark.parametrize("name", FIELDS)
def test_identity_is_what_is_learned_and_how_and_a_resume_may_change_the_rest(name):
    group, field = FIELDS[name]
    old = Settings()
    new = old.replace(**{name: OTHER[name]})
    values = {name: (getattr(getattr(old, group) if group else old, name), OTHER[name])}
    if group not in IDENTITY:
        assert differences(old, new) == check_resume(RUN, old, new) == {}
        return
    assert differences(old, new) == values
    amendable = field.metadata.get("amendable", False)
    with pytest.raises(UserError, match=f"^{RUN} holds a run with --{name}=") as refused:
        check_resume(RUN, old, new)
    assert ("--amend" in str(refused.value)) == amendable
    if amendable:
        assert check_resume(RUN, old, new, amend=True) == values
    else:
        with pytest.raises(UserError, match=f"^{RUN} holds a run with --{name}="):
            check_resume(RUN, old, new, amend=True)


def test_only_how_it_is_minimised_can_be_amended():
    amendable = {name for name, (_, field) in FIELDS.items() if field.metadata.get("amendable")}
    assert amendable == {"curriculum", "learning_rate", "warmup_steps", "hold_steps", "decay_steps", "clip_norm"}


def test_what_is_refused_is_told_in_one_sentence_without_what_may_change():
    old = Settings()
    new = old.replace(seed=4, gamma_gradient=True, learning_rate=0.5, max_epochs=3)
    with pytest.raises(UserError) as refused:
        check_resume(RUN, old, new)
    assert str(refused.value) == (
        "runs/one holds a run with --gamma_gradient=false, not true; --learning_rate=0.001, not 0.5; --seed=0, not 4: "
        "choose another --run_dir"
    )
    with pytest.raises(UserError, match="gamma_gradient=false, not true; --seed=0, not 4: choose another"):
        check_resume(RUN, old, new, amend=True)
    with pytest.raises(UserError, match=r"--clip_norm=0\.0, not 5\.0: choose another --run_dir, or --amend the run$"):
        check_resume(RUN, old, old.replace(clip_norm=5))
    with pytest.raises(UserError, match="--curriculum=4, not empty: choose"):
        check_resume(RUN, old.replace(curriculum="4"), old)


def test_a_repetition_differs_in_the_seed_alone():
    old = Settings()
    assert set(differences(old, old.replace(seed=4, run_dir="runs/again", max_epochs=9))) == {"seed"}


def test_what_an_evaluation_may_change_is_no_part_of_what_was_learned():
    """Nothing of it changes a weight or the objective."""
    at_test = {name for name, (_, field) in FIELDS.items() if field.metadata.get("at_test")}
    assert {"dataset", "k", "nr_steps", "noise_prob", "test_size", "seed", "batch_size", "run_dir"} <= at_test
    kept = {"network", "widths", "mixture", "e_sigma", "target", "loss_inter_weight", "loss_step_weights", "noise"}
    assert not at_test & kept
