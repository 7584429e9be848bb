"""Spatial mixtures: every pixel is drawn from exactly one of K components.

Paper section 2, equation 1:  P(x | theta) = prod_i sum_k pi_k P(x_i | psi_ik)  with  pi_k = 1/K.
One `log_prob` serves the likelihood, the E-step and the loss. All arithmetic is in float32 whatever the precision
policy: a responsibility is a ratio of probabilities that may all be tiny.
"""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from nem_tf.layers.precision import float32_only

tfd = tfp.distributions

COMPONENTS = -4  # the K axis of [..., K, H, W, C]
IMAGE = "image"  # a prior with a mean for every pixel
PROBABILITY_FLOOR = 1e-6  # added to P(x_i | psi_ik) in the E-step, and the clip of probabilities in the loss


class SpatialMixture(keras.layers.Layer):
    """What the mixtures share. Calling the layer is the E-step.

    Arguments:
        prior: the mean of the prior that the inter-component loss pulls unassigned predictions to, and that predictions
            start from (0 in the paper); or "image", a mean for every pixel: the weight `background` [H, W, C], not
            trained, 0 until it is assigned.

    A subclass says in `inverse_link` which Keras activation makes the mean of the natural parameter: that of the last
    layer of a decoder.

    In every method `x` is [..., H, W, C] and `psi` is [..., K, H, W, C], floating, the leading axes equal. The C
    channels of a pixel belong to one component together: their log-probabilities add up.
    """

    inverse_link: str

    def __init__(self, prior: float | str = 0.0, **kwargs):
        super().__init__(**float32_only(kwargs))
        if prior != IMAGE and (isinstance(prior, str) or prior is None or not math.isfinite(prior)):
            raise ValueError(f'prior is a number or "{IMAGE}"; received prior={prior!r}')
        self.prior = prior
        self.built = prior != IMAGE

    def build(self, x_shape: tuple, psi_shape: tuple | None = None) -> None:
        """Makes the background, of x [..., H, W, C], where the prior is an image."""
        if self.prior == IMAGE:
            self.background = self.add_weight(
                name="background", shape=tuple(x_shape[-3:]), initializer="zeros", trainable=False
            )

    @property
    def settings(self) -> dict:
        """Its arguments, without name and precision: what tells two mixtures of a class apart."""
        return {name: value for name, value in self.get_config().items() if name not in ("name", "trainable", "dtype")}

    @property
    def prior_mean(self) -> tf.Tensor | float:
        """The mean of the prior, a number or [H, W, C].

        Raises:
            ValueError: it is an image, and the mixture was not built.
        """
        if not self.built:
            raise ValueError("there is no background before a cell is built with this mixture; a loss takes the cell's")
        return tf.convert_to_tensor(self.background) if self.prior == IMAGE else self.prior

    def around_prior(self, decoded: tf.Tensor) -> tf.Tensor:
        """Returns the means [..., K, H, W, C] that the output of a decoder stands for, which follows `inverse_link`."""
        return decoded

    def distribution(self, psi: tf.Tensor, temperature: float | None = None) -> tfd.Distribution:
        """P(. | psi), per pixel and channel; `temperature` replaces the scale of a distribution that has one."""
        raise NotImplementedError(f"{type(self).__name__} must say which distribution psi parametrises")

    def imagine(self, psi: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """A frame as the data have them, from a mean [..., H, W, C]: where the mean itself is none, a draw.

        Arguments:
            psi: the mean.
            seed: int [2], of the draw.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what a frame is")

    def neg_log_prob(self, x: tf.Tensor, psi: tf.Tensor) -> tf.Tensor:
        """-log P(x_i | psi_ik) [..., K, H, W, 1] as the loss counts it: clipped, without constants."""
        raise NotImplementedError(f"{type(self).__name__} must say how the loss counts a pixel")

    def kl_to_prior(self, psi: tf.Tensor) -> tf.Tensor:
        """KL(prior || P(. | psi_ik)) [..., K, H, W, 1], at least 0."""
        raise NotImplementedError(f"{type(self).__name__} must say what its prior is")

    def strongest(self, psi: tf.Tensor) -> tf.Tensor:
        """Returns what the components predict together where no frame tells which of them is right, [..., H, W, C].

        max_k psi_k over a prior of 0, as the papers have it; else, in every pixel, the psi_k that departs most from
        the prior: where objects are darker than the background, the largest value is that of whoever holds nothing.
        """
        if self.prior == 0:
            return tf.reduce_max(psi, axis=COMPONENTS)
        departure = _over_channels(tf.square(psi - self.prior_mean))  # [..., K, H, W, 1]
        which = tf.argmax(departure, axis=COMPONENTS)  # [..., H, W, 1]
        axis = len(psi.shape) + COMPONENTS
        chosen = tf.one_hot(which, tf.shape(psi)[axis], on_value=True, off_value=False, axis=axis, dtype=tf.bool)
        return tf.reduce_sum(tf.where(chosen, psi, 0.0), axis=axis)

    def log_prob(self, x: tf.Tensor, psi: tf.Tensor, temperature: float | None = None) -> tf.Tensor:
        """log P(x_i | psi_ik) [..., K, H, W, 1]."""
        log_prob = self.distribution(psi, temperature).log_prob(tf.expand_dims(x, COMPONENTS))
        return _over_channels(log_prob)

    def log_likelihood(self, x: tf.Tensor, psi: tf.Tensor) -> tf.Tensor:
        """log P(x | theta) [...]: the log of equation 1, summed over the pixels."""
        log_mixing_weight = -tf.math.log(tf.cast(tf.shape(psi)[COMPONENTS], psi.dtype))
        per_pixel = tf.reduce_logsumexp(self.log_prob(x, psi) + log_mixing_weight, axis=COMPONENTS)  # [..., H, W, 1]
        return tf.reduce_sum(per_pixel, axis=[-3, -2, -1])

    def e_step(self, x: tf.Tensor, psi: tf.Tensor) -> tf.Tensor:
        """gamma_ik = p_ik / sum_j p_ij with p = P(x_i | psi_ik) + 1e-6 (paper, equation 2).

        Returns [..., K, H, W, 1] in [0, 1]; sums to 1 over K.
        """
        return self._responsibilities(self.log_prob(x, psi))

    def call(self, x: tf.Tensor, psi: tf.Tensor) -> tf.Tensor:
        return self.e_step(x, psi)

    def compute_output_shape(self, x_shape: tuple, psi_shape: tuple) -> tuple:
        return (*psi_shape[:-1], 1)

    @staticmethod
    def _responsibilities(log_prob):
        # Shifted by the largest exponent: a density of many channels or of a small sigma would overflow.
        log_floor = math.log(PROBABILITY_FLOOR)
        largest = tf.reduce_max(log_prob, axis=COMPONENTS, keepdims=True)
        shift = tf.stop_gradient(tf.maximum(largest, log_floor))
        p = tf.exp(log_prob - shift) + tf.exp(log_floor - shift)
        return p / tf.reduce_sum(p, axis=COMPONENTS, keepdims=True)

    def get_config(self) -> dict:
        return {**super().get_config(), "prior": self.prior}


@keras.saving.register_keras_serializable("nem_tf")
class BernoulliMixture(SpatialMixture):
    """Binary images: psi is the mean, in [0, 1]; x is 0 or 1.

    Arguments:
        prior: the mean of the prior, in [0, 1], or "image".

    Raises:
        ValueError: a prior that is no probability.
    """

    inverse_link = "sigmoid"

    # The float32 spacing just below 1: keeps log(psi) and log(1 - psi) and their gradients finite, and stays well
    # under the floor of the E-step, so that responsibilities are those of an unclipped psi.
    EPSILON = 2.0**-24

    def __init__(self, prior: float | str = 0.0, **kwargs):
        super().__init__(prior=prior, **kwargs)
        if prior != IMAGE and not 0 <= prior <= 1:
            raise ValueError(f"prior is a probability, in [0, 1]; received prior={prior}")

    def distribution(self, psi: tf.Tensor, temperature: float | None = None) -> tfd.Distribution:
        return tfd.Bernoulli(probs=tf.clip_by_value(psi, self.EPSILON, 1 - self.EPSILON), dtype=psi.dtype)

    def imagine(self, psi: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        # Fed with means, which are no binary frames, a model fades to black within a few steps.
        return tf.cast(tf.random.stateless_uniform(tf.shape(psi), seed, dtype=psi.dtype, alg="philox") < psi, psi.dtype)

    @staticmethod
    def _responsibilities(log_prob):
        p = tf.exp(log_prob) + PROBABILITY_FLOOR  # no shift: a probability is at most 1
        return p / tf.reduce_sum(p, axis=COMPONENTS, keepdims=True)

    def neg_log_prob(self, x: tf.Tensor, psi: tf.Tensor) -> tf.Tensor:
        log_prob = self.distribution(psi).log_prob(tf.expand_dims(x, COMPONENTS))  # [..., K, H, W, C]
        clipped = tf.clip_by_value(log_prob, math.log(PROBABILITY_FLOOR), math.log1p(-PROBABILITY_FLOOR))
        return -_over_channels(clipped)

    def kl_to_prior(self, psi: tf.Tensor) -> tf.Tensor:
        clipped = tf.clip_by_value(psi, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        # Written out, since TFP goes through logits of the means, which are probabilities here.
        prior = tf.convert_to_tensor(self.prior_mean, psi.dtype)
        cross_entropy = -(prior * tf.math.log(clipped) + (1 - prior) * tf.math.log1p(-clipped))
        entropy = tfd.Bernoulli(probs=prior).entropy()
        return _over_channels(cross_entropy - entropy)


@keras.saving.register_keras_serializable("nem_tf")
class GaussianMixture(SpatialMixture):
    """Real-valued images: psi is the mean, the variance is fixed.

    Arguments:
        prior: mean of the prior, whose standard deviation is 1 as in the loss, or "image".
        e_sigma: standard deviation in the E-step, above 0. A temperature only: the loss and the likelihood use 1.

    Raises:
        ValueError: e_sigma that is not above 0 and finite.
    """

    inverse_link = "linear"

    def __init__(self, prior: float | str = 0.0, e_sigma: float = 0.25, **kwargs):
        if not 0 < e_sigma < math.inf:
            raise ValueError(f"e_sigma is a standard deviation, above 0; received e_sigma={e_sigma}")
        super().__init__(prior=prior, **kwargs)
        self.e_sigma = e_sigma

    def around_prior(self, decoded: tf.Tensor) -> tf.Tensor:
        # Nothing decoded is the background: a component need not learn it before it can learn an object.
        return decoded + self.background if self.prior == IMAGE else decoded

    def distribution(self, psi: tf.Tensor, temperature: float | None = None) -> tfd.Distribution:
        return tfd.Normal(loc=psi, scale=tf.constant(1.0 if temperature is None else temperature, psi.dtype))

    def log_prob(self, x: tf.Tensor, psi: tf.Tensor, temperature: float | None = None) -> tf.Tensor:
        # Of the difference: TFP divides x and psi by the scale before it subtracts them, which leaves no digits of a
        # difference as small as the scale.
        centred = self.distribution(tf.zeros((), psi.dtype), temperature)
        return _over_channels(centred.log_prob(tf.expand_dims(x, COMPONENTS) - psi))

    def imagine(self, psi: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return psi

    def neg_log_prob(self, x: tf.Tensor, psi: tf.Tensor) -> tf.Tensor:
        log_normaliser = 0.5 * math.log(2 * math.pi) * psi.shape[-1]
        return -self.log_prob(x, psi) - log_normaliser  # (psi - x)^2 / 2

    def kl_to_prior(self, psi: tf.Tensor) -> tf.Tensor:
        kl = self.distribution(tf.convert_to_tensor(self.prior_mean, psi.dtype)).kl_divergence(self.distribution(psi))
        return _over_channels(kl)

    def e_step(self, x: tf.Tensor, psi: tf.Tensor) -> tf.Tensor:
        return self._responsibilities(self.log_prob(x, psi, temperature=self.e_sigma))

    def get_config(self) -> dict:
        return {**super().get_config(), "e_sigma": self.e_sigma}


def _over_channels(terms: tf.Tensor) -> tf.Tensor:
    """[..., K, H, W, C] -> [..., K, H, W, 1], summed."""
    # The sum of one channel is the channel, and costs more than all that is computed of it.
    return terms if terms.shape[-1] == 1 else tf.reduce_sum(terms, axis=-1, keepdims=True)
