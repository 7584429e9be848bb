"""The unrolled cells against the NumPy reference, and the symmetries of their components."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from conftest import binary_frames, small_cell
from reference import bernoulli_losses, gaussian_density, gaussian_losses

from nem_tf import layers
from nem_tf.layers import RNNEM, BernoulliMixture, EMLoss, GaussianMixture, NEMCell, State


def built(cell, image_shape):
    """The cell unrolled, with its weights."""
    model = RNNEM(cell)
    model.build((None, None, *image_shape))
    return model


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_three_steps_and_their_loss_are_the_reference(rng, compiled):
    model = built(layers.flying_shapes((12, 12, 1), BernoulliMixture(), k=3), (12, 12, 1))
    weights = random_weights(model, rng)
    cell = model.cell
    frames, noisy = binary_frames(rng, 2, 4, 12, 12, 1), binary_frames(rng, 2, 3, 12, 12, 1)
    state = cell.get_initial_state(2, seed=[1, 2])
    loss = EMLoss(cell.mixture, inter_weight=0.7, step_weights=[0.5, 1, 2])

    def run():
        outputs = model(noisy, frames[:, 1:], initial_state=state)
        terms = loss.terms(outputs, frames[:, 1:])
        return outputs, terms, loss.total(terms)

    outputs, terms, total = tf.function(run)() if compiled else run()
    target = frames[:, 1:].astype(float)
    psi, gamma, theta = reference.em(
        reference.flying_shapes(weights), noisy.astype(float), target, state.gamma.numpy().astype(float), units=100
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


def random_weights(model, rng):
    """Layer norm and biases away from their trivial start; the weights in the order of the reference."""
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    return [w for part in (model.cell.encoder, model.cell.core, model.cell.decoder) for w in part.get_weights()]


def check(outputs, expected):
    for name, value in zip(("predictions", "gamma", "theta"), expected):
        np.testing.assert_allclose(outputs[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_flying_mnist_and_its_gaussian_loss_are_the_reference(rng):
    model = built(layers.flying_mnist((16, 16, 1), GaussianMixture(), k=2), (16, 16, 1))
    weights = random_weights(model, rng)
    noisy, target = rng.random((2, 2, 3, 16, 16, 1))
    state = model.cell.get_initial_state(2, seed=[1, 2])
    outputs = model(np.float32(noisy), np.float32(target), initial_state=state)
    psi, gamma, theta = reference.em(
        reference.flying_mnist(weights), noisy, target, state.gamma.numpy().astype(float), units=250,
        probability=lambda x, mean: gaussian_density(x, mean, 0.25),
    )  # fmt: skip
    check(outputs, (psi, gamma, theta))
    terms = EMLoss(model.cell.mixture, inter_weight=0.2).terms(outputs, np.float32(target))
    intra, inter = (
        np.stack(v, 1) for v in zip(*(gaussian_losses(target[:, t], psi[:, t], gamma[:, t]) for t in range(3)))
    )
    np.testing.assert_allclose(terms.loss, intra + 0.2 * inter, rtol=1e-3)


def test_standardisation_is_finite_on_constant_images_values_and_gradients(rng):
    encoder = layers.flying_mnist((24, 24, 1), GaussianMixture()).encoder
    standardise = encoder.layers[0]
    images = np.stack([np.full((24, 24, 1), c, np.float32) for c in (0, 1 / 3, 1)])
    np.testing.assert_allclose(standardise(images), 0, atol=0.1)
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(encoder(x) ** 2)
    assert np.isfinite(tape.gradient(y, x)).all()
    faint = np.float32(1e-3 * rng.random((2, 24, 24, 1)) + 0.5)
    standard = standardise(faint).numpy()
    np.testing.assert_allclose(standard.std((1, 2, 3)), 1, rtol=0.01)
    np.testing.assert_allclose(standard.mean((1, 2, 3)), 0, atol=0.01)


def test_static_rnn_em_is_the_reference(rng):
    model = built(layers.static_rnn_em((6, 6, 1), BernoulliMixture(), k=4), (6, 6, 1))
    weights = random_weights(model, rng)
    noisy, target = binary_frames(rng, 2, 2, 3, 6, 6, 1)
    state = model.cell.get_initial_state(2, seed=[1, 2])
    outputs = model(noisy, target, initial_state=state)
    expected = reference.em(reference.static_rnn_em(weights), noisy, target, state.gamma.numpy(), units=250)
    check(outputs, expected)


def n_em_model(rng, mixture):
    model = built(layers.NEMCell(units=5, mixture=mixture, k=3), (6, 6, 1))
    assert float(model.cell.eta) == 1
    model.cell.kernel.assign(rng.standard_normal(model.cell.kernel.shape))
    model.cell.eta.assign(0.3)
    return model


def test_n_em_is_the_reference(rng):
    model = n_em_model(rng, BernoulliMixture())
    noisy, target = binary_frames(rng, 2, 2, 3, 6, 6, 1)
    state = model.cell.get_initial_state(2, seed=[1, 2])
    outputs = model(noisy, target, initial_state=state)
    network = reference.n_em(model.cell.kernel.numpy().astype(float), 0.3)
    check(outputs, reference.em(network, noisy, target, state.gamma.numpy(), units=5))
    assert len(model.trainable_variables) == 2  # W, tied, and eta


@pytest.mark.parametrize("mixture", [BernoulliMixture(), GaussianMixture()], ids=lambda mixture: type(mixture).__name__)
def test_the_m_step_of_n_em_ascends_the_gradient_of_the_expected_log_likelihood(rng, mixture):
    model = n_em_model(rng, mixture)
    cell = model.cell
    theta = tf.constant(rng.standard_normal((2, 3, 5)), tf.float32)
    x = binary_frames(rng, 2, 6, 6, 1)
    gamma = tf.constant(rng.dirichlet(np.ones(3), (2, 6, 6)).transpose(0, 3, 1, 2)[..., None], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        link = keras.activations.get(mixture.inverse_link)
        psi = link(tf.matmul(tf.sigmoid(theta), cell.kernel, transpose_b=True))
        psi = tf.reshape(psi, (2, 3, 6, 6, 1))
        expected_log_likelihood = tf.reduce_sum(gamma * mixture.log_prob(x, psi))
    gradient = tape.gradient(expected_log_likelihood, theta)
    _, stepped = cell.m_step(gamma * (x[:, None] - psi), theta)
    np.testing.assert_allclose(stepped - theta, 0.3 * gradient, rtol=1e-3, atol=1e-5)


def test_a_rollout_feeds_on_what_it_imagines(rng):
    model = built(small_cell(), (8, 8, 1))
    noisy = binary_frames(rng, 2, 8, 8, 1)
    cell, state = model.cell, model.cell.get_initial_state(2, seed=[0, 1])

    def imagine(psi, t):
        strongest = tf.reduce_max(psi, axis=1)
        return strongest**2, psi[:, 1] / tf.cast(t + 2, tf.float32)

    outputs = tf.function(lambda: model.rollout(noisy, state, 3, imagine))()
    for t in range(3):
        psi, theta = cell.m_step(state.gamma * (noisy[:, None] - state.psi), state.theta)
        np.testing.assert_allclose(outputs["noisy"][:, t], noisy, rtol=1e-4, atol=1e-6)
        frame, noisy = imagine(psi, t)
        state = State(theta, psi, cell.e_step(frame, psi))
        np.testing.assert_allclose(outputs["predictions"][:, t], psi, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(outputs["gamma"][:, t], state.gamma, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(outputs["theta"][:, t], theta, rtol=1e-4, atol=1e-6)


def test_permuting_the_components_permutes_the_outputs_and_not_the_loss(rng):
    model = built(small_cell(k=4), (8, 8, 1))
    noisy, target = binary_frames(rng, 2, 2, 3, 8, 8, 1)
    state = model.cell.get_initial_state(2, seed=[0, 1])
    order = [3, 1, 0, 2]
    permuted = State(*(tf.gather(tensor, order, axis=1) for tensor in state))
    one, other = model(noisy, target, initial_state=state), model(noisy, target, initial_state=permuted)
    loss = EMLoss(model.cell.mixture)
    np.testing.assert_allclose(loss.terms(one, target).loss, loss.terms(other, target).loss, rtol=1e-5)
    for name, tensor in one.items():
        np.testing.assert_allclose(tf.gather(tensor, order, axis=2), other[name], rtol=1e-4, atol=1e-6)


def test_batch_rows_do_not_see_each_other(rng):
    model = built(small_cell(), (8, 8, 1))
    noisy, target = binary_frames(rng, 2, 3, 2, 8, 8, 1)
    state = model.cell.get_initial_state(3, seed=[0, 1])
    whole = model(noisy, target, initial_state=state)
    row = model(noisy[1:2], target[1:2], initial_state=[tensor[1:2] for tensor in state])
    for name in whole:
        np.testing.assert_allclose(whole[name][1:2], row[name], rtol=1e-5, atol=1e-6)


def test_k_steps_and_batch_are_free_at_call_time(rng):
    """One trace of unknown B, T and K serves them all."""
    model = built(small_cell(k=2), (8, 8, 1))
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
        model = built(small_cell(gamma_gradient=gamma_gradient), (8, 8, 1))
        for variable in model.trainable_variables:  # fresh components are too alike for gamma to matter
            variable.assign(3 * variable)
        loss = EMLoss(model.cell.mixture)
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
    for k in (0, 2.5):
        with pytest.raises(ValueError, match=f"at least 1; received k={k}"):
            small_cell(k=k)
    cell = small_cell(image_shape=(4, 4, 1))
    with pytest.raises(ValueError, match="decoder must return"):
        cell.build((None, 8, 8, 2))
    with pytest.raises(ValueError, match="one state"):
        layers.RNNEMCell(cell.encoder, keras.layers.LSTMCell(3), cell.decoder, cell.mixture)
    with pytest.raises(ValueError, match="mixture is a SpatialMixture"):
        NEMCell(BernoulliMixture(), 5)
    with pytest.raises(ValueError, match="units is the size of theta"):
        NEMCell(0, BernoulliMixture())
    with pytest.raises(ValueError, match="cell is an RNNEMCell"):
        RNNEM(keras.layers.GRUCell(3))


@pytest.mark.parametrize(
    ("noisy", "target", "match"),
    [
        ((2, 3, 8, 8, 3), (2, 3, 8, 8, 3), r"\[.., \(8, 8, 1\)\]; received"),
        ((2, 3, 8, 8, 1), (2, 3, 8, 8, 3), "received"),
        ((2, 3, 8, 1, 1), (2, 3, 8, 1, 1), "received"),
        ((2, 3, 8, 8, 1), (2, 2, 8, 8, 1), "received"),
        ((1, 3, 8, 8, 1), (2, 3, 8, 8, 1), "received"),
    ],
)
def test_frames_that_would_be_broadcast_are_refused(noisy, target, match):
    model = built(small_cell(), (8, 8, 1))
    with pytest.raises(ValueError, match=match):
        model(tf.zeros(noisy), tf.zeros(target))


def test_a_single_frame_is_no_step():
    with pytest.raises(ValueError, match="T \\+ 1 frames make T steps"):
        built(small_cell(), (8, 8, 1))(tf.zeros((2, 0, 8, 8, 1)), tf.zeros((2, 0, 8, 8, 1)))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
def test_a_sequence_of_one_frame_has_the_state_before_it(compiled):
    model, frames = built(small_cell(), (8, 8, 1)), tf.zeros((2, 1, 8, 8, 1))
    state = model.cell.get_initial_state(2, seed=[0, 1])
    outputs = (tf.function(model.sequence) if compiled else model.sequence)(frames, state)
    np.testing.assert_array_equal(outputs["gamma"][:, 0], state.gamma)
    assert outputs["predictions"].shape == (2, 1, 3, 8, 8, 1)


def test_frames_of_whole_numbers_and_of_no_batch_are_refused():
    model = RNNEM(small_cell())
    with pytest.raises(ValueError, match=r"frames \[B, T, H, W, C\]"):
        model(tf.zeros((3, 8, 8, 1)), tf.zeros((3, 8, 8, 1)))
    whole = tf.zeros((2, 3, 8, 8, 1), tf.uint8)
    with pytest.raises(ValueError, match="floating frames, from 0 to 1; received uint8"):
        model(whole, whole)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.segment(np.zeros((2, 8, 8))),
        lambda model: model.functional(),
        lambda model: model.cell.get_initial_state(2),
    ],
)
def test_what_needs_the_size_of_the_frames_says_so(use):
    with pytest.raises(ValueError, match="call the model with frames, or build it, first"):
        use(RNNEM(small_cell()))


def test_a_fresh_state_has_the_components_of_the_cell_and_a_given_one_its_own(rng):
    model = built(small_cell(k=2), (8, 8, 1))
    frames = binary_frames(rng, 3, 2, 8, 8, 1)
    assert model(frames, frames)["gamma"].shape == (3, 2, 2, 8, 8, 1)
    five = model(frames, frames, initial_state=model.cell.get_initial_state(3, k=5, seed=[0, 1]))
    assert five["gamma"].shape == (3, 2, 5, 8, 8, 1)


def test_the_seed_of_a_cell_is_that_of_its_first_responsibilities():
    def first(seed):
        cell = layers.NEMCell(5, BernoulliMixture(), seed=seed)
        cell.build((None, 4, 4, 2))
        return cell.get_initial_state(2).gamma.numpy()

    np.testing.assert_array_equal(first(3), first(3))
    assert np.abs(first(3) - first(4)).max() > 0.1


def test_the_error_of_one_step_goes_back_through_all_before_it(rng):
    """Where only the last step counts, the frames before it still matter."""
    model = built(small_cell(), (8, 8, 1))
    noisy, target = (tf.constant(frames) for frames in binary_frames(rng, 2, 2, 3, 8, 8, 1))
    loss = EMLoss(model.cell.mixture, step_weights="last")
    with tf.GradientTape() as tape:
        tape.watch(noisy)
        outputs = model(noisy, target, initial_state=model.cell.get_initial_state(2, seed=[0, 1]))
        value = loss.total(loss.terms(outputs, target))
    gradient = np.abs(tape.gradient(value, noisy)).sum(axis=(0, 2, 3, 4))
    assert (gradient > 0).all()


def test_predictions_start_from_the_mean_of_the_prior():
    """So that a background need not be explained first; 0 in the paper."""
    for prior, expected in ((0.0, 0.0), (0.3, 0.3), ("image", 0.7)):
        cell = small_cell(mixture=BernoulliMixture(prior=prior))
        cell.build((None, 8, 8, 2))
        if prior == "image":
            cell.mixture.background.assign(np.full((8, 8, 1), expected))
        state = cell.get_initial_state(2, k=5)
        np.testing.assert_allclose(state.psi, np.full((2, 5, 8, 8, 1), expected), rtol=1e-6)


@pytest.mark.parametrize("kind", ["RNN-EM", "N-EM"])
def test_what_a_gaussian_decodes_is_the_difference_from_the_background(kind):
    """The same weights predict the same, moved by the background; a prior that is a number moves nothing."""

    def predicted(prior):
        mixture = GaussianMixture(prior=prior)
        keras.utils.set_random_seed(0)
        cell = small_cell(mixture=mixture) if kind == "RNN-EM" else NEMCell(5, mixture)
        cell.build((None, 8, 8, 2))
        if prior == "image":
            mixture.background.assign(background)
        psi, _ = cell.m_step(masked, theta=tf.ones((2, 3, cell.units)))
        return psi

    rng = np.random.default_rng(0)
    masked, background = rng.normal(size=(2, 3, 8, 8, 1)).astype("float32"), rng.random((8, 8, 1)).astype("float32")
    np.testing.assert_allclose(predicted("image"), predicted(0.0) + background, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(predicted(0.4), predicted(0.0))


@pytest.mark.parametrize("k", [1, 3])
def test_responsibilities_are_numbers_where_every_draw_is_zero(monkeypatch, k):
    cell = built(small_cell(k=k), (8, 8, 1)).cell
    monkeypatch.setattr(tf.random, "stateless_normal", lambda shape, *_, dtype, **__: tf.zeros(shape, dtype))
    np.testing.assert_allclose(cell.get_initial_state(2).gamma, 1 / k, rtol=1e-6)
