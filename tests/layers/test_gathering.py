"""Gathered weight gradients: those of the steps one by one, in one product a layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames

from nem_tf import layers
from nem_tf.layers import RNNEM, BernoulliMixture, EMLoss, gathering, unrolled
from nem_tf.layers.gathering import Dense, GatheringRNN

IMAGE, B, K, T = (8, 6, 1), 3, 2, 4
FRAMES = binary_frames(np.random.default_rng(0), B, T + 1, *IMAGE)
SIZES = {"widths": (3, 4), "hidden": 7, "units": 5}


def make_model(network=layers.convolutional, dtype="float32", unroll=False, **options):
    keras.utils.set_random_seed(0)
    model = RNNEM(network(IMAGE, BernoulliMixture(), dtype, k=K, **options), unroll)
    model.build((None, None, *IMAGE))
    return model


def gradients(model, training, signature=None):
    """Loss and gradients of all weights, as graph mode computes them, and the graph."""
    loss = EMLoss(model.cell.mixture)
    state = model.cell.get_initial_state(B, seed=tf.constant([0, 1]))

    def differentiate(frames):
        with tf.GradientTape() as tape:
            outputs = model(frames[:, :-1], frames[:, 1:], initial_state=state, training=training)
            total = loss.total(loss.terms(outputs, frames[:, 1:]))
        return total, tape.gradient(total, model.trainable_variables)

    function = tf.function(differentiate, autograph=False, input_signature=signature)
    frames = tf.constant(FRAMES)
    return *function(frames), function.get_concrete_function(frames)


def assert_gradients_are_keras_own(model):
    _, expected, _ = gradients(model, training=False)
    _, found, _ = gradients(model, training=True)
    for variable, gradient, other in zip(model.trainable_variables, found, expected, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-5, err_msg=variable.path)


@pytest.fixture(scope="module")
def looped():
    """A model whose steps are a loop; its weights are those of every `make_model(**SIZES)`."""
    return make_model(**SIZES)


@pytest.fixture(scope="module")
def one_by_one(looped):
    """`gradients` of the steps one by one."""
    return gradients(looped, training=False)


@pytest.fixture(scope="module")
def gathered(looped):
    """`gradients` in one product a layer."""
    return gradients(looped, training=True)


@pytest.mark.parametrize("unroll", [False, True], ids=["looped", "written out"])
def test_loss_and_gradients_are_those_of_the_steps_one_by_one(unroll, looped, one_by_one, request):
    loss, expected, _ = one_by_one
    if unroll:
        gathered_loss, found, _ = gradients(make_model(unroll=True, **SIZES), training=True)
    else:
        gathered_loss, found, _ = request.getfixturevalue("gathered")
    np.testing.assert_allclose(gathered_loss, loss, rtol=1e-6)
    for variable, gradient, other in zip(looped.trainable_variables, found, expected, strict=True):
        scale = float(tf.reduce_max(tf.abs(other)))
        np.testing.assert_allclose(gradient, other, atol=1e-5 * scale + 1e-6, err_msg=variable.path)


def test_a_cell_without_such_layers_is_trained_as_ever():
    model = make_model(layers.static_rnn_em)
    assert model.cell.gathered_layers == []
    _, expected, _ = gradients(model, training=False)
    _, found, _ = gradients(model, training=True)
    for gradient, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(gradient, other)


def test_sizes_that_nobody_knows_yet(looped, one_by_one):
    _, expected, _ = one_by_one
    _, found, _ = gradients(looped, training=True, signature=[tf.TensorSpec((None, None, *IMAGE))])
    for gradient, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_the_gradients_are_float32_and_those_of_the_steps_one_by_one():
    model = make_model(dtype="mixed_bfloat16", **SIZES)
    _, expected, _ = gradients(model, training=False)
    _, found, _ = gradients(model, training=True)
    for layer in model.cell.gathered_layers:
        index = [variable.path for variable in model.trainable_variables].index(layer.kernel.path)
        gradient, other = found[index], expected[index]
        assert gradient.dtype == tf.float32
        assert float(tf.norm(gradient - other) / tf.norm(other)) < 0.02, layer.kernel.path


def test_there_is_one_product_a_layer_for_all_steps_but_of_many_rows_in_float32(
    looped, one_by_one, gathered, monkeypatch
):
    kernels = {tuple(layer.kernel.shape) for layer in looped.cell.gathered_layers}
    assert len(kernels) == len(looped.cell.gathered_layers) == 3

    def products(computed):
        """Products as large as a kernel: outside of all loops, and in them."""
        graph = computed[2].graph
        inner = [function.graph for function in graph._functions.values() if hasattr(function, "graph")]
        return [
            sum(
                op.type == "MatMul" and tuple(op.outputs[0].shape) in kernels for g in part for op in g.get_operations()
            )
            for part in ([graph], inner)
        ]

    assert products(one_by_one) == [0, 3]
    assert products(gathered) == [3, 0]
    monkeypatch.setattr(gathering, "FLOAT32_ROWS", B * K - 1)
    assert products(gradients(looped, training=True)) == [0, 3]


def test_it_learns_as_ever_under_fit(monkeypatch):
    def fitted(rnn):
        monkeypatch.setattr(unrolled, "GatheringRNN", rnn)
        functional = make_model(**SIZES).functional()
        functional.compile(optimizer="sgd", loss={"predictions": "mse", "gamma": None, "theta": None})
        target = {"predictions": np.repeat(FRAMES[:, 1:, None], K, 2)}
        keras.utils.set_random_seed(1)
        functional.fit([FRAMES[:, :-1], FRAMES[:, 1:]], target, epochs=2, verbose=0)
        return functional.get_weights()

    for weights, others in zip(fitted(GatheringRNN), fitted(keras.layers.RNN), strict=True):
        np.testing.assert_allclose(weights, others, atol=1e-5)


class Tied(keras.layers.Layer):
    """A decoder that uses a layer of the encoder once more."""

    def __init__(self, dense):
        super().__init__()
        self.dense, self.reshape = dense, keras.layers.Reshape(IMAGE)

    def build(self, shape):
        pass

    def call(self, x):
        return self.reshape(keras.ops.sigmoid(self.dense(x)))

    def compute_output_shape(self, shape):
        return (shape[0], *IMAGE)


def twice_in_both():
    dense = Dense(48)
    return keras.Sequential([keras.layers.Flatten(), dense]), 48, Tied(dense)


def twice_in_the_encoder():
    inputs, first, dense = keras.Input(IMAGE), Dense(6), Dense(6)
    features = dense(dense(first(keras.layers.Flatten()(inputs))))
    decoder = keras.Sequential([keras.layers.Dense(48, "sigmoid"), keras.layers.Reshape(IMAGE)])
    return keras.Model(inputs, features), 5, decoder


def on_every_pixel():
    decoder = keras.Sequential([Dense(48, "sigmoid"), keras.layers.Reshape(IMAGE)])
    return keras.Sequential([Dense(3), keras.layers.Flatten()]), 5, decoder


@pytest.mark.parametrize("parts", [twice_in_both, twice_in_the_encoder, on_every_pixel])
def test_where_a_layer_is_not_called_once_with_rows_the_gradients_are_keras_own(parts):
    keras.utils.set_random_seed(0)
    encoder, units, decoder = parts()
    model = RNNEM(layers.RNNEMCell(encoder, keras.layers.GRUCell(units), decoder, BernoulliMixture(), k=K))
    model.build((None, None, *IMAGE))
    assert model.cell.gathered_layers
    assert_gradients_are_keras_own(model)
    assert_gradients_are_keras_own(model)  # and once it is known


class Around(keras.Model):
    """An encoder that calls its layer through `wrap`."""

    def __init__(self, wrap, spare=False):
        super().__init__()
        self.flatten, self.dense, self.wrap = keras.layers.Flatten(), Dense(5, "tanh"), wrap
        self.spare = Dense(3) if spare else None

    def build(self, shape):
        self.dense.build((None, IMAGE[0] * IMAGE[1]))

    def call(self, x):
        return self.wrap(self.dense)(self.flatten(x))

    def compute_output_shape(self, shape):
        return (shape[0], 5)


def around_model(wrap, unroll=False, **options):
    keras.utils.set_random_seed(0)
    decoder = keras.Sequential([keras.layers.Dense(48, "sigmoid"), keras.layers.Reshape(IMAGE)])
    cell = layers.RNNEMCell(Around(wrap, **options), keras.layers.GRUCell(5), decoder, BernoulliMixture(), k=K)
    model = RNNEM(cell, unroll)
    model.build((None, None, *IMAGE))
    return model


@pytest.mark.parametrize("wrap", [keras.remat, tf.recompute_grad], ids=["keras.remat", "tf.recompute_grad"])
def test_a_layer_that_is_computed_once_more_for_its_gradient_has_one(wrap):
    assert_gradients_are_keras_own(around_model(wrap, unroll=True))
    model = around_model(wrap)
    state, frames = model.cell.get_initial_state(B), tf.constant(FRAMES)
    with tf.GradientTape() as tape:  # eagerly
        outputs = model(frames[:, :-1], frames[:, 1:], initial_state=state, training=True)
        total = tf.reduce_sum(outputs["theta"])
    assert np.abs(tape.gradient(total, model.cell.encoder.dense.kernel)).max() > 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda dense: tf.function(lambda x: dense(x)),
        lambda dense: lambda x: tf.cond(tf.reduce_sum(x) < 1e9, lambda: dense(x), lambda: x[:, :5]),
    ],
    ids=["function", "cond"],
)
@pytest.mark.parametrize("unroll", [False, True])
def test_a_layer_in_a_graph_within_the_step_has_keras_own_gradients(wrap, unroll):
    assert_gradients_are_keras_own(around_model(wrap, unroll))


def test_a_layer_that_is_never_called_nor_built_stops_nobody():
    assert_gradients_are_keras_own(around_model(lambda dense: dense, spare=True))


def test_gradients_of_gathered_gradients_are_refused(looped):
    """They would lack what goes by the kernels, which are constants there."""

    def of_squares(training):
        frames = tf.constant(FRAMES)
        state = looped.cell.get_initial_state(B, seed=tf.constant([0, 1]))
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(frames)
                outputs = looped(frames[:, :-1], frames[:, 1:], initial_state=state, training=training)
                total = tf.reduce_sum(outputs["predictions"] ** 2)
            penalty = tf.reduce_sum(inner.gradient(total, frames) ** 2)
        return outer.gradient(penalty, looped.trainable_variables)

    assert of_squares(training=False)
    with pytest.raises(LookupError, match="without training=True"):
        of_squares(training=True)


def test_by_itself_it_is_a_dense_layer_with_the_same_file_of_weights(tmp_path):
    layer, plain = Dense(5, activation="relu"), keras.layers.Dense(5, activation="relu")
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    layer(x), plain(x)
    plain.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(x), plain(x))
    assert Dense.from_config(layer.get_config()).get_config() == layer.get_config()
    for name, other in (("ours", plain), ("theirs", layer)):
        theirs, model = (keras.Sequential([keras.Input((3,)), each]) for each in (other, type(layer)(5, "relu")))
        theirs.save_weights(tmp_path / f"{name}.weights.h5")
        model.load_weights(tmp_path / f"{name}.weights.h5")
        np.testing.assert_array_equal(model(x), plain(x))
