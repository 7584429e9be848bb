"""The learning rate over a training."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from nem_tf.training.schedule import learning_rate
from nem_tf.training.step import Adam


@pytest.mark.parametrize(
    ("warmup", "hold", "decay"), [(0, 0, 0), (10, 0, 0), (0, 0, 100), (10, 0, 100), (0, 20, 100), (10, 40, 60)]
)
def test_learning_rate_rises_linearly_stays_and_falls_on_a_cosine_to_a_hundredth(warmup, hold, decay):
    rate = learning_rate(2e-3, warmup, hold, decay)
    reloaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    for step in (0, 3, 9, 10, 25, 60, 110, 500):
        done = min(max(step - warmup - hold, 0) / decay, 1) if decay else 0
        expected = 2e-3 * step / warmup if step < warmup else 2e-3 * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        np.testing.assert_allclose([rate(step), reloaded(step)], [expected] * 2, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("warmup", [0, 4])
def test_a_checkpoint_does_not_bring_back_another_learning_rate(tmp_path, warmup):
    """A run that goes on with another one takes steps of another length, from where the first one stood."""

    def trained(peak, checkpoint=None):
        weight = tf.Variable(0.0)
        optimizer = Adam(learning_rate(peak, warmup))
        optimizer.build([weight])
        tracked = tf.train.Checkpoint(weight=weight, optimizer=optimizer)
        if checkpoint:
            tracked.read(checkpoint).assert_consumed()
        before = float(weight)
        for _ in range(2):
            optimizer.apply([tf.constant(1.0)], [weight])
        return before - float(weight) if checkpoint else tracked.write(str(tmp_path / "checkpoint"))

    checkpoint = trained(0.1)
    kept, changed = (trained(peak, checkpoint) for peak in (0.1, 0.025))
    assert changed == pytest.approx(kept / 4, rel=1e-4)
    assert kept == pytest.approx(0.2 if not warmup else 0.1 * (2 + 3) / 4, rel=1e-3)
