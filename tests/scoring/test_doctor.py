"""The doctor: symptoms of masks made by hand, and what is said of them."""

import math

import numpy as np
import pytest

from nem_tf.scoring.doctor import SYMPTOMS, findings, symptoms

K, T, SIZE = 3, 12, 12
HEALTHY = {
    "certainty_last": 0.97,
    "components_last": 2.98,
    "used_last": 3,
    "staying_last": 0.4,
    "persistence_last": 0.95,
}


def passing():
    """Two bars cross a dark frame one after the other: frames [1, T, H, W, 1], and whose pixel it is [1, T, H, W]."""
    thing = np.full((1, T, SIZE, SIZE), -1)
    for t in range(T):
        for number, start in enumerate((0, 5)):
            column = t - start
            if 0 <= column < SIZE - 1:
                thing[0, t, 2:8, column : column + 2] = number
    return (thing >= 0)[..., None].astype(np.uint8), thing


def of(frames, assignment, certainty=1.0):
    measured = symptoms(frames, assignment, np.full(assignment.shape, certainty), K)
    return {name: getattr(measured, name)[0] for name in SYMPTOMS}


def test_a_component_for_each_thing():
    frames, thing = passing()
    found = of(frames, np.maximum(thing, 0), 0.9)
    np.testing.assert_allclose(found["certainty"], 0.9)
    np.testing.assert_allclose(found["components"][[0, 7]], [1, 2])
    np.testing.assert_allclose(found["used"][[0, 7]], [1, 2])
    assert found["staying"][-1] == 0  # where the second bar passes, the first one was of another component
    np.testing.assert_allclose(found["persistence"][1:], 1)
    assert np.isnan(found["persistence"][0])


def test_a_component_for_each_place():
    frames, _ = passing()
    rows = np.broadcast_to((np.arange(SIZE) // 4)[:, None], (1, T, SIZE, SIZE))
    found = of(frames, rows)
    assert found["staying"][-1] == 1
    np.testing.assert_allclose(found["components"][-1], np.exp(-(1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3))))


def test_components_that_change_places_at_every_step():
    frames, thing = passing()
    swapped = np.where(np.arange(T)[:, None, None] % 2, 1 - thing, thing)
    assert of(frames, np.maximum(swapped, 0))["persistence"][-1] == 0


def test_only_what_is_lit_counts():
    frames, thing = passing()
    measured = symptoms(frames, np.maximum(thing, 0), np.where(thing >= 0, 0.5, 0.1), K)
    np.testing.assert_allclose(measured.certainty, 0.5)
    dark = of(np.zeros_like(frames), np.zeros_like(thing))
    assert all(np.isnan(values).all() for values in dark.values())
    grey = of(frames * 0.05 + np.float32(0), np.zeros_like(thing))
    assert np.isnan(grey["certainty"]).all()


def test_a_still_image_has_nothing_that_passes_again():
    frames = np.repeat(passing()[0][:, 3:4], 4, axis=1)
    found = of(frames, np.zeros(frames.shape[:-1], int))
    assert np.isnan(found["staying"]).all()
    np.testing.assert_allclose(found["persistence"][1:], 1)


def test_a_part_is_a_component_only_from_two_percent():
    frames = np.ones((1, 1, 10, 20, 1))
    assignment = np.zeros((1, 1, 10, 20), int)
    assignment[0, 0, 0, :3], assignment[0, 0, 1, :4] = 1, 2
    assert of(frames, assignment)["used"] == [2]


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({}, []),
        ({"certainty_last": 0.36}, ["uniform responsibilities"]),
        ({"certainty_last": 0.36, "staying_last": 0.7, "persistence_last": 0.4}, ["uniform responsibilities"]),
        ({"components_last": 1.05, "staying_last": 1.0}, ["one component for everything"]),
        ({"staying_last": 0.7}, ["regions of space"]),
        ({"persistence_last": 0.4}, ["identities that switch"]),
        ({"staying_last": 0.7, "persistence_last": 0.4}, ["regions of space", "identities that switch"]),
        ({"staying_last": math.nan, "persistence_last": math.nan}, []),
    ],
)
def test_what_is_said(changed, names):
    found = findings({**HEALTHY, **changed}, K)
    assert [finding.name for finding in found] == names
    for finding in found:
        assert "--" in finding.sentence  # a setting
        assert "nan" not in finding.sentence


def test_nothing_is_said_of_one_component_or_of_nothing():
    assert findings({**HEALTHY, "certainty_last": 1.0}, 1) == []
    assert findings({}, K) == []
