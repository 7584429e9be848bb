"""The unrolled cell against the NumPy reference, and the symmetries of its components."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames, small_cell
from reference import FlyingShapesNetwork, bernoulli_losses, rnn_em

import nem_tf


def paper_model(k=3, image_shape=(12, 12, 1), **kwargs):
    cell = nem_tf.RNNEMCell(**nem_tf.flying_shapes(image_shape), mixture=nem_tf.BernoulliMixture(), k=k, **kwargs)
    model = nem_tf.RNNEM(cell)
    model.build((None, None, *image_shape))
    return model


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_three_steps_and_their_loss_are_the_reference(rng, compiled):
    model = paper_model()
    for variable in model.trainable_variables:  # layer norm and biases away from their trivial start
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    cell = model.cell
    frames, noisy = binary_frames(rng, 2, 4, 12, 12, 1), binary_frames(rng, 2, 3, 12, 12, 1)
    state = cell.get_initial_state(2, seed=[1, 2])
    loss = nem_tf.EMLoss(cell.mixture, inter_weight=0.7, step_weights=[0.5, 1, 2])

    def run():
        outputs = model(noisy, frames[:, 1:], initial_state=state)
        terms = loss.terms(outputs, frames[:, 1:])
        return outputs, terms, loss.total(terms)

    outputs, terms, total = tf.function(run)() if compiled else run()
    weights = [w for part in (cell.encoder, cell.core, cell.decoder) for w in part.get_weights()]
    target = frames[:, 1:].astype(float)
    psi, gamma, theta = rnn_em(
        FlyingShapesNetwork(weights), noisy.astype(float), target, state.gamma.numpy().astype(float), units=100
    )
    np.testing.assert_allclose(outputs["predictions"], psi, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["gamma"], gamma, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(outputs["theta"], theta, rtol=1e-4, atol=1e-5)

    intra, inter = (
        np.stack(v, 1) for v in zip(*(bernoulli_losses(target[:, t], psi[:, t], gamma[:, t]) for t in range(3)))
    )
    np.testing.assert_allclose(terms.intra, intra, rtol=1e-4)
    np.testing.assert_allclose(terms.inter, inter, rtol=1e-4)
    np.testing.assert_allclose(total, ((intra + 0.7 * inter).mean(0) * [0.5, 1, 2]).sum(), rtol=1e-4)
    strongest = np.ones_like(gamma[:, -1, :1])
    upper_bound, _ = bernoulli_losses(target[:, -1], psi[:, -1].max(1, keepdims=True), strongest)
    np.testing.assert_allclose(terms.upper_bound[:, -1], upper_bound, rtol=1e-4)


def test_permuting_the_components_permutes_the_outputs_and_not_the_loss(rng):
    model = nem_tf.RNNEM(small_cell(k=4))
    noisy, target = binary_frames(rng, 2, 2, 3, 8, 8, 1)
    model.build(noisy.shape)
    state = model.cell.get_initial_state(2, seed=[0, 1])
    order = [3, 1, 0, 2]
    permuted = nem_tf.State(*(tf.gather(tensor, order, axis=1) for tensor in state))
    one, other = model(noisy, target, initial_state=state), model(noisy, target, initial_state=permuted)
    loss = nem_tf.EMLoss(model.cell.mixture)
    np.testing.assert_allclose(loss.terms(one, target).loss, loss.terms(other, target).loss, rtol=1e-5)
    for name, tensor in one.items():
        np.testing.assert_allclose(tf.gather(tensor, order, axis=2), other[name], rtol=1e-4, atol=1e-6)


def test_batch_rows_do_not_see_each_other(rng):
    model = nem_tf.RNNEM(small_cell())
    noisy, target = binary_frames(rng, 2, 3, 2, 8, 8, 1)
    model.build(noisy.shape)
    state = model.cell.get_initial_state(3, seed=[0, 1])
    whole = model(noisy, target, initial_state=state)
    row = model(noisy[1:2], target[1:2], initial_state=[tensor[1:2] for tensor in state])
    for name in whole:
        np.testing.assert_allclose(whole[name][1:2], row[name], rtol=1e-5, atol=1e-6)


def test_k_steps_and_batch_are_free_at_call_time(rng):
    """One trace of unknown B, T and K serves them all."""
    model = nem_tf.RNNEM(small_cell(k=2))
    model.build((None, None, 8, 8, 1))
    frames = tf.TensorSpec([None, None, 8, 8, 1])

    @tf.function(input_signature=[frames, frames, tf.TensorSpec([], tf.int32)])
    def run(noisy, target, k):
        return model(noisy, target, initial_state=model.cell.get_initial_state(tf.shape(noisy)[0], k=k, seed=[0, 0]))

    for batch, steps, k in ((1, 1, 1), (2, 5, 4)):
        noisy = target = binary_frames(rng, batch, steps, 8, 8, 1)
        outputs = run(noisy, target, k)
        assert outputs["predictions"].shape == (batch, steps, k, 8, 8, 1)
        assert outputs["gamma"].shape == (batch, steps, k, 8, 8, 1)
        assert outputs["theta"].shape == (batch, steps, k, 7)
        np.testing.assert_allclose(tf.reduce_sum(outputs["gamma"], 2), 1, rtol=1e-5)


def test_gamma_gradient_changes_gradients_and_not_values(rng):
    noisy, target = binary_frames(rng, 2, 2, 3, 8, 8, 1)
    values, gradients = [], []
    for gamma_gradient in (False, True):
        keras.utils.set_random_seed(0)
        model = nem_tf.RNNEM(small_cell(gamma_gradient=gamma_gradient))
        model.build(noisy.shape)
        for variable in model.trainable_variables:  # fresh components are too alike for gamma to matter
            variable.assign(3 * variable)
        loss = nem_tf.EMLoss(model.cell.mixture)
        with tf.GradientTape() as tape:
            outputs = model(noisy, target, initial_state=model.cell.get_initial_state(2, seed=[0, 1]))
            value = loss.total(loss.terms(outputs, target))
        values.append(value)
        gradients.append(tape.gradient(value, model.trainable_variables))
    np.testing.assert_allclose(*values, rtol=1e-6)
    difference = tf.linalg.global_norm([a - b for a, b in zip(*gradients)])
    assert difference > 1e-3 * tf.linalg.global_norm(gradients[0])


def test_initial_state():
    cell = small_cell(k=3)
    cell.build((None, 8, 8, 2))
    state = cell.get_initial_state(2, seed=[5, 6])
    assert not state.theta.numpy().any()
    assert not state.psi.numpy().any()
    np.testing.assert_allclose(tf.reduce_sum(state.gamma, 1), 1, rtol=1e-6)
    np.testing.assert_array_equal(state.gamma, cell.get_initial_state(2, seed=[5, 6]).gamma)
    assert np.abs(state.gamma - cell.get_initial_state(2).gamma).max() > 0.1
    np.testing.assert_array_equal(cell.get_initial_state(2, k=1, seed=[5, 6]).gamma, np.ones((2, 1, 8, 8, 1)))


def test_what_a_cell_refuses():
    with pytest.raises(ValueError, match="k=0"):
        small_cell(k=0)
    cell = small_cell(image_shape=(4, 4, 1))
    with pytest.raises(ValueError, match="decoder must return"):
        cell.build((None, 8, 8, 2))
    with pytest.raises(ValueError, match="one state"):
        nem_tf.RNNEMCell(cell.encoder, keras.layers.LSTMCell(3), cell.decoder, cell.mixture)
