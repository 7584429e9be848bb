"""The mixtures against NumPy float64 and TensorFlow Probability, and what must hold for any mixture."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from reference import bernoulli_losses, bernoulli_probability, e_step, gaussian_density, gaussian_losses

from nem_tf.layers import BernoulliMixture, GaussianMixture, SpatialMixture

tfd = tfp.distributions


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def case(request, rng):
    """x [B, H, W, C], psi [B, K, H, W, C] with C = 1 and 3."""
    x = (rng.random((2, 5, 6, request.param)) < 0.4).astype(np.float32)
    return x, rng.random((2, 4, 5, 6, request.param)).astype(np.float32)


def test_bernoulli_e_step_is_the_reference(case):
    x, psi = case
    expected = e_step(bernoulli_probability(x[:, None].astype(float), psi.astype(float)))
    np.testing.assert_allclose(BernoulliMixture()(x, psi), expected, rtol=2e-5)


@pytest.mark.parametrize("e_sigma", [0.25, 0.6])
def test_gaussian_e_step_multiplies_densities_over_channels(case, e_sigma):
    x, psi = case
    expected = e_step(gaussian_density(x[:, None].astype(float), psi.astype(float), e_sigma))
    np.testing.assert_allclose(GaussianMixture(e_sigma=e_sigma)(x, psi), expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("mixture", [BernoulliMixture(), GaussianMixture()], ids=["bernoulli", "gaussian"])
def test_likelihood_is_that_of_tfp(case, mixture):
    """log P(x | theta) of MixtureSameFamily, from the same psi."""
    x, psi = case
    last = np.moveaxis(psi, 1, -2)  # [B, H, W, K, C]
    pixel = tfd.Bernoulli(probs=last) if isinstance(mixture, BernoulliMixture) else tfd.Normal(last, 1.0)
    tfp_mixture = tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.zeros(last.shape[:-1])), tfd.Independent(pixel, reinterpreted_batch_ndims=1)
    )
    expected = tf.reduce_sum(tfp_mixture.log_prob(x), axis=[1, 2])
    np.testing.assert_allclose(mixture.log_likelihood(x, psi), expected, rtol=1e-5)


@pytest.mark.parametrize("mixture", [BernoulliMixture(), GaussianMixture()], ids=["bernoulli", "gaussian"])
def test_gamma_sums_to_one_and_follows_a_permutation(case, mixture):
    x, psi = case
    gamma = mixture(x, psi).numpy()
    np.testing.assert_allclose(gamma.sum(1), 1, rtol=1e-6)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(mixture(x, psi[:, order]).numpy(), gamma[:, order], rtol=1e-6)


def test_losses_are_the_reference(case):
    x, psi = case
    gamma = np.random.default_rng(0).dirichlet(np.ones(4), (2, 5, 6)).transpose(0, 3, 1, 2)[..., None]
    for mixture, losses in (
        (BernoulliMixture(), bernoulli_losses),
        (GaussianMixture(), gaussian_losses),
    ):
        intra, inter = losses(x.astype(float), psi.astype(float), gamma)
        axes = (1, 2, 3, 4)
        np.testing.assert_allclose((gamma * mixture.neg_log_prob(x, psi).numpy()).sum(axes), intra, rtol=1e-5)
        np.testing.assert_allclose(((1 - gamma) * mixture.kl_to_prior(psi).numpy()).sum(axes), inter, rtol=1e-5)


def test_the_strongest_prediction_is_that_of_whoever_departs_most_from_the_prior(case):
    """In all channels that of one component; over a prior of 0 the largest, as published."""
    x, psi = case
    for mixture in (BernoulliMixture(), GaussianMixture()):
        np.testing.assert_array_equal(mixture.strongest(psi), psi.max(1))
    mixture = GaussianMixture(prior="image")
    mixture.build(x.shape)
    mixture.background.assign(background := np.full(x.shape[1:], 0.6, np.float32))
    which = ((psi - background) ** 2).sum(-1).argmax(1)  # [B, H, W]
    expected = np.take_along_axis(psi, which[:, None, ..., None], axis=1)[:, 0]
    np.testing.assert_allclose(mixture.strongest(psi), expected, rtol=1e-6)
    np.testing.assert_array_equal(mixture.strongest(psi[:, None])[:, 0], mixture.strongest(psi))


def test_kl_to_another_prior():
    mixture, psi = BernoulliMixture(prior=0.3), np.float32(np.linspace(0.1, 0.9, 5).reshape(5, 1, 1, 1, 1))
    expected = 0.3 * np.log(0.3 / psi) + 0.7 * np.log(0.7 / (1 - psi))
    np.testing.assert_allclose(mixture.kl_to_prior(psi), expected, rtol=1e-5)


def test_certain_predictions_stay_finite_in_value_and_gradient():
    """psi of exactly 0 and 1, right and wrong about x."""
    x = np.float32([[[[0]], [[1]]]])  # [1, 2, 1, 1]
    psi = tf.constant(np.float32([0, 1, 1e-9, 1 - 6e-8]).reshape(1, 4, 1, 1, 1) * np.ones((1, 4, 2, 1, 1), np.float32))
    mixture = BernoulliMixture()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(psi)
        gamma, nll, kl = mixture(x, psi), mixture.neg_log_prob(x, psi), mixture.kl_to_prior(psi)
        total = tf.reduce_sum(gamma * nll + kl)
    for value in (gamma, nll, kl, tape.gradient(total, psi), tape.gradient(gamma, psi)):
        assert np.isfinite(value).all()
    expected = e_step(bernoulli_probability(x[:, None].astype(float), psi.numpy().astype(float)))
    np.testing.assert_allclose(gamma, expected, rtol=0.07)  # the clip moves a p of 0 to 6e-8, under a floor of 1e-6


def test_far_gaussian_predictions_share_the_pixel():
    """All densities underflow: the floor makes them equal, not 0 / 0."""
    gamma = GaussianMixture()(np.zeros((1, 1, 1, 1), np.float32), np.full((1, 3, 1, 1, 1), 1e4, np.float32))
    np.testing.assert_allclose(gamma, np.full((1, 3, 1, 1, 1), 1 / 3), rtol=1e-6)


def many_channels(rng, mixture, channels, spread):
    """x and psi [1, 4, 6, 5, C] float32: three components near x, in units of the spread, and one far from it."""
    if isinstance(mixture, BernoulliMixture):
        x = (rng.random((1, 6, 5, channels)) < 0.4).astype(np.float32)
        offsets = rng.random((1, 4, 6, 5, channels)) * np.array([1, 2, 3, 200]).reshape(4, 1, 1, 1) * spread
        return x, np.abs(x[:, None] - np.minimum(offsets, 1)).astype(np.float32)
    x = rng.random((1, 6, 5, channels)).astype(np.float32) + 0.5
    offsets = rng.standard_normal((1, 4, 6, 5, channels)) * np.array([1, 1.1, 1.2, 40]).reshape(4, 1, 1, 1) * spread
    return x, (x[:, None] + offsets).astype(np.float32)


@pytest.mark.parametrize(
    ("mixture", "channels", "spread", "comparable"),
    [
        (GaussianMixture(e_sigma=0.25), 500, 0.25, True),
        (GaussianMixture(e_sigma=1e-6), 1, 1e-6, True),
        (GaussianMixture(e_sigma=1e-6), 30, 1e-6, True),
        (GaussianMixture(e_sigma=1e-6), 500, 1e-6, False),  # a density of 1e2700: no float64 holds it
        (GaussianMixture(e_sigma=1e-6), 500, 1.0, True),  # and one of 0
        (BernoulliMixture(), 500, 0.005, True),
        (BernoulliMixture(), 500, 0.3, True),  # all of 1e-50 and less: the floor is what is left
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, SpatialMixture) else str(value),
)
def test_e_step_of_many_channels_is_finite_and_the_same_function(rng, mixture, channels, spread, comparable):
    """p / sum p with p = P + 1e-6, wherever float64 holds P; and so is its gradient."""
    x, psi = many_channels(rng, mixture, channels, spread)
    inputs = tf.constant(psi)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        gamma = mixture(x, inputs)
        weighted = tf.reduce_sum(gamma * tf.constant(rng.standard_normal(gamma.shape), tf.float32))
    assert np.isfinite(gamma).all()
    assert np.isfinite(tape.gradient(weighted, inputs)).all()
    np.testing.assert_allclose(tf.reduce_sum(gamma, 1), 1, rtol=1e-5)
    if comparable:
        x, psi = x[:, None].astype(float), psi.astype(float)
        is_gaussian = isinstance(mixture, GaussianMixture)
        p = gaussian_density(x, psi, mixture.e_sigma) if is_gaussian else bernoulli_probability(x, psi)
        np.testing.assert_allclose(gamma, e_step(p), rtol=2e-3, atol=1e-6)
    else:
        assert (gamma.numpy().argmax(1) < 3).all()  # never the one that is far from x


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_of_the_e_step_is_that_of_its_function(rng, channels):
    """Against central differences of p / sum p in float64."""
    mixture = GaussianMixture(e_sigma=0.5)
    x, psi = rng.random((1, 2, 2, channels)), rng.random((1, 3, 2, 2, channels))
    direction = rng.standard_normal((1, 3, 2, 2, 1))
    inputs = tf.constant(psi, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_sum(mixture(np.float32(x), inputs) * tf.constant(direction, tf.float32))
    gradient = tape.gradient(value, inputs).numpy()
    for index in np.ndindex(psi.shape):
        sides = []
        for change in (1e-5, -2e-5, 1e-5):
            psi[index] += change
            sides.append((e_step(gaussian_density(x[:, None], psi, 0.5)) * direction).sum())
        assert gradient[index] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-3, abs=1e-4)


def test_imagined_frames_are_binary_draws_or_means():
    psi = tf.fill((50, 20, 20, 1), 0.3)
    frames = BernoulliMixture().imagine(psi, seed=[1, 2]).numpy()
    assert set(np.unique(frames)) == {0, 1}
    assert abs(frames.mean() - 0.3) < 0.01
    np.testing.assert_array_equal(GaussianMixture().imagine(psi, seed=[1, 2]), psi)


@pytest.mark.parametrize(
    ("mixture", "name", "value"),
    [
        (BernoulliMixture, "prior", 1.5),
        (BernoulliMixture, "prior", -0.1),
        (GaussianMixture, "e_sigma", 0.0),
        (GaussianMixture, "e_sigma", -1.0),
    ],
)
def test_what_a_mixture_refuses(mixture, name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        mixture(**{name: value})


def test_a_prior_of_the_gaussian_is_what_predictions_are_pulled_to():
    psi = np.float32(np.linspace(-1, 1, 5).reshape(5, 1, 1, 1, 1))
    np.testing.assert_allclose(GaussianMixture(prior=0.3).kl_to_prior(psi), (psi - 0.3) ** 2 / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mixture", [BernoulliMixture, GaussianMixture])
def test_a_prior_of_an_image_is_a_prior_for_every_pixel(mixture):
    """That of a constant image is that of the number, and every pixel is pulled to its own."""
    psi = np.float32(np.random.default_rng(0).random((2, 3, 4, 5, 2)))
    image = mixture(prior="image")
    image.build((4, 5, 2))
    assert [weight.name for weight in image.weights] == ["background"]
    assert not image.trainable_weights
    np.testing.assert_allclose(image.kl_to_prior(psi), mixture(prior=0.0).kl_to_prior(psi), rtol=1e-6)
    image.background.assign(np.full((4, 5, 2), 0.3))
    np.testing.assert_allclose(image.kl_to_prior(psi), mixture(prior=0.3).kl_to_prior(psi), rtol=1e-5, atol=1e-7)
    background = np.float32(np.random.default_rng(1).random((4, 5, 2)))
    image.background.assign(background)
    same = np.broadcast_to(background, psi.shape)
    np.testing.assert_allclose(image.kl_to_prior(same), 0, atol=1e-6)
    assert (image.kl_to_prior(psi).numpy() > 0).all()
    with pytest.raises(ValueError, match="prior is a number or"):
        mixture(prior="picture")
