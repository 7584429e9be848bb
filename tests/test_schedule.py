"""Curriculum and learning rate."""

import math

import keras
import numpy as np
import pytest

from nem_tf.config import resolve
from nem_tf.errors import UserError
from nem_tf.schedule import Stage, learning_rate, resolve_curriculum, stage_at


def test_stages_and_what_is_left_of_them():
    stages = resolve_curriculum(resolve({"curriculum": "6,10@4000,20@8000"}))
    assert stages == [Stage(0, 6), Stage(4000, 10), Stage(8000, 20)]
    assert [stage_at(stages, step) for step in (0, 3999, 4000, 7999, 8000, 10**6)] == [
        (6, 4000), (6, 1), (10, 4000), (10, 1), (20, None), (20, None)
    ]  # fmt: skip
    assert resolve_curriculum(resolve({"nr_steps": 7})) == [Stage(0, 7)]


@pytest.mark.parametrize(
    "spec", ["6;10", "6,10", "6@10", "6,10@9,20@9", "6,10@20,5@10", "0", "6,21@5", "6,,7@3", "six"]
)
def test_text_that_is_no_curriculum(spec):
    with pytest.raises(UserError, match=f"--curriculum={spec}: expected EM steps, at most --nr_steps=20"):
        resolve_curriculum(resolve({"curriculum": spec}))


@pytest.mark.parametrize(
    ("warmup", "hold", "decay"), [(0, 0, 0), (10, 0, 0), (0, 0, 100), (10, 0, 100), (0, 20, 100), (10, 40, 60)]
)
def test_learning_rate_rises_linearly_stays_and_falls_on_a_cosine_to_a_hundredth(warmup, hold, decay):
    settings = {"learning_rate": 2e-3, "warmup_steps": warmup, "hold_steps": hold, "decay_steps": decay}
    rate = learning_rate(resolve(settings))
    if not (warmup or decay):
        assert rate == 2e-3
        return
    reloaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    for step in (0, 3, 9, 10, 25, 60, 110, 500):
        done = min(max(step - warmup - hold, 0) / decay, 1) if decay else 0
        expected = 2e-3 * step / warmup if step < warmup else 2e-3 * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        np.testing.assert_allclose([rate(step), reloaded(step)], [expected] * 2, rtol=1e-5, atol=1e-10)
