"""The mixtures against NumPy float64 and TensorFlow Probability, and what must hold for any mixture."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from reference import bernoulli_losses, bernoulli_probability, e_step, gaussian_density, gaussian_losses

import nem_tf

tfd = tfp.distributions


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def case(request, rng):
    """x [B, H, W, C], psi [B, K, H, W, C] with C = 1 and 3."""
    x = (rng.random((2, 5, 6, request.param)) < 0.4).astype(np.float32)
    return x, rng.random((2, 4, 5, 6, request.param)).astype(np.float32)


def test_bernoulli_e_step_is_the_reference(case):
    x, psi = case
    expected = e_step(bernoulli_probability(x[:, None].astype(float), psi.astype(float)))
    np.testing.assert_allclose(nem_tf.BernoulliMixture()(x, psi), expected, rtol=2e-5)


@pytest.mark.parametrize("e_sigma", [0.25, 0.6])
def test_gaussian_e_step_multiplies_densities_over_channels(case, e_sigma):
    x, psi = case
    expected = e_step(gaussian_density(x[:, None].astype(float), psi.astype(float), e_sigma))
    np.testing.assert_allclose(nem_tf.GaussianMixture(e_sigma=e_sigma)(x, psi), expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize(
    "mixture", [nem_tf.BernoulliMixture(), nem_tf.GaussianMixture()], ids=["bernoulli", "gaussian"]
)
def test_likelihood_is_that_of_tfp(case, mixture):
    """log P(x | theta) of MixtureSameFamily, from the same psi."""
    x, psi = case
    last = np.moveaxis(psi, 1, -2)  # [B, H, W, K, C]
    pixel = tfd.Bernoulli(probs=last) if isinstance(mixture, nem_tf.BernoulliMixture) else tfd.Normal(last, 1.0)
    tfp_mixture = tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.zeros(last.shape[:-1])), tfd.Independent(pixel, reinterpreted_batch_ndims=1)
    )
    expected = tf.reduce_sum(tfp_mixture.log_prob(x), axis=[1, 2])
    np.testing.assert_allclose(mixture.log_likelihood(x, psi), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "mixture", [nem_tf.BernoulliMixture(), nem_tf.GaussianMixture()], ids=["bernoulli", "gaussian"]
)
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
        (nem_tf.BernoulliMixture(), bernoulli_losses),
        (nem_tf.GaussianMixture(), gaussian_losses),
    ):
        intra, inter = losses(x.astype(float), psi.astype(float), gamma)
        axes = (1, 2, 3, 4)
        np.testing.assert_allclose((gamma * mixture.neg_log_prob(x, psi).numpy()).sum(axes), intra, rtol=1e-5)
        np.testing.assert_allclose(((1 - gamma) * mixture.kl_to_prior(psi).numpy()).sum(axes), inter, rtol=1e-5)


def test_kl_to_another_prior():
    mixture, psi = nem_tf.BernoulliMixture(prior=0.3), np.float32(np.linspace(0.1, 0.9, 5).reshape(5, 1, 1, 1, 1))
    expected = 0.3 * np.log(0.3 / psi) + 0.7 * np.log(0.7 / (1 - psi))
    np.testing.assert_allclose(mixture.kl_to_prior(psi), expected, rtol=1e-5)


def test_certain_predictions_stay_finite_in_value_and_gradient():
    """psi of exactly 0 and 1, right and wrong about x."""
    x = np.float32([[[[0]], [[1]]]])  # [1, 2, 1, 1]
    psi = tf.constant(np.float32([0, 1, 1e-9, 1 - 6e-8]).reshape(1, 4, 1, 1, 1) * np.ones((1, 4, 2, 1, 1), np.float32))
    mixture = nem_tf.BernoulliMixture()
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
    gamma = nem_tf.GaussianMixture()(np.zeros((1, 1, 1, 1), np.float32), np.full((1, 3, 1, 1, 1), 1e4, np.float32))
    np.testing.assert_allclose(gamma, np.full((1, 3, 1, 1, 1), 1 / 3), rtol=1e-6)
