"""The training step: the same step on one device or several, in shares, in calls of several steps, compiled or not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ActingCore, two_cpus

from nem_tf.alignment import Alignment
from nem_tf.layers import (
    RNNEM,
    BernoulliMixture,
    BitflipNoise,
    EMLoss,
    LossTerms,
    RNNEMCell,
    SigmoidCore,
    State,
)
from nem_tf.layers import system as system_module
from nem_tf.layers.system import System, masks_of
from nem_tf.training.step import Adam, TrainStep

IMAGE = (4, 3, 1)
STEPS, BATCH, T = 3, 8, 2
CLIP_NORM = 4.0  # below the norms of these gradients
MOMENTUM = 0.5
VARIANTS = {
    "steps in one call": {"steps_per_call": 3},
    "shares": {"shares": 2},
    "EM steps written out": {"unroll": True},
    "two devices, two shares each": {"devices": 2, "shares": 2},
}


def make_system(unroll=False, acting=False, encoder=None):
    keras.utils.set_random_seed(3)
    mixture = BernoulliMixture()
    decoder = [keras.layers.Dense(12, activation=mixture.inverse_link), keras.layers.Reshape(IMAGE)]
    core = ActingCore(3) if acting else SigmoidCore(3)
    cell = RNNEMCell(
        encoder=encoder or keras.layers.Flatten(), core=core, decoder=keras.Sequential(decoder), mixture=mixture, k=2
    )
    model = RNNEM(cell, unroll, BitflipNoise(0.2))
    model.build((None, None, *IMAGE))
    return System(model, EMLoss(mixture), Alignment(1))


def make_step(devices=1, shares=1, jit=False, unroll=False, acting=False, encoder=None):
    strategy = two_cpus() if devices == 2 else tf.distribute.get_strategy()
    with strategy.scope():
        system = make_system(unroll, acting, encoder)
        optimizer = Adam(0.1, use_ema=True, ema_momentum=MOMENTUM, ema_overwrite_frequency=None)
        optimizer.build(system.model.trainable_variables)
    return TrainStep(system, optimizer, clip_norm=CLIP_NORM, strategy=strategy, shares=shares, jit=jit)


@pytest.fixture(scope="module")
def batches():
    frames = (np.random.default_rng(0).random((STEPS, BATCH, T + 1, *IMAGE)) < 0.3).astype(np.uint8)
    return frames, np.array([[5, i] for i in range(STEPS)])


def trained(batches, steps_per_call=1, **options):
    """What three training steps give, and what they leave in weights and optimizer."""
    step = make_step(**options)
    results = [step(*(values[i : i + steps_per_call] for values in batches)) for i in range(0, STEPS, steps_per_call)]
    terms = {name: np.concatenate([getattr(result.terms, name) for result in results]) for name in LossTerms._fields}
    return {
        "terms": terms,
        "norms": np.concatenate([result.gradient_norm for result in results]),
        "masks": step.gathered(results[-1].masks),
        "first masks": step.gathered(results[0].masks),
        "weights": step.system.model.get_weights(),
        "optimizer": [np.array(variable) for variable in step.optimizer.variables],
    }


@pytest.fixture(scope="module")
def one(batches):
    return trained(batches)


def assert_same(found, expected, rtol=1e-3):
    for name, values in expected["terms"].items():
        assert values.shape == (STEPS, T)
        np.testing.assert_allclose(found["terms"][name], values, rtol=rtol, err_msg=name)
    np.testing.assert_allclose(found["norms"], expected["norms"], rtol=rtol)
    for weights, others in zip(found["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(weights, others, atol=1e-3)
    for moments, others in zip(found["optimizer"], expected["optimizer"], strict=True):
        # As vectors: a single number may come from gradients that cancel.
        assert np.linalg.norm(moments - others) <= 0.01 * np.linalg.norm(others)
    np.testing.assert_allclose(found["masks"].certainty, expected["masks"].certainty, rtol=rtol)
    sure = expected["masks"].certainty > 0.5 + 1e-6  # of two components
    assert sure.mean() > 0.8
    assert found["masks"].assignment.dtype == np.uint8
    np.testing.assert_array_equal(found["masks"].assignment[sure], expected["masks"].assignment[sure])


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_same_step(batches, one, variant):
    """Losses, gradients and Adam's moments: each alone would pass over gradients that are summed twice, or clipped part
    by part."""
    assert (one["norms"] > CLIP_NORM).all()
    assert_same(trained(batches, **VARIANTS[variant]), one)


def test_compiled_by_xla_it_is_the_same_step(batches, monkeypatch):
    """But for the draws: from the same seed XLA draws other numbers."""

    def undrawn(function, frames, seed, dtypes):
        gamma = 2 + tf.sin(tf.reshape(tf.range(BATCH * 2 * 12, dtype=tf.float32), (BATCH, 2, *IMAGE)))
        gamma /= tf.reduce_sum(gamma, axis=1, keepdims=True)
        return frames, State(tf.zeros((BATCH, 2, 3)), tf.zeros((BATCH, 2, *IMAGE)), gamma)

    monkeypatch.setattr(system_module, "_draw", undrawn)
    assert_same(trained(batches, jit=True), trained(batches), rtol=1e-4)


def test_actions_go_with_their_steps_and_their_sequences(batches, rng):
    """Those of two steps in a call, of two devices, in two shares each; with others it would be another step."""
    frames, seeds = (values[:2] for values in batches)
    actions = np.float32(rng.standard_normal((2, BATCH, T + 1, 4)))
    step = make_step(devices=2, shares=2, acting=True)
    step.optimizer.learning_rate.assign(0.0)
    losses = step(frames, seeds, actions).terms.loss
    for given, same in ((actions, True), (actions[::-1], False), (actions[:, ::-1], False)):
        for i in range(2):
            loss = step.system.forward(frames[i], tf.constant(seeds[i]), actions=given[i]).terms.loss
            assert np.allclose(losses[i], np.mean(loss, axis=0), rtol=1e-4) == same


def test_gradients_are_those_of_the_loss_clipped_as_a_whole(batches):
    """Adam's first moment is a tenth of the first gradient; its average starts with the first weights."""
    step = make_step()
    frames, seeds = (values[:1] for values in batches)
    variables = step.system.model.trainable_variables
    with tf.GradientTape() as tape:
        result = step.system.forward(frames[0], tf.constant(seeds[0]))
        loss = step.system.loss.total(result.terms)
    gradients = [gradient.numpy() for gradient in tape.gradient(loss, variables)]
    norm = np.sqrt(sum(np.square(gradient).sum() for gradient in gradients))
    found = step(frames, seeds)
    np.testing.assert_allclose(found.gradient_norm, [norm], rtol=1e-5)
    for name, values in result.terms._asdict().items():
        np.testing.assert_allclose(getattr(found.terms, name), [np.mean(values, axis=0)], rtol=1e-5)
    masks = masks_of(result.outputs["gamma"])
    np.testing.assert_array_equal(found.masks.assignment, masks.assignment)
    assert norm > CLIP_NORM
    moments = {variable.path: variable for variable in step.optimizer.variables}
    for variable, gradient in zip(variables, gradients):
        name = variable.path.replace("/", "_")
        (first,) = [moments[path] for path in moments if path.endswith(f"{name}_momentum")]
        np.testing.assert_allclose(first, 0.1 * CLIP_NORM / norm * gradient, rtol=1e-3, atol=1e-6)
        (average,) = [moments[path] for path in moments if path.endswith(f"{name}_average")]
        np.testing.assert_allclose(average, variable, rtol=1e-6)


class Spare(keras.layers.Flatten):
    """A layer with a weight that nothing is computed from."""

    def build(self, shape):
        self.spare = self.add_weight(shape=(2,), initializer="ones", name="spare")
        super().build(shape)


def test_a_weight_that_the_loss_does_not_reach_stays_what_it_is(batches):
    step = make_step(encoder=Spare())
    before = step.system.model.get_weights()
    step(*(values[:1] for values in batches))
    names = [weight.name for weight in step.system.model.weights]
    moved = {name for name, old, new in zip(names, before, step.system.model.get_weights()) if (old != new).any()}
    assert "spare" in names
    assert "spare" not in moved
    assert "kernel" in moved


def test_the_steps_have_masks_of_their_own(one):
    """Else those of a call might be of any of its steps."""
    assert (one["first masks"].assignment != one["masks"].assignment).mean() > 0.1
