"""Noise on the frames that the components see (paper, section 4). It is on in training, validation and test."""

import inspect
import numbers
from collections.abc import Callable

import keras
import tensorflow as tf

from nem_tf.layers.precision import float32_only


class FrameNoise(keras.layers.Layer):
    """What the noises share: where Bernoulli(rate), a value is replaced.

    Arguments:
        rate: probability that a value is replaced, in [0, 1].
        seed: seed of the draws where a call names none.

    Call arguments:
        frames: floating, any shape.
        seed: int32 or int64 [2], makes the draw a pure function of it; by default every call draws anew.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**float32_only(kwargs))
        if not (isinstance(rate, numbers.Real) and 0 <= rate <= 1):
            raise ValueError(f"rate is a probability, in [0, 1]; received rate={rate!r}")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def replacement(self, frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must say what replaces a value")

    def call(self, frames: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        if seed is None:
            seed = self.seed_generator.next()
        where_seed, what_seed = tf.unstack(tf.random.split(seed, alg="philox"))
        replaced = _uniform(frames, where_seed) < self.rate
        return tf.where(replaced, self.replacement(frames, what_seed), frames)

    def compute_output_shape(self, frames_shape: tuple, seed_shape: tuple | None = None) -> tuple:
        return frames_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable("nem_tf")
class BitflipNoise(FrameNoise):
    """x XOR Bernoulli(rate), for binary frames."""

    def replacement(self, frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return 1 - frames


@keras.saving.register_keras_serializable("nem_tf")
class MaskedUniformNoise(FrameNoise):
    """Uniform(0, 1) where Bernoulli(rate), for grey frames."""

    def replacement(self, frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return _uniform(frames, seed)


def check_noise(noise: Callable) -> None:
    """Refuses what cannot be called with frames and seed, as a `FrameNoise` can.

    Raises:
        ValueError: the call of `noise` takes no `seed`.
    """
    call = noise.call if isinstance(noise, keras.Layer) else noise
    takes = inspect.signature(call).parameters.values() if callable(call) and not inspect.isclass(call) else ()
    if not any(parameter.name == "seed" or parameter.kind is parameter.VAR_KEYWORD for parameter in takes):
        raise ValueError(
            f"a noise is a layer that is called with frames and a seed, e.g. BitflipNoise(0.2); received {noise!r}"
        )


def _uniform(like, seed):
    return tf.random.stateless_uniform(tf.shape(like), seed, dtype=like.dtype, alg="philox")
