"""The layers of the networks against their plain forms, and the networks of any size against the NumPy reference."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from reference import layer_norm as reference_layer_norm

from nem_tf import layers
from nem_tf.layers import (
    BernoulliMixture,
    GaussianMixture,
    HalvingConv2D,
    LayerNorm,
    NearestResize,
    UpsampleConv2D,
    networks,
)


class Cut(keras.layers.Layer):
    """The upper left of an image."""

    def __init__(self, height, width):
        super().__init__()
        self.height, self.width = height, width

    def call(self, x):
        return x[:, : self.height, : self.width]


UPSAMPLE = [keras.layers.UpSampling2D(2), keras.layers.Conv2D(4, 4, padding="same")]
UPSAMPLE_3 = [keras.layers.UpSampling2D(3), keras.layers.Conv2D(4, 6, padding="same")]
UPSAMPLE_4 = [keras.layers.UpSampling2D(4), keras.layers.Conv2D(4, 8, padding="same")]


@pytest.mark.parametrize(
    ("fast", "plain", "image", "result"),
    [
        (UpsampleConv2D(4), UPSAMPLE, (5, 6, 3), (10, 12, 4)),
        (UpsampleConv2D(4, (9, 11)), [*UPSAMPLE, Cut(9, 11)], (5, 6, 3), (9, 11, 4)),
        (UpsampleConv2D(4, (9, 12)), [*UPSAMPLE, Cut(9, 12)], (5, 6, 3), (9, 12, 4)),
        (UpsampleConv2D(4, (1, 2)), [*UPSAMPLE, Cut(1, 2)], (1, 1, 3), (1, 2, 4)),
        (UpsampleConv2D(4, factor=3), UPSAMPLE_3, (5, 2, 3), (15, 6, 4)),
        (UpsampleConv2D(4, (18, 9), factor=4), [*UPSAMPLE_4, Cut(18, 9)], (5, 3, 3), (18, 9, 4)),
        *(
            (HalvingConv2D(7), [keras.layers.Conv2D(7, 4, strides=2, padding="same")], (*size, 3), (*half, 7))
            for size, half in {(6, 8): (3, 4), (7, 8): (4, 4), (6, 9): (3, 5), (5, 5): (3, 3), (1, 2): (1, 1)}.items()
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, tuple) else type(value).__name__,
)
def test_fast_form_is_the_plain_one_values_and_gradients(fast, plain, image, result, rng):
    x = tf.constant(rng.standard_normal((2, *image)), tf.float32)
    fast.build(x.shape)
    fast.bias.assign(rng.standard_normal(result[-1]))
    plain = keras.Sequential([type(layer).from_config(layer.get_config()) if not isinstance(layer, Cut) else layer
                              for layer in plain])  # fmt: skip
    plain.build(x.shape)
    plain.set_weights(fast.get_weights())
    weighting = tf.constant(rng.standard_normal((2, *result)), tf.float32)

    def value_and_gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(weighting * y)
        return [y, *tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])]

    for ours, theirs in zip(value_and_gradients(fast), value_and_gradients(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert fast.compute_output_shape((None, *image)) == (None, *result)


@pytest.mark.parametrize(
    ("layer", "size"),
    [(UpsampleConv2D(2), (6, 10)), (UpsampleConv2D(2, (5, 9)), (5, 9)), (HalvingConv2D(2), (2, 3))],
    ids=["upsample", "cut", "halving"],
)
def test_sizes_may_be_unknown_until_it_runs(layer, size, rng):
    layer.build((None, None, None, 3))
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 3])])
    x = tf.constant(rng.standard_normal((2, 3, 5, 3)), tf.float32)
    assert run(x).shape == (2, *size, 2)
    np.testing.assert_allclose(run(x), layer(x), rtol=1e-5, atol=1e-6)


def test_a_size_that_upsampling_does_not_reach_is_refused():
    with pytest.raises(ValueError, match="more than twice the input, 3x5"):
        UpsampleConv2D(2, (6, 11)).build((None, 3, 5, 3))
    with pytest.raises(ValueError, match="more than 4 times the input, 3x5"):
        UpsampleConv2D(2, (12, 21), factor=4).build((None, 3, 5, 3))
    unknown = keras.Model(inputs := keras.Input((None, None, 1)), UpsampleConv2D(2, output_size=(13, 13))(inputs))
    with pytest.raises(ValueError, match="more than twice the input, 5x5"):
        unknown(tf.zeros((1, 5, 5, 1)))
    with pytest.raises(ValueError, match="output_size is"):
        UpsampleConv2D(2, output_size=13)
    with pytest.raises(ValueError, match="factor is at least 2"):
        UpsampleConv2D(2, factor=1)


@pytest.mark.parametrize("size", [(21, 21), (10, 10), (20, 30), (7, 5), (1, 1)])
def test_nearest_neighbours_at_any_size(size, rng):
    x = rng.standard_normal((2, 10, 10, 3))
    layer = NearestResize(size)
    np.testing.assert_allclose(layer(np.float32(x)), reference.nearest(x, *size), rtol=1e-6)
    assert layer.compute_output_shape((None, 10, 10, 3)) == (None, *size, 3)


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 8)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_normalises_all_but_the_batch(rng, shape, affine):
    x, (scale, offset) = rng.standard_normal(shape) * 3 + 1, rng.standard_normal((2, shape[-1]))
    norm = LayerNorm(affine=affine)
    norm.build(shape)
    norm.set_weights([scale, offset] if affine else [])
    expected = reference_layer_norm(x, *((scale, offset) if affine else (1, 0)))
    np.testing.assert_allclose(norm(np.float32(x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 7, 2), (3, 8)])
def test_layer_norm_has_the_gradient_of_its_function(rng, shape):
    """Against central differences of the float64 reference, an x far from the origin included."""
    x, weights = rng.standard_normal(shape) * 3 + 20, rng.standard_normal((2, shape[-1]))
    direction = rng.standard_normal(shape)
    norm = LayerNorm()
    norm.build(shape)
    norm.set_weights(list(weights))
    inputs = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_sum(norm(inputs) * tf.constant(direction, tf.float32))
    arguments = [x, *weights]
    for argument, gradient in zip(arguments, tape.gradient(value, [inputs, norm.gamma, norm.beta])):
        gradient = gradient.numpy()
        for index in np.ndindex(argument.shape):
            sides = []
            for change in (1e-5, -2e-5, 1e-5):
                argument[index] += change
                sides.append(np.sum(reference_layer_norm(*arguments) * direction))
            assert gradient[index] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-3, abs=1e-4)


def mixture_of(channels):
    return GaussianMixture() if channels > 1 else BernoulliMixture()


@pytest.mark.parametrize(
    ("image_shape", "widths"),
    [
        ((25, 25, 1), (4, 6)),
        ((13, 31, 1), (4, 6, 5)),
        ((5, 5, 1), (4,)),
        ((12, 20, 3), (4, 6)),
        ((1, 2, 1), (4,)),
    ],
    ids=str,
)
def test_the_convolutional_network_of_any_size_is_the_reference(image_shape, widths, rng):
    height, width, channels = image_shape
    cell = layers.convolutional(image_shape, mixture_of(channels), k=2, widths=widths, hidden=12, units=5)
    cell.build((None, height, width, 2 * channels))
    weights = randomised(cell, rng)
    masked, theta = rng.standard_normal((3, 2, *image_shape)), rng.random((3, 2, 5))
    psi, new_theta = cell.m_step(tf.constant(masked, tf.float32), tf.constant(theta, tf.float32))
    last = (lambda x: x) if channels > 1 else reference.sigmoid
    network = reference.ConvNetwork(weights, len(widths), lambda x: x, last)
    expected, expected_theta = network(masked.reshape(-1, *image_shape), theta.reshape(-1, 5))
    np.testing.assert_allclose(psi, expected.reshape(psi.shape), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(new_theta, expected_theta.reshape(new_theta.shape), rtol=1e-3, atol=1e-4)


def randomised(cell, rng):
    """Layer norm and biases away from their trivial start; the weights in the order of the reference."""
    for variable in cell.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    return [w for part in (cell.encoder, cell.core, cell.decoder) for w in part.get_weights()]


@pytest.mark.parametrize(
    ("image_shape", "widths"),
    [
        ((28, 28, 1), (32, 64)),
        ((24, 24, 1), (32, 64)),
        ((25, 25, 1), (32, 64)),
        ((5, 5, 1), (32,)),
        ((1, 1, 1), (32,)),
        ((8, 8, 3), (32,)),
        ((9, 4, 3), (32,)),
        ((17, 4, 3), (32, 64)),
        ((64, 64, 3), (32, 64, 128)),
        ((100, 200, 1), (32, 64, 128, 128, 128)),
    ],
    ids=str,
)
def test_an_image_is_halved_until_it_is_at_most_8_by_8(image_shape, widths):
    assert networks.default_widths(image_shape) == widths


def shapes_of(cell, image_shape):
    """The shapes of the weights of a built cell, without those of layer norm."""
    height, width, channels = image_shape
    cell.build((None, height, width, 2 * channels))
    parts = (cell.encoder, cell.core, cell.decoder)
    return [tuple(w.shape) for part in parts for w in part.weights if w.name in ("kernel", "bias")]


def test_networks_have_the_sizes_of_the_paper():
    halving = [(4, 4, 1, 32), (32,), (4, 4, 32, 64), (64,)]
    dense = [(7 * 7 * 64, 512), (512,), (612, 100), (100,), (100, 512), (512,), (512, 7 * 7 * 64), (7 * 7 * 64,)]
    doubling = [(4, 4, 64, 32), (32,), (4, 4, 32, 1), (1,)]
    flying_shapes = layers.flying_shapes((28, 28, 1), BernoulliMixture())
    assert shapes_of(flying_shapes, (28, 28, 1)) == halving + dense + doubling
    halving += [(4, 4, 64, 128), (128,)]
    dense = [(3 * 3 * 128, 512), (512,), (762, 250), (250,), (250, 512), (512,), (512, 3 * 3 * 128), (3 * 3 * 128,)]
    doubling = [(4, 4, 128, 64), (64,), *doubling]
    flying_mnist = layers.flying_mnist((24, 24, 1), GaussianMixture())
    assert shapes_of(flying_mnist, (24, 24, 1)) == halving + dense + doubling
    static = layers.static_rnn_em((28, 28, 1), BernoulliMixture())
    assert shapes_of(static, (28, 28, 1)) == [(784 + 250, 250), (250,), (250, 784), (784,)]
    assert static.core.cell.norm is None
    n_em = layers.static_n_em((28, 28, 1), BernoulliMixture())
    n_em.build((None, 28, 28, 2))
    assert [tuple(w.shape) for w in n_em.weights if "seed" not in w.name] == [(784, 250), ()]


@pytest.mark.parametrize(
    ("network", "k", "count", "of_core"),
    [
        (layers.balls_rnn_em, 5, 4_611_827, 191_250),
        (layers.balls_rnn_em, 1, 4_611_827, 191_250),
        (layers.balls_lstm, 1, 5_185_077, 764_500),
        (layers.balls_r_nem, 5, 4_951_978, 530_901 + 500),
        (layers.balls_r_nem_no_attention, 5, 4_926_577, 505_500 + 500),
    ],
)
def test_networks_of_the_balls_have_as_many_weights_as_the_authors(network, k, count, of_core):
    """The core's with the 500 of the layer norm of its output."""
    cell = network((64, 64, 1), BernoulliMixture(), k=k)
    cell.build((None, 64, 64, 2))
    assert sum(weight.numpy().size for weight in cell.trainable_variables) == count
    assert cell.core.count_params() == of_core


