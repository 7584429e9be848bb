"""Five training steps against NumPy in float64: windows, noise, lambda, step weights, clipping, schedule, Adam."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import reference
import tensorflow as tf
from conftest import settings_of

from nem_tf import build

RATE, WARMUP, DECAY, LAMBDA = 4e-3, 2, 6, 0.3
EM_STEPS = [2, 3, 3, 3, 3]  # of --curriculum=2,3@1
CASES = {
    # As for sequences: the responsibilities are constants, all steps count.
    "sequences": {"gamma_gradient": False, "target": "next_frame", "loss_step_weights": "0.5,2", "clip_norm": 92.0},
    # As for static images, and as a denoiser.
    "gradient": {"gamma_gradient": True, "target": "same_frame", "loss_step_weights": "last", "clip_norm": 37.5},
}
STEP_WEIGHTS = {"0.5,2": {2: [0.5, 2], 3: [0, 0.5, 2]}, "last": {2: [0, 1], 3: [0, 0, 1]}}


def rate(step):
    """The learning rate of a training step."""
    if step < WARMUP:
        return RATE * step / WARMUP
    return RATE * (0.01 + 0.99 * (1 + math.cos(math.pi * min((step - WARMUP) / DECAY, 1))) / 2)


def weights_of(model):
    return [w for part in (model.cell.encoder, model.cell.core, model.cell.decoder) for w in part.get_weights()]


def window_of(frames, sequences):
    """Where the windows [B, F, H, W, C] of a batch start in the training sequences: all at the same frame."""
    length = frames.shape[1]
    starts = [
        {start for start in range(sequences.shape[1] - length + 1)
         if (sequences[:, start : start + length] == window).all(axis=(1, 2, 3, 4)).any()}
        for window in frames
    ]  # fmt: skip
    (start,) = set.intersection(*starts)
    return start


def drawn(system, frames, seed):
    """The noisy frames [B, F, N] and the first responsibilities [B, K, N] of a batch, as the system draws them."""
    noise_seed, gamma_seed = tf.unstack(tf.random.split(seed, alg="philox"))
    noisy = system.model.noise(tf.cast(frames, tf.float32), seed=noise_seed).numpy()
    gamma = system.model.cell.get_initial_state(len(frames), seed=gamma_seed).gamma.numpy()
    return noisy, flat(gamma)


def flat(values):
    return values.reshape(*values.shape[:2], -1).astype(np.float64)


@pytest.fixture
def eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.filterwarnings("ignore:Even though")  # tf.data is not run eagerly, and need not be
@pytest.mark.parametrize("case", CASES)
def test_five_steps_are_those_of_the_reference(case, tiny_settings, rng, monkeypatch, request):
    """One compiled, one eager."""
    if case == "gradient":
        request.getfixturevalue("eagerly")
    settings = settings_of(
        tiny_settings, **CASES[case], nr_steps=5, curriculum="2,3@1", batch_size=6, steps_per_call=2,
        learning_rate=RATE, warmup_steps=WARMUP, decay_steps=DECAY, loss_inter_weight=LAMBDA,
    )  # fmt: skip
    monkeypatch.setattr(build, "Trainer", SimpleNamespace)  # the pieces that it is given
    split = build.load(settings, "training")
    training = build.Training(settings, split, split)
    system, pieces = training.system, training.trainer
    for variable in training.model.trainable_variables:  # fresh components are too alike for gamma to matter
        variable.assign_add(0.3 * rng.standard_normal(variable.shape))
    start = weights_of(training.model)
    adam = reference.Adam(start, rate, settings.optimisation.clip_norm)
    sequences = split.batch(split.in_order(len(split))[0]).frames

    step, norms, starts, lag = 0, [], set(), int(settings.model.target == "next_frame")
    for call in pieces.feed.calls(epoch=0, epoch_step=0, step=0):
        result = pieces.step(call.frames, call.seeds)
        losses = pieces.reduce({name: term.numpy() for name, term in result.terms._asdict().items()})
        for i, (frames, seed) in enumerate(zip(call.frames, call.seeds)):
            em_steps = EM_STEPS[step]
            assert frames.shape[:2] == (6, em_steps + lag)
            starts.add(window_of(frames, sequences))
            noisy, gamma = drawn(system, frames, seed)
            assert 0.15 < (noisy != frames).mean() < 0.25
            weights = STEP_WEIGHTS[settings.objective.loss_step_weights][em_steps]
            expected, gradients = reference.dense_gradients(
                adam.weights, flat(noisy[:, :em_steps]), flat(frames[:, lag:]), gamma, step_weights=weights,
                inter_weight=LAMBDA, gamma_gradient=settings.model.gamma_gradient,
            )  # fmt: skip
            np.testing.assert_allclose(result.terms.loss[i], expected.mean(0), rtol=1e-4)
            np.testing.assert_allclose(losses["loss"][i], np.average(expected.mean(0), weights=weights), rtol=1e-4)
            norms.append(adam.step(gradients))
            np.testing.assert_allclose(result.gradient_norm[i], norms[-1], rtol=1e-4)
            step += 1
        for ours, theirs, first in zip(weights_of(training.model), adam.weights, start, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
            assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs - first) + 1e-6
    assert step == 5
    assert min(norms) < settings.optimisation.clip_norm < max(norms)
    assert len(starts) > 1
    assert np.linalg.norm(adam.weights[0] - start[0]) > 0.1
