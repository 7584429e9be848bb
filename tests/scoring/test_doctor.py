"""The doctor: symptoms of masks made by hand, and what is said of them; models with each disease."""

import math

import numpy as np
import pytest
import tensorflow as tf

import nem_tf
from data_gen.shapes import FlyingShapes
from nem_tf.layers import RNNEM, EMCell, GaussianMixture
from nem_tf.layers.system import Masks, masks_of
from nem_tf.scoring.doctor import Symptoms, findings, indifference, lit_pixels, symptoms
from nem_tf.scoring.passes import mask_scores
from nem_tf.scoring.summary import means

K, T, SIZE = 3, 12, 12
HEALTHY = {
    "certainty_last": 0.97,
    "components_last": 2.98,
    "used_last": 3,
    "staying_last": 0.4,
    "persistence_last": 0.95,
    "idle_last": 0.1,
    "indifference_last": 0.4,
    "ari": 0.9,
    "ari_video": 0.85,
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
    return {name: getattr(measured, name)[0] for name in Symptoms._fields}


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


def test_a_component_is_idle_where_things_apart_share_another_one():
    frames, thing = passing()
    shared = of(frames, np.zeros_like(thing))["idle"]
    np.testing.assert_array_equal(shared[[0, 7]], [0, 1])  # one bar; two
    np.testing.assert_array_equal(
        of(frames, np.maximum(thing, 0))["idle"], np.zeros(T)
    )  # one for each, and a spare one


def test_things_that_touch_at_a_corner_are_one_and_specks_are_none():
    frames = np.zeros((1, 2, SIZE, SIZE, 1))
    frames[0, :, 0:4, 0:4] = frames[0, :, 4:8, 4:8] = 1
    frames[0, 0, 11, 0] = 1  # 1 of 33 pixels
    frames[0, 1, 11, 0:2] = 1  # 2 of 34
    np.testing.assert_array_equal(of(frames, np.zeros((1, 2, SIZE, SIZE), int))["idle"], [0, 1])


def test_masks_of_another_video():
    lit, other = np.array([[[1, 1, 1, 0]]], bool), np.array([[[1, 1, 0, 1]]], bool)
    assert indifference(lit[None], np.array([[[[0, 1, 2, 2]]]]), other[None], np.array([[[[0, 2, 2, 2]]]])) == [[0.5]]
    assert np.isnan(indifference(lit[None], np.zeros((1, 1, 1, 4)), ~lit[None], np.zeros((1, 1, 1, 4))))


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({}, []),
        ({"certainty_last": 0.36}, ["uniform responsibilities"]),
        ({"certainty_last": 0.36, "staying_last": 0.7, "persistence_last": 0.4}, ["uniform responsibilities"]),
        ({"components_last": 1.05, "staying_last": 1.0}, ["one component for everything"]),
        ({"components_last": 1.05, "ari_last": 0.6}, ["one component for everything"]),
        ({"components_last": 1.05, "ari_last": 1.0}, []),  # there is one thing, as the labels tell
        ({"staying_last": 0.7}, ["regions of space"]),
        ({"persistence_last": 0.4}, ["identities that switch"]),
        ({"staying_last": 0.7, "persistence_last": 0.4}, ["regions of space", "identities that switch"]),
        ({"indifference_last": 0.95, "staying_last": 1.0}, ["masks that do not depend on the video"]),
        ({"idle_last": 0.5}, ["a dead component"]),
        ({"ari_video": 0.5}, ["identities that switch"]),
        ({"ari_video": 0.5, "persistence_last": 0.4}, ["identities that switch"]),
        ({"components_last": 1.0, "ari_last": 1.0, "ari_video": 0.1}, []),
        (
            {"components_last": 1.0, "ari_last": 1.0, "ari_video": 0.1, "persistence_last": 0.4},
            ["identities that switch"],
        ),
        ({"ari_video": 0.5, "staying_last": 0.7}, ["regions of space"]),  # whose components things change as they move
        (dict.fromkeys(("staying_last", "persistence_last", "indifference_last", "ari_video"), math.nan), []),
    ],
)
def test_what_is_said(changed, names):
    found = findings({**HEALTHY, **changed}, K)
    assert [finding.name for finding in found] == names
    for finding in found:
        assert "--" in finding.advice  # a setting
        assert "--" not in finding.seen  # which is told where nothing is trained
        assert "nan" not in finding.sentence


def test_nothing_is_said_of_one_component_or_of_nothing():
    assert findings({**HEALTHY, "certainty_last": 1.0}, 1) == []
    assert findings({}, K) == []


