"""The convolutions in bfloat16 on a CPU: another way to the same numbers. In float32, see test_networks.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nem_tf.layers import convolution
from nem_tf.layers.precision import bias_add

RNG = np.random.default_rng(0)
CHANNELS = convolution.CHANNELS_OF_A_PRODUCT
LAYERS = {
    "Conv2D": lambda dtype: convolution.Conv2D(8, 4, strides=2, padding="same", activation="relu", dtype=dtype),
    "HalvingConv2D": lambda dtype: convolution.HalvingConv2D(8, dtype=dtype),
    "UpsampleConv2D": lambda dtype: convolution.UpsampleConv2D(8, dtype=dtype),
    "UpsampleConv2D by 4": lambda dtype: convolution.UpsampleConv2D(8, factor=4, dtype=dtype),
}


def output_and_gradients(layer, x, weight, sizes_known=True):
    """Output of a layer, and the gradients of its weighted sum by x, kernel and bias, in a graph."""

    def differentiate(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            total = tf.reduce_sum(weight * tf.cast(y, tf.float32))
        return y, *tape.gradient(total, [x, *layer.trainable_variables])

    shape = x.shape if sizes_known else (None, None, None, x.shape[-1])
    return tf.function(differentiate, [tf.TensorSpec(shape, x.dtype)], autograph=False)(x)


@pytest.mark.parametrize("sizes_known", [True, False], ids=["sizes known", "sizes unknown"])
@pytest.mark.parametrize("size", [(6, 4), (5, 3)], ids=["even", "odd"])
@pytest.mark.parametrize("name", LAYERS)
def test_in_bfloat16_a_convolution_and_its_gradients_are_those_of_float32(name, size, sizes_known):
    keras.utils.set_random_seed(0)
    x = tf.cast(RNG.normal(size=(2, *size, CHANNELS)), tf.bfloat16)
    plain, rounded = LAYERS[name]("float32"), LAYERS[name]("mixed_bfloat16")
    plain.build(x.shape)
    rounded.build(x.shape)
    for variable, other in zip(rounded.weights, plain.weights, strict=True):
        other.assign(tf.cast(tf.cast(variable, tf.bfloat16), tf.float32))
        variable.assign(other)
    weight = RNG.normal(size=plain(tf.cast(x, tf.float32)).shape).astype("float32")
    expected = output_and_gradients(plain, tf.cast(x, tf.float32), weight)
    found = output_and_gradients(rounded, x, weight, sizes_known)
    for value, other in zip(found, expected, strict=True):
        scale = float(tf.reduce_max(tf.abs(other)))
        np.testing.assert_allclose(tf.cast(value, tf.float32), other, atol=0.02 * scale)


def test_it_takes_the_other_way_only_where_that_is_faster():
    """Otherwise the test above compares a function with itself."""

    def kernel_gradients(channels, dtype):
        layer = convolution.UpsampleConv2D(8, dtype=dtype)
        x = tf.zeros((2, 3, 3, channels))
        layer(x)
        graph = tf.function(lambda x: output_and_gradients(layer, x, 1.0)[2]).get_concrete_function(x).graph
        return str(graph.as_graph_def()).count("Conv2DBackpropFilter")

    assert kernel_gradients(CHANNELS, "mixed_bfloat16") == 0
    assert kernel_gradients(CHANNELS - 1, "mixed_bfloat16") > 0
    assert kernel_gradients(CHANNELS, "float32") > 0


def test_the_gradient_of_a_bias_in_bfloat16_is_summed_in_float32():
    """TensorFlow's own is off by half over so many."""
    bias = tf.Variable(tf.zeros(3))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(bias_add(tf.zeros((128, 12, 12, 3), tf.bfloat16), bias))
    np.testing.assert_allclose(tape.gradient(total, bias), 3 * [128 * 12 * 12], rtol=1e-2)
