"""What is computed in float32 whatever the precision of the networks."""

from typing import Any

import keras
import tensorflow as tf


def float32_only(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments of a layer, its dtype float32 also where Keras' global policy is another.

    Responsibilities are ratios of probabilities that may all be tiny, and a loss is a sum over all pixels: neither can
    be had in 16 bits. The layers of the networks follow policies of their own.

    Raises:
        ValueError: they name another dtype.
    """
    dtype = kwargs.get("dtype") or "float32"
    if keras.dtype_policies.get(dtype).compute_dtype != "float32":
        raise ValueError(f"this layer computes in float32; received dtype={dtype}")
    return {**kwargs, "dtype": "float32"}


def bias_add(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns x + bias, [.., C] + [C], with the gradient of the bias summed in float32.

    TensorFlow sums one of bfloat16 in bfloat16 on a CPU, where a sum of some thousands does not grow any more.
    """
    bias = tf.cast(bias, x.dtype)
    return tf.nn.bias_add(x, bias) if x.dtype == tf.float32 else _low_precision_bias_add(x, bias)


@tf.custom_gradient
def _low_precision_bias_add(x, bias):
    def gradient(dy):
        rows = tf.reshape(dy, (-1, dy.shape[-1]))
        # A product adds up in float32.
        return dy, tf.matmul(tf.ones((1, tf.shape(rows)[0]), dy.dtype), rows)[0]

    return tf.nn.bias_add(x, bias), gradient