@pytest.mark.parametrize("network", [layers.balls_r_nem, layers.balls_r_nem_no_attention, layers.balls_lstm])
def test_networks_of_the_balls_have_the_units_that_are_asked_for(network):
    """Of theta, whose LSTM keeps as many once more."""
    usual, small = (network((64, 64, 1), BernoulliMixture(), **of) for of in ({}, {"units": 64}))
    assert small.units / usual.units == 64 / 250


def test_space_invaders_has_the_sizes_of_the_paper():
    cell = layers.space_invaders_r_nem((84, 84, 1), BernoulliMixture(), k=4, nr_actions=6)
    cell.build((None, 84, 84, 3))
    kernels = {
        part: [tuple(w.shape) for w in getattr(cell, part).weights if w.name == "kernel"]
        for part in ("encoder", "core", "decoder")
    }
    assert kernels == {
        "encoder": [(8, 8, 1, 16), (4, 4, 16, 32), (11 * 11 * 32, 250)],
        "core": [(6, 10), (260, 250), (500, 250), (250, 250), (250, 100), (100, 1), (760, 250)],
        "decoder": [(250, 250), (250, 10 * 10 * 32), (4, 4, 32, 16), (8, 8, 16, 1)],
    }
    assert cell.decoder.layers[7].output_size == (21, 21)


