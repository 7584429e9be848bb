"""The layers outside our loop: functional models, `model.fit`, `.keras` files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames, small_cell

import nem_tf


def functional_model(cell, frames_shape=(None, 8, 8, 1)):
    frames = keras.Input(frames_shape)
    noisy = nem_tf.BitflipNoise(0.1, seed=1)(frames)
    outputs = nem_tf.RNNEM(cell)(noisy[:, :-1], frames[:, 1:])
    return keras.Model(frames, nem_tf.EMLoss(cell.mixture)(outputs, frames[:, 1:]))


def test_symbolic_shapes_are_the_real_ones(rng):
    model = functional_model(small_cell(k=3, image_shape=(8, 8, 3)), (4, 8, 8, 3))
    real = model(binary_frames(rng, 2, 4, 8, 8, 3))
    assert set(model.output) == {"predictions", "gamma", "theta"}
    for name, symbolic in model.output.items():
        assert symbolic.shape[1:] == real[name].shape[1:]


@pytest.mark.parametrize("core", [nem_tf.SigmoidCore(7), keras.layers.GRUCell(7)], ids=["sigmoid", "gru"])
def test_fit_lowers_the_loss_and_a_keras_file_keeps_the_function(rng, tmp_path, core):
    cell = small_cell(k=2, seed=3)
    cell = nem_tf.RNNEMCell(cell.encoder, core, cell.decoder, cell.mixture, k=2, seed=3)
    model = functional_model(cell, (4, 8, 8, 1))
    model.compile("adam")
    frames = binary_frames(rng, 16, 1, 8, 8, 1).repeat(4, axis=1)
    history = model.fit(frames, batch_size=8, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.non_trainable_variables, loaded.non_trainable_variables, strict=True):
        theirs.assign(ours)  # Keras starts the seed generators of a loaded model anew
    expected, outputs = model(frames[:2]), loaded(frames[:2])
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        nem_tf.BernoulliMixture(prior=0.1),
        nem_tf.GaussianMixture(prior=0.2, e_sigma=0.5),
        nem_tf.BitflipNoise(0.3, seed=1),
        nem_tf.MaskedUniformNoise(0.3, seed=1),
        nem_tf.UpsampleConv2D(5),
        nem_tf.HalvingConv2D(5),
        nem_tf.LayerNorm(affine=False),
        nem_tf.SigmoidCore(5, use_layer_norm=False),
        nem_tf.EMLoss(nem_tf.GaussianMixture(), inter_weight=0.2, step_weights="last"),
        nem_tf.RNNEM(small_cell(k=5, gamma_gradient=True)),
        nem_tf.RNNEM(nem_tf.NEMCell(5, nem_tf.BernoulliMixture(), k=4, seed=3)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_layer_survives_serialisation(layer):
    clone = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(clone) is type(layer)
    assert clone.get_config() == layer.get_config()


def test_noise_is_a_function_of_its_seed_and_flips_the_share_it_says(rng):
    frames = binary_frames(rng, 8, 5, 28, 28, 1)
    flip = nem_tf.BitflipNoise(0.2)
    noisy = flip(frames, seed=[1, 2]).numpy()
    np.testing.assert_array_equal(noisy, flip(frames, seed=[1, 2]))
    assert (noisy != flip(frames, seed=[1, 3]).numpy()).any()
    assert (noisy != flip(frames).numpy()).any()
    assert set(np.unique(noisy)) == {0, 1}
    assert abs((noisy != frames).mean() - 0.2) < 0.01

    uniform = nem_tf.MaskedUniformNoise(0.2)(frames, seed=[1, 2]).numpy()
    replaced = uniform != frames
    assert abs(replaced.mean() - 0.2) < 0.01
    assert abs(uniform[replaced].mean() - 0.5) < 0.02
    assert abs(np.corrcoef(uniform[replaced], frames[replaced])[0, 1]) < 0.05


def test_noise_refuses_a_rate_that_is_no_probability():
    with pytest.raises(ValueError, match=r"rate=1\.5"):
        nem_tf.BitflipNoise(1.5)


def test_a_global_bfloat16_policy_leaves_the_e_step_in_float32(rng):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        outputs = nem_tf.RNNEM(small_cell())(*binary_frames(rng, 2, 1, 2, 8, 8, 1))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {tensor.dtype for tensor in outputs.values()} == {tf.float32}
    np.testing.assert_allclose(tf.reduce_sum(outputs["gamma"], 2), 1, rtol=1e-6)
