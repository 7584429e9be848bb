"""What the tests share: a tiny data set, a tiny configuration, a small model."""

import nem_tf  # isort: skip, before TensorFlow, so that the tests compute as the programs do
import keras
import numpy as np
import pytest

from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset
from nem_tf.config import resolve

TINY_SIZES = {"training": 32, "validation": 10, "test": 6}


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A directory with a flying_shapes.h5 of a few sequences of 6 frames, not to be written to."""
    directory = tmp_path_factory.mktemp("data")
    write_dataset(directory / "flying_shapes.h5", "flying_shapes", FlyingShapes(nr_frames=6), TINY_SIZES)
    return directory


@pytest.fixture
def tiny_settings(tiny_data, tmp_path):
    """Settings of a run that takes seconds."""
    return {
        "data_dir": str(tiny_data),
        "run_dir": str(tmp_path / "run"),
        "nr_steps": 3,
        "batch_size": 8,
        "max_epochs": 2,
        **{flag: TINY_SIZES[split] for split, flag in nem_tf.data.SPLITS.items()},
    }


@pytest.fixture
def tiny_config(tiny_settings):
    return resolve(tiny_settings)


def small_cell(k=3, image_shape=(8, 8, 1), mixture=None, **kwargs) -> nem_tf.RNNEMCell:
    """A cell of dense layers, fast enough for everything that is not about the paper's network."""
    return nem_tf.RNNEMCell(
        encoder=keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(16, activation="tanh")]),
        core=nem_tf.SigmoidCore(7),
        decoder=keras.Sequential(
            [keras.layers.Dense(int(np.prod(image_shape)), activation="sigmoid"), keras.layers.Reshape(image_shape)]
        ),
        mixture=mixture or nem_tf.BernoulliMixture(),
        k=k,
        **kwargs,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def binary_frames(rng, *shape):
    return (rng.random(shape) < 0.3).astype(np.float32)
