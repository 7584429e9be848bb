"""The layers of the networks against their plain forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import layer_norm as reference_layer_norm
from reference import sigmoid

import nem_tf


@pytest.mark.parametrize(
    ("fast", "plain", "shape"),
    [
        (
            nem_tf.UpsampleConv2D(4),
            [keras.layers.UpSampling2D(2), keras.layers.Conv2D(4, 4, padding="same")],
            (10, 12, 4),
        ),
        (nem_tf.HalvingConv2D(7), [keras.layers.Conv2D(7, 4, strides=2, padding="same")], (3, 4, 7)),
    ],
    ids=["upsample", "halving"],
)
def test_fast_form_is_the_plain_one_values_and_gradients(fast, plain, shape, rng):
    x = tf.constant(rng.standard_normal((2, *((6, 8, 3) if shape[0] == 3 else (5, 6, 3)))), tf.float32)
    fast.build(x.shape)
    fast.bias.assign(rng.standard_normal(shape[-1]))
    plain = keras.Sequential(plain)
    plain.build(x.shape)
    plain.set_weights(fast.get_weights())
    weighting = tf.constant(rng.standard_normal((2, *shape)), tf.float32)

    def value_and_gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(weighting * y)
        return [y, *tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])]

    for ours, theirs in zip(value_and_gradients(fast), value_and_gradients(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert fast.compute_output_shape((None, *x.shape[1:])) == (None, *shape)


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 8)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_normalises_all_but_the_batch(rng, shape, affine):
    x, (scale, offset) = rng.standard_normal(shape) * 3 + 1, rng.standard_normal((2, shape[-1]))
    norm = nem_tf.LayerNorm(affine=affine)
    norm.build(shape)
    norm.set_weights([scale, offset] if affine else [])
    expected = reference_layer_norm(x, *((scale, offset) if affine else (1, 0)))
    np.testing.assert_allclose(norm(np.float32(x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 7, 2), (3, 8)])
def test_layer_norm_has_the_gradient_of_its_function(rng, shape):
    """Against central differences of the float64 reference, an x far from the origin included."""
    x, weights = rng.standard_normal(shape) * 3 + 20, rng.standard_normal((2, shape[-1]))
    direction = rng.standard_normal(shape)
    norm = nem_tf.LayerNorm()
    norm.build(shape)
    norm.set_weights(list(weights))
    inputs = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_sum(norm(inputs) * tf.constant(direction, tf.float32))
    arguments = [x, *weights]
    for argument, gradient in zip(arguments, tape.gradient(value, [inputs, norm.gamma, norm.beta])):
        for index in np.ndindex(argument.shape):
            sides = []
            for change in (1e-5, -2e-5, 1e-5):
                argument[index] += change
                sides.append(np.sum(reference_layer_norm(*arguments) * direction))
            assert gradient[index].numpy() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("use_layer_norm", [True, False])
def test_core_normalises_the_output_and_not_the_state(rng, use_layer_norm):
    core = nem_tf.SigmoidCore(5, use_layer_norm=use_layer_norm)
    x, h = rng.standard_normal((2, 3)), rng.random((2, 5))
    core.build((2, 3))
    core.set_weights([rng.standard_normal(w.shape) for w in core.get_weights()])
    output, (state,) = core(np.float32(x), [np.float32(h)])
    kernel, bias, *norm = core.get_weights()
    a = np.concatenate([x, h], 1) @ kernel + bias
    np.testing.assert_allclose(state, sigmoid(a), rtol=1e-5)
    np.testing.assert_allclose(output, sigmoid(reference_layer_norm(a, *norm)) if norm else sigmoid(a), rtol=1e-4)


def test_network_refuses_an_image_it_cannot_halve_twice():
    with pytest.raises(ValueError, match="divisible by 4"):
        nem_tf.flying_shapes((28, 30, 1))


def test_bfloat16_networks_keep_probabilities_in_float32():
    network = nem_tf.flying_shapes((8, 8, 1), dtype="mixed_bfloat16")
    psi = network["decoder"](np.zeros((2, 100), np.float32))
    assert psi.dtype == tf.float32
    assert network["encoder"](np.zeros((2, 8, 8, 1), np.float32)).dtype == tf.float32
    assert network["encoder"].layers[0](np.zeros((2, 8, 8, 1), np.float32)).dtype == tf.bfloat16
    assert {v.dtype for v in network["decoder"].variables} == {"float32"}
