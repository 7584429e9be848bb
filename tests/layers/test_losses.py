"""The loss by itself and as a layer. Its terms are compared with the reference in test_cells and test_mixture."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames, small_cell

from nem_tf.layers import RNNEM, BernoulliMixture, EMLoss, LossTerms


@pytest.fixture(scope="module")
def model():
    model = RNNEM(small_cell())
    model.build((None, None, 8, 8, 1))
    return model


def terms_of(per_step):
    """Loss terms [B, T], all of them the same."""
    return LossTerms(*[tf.constant(per_step, tf.float32)] * 4)


@pytest.mark.parametrize(
    ("step_weights", "expected"),
    [("all", 2 + 3 + 7), ("last", 7), ("0.5,1,2", 1 + 3 + 14), ([1, 2], 3 + 14), ("0,1,0", 3)],
)
def test_total_is_the_weighted_sum_over_the_steps_of_the_mean_over_the_batch(step_weights, expected):
    loss = EMLoss(BernoulliMixture(), step_weights=step_weights)
    assert float(loss.total(terms_of([[1, 2, 6], [3, 4, 8]]))) == pytest.approx(expected)


@pytest.mark.parametrize("spec", ["first", "1,-1,1", "0,0", "", []])
def test_step_weights_that_are_none_are_refused_at_once(spec):
    with pytest.raises(ValueError, match="step weights are"):
        EMLoss(BernoulliMixture(), step_weights=spec)


@pytest.mark.parametrize("steps", [1, 2])
def test_more_weights_than_steps_are_refused(steps):
    """Also where the number of steps is known only when it runs, and a single one would broadcast."""
    loss = EMLoss(BernoulliMixture(), step_weights="1,2,3")
    terms = terms_of(np.ones((2, steps)))
    with pytest.raises(ValueError, match=f"3 step weights for {steps} steps"):
        loss.total(terms)
    unknown = tf.function(lambda x: loss.total(LossTerms(x, x, x, x)), input_signature=[tf.TensorSpec([None, None])])
    with pytest.raises(tf.errors.InvalidArgumentError):
        unknown(terms.loss)
    assert float(unknown(tf.ones((2, 3)))) == 6


def test_layer_adds_the_loss_and_passes_the_outputs_on(model, rng):
    noisy, target = binary_frames(rng, 2, 2, 3, 8, 8, 1)
    outputs = model(noisy, target)
    loss = EMLoss(model.cell.mixture, inter_weight=0.5, step_weights="last")
    passed = loss(outputs, target)
    terms = loss.terms(outputs, target)
    assert terms.loss.shape == (2, 3)
    np.testing.assert_allclose(terms.loss, terms.intra + 0.5 * terms.inter, rtol=1e-6)
    np.testing.assert_allclose(loss.losses, [np.mean(terms.loss[:, -1])], rtol=1e-6)
    for name in outputs:
        np.testing.assert_array_equal(passed[name], outputs[name])


@pytest.mark.parametrize(("step_weights", "last"), [("all", [1, 1, 1, 1]), ("last", [1]), ([1.0, 3.0], [1, 3])])
def test_a_functional_model_of_any_length_has_the_loss_of_its_steps(model, rng, step_weights, last):
    frames = keras.Input((None, 8, 8, 1))
    noisy, target = frames[:, :-1], frames[:, 1:]
    loss = EMLoss(model.cell.mixture, inter_weight=0.5, step_weights=step_weights)
    functional = keras.Model(frames, loss(RNNEM(model.cell)(noisy, target), target))
    for steps in (2, 4):
        batch = binary_frames(rng, 2, steps + 1, 8, 8, 1)
        terms = loss.terms(functional(batch), batch[:, 1:])
        weights = last[-steps:]
        expected = np.dot(np.mean(terms.loss, 0)[-len(weights) :], weights)
        assert float(functional.losses[0]) == pytest.approx(expected, rel=1e-5)