def test_only_flying_mnist_standardises():
    names = [
        [layer.name for layer in network((8, 8, 1), GaussianMixture()).encoder.layers]
        for network in (layers.flying_shapes, layers.flying_mnist, layers.convolutional)
    ]
    assert ["standardise" in name for name in names] == [False, True, False]


@pytest.mark.parametrize(
    "network",
    [layers.convolutional, layers.flying_mnist, layers.balls_rnn_em, layers.static_rnn_em, layers.static_n_em],
)
def test_a_number_of_weights_that_explodes_is_refused_with_a_sentence(network, monkeypatch):
    """And the number that the sentence names is about that of the weights."""
    with pytest.raises(ValueError, match=r"million weights for frames of 6000x5000x1: expected at most 200 million"):
        network((6000, 5000, 1), BernoulliMixture(), **({"widths": (64,)} if network is layers.convolutional else {}))
    shape = (28, 26, 1)
    cell = network(shape, BernoulliMixture())
    cell.build((None, 28, 26, 2))
    count = cell.count_params()
    monkeypatch.setattr(networks, "MOST_WEIGHTS", 1.05 * count)
    network(shape, BernoulliMixture())
    monkeypatch.setattr(networks, "MOST_WEIGHTS", 0.95 * count)
    with pytest.raises(ValueError, match="million weights"):
        network(shape, BernoulliMixture())


