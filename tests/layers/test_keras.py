"""The public layers as Keras layers: what they take and refuse, functional models, `model.fit`, `.keras` files."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames, small_cell

import nem_tf
from nem_tf import layers, pretrained
from nem_tf.layers import RNNEM, BernoulliMixture, BitflipNoise, EMLoss, GaussianMixture, RNNEMCell, SigmoidCore

ABSTRACT = {"EMCell", "FrameNoise", "SlotCore", "SpatialMixture"}
PUBLIC = {
    name: layer
    for name in layers.__all__
    if inspect.isclass(layer := getattr(layers, name)) and issubclass(layer, keras.Layer) and name not in ABSTRACT
}
FLOAT32 = {"RNNEM", "BernoulliMixture", "BitflipNoise", "EMLoss", "GaussianMixture", "MaskedUniformNoise", "NEMCell",
           "RNNEMCell"}  # fmt: skip


def rnn_em_arguments():
    cell = small_cell()
    return {"encoder": cell.encoder, "core": SigmoidCore(4, False), "decoder": cell.decoder, **em_arguments()}


def em_arguments():
    return {"mixture": GaussianMixture(e_sigma=0.5), "k": 5, "gamma_gradient": True, "seed": 3}


# Every argument of a layer's own, none of them at its default.
ARGUMENTS = {
    "RNNEM": lambda: {
        "cell": small_cell(k=5, gamma_gradient=True),
        "unroll": True,
        "noise": BitflipNoise(0.3),
        "lag": 0,
    },
    "BernoulliMixture": lambda: {"prior": 0.1},
    "BitflipNoise": lambda: {"rate": 0.3, "seed": 1},
    "EMLoss": lambda: {"mixture": GaussianMixture(prior=0.2), "inter_weight": 0.2, "step_weights": [1.0, 2.0]},
    "GaussianMixture": lambda: {"prior": 0.2, "e_sigma": 0.5},
    "HalvingConv2D": lambda: {"filters": 5},
    "LSTMCore": lambda: {"units": 5},
    "LayerNorm": lambda: {"affine": False},
    "MaskedUniformNoise": lambda: {"rate": 0.3, "seed": 1},
    "NEMCell": lambda: {"units": 5, **em_arguments()},
    "NearestResize": lambda: {"output_size": (3, 5)},
    "PerSlot": lambda: {"cell": keras.layers.GRUCell(4)},
    "RNNEMCell": rnn_em_arguments,
    "RelationalCore": lambda: {
        "units": 5,
        "attention_units": 7,
        "use_attention": False,
        "nr_actions": 3,
        "action_units": 4,
    },
    "SigmoidCore": lambda: {"units": 5, "use_layer_norm": False},
    "UpsampleConv2D": lambda: {"filters": 5, "output_size": (3, 5), "factor": 3},
}


def test_every_public_layer_is_tried():
    assert set(ARGUMENTS) == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_layer_keeps_every_argument_through_serialisation(name):
    given = ARGUMENTS[name]()
    own = {
        parameter.name: parameter.default
        for base in PUBLIC[name].__mro__
        if base.__module__.startswith("nem_tf") and "__init__" in vars(base)
        for parameter in inspect.signature(base.__init__).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != "self"
    }
    assert set(given) == set(own), "an argument that is not tried here"
    assert all(given[argument] != default for argument, default in own.items())
    layer = PUBLIC[name](**given, name="mine", trainable=False)
    clone = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(clone) is type(layer)
    assert clone.get_config() == layer.get_config()
    assert clone.name == "mine"
    assert not clone.trainable
    for argument, value in given.items():
        kept = [getattr(each, argument) if argument != "core" else each.core.cell for each in (layer, clone)]
        if isinstance(value, keras.Layer):
            assert [type(each) for each in kept] == [type(value)] * 2
            assert kept[1].get_config() == value.get_config()
        else:
            assert kept == [value, value]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_layer_refuses_an_argument_it_does_not_know(name):
    with pytest.raises((TypeError, ValueError), match="colour"):
        PUBLIC[name](**ARGUMENTS[name](), colour="red")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_precision_is_honoured_or_refused(name):
    """Ratios of tiny probabilities and sums over all pixels are not to be had in 16 bits; products are."""
    given = ARGUMENTS[name]()
    for dtype in ("float16", "mixed_bfloat16", "float64", keras.DTypePolicy("bfloat16")):
        if name in FLOAT32:
            with pytest.raises(ValueError, match="this layer computes in float32"):
                PUBLIC[name](**given, dtype=dtype)
        else:
            layer = PUBLIC[name](**given, dtype=dtype)
            assert layer.dtype_policy == keras.dtype_policies.get(dtype)
    for dtype in ("float32", keras.DTypePolicy("float32"), None):
        assert PUBLIC[name](**given, dtype=dtype).compute_dtype == "float32"


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - FLOAT32 - {"PerSlot"}))
def test_a_precision_is_that_of_what_is_returned(name, rng):
    layer = PUBLIC[name](**ARGUMENTS[name](), dtype="mixed_bfloat16")
    shapes = {
        "SigmoidCore": ((2, 5), [(2, 5)]), "LSTMCore": ((2, 5), [(2, 10)]),
        "RelationalCore": ((2, 4, 6), [(2, 4, 5)], (2, 3)),
    }.get(name, ((2, 4, 6, 3),))  # fmt: skip
    inputs = [
        [np.float32(rng.standard_normal(each)) for each in shape] if isinstance(shape, list)
        else np.float32(rng.standard_normal(shape))
        for shape in shapes
    ]  # fmt: skip
    if "Core" in name:
        layer.build(shapes[0])
    outputs = layer(*inputs)
    for output in tf.nest.flatten(outputs):
        assert output.dtype == tf.bfloat16
    assert {weight.dtype for weight in layer.weights} <= {"float32"}


def test_all_public_names_can_be_had_from_the_package():
    assert set(nem_tf.__all__) == {*layers.__all__, "from_preset", "save_to_preset"}
    for name in nem_tf.__all__:
        assert getattr(nem_tf, name) is getattr(layers if name in layers.__all__ else pretrained, name)
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        nem_tf.colour  # noqa: B018


def functional_model(cell, frames_shape):
    frames = keras.Input(frames_shape)
    noisy = BitflipNoise(0.1, seed=1)(frames)
    outputs = RNNEM(cell)(noisy[:, :-1], frames[:, 1:])
    return keras.Model(frames, EMLoss(cell.mixture)(outputs, frames[:, 1:]))


def test_symbolic_shapes_are_the_real_ones(rng):
    model = functional_model(small_cell(k=3, image_shape=(8, 8, 3)), (4, 8, 8, 3))
    real = model(binary_frames(rng, 2, 4, 8, 8, 3))
    assert set(model.output) == {"predictions", "gamma", "theta"}
    for name, symbolic in model.output.items():
        assert symbolic.shape[1:] == real[name].shape[1:]


def test_a_cell_in_keras_own_rnn(rng):
    """The Keras RNN contract: state sizes, initial state, the last output alone or all of them."""
    cell = small_cell(k=2, seed=3)
    frames = np.concatenate(binary_frames(rng, 2, 3, 4, 8, 8, 1), axis=-1)
    cell.build((None, 8, 8, 2))
    state = list(cell.get_initial_state(3, seed=[0, 1]))
    steps, theta, psi, gamma = keras.layers.RNN(cell, return_sequences=True, return_state=True)(
        frames, initial_state=state
    )
    last = keras.layers.RNN(cell)(frames, initial_state=state)
    np.testing.assert_array_equal(steps[:, -1], last)
    unpacked = cell.unpack(steps)
    for name, final in (("theta", theta), ("predictions", psi), ("gamma", gamma)):
        np.testing.assert_array_equal(unpacked[name][:, -1], final)
    assert keras.layers.RNN(cell)(frames).shape == last.shape  # an initial state of its own


def test_fit_lowers_the_loss_and_a_keras_file_keeps_the_function(rng, tmp_path):
    """Of a cell whose core is Keras' own."""
    cell = small_cell(k=2, seed=3)
    cell = RNNEMCell(cell.encoder, keras.layers.GRUCell(7), cell.decoder, cell.mixture, k=2, seed=3)
    model = functional_model(cell, (4, 8, 8, 1))
    model.compile("adam")
    frames = binary_frames(rng, 16, 1, 8, 8, 1).repeat(4, axis=1)
    history = model.fit(frames, batch_size=8, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.non_trainable_variables, loaded.non_trainable_variables, strict=True):
        theirs.assign(ours)  # Keras starts the seed generators of a loaded model anew
    expected, outputs = model(frames[:2]), loaded(frames[:2])
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-6)


def test_a_global_bfloat16_policy_leaves_the_e_step_in_float32(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        cell = small_cell()
        outputs = RNNEM(cell)(*binary_frames(rng, 2, 1, 2, 8, 8, 1))
        loss = EMLoss(BernoulliMixture())
    finally:
        keras.config.set_dtype_policy("float32")
    assert cell.encoder.layers[1].compute_dtype == "bfloat16"  # as the user wished
    assert {tensor.dtype for tensor in outputs.values()} == {tf.float32}
    np.testing.assert_allclose(tf.reduce_sum(outputs["gamma"], 2), 1, rtol=1e-6)
    assert loss.terms(outputs, binary_frames(rng, 1, 2, 8, 8, 1)).loss.dtype == tf.float32
