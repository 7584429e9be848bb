"""Curriculum and learning rate."""

import math

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


@pytest.mark.parametrize(("warmup", "decay"), [(0, 0), (10, 0), (0, 100), (10, 100)])
def test_learning_rate_rises_linearly_and_falls_on_a_cosine_to_a_hundredth(warmup, decay):
    rate = learning_rate(resolve({"learning_rate": 2e-3, "warmup_steps": warmup, "decay_steps": decay}))
    if not (warmup or decay):
        assert rate == 2e-3
        return
    for step in (0, 3, 9, 10, 60, 110, 500):
        done = min(max(step - warmup, 0) / decay, 1) if decay else 0
        expected = 2e-3 * step / warmup if step < warmup else 2e-3 * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        np.testing.assert_allclose(rate(step), expected, rtol=1e-5, atol=1e-10)