def diagnosed(model, frames, groups):
    """Names what is found in the masks of a model: frames [B, T + 1, H, W, C], groups [B, T + 1, H, W]."""
    size = len(frames)
    videos = tf.concat([frames, np.roll(frames, 1, axis=0)], 0)  # each beside another one
    videos = tf.cast(videos, tf.float32)
    state = model.cell.get_initial_state(size, seed=tf.constant([0, 0]))
    state = tf.nest.map_structure(lambda part: tf.concat([part, part], 0), state)
    step = tf.function(lambda: masks_of(model(videos[:, :-1], videos[:, 1:], initial_state=state)["gamma"]))
    masks, shown = tf.nest.map_structure(lambda part: part.numpy(), (step(), videos[:, 1:]))
    own = Masks(*(part[:size] for part in masks))
    scores = symptoms(shown[:size], *own, model.cell.k)._asdict() | mask_scores(own, groups[:, 1:])
    lit = lit_pixels(shown)
    scores["indifference"] = indifference(lit[:size], own.assignment, lit[size:], masks.assignment[size:])
    return [finding.name for finding in findings(means(scores, np.ones(shown.shape[1])), model.cell.k)]


class ByRule(EMCell):
    """Holds one of three grey values by each component, unless it has a disease.

    theta: how many steps there were, and a number that the first frame gives.
    """

    units = 2

    def __init__(self, disease=""):
        super().__init__(GaussianMixture(e_sigma=0.1), k=K, seed=0)
        self.disease = disease

    def m_step(self, masked, theta):
        step = theta[:, :1, 0]  # [B, 1]
        columns = tf.reduce_sum(masked, [1, 2, 4])  # [B, W], of all components: the whole frame
        number = tf.where(step == 0, tf.floor(tf.reduce_sum(columns[:, :4], -1, keepdims=True)), theta[:, :1, 1])
        turned = {"identities that switch": step, "regions of space": number}.get(self.disease, 0 * step)
        rule = tf.math.floormod(tf.range(K, dtype=tf.float32) + turned, K)  # [B, K], which one a component follows
        values = {
            "uniform responsibilities": (0.7, 0.7, 0.7),
            "one component for everything": (0.7, -1.0, -1.0),
            "a dead component": (0.4, 0.9, -1.0),
        }.get(self.disease, (0.4, 0.7, 1.0))
        psi = tf.gather(values, tf.cast(rule, tf.int32))[..., None, None]  # [B, K, H, W]
        if self.disease in ("regions of space", "masks that do not depend on the video"):
            psi = 0.7 * tf.cast(rule[..., None, None] == tf.range(SIZE, dtype=tf.float32) // (SIZE / K), tf.float32)
        psi = tf.broadcast_to(psi[..., None], tf.shape(masked))
        return psi, tf.broadcast_to(tf.stack([step + 1, number], -1), tf.shape(theta))


def procession():
    """Three grey things walk round in a row, one behind the other, in any order: frames and groups."""
    rng = np.random.default_rng(0)
    groups = np.zeros((16, T + 1, SIZE, SIZE), np.uint8)
    for video in groups:
        start, order = rng.integers(SIZE), rng.permutation(3)
        for t, place in np.ndindex(T + 1, 3):
            video[t, 3:8, [(start + 4 * place + t + column) % SIZE for column in (0, 1)]] = order[place] + 1
    return np.array([0, 0.4, 0.7, 1.0])[groups][..., None], groups


@pytest.mark.parametrize(
    "disease",
    [
        "",
        "uniform responsibilities",
        "one component for everything",
        "masks that do not depend on the video",
        "regions of space",
        "a dead component",
        "identities that switch",
    ],
)
def test_a_model_with_one_disease(disease):
    model = RNNEM(ByRule(disease))
    model.build((None, None, SIZE, SIZE, 1))
    assert diagnosed(model, *procession()) == [disease] * bool(disease)


def test_a_shipped_model_healthy_and_made_ill(monkeypatch):
    model, _ = nem_tf.from_preset("flying_shapes_k3")
    features, groups = FlyingShapes(3, 9).sequences(np.random.default_rng(0), 12, "test")
    batch = (np.moveaxis(features, 0, 1), np.moveaxis(groups, 0, 1)[..., 0])
    assert diagnosed(model, *batch) == []

    e_step, m_step = model.cell.e_step, model.cell.m_step

    def without_the_first(target, psi):
        gamma = e_step(target, psi) * tf.reshape([1e-6, 1.0, 1.0], (3, 1, 1, 1))
        return gamma / tf.reduce_sum(gamma, 1, keepdims=True)

    with monkeypatch.context() as patch:
        patch.setattr(model.cell, "e_step", without_the_first)
        assert diagnosed(model, *batch) == ["a dead component"]
    with monkeypatch.context() as patch:
        patch.setattr(model.cell, "m_step", lambda *args: [tf.roll(part, 1, 1) for part in m_step(*args)])
        assert diagnosed(model, *batch) == ["identities that switch"]
    model.cell.encoder.layers[-3].kernel.assign(tf.zeros_like(model.cell.encoder.layers[-3].kernel))
    assert diagnosed(model, *batch) == ["uniform responsibilities"]
