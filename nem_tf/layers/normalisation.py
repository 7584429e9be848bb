"""The authors' layer norm, and the block that all of their networks are made of."""

import keras
import tensorflow as tf
from keras import layers


@tf.custom_gradient
def _normalise(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor):
    """scale * (x - mean) / sqrt(variance) + offset: x [B, .., C], its mean and variance [B, 1, .., 1], the others [C].

    The gradient is written out because TensorFlow's goes over tensors of the size of x twice as often, by twice as many
    operations.
    """
    features, pixels = list(range(1, len(x.shape))), list(range(1, len(x.shape) - 1))
    centred = x - tf.reduce_mean(x, features, keepdims=True)
    inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), features, keepdims=True) + LayerNorm.EPSILON)
    slope = inverse * scale  # [B, 1, .., C]

    def gradient(dy):
        # Sums over the pixels come first, so that only they and dx itself go over tensors of the size of x.
        doffset = tf.reduce_sum(dy, pixels, keepdims=True)
        dscale = inverse * tf.reduce_sum(dy * centred, pixels, keepdims=True)
        size = tf.cast(tf.size(x) / tf.shape(x)[0], x.dtype)
        mean = tf.reduce_sum(scale * doffset, features, keepdims=True) / size  # of the gradient by the normalised x
        slant = tf.reduce_sum(scale * dscale, features, keepdims=True) / size  # of it times the normalised x
        dx = slope * dy - (inverse * inverse * slant * centred + inverse * mean)
        batch_and_pixels = [0, *pixels]
        return dx, tf.reduce_sum(dscale, batch_and_pixels), tf.reduce_sum(doffset, batch_and_pixels)

    return centred * slope + offset, gradient


@keras.saving.register_keras_serializable("nem_tf")
class LayerNorm(layers.Layer):
    """The authors' layer norm: mean and variance over ALL non-batch axes, scale and offset per channel (last axis).

    `keras.layers.LayerNormalization` normalises the last axis only and is another function on a feature map;
    `keras.layers.GroupNormalization` of one group is this one, with TensorFlow's gradient. Computed in float32.

    Arguments:
        affine: whether there are a scale and an offset.

    Call: [B, .., C] -> the same. Weights: `gamma` [C] (ones) and `beta` [C] (zeros), if affine.
    """

    EPSILON = 1e-12

    def __init__(self, affine: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.affine = affine

    def build(self, input_shape: tuple) -> None:
        if self.affine:
            self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
            self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, tf.float32)
        channels = x.shape[-1]
        scale, offset = (self.gamma, self.beta) if self.affine else (tf.ones(channels), tf.zeros(channels))
        y = _normalise(x, tf.cast(scale, tf.float32), tf.cast(offset, tf.float32))
        return tf.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "affine": self.affine}


def block(linear: layers.Layer, activation: str) -> list[layers.Layer]:
    """linear + bias -> layer norm -> activation, the order of the authors' layers.

    Norm and activation are float32 whatever the policy: more exact, and faster on a CPU, which has bfloat16
    instructions for products only.
    """
    return [linear, LayerNorm(dtype="float32"), layers.Activation(activation, dtype="float32")]
