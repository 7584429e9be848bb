"""From a batch of clean frames to outputs and losses: what is drawn, what is seen, what is predicted."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames, small_cell

from nem_tf.alignment import ALIGNMENTS
from nem_tf.layers import RNNEM, BitflipNoise, EMLoss, GaussianMixture
from nem_tf.layers.system import System, masks_of


def system_of(alignment="next_frame", rate=0.2, **cell):
    model = RNNEM(small_cell(**cell))
    model.build((None, None, 8, 8, 1))
    for variable in model.trainable_variables:  # fresh components are too alike for their masks to matter
        variable.assign(3 * variable)
    return System(model, BitflipNoise(rate), EMLoss(model.cell.mixture, 0.5), ALIGNMENTS[alignment])


@pytest.fixture(scope="module")
def system():
    return system_of()


@pytest.fixture
def frames(rng):
    return binary_frames(rng, 4, 5, 8, 8, 1).astype(np.uint8)


SEED = tf.constant([3, 4])


def values_of(result):
    return {**result.outputs, **result.terms._asdict(), "noisy": result.noisy, "target": result.target}


def assert_same(one, other, rows=slice(None)):
    for name, values in values_of(one).items():
        np.testing.assert_allclose(values, values_of(other)[name][rows], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("alignment", "steps"), [("next_frame", 4), ("same_frame", 5)])
def test_a_step_sees_its_frame_with_noise_and_predicts_the_aligned_one_without(system, frames, alignment, steps):
    result = system._replace(alignment=ALIGNMENTS[alignment]).forward(frames, SEED)
    assert result.noisy.shape == result.target.shape == (4, steps, 8, 8, 1)
    np.testing.assert_array_equal(result.target, frames[:, -steps:])
    assert 0.15 < (result.noisy != frames[:, :steps]).numpy().mean() < 0.25
    again = system.model(result.noisy, result.target, initial_state=first_state(system, 4))
    terms = system.loss.terms(again, result.target)
    np.testing.assert_allclose(result.outputs["gamma"], again["gamma"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.terms.loss, terms.loss, rtol=1e-5)
    np.testing.assert_allclose(result.terms.loss, result.terms.intra + 0.5 * result.terms.inter, rtol=1e-5)


def first_state(system, batch):
    return system.model.cell.get_initial_state(batch, seed=tf.unstack(tf.random.split(SEED, alg="philox"))[1])


def test_it_is_a_function_of_the_frames_and_the_seed(system, frames):
    result = system.forward(frames, SEED)
    assert_same(result, system.forward(frames.astype(np.float32), SEED))
    other = system.forward(frames, SEED + 1)
    assert (result.noisy != other.noisy).numpy().any()
    assert np.abs(result.outputs["gamma"] - other.outputs["gamma"]).max() > 0.01


def test_every_frame_has_noise_of_its_own(system):
    """A static image is shown again and again, each time with fresh noise."""
    flipped = system.forward(np.zeros((1, 3, 8, 8, 1), np.uint8), SEED).noisy.numpy()[0]
    assert (flipped[0] != flipped[1]).any()


def test_with_a_seed_each_sequences_do_not_depend_on_the_batch_they_are_in(system, frames):
    seeds = tf.constant([[0, -1], [0, -2], [0, -3], [0, -4]])
    whole = system.forward(frames, seeds)
    assert_same(system.forward(frames[1:3], seeds[1:3]), whole, slice(1, 3))
    assert (whole.noisy[0] != frames[0, :4]).numpy().any()


def test_the_parts_of_a_batch_are_the_batch(system, frames):
    whole = system.forward(frames, SEED)
    for i in range(2):
        assert_same(system.forward(frames, SEED, share=(tf.constant(i), 2)), whole, slice(2 * i, 2 * i + 2))


@pytest.mark.parametrize("rollout_from", [0, 2, 3])
def test_a_rollout_knows_no_frame_after_its_last(system, frames, rollout_from):
    """Until then it is the same as ever; from there on it is the same whatever the frames would have been."""
    plain = system.forward(frames, SEED)
    rolled = system.forward(frames, SEED, rollout_from)
    other_frames = frames.copy()
    other_frames[:, rollout_from + 1 :] = 1 - other_frames[:, rollout_from + 1 :]
    other = system.forward(other_frames, SEED, rollout_from)
    for name, values in plain.outputs.items():
        assert values.shape == rolled.outputs[name].shape
        np.testing.assert_allclose(rolled.outputs[name][:, :rollout_from], values[:, :rollout_from], atol=1e-5)
        np.testing.assert_allclose(rolled.outputs[name], other.outputs[name], atol=1e-5)
    # The prediction made from the last frame is still that of ever; its masks are not, they look at no frame.
    predictions = [result.outputs["predictions"][:, rollout_from] for result in (plain, rolled)]
    np.testing.assert_allclose(*predictions, atol=1e-5)
    masks = [result.outputs["gamma"][:, rollout_from] for result in (plain, rolled)]
    assert np.abs(masks[0] - masks[1]).max() > 0.01
    assert np.abs(rolled.terms.loss[:, rollout_from:] - other.terms.loss[:, rollout_from:]).max() > 1  # of what is true


def test_a_rollout_without_noise_feeds_on_means_of_grey_images(rng):
    system = system_of(rate=0.0, mixture=GaussianMixture())
    frames = rng.random((2, 4, 8, 8, 1)).astype(np.float32)
    outputs = system.forward(frames, SEED, rollout_from=1).outputs
    cell = system.model.cell
    state = {name: values[:, 1] for name, values in outputs.items()}
    strongest = tf.reduce_max(state["predictions"], axis=1)
    psi, _ = cell.m_step(state["gamma"] * (strongest[:, None] - state["predictions"]), state["theta"])
    np.testing.assert_allclose(outputs["predictions"][:, 2], psi, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["gamma"], cell.e_step(strongest, state["predictions"]), rtol=1e-4, atol=1e-5)


def test_masks_are_the_strongest_component_and_its_share(rng):
    gamma = rng.dirichlet(np.ones(3), (2, 4, 5, 6)).transpose(0, 1, 4, 2, 3)[..., None]
    masks = masks_of(tf.constant(gamma, tf.float32))
    assert masks.assignment.dtype == tf.uint8
    np.testing.assert_array_equal(masks.assignment, gamma[..., 0].argmax(2))
    np.testing.assert_allclose(masks.certainty, gamma[..., 0].max(2), rtol=1e-6)
