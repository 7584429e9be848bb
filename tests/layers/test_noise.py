"""The noises: how much they replace, by what, and that a seed decides it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames

from nem_tf.layers import BitflipNoise, MaskedUniformNoise


@pytest.fixture
def frames(rng):
    return binary_frames(rng, 8, 5, 28, 28, 1)


def test_bitflip_flips_the_share_it_says(frames):
    noisy = BitflipNoise(0.2)(frames, seed=[1, 2]).numpy()
    assert set(np.unique(noisy)) == {0, 1}
    for value in (0, 1):  # whatever it was before
        assert abs((noisy != frames)[frames == value].mean() - 0.2) < 0.02


def test_masked_uniform_replaces_the_share_it_says_by_anything(frames):
    uniform = MaskedUniformNoise(0.2)(frames, seed=[1, 2]).numpy()
    replaced = uniform != frames
    assert abs(replaced.mean() - 0.2) < 0.01
    assert abs(uniform[replaced].mean() - 0.5) < 0.02
    assert abs(uniform[replaced].std() - 12**-0.5) < 0.01
    assert abs(np.corrcoef(uniform[replaced], frames[replaced])[0, 1]) < 0.05


@pytest.mark.parametrize("noise", [BitflipNoise, MaskedUniformNoise])
def test_noise_is_a_function_of_its_seed(noise, frames):
    layer = noise(0.2)
    noisy = layer(frames, seed=[1, 2])
    np.testing.assert_array_equal(noisy, tf.function(noise(0.2))(frames, seed=[1, 2]))
    assert (noisy != layer(frames, seed=[1, 3])).numpy().any()
    assert (layer(frames) != layer(frames)).numpy().any()
    one, other = noise(0.2, seed=5), noise(0.2, seed=5)
    np.testing.assert_array_equal(one(frames), other(frames))
    assert (noise(0.2, seed=6)(frames) != noise(0.2, seed=5)(frames)).numpy().any()


@pytest.mark.parametrize("noise", [BitflipNoise, MaskedUniformNoise])
def test_noise_of_none_and_of_all(noise, frames):
    np.testing.assert_array_equal(noise(0.0)(frames, seed=[1, 2]), frames)
    everything = noise(1.0)(frames, seed=[1, 2]).numpy()
    assert (everything != frames).mean() > 0.999
    assert abs(everything.mean() - (0.5 if noise is MaskedUniformNoise else 1 - frames.mean())) < 0.01


@pytest.mark.parametrize("rate", [1.5, -0.1])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ValueError, match=f"rate={rate}"):
        BitflipNoise(rate)


def test_noise_has_the_shape_of_the_frames():
    frames = keras.Input((None, 8, 8, 1))
    assert BitflipNoise(0.2)(frames).shape == (None, None, 8, 8, 1)