@pytest.mark.parametrize("widths", [(), (0,), (32, -1)])
def test_widths_that_are_none_are_refused(widths):
    with pytest.raises(ValueError, match="widths are the channels"):
        layers.convolutional((8, 8, 1), BernoulliMixture(), widths=widths)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (layers.convolutional, {"widths": (4, 5), "hidden": 8, "units": 6, "standardise": True}),
        (layers.static_rnn_em, {}),
    ],
    ids=["convolutional", "static_rnn_em"],
)
def test_what_keras_json_says_of_channels_and_precision_does_not_matter(network, options, rng):
    """channels_first, and a global mixed_bfloat16: the networks say what they mean."""
    image_shape = (7, 9, 2)
    masked = tf.constant(rng.standard_normal((2, 3, *image_shape)), tf.float32)

    def built():
        cell = network(image_shape, GaussianMixture(), **options)
        cell.build((None, 7, 9, 4))
        return cell

    plain = built()
    theta = tf.constant(rng.random((2, 3, plain.units)), tf.float32)
    expected = plain.m_step(masked, theta)
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        other = built()
        other.set_weights(plain.get_weights())
        found = other.m_step(masked, theta)
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy("float32")
    for ours, theirs in zip(found, expected):
        assert ours.dtype == tf.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_bfloat16_reaches_the_products_and_nothing_else():
    cell = layers.flying_shapes((8, 8, 1), BernoulliMixture(), "mixed_bfloat16")
    cell.build((None, 8, 8, 2))
    assert cell.encoder(np.zeros((2, 8, 8, 1), np.float32)).dtype == tf.float32
    assert cell.decoder(np.zeros((2, 100), np.float32)).dtype == tf.float32
    products = [layer for part in (cell.encoder, cell.decoder) for layer in part.layers if hasattr(layer, "kernel")]
    assert len(products) == 7
    assert {layer.compute_dtype for layer in products} == {"bfloat16"}
    others = [layer for part in (cell.encoder, cell.decoder) for layer in part.layers if isinstance(layer, LayerNorm)]
    assert {layer.compute_dtype for layer in others} == {cell.core.cell.compute_dtype} == {"float32"}
    assert {v.dtype for v in cell.trainable_variables} == {"float32"}
    state = cell.get_initial_state(2, seed=[0, 1])
    psi, theta = cell.m_step(state.psi, state.theta)
    assert psi.dtype == theta.dtype == tf.float32
    with pytest.raises(ValueError, match="N-EM computes in float32"):
        layers.static_n_em((8, 8, 1), BernoulliMixture(), "mixed_bfloat16")
