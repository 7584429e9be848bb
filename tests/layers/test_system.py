"""From a batch of clean frames to outputs and losses: what is drawn, what is seen, what is predicted."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from conftest import binary_frames, small_cell

from nem_tf.alignment import ALIGNMENTS
from nem_tf.layers import (
    RNNEM,
    BitflipNoise,
    EMLoss,
    GaussianMixture,
    LSTMCore,
    PerSlot,
    RelationalCore,
    RNNEMCell,
)
from nem_tf.layers.system import System, masks_of
from nem_tf.unrolling import FORMS, Rollout


def system_of(alignment="next_frame", rate=0.2, **cell):
    keras.utils.set_random_seed(0)  # a fixture of a module is made before that of every test
    model = RNNEM(small_cell(**cell), noise=BitflipNoise(rate))
    model.build((None, None, 8, 8, 1))
    for variable in model.trainable_variables:  # fresh components are too alike for their masks to matter
        variable.assign(3 * variable)
    return System(model, EMLoss(model.cell.mixture, 0.5), ALIGNMENTS[alignment])


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


def test_a_rollout_has_no_parts_and_no_gradients(system, frames):
    for options in ({"share": (0, 2)}, {"training": True}):
        with pytest.raises(ValueError, match="a roll-out is computed of the whole batch, and not trained"):
            system.forward(frames, SEED, Rollout(2), **options)


@pytest.mark.parametrize("rollout_from", [0, 2, 3])
def test_a_rollout_knows_no_frame_after_its_last(system, frames, rollout_from):
    """Until then it is the same as ever; from there on it is the same whatever the frames would have been."""
    plain = system.forward(frames, SEED)
    rolled = system.forward(frames, SEED, Rollout(rollout_from))
    other_frames = frames.copy()
    other_frames[:, rollout_from + 1 :] = 1 - other_frames[:, rollout_from + 1 :]
    other = system.forward(other_frames, SEED, Rollout(rollout_from))
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
    outputs = system.forward(frames, SEED, Rollout(1)).outputs
    cell = system.model.cell
    state = {name: values[:, 1] for name, values in outputs.items()}
    strongest = tf.reduce_max(state["predictions"], axis=1)
    psi, _ = cell.m_step(state["gamma"] * (strongest[:, None] - state["predictions"]), state["theta"])
    np.testing.assert_allclose(outputs["predictions"][:, 2], psi, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["gamma"], cell.e_step(strongest, state["predictions"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["relational", "lstm"])
def test_the_other_roll_out_is_that_of_r_nem(rng, name):
    """Of a relational core and of one with a packed state, in any size; its losses know the true frames."""
    core, units, k = (RelationalCore(7), 7, 3) if name == "relational" else (PerSlot(LSTMCore(4)), 8, 1)
    cell = small_cell(k=k, image_shape=(6, 5, 1))
    decoder = cell.decoder
    model = RNNEM(RNNEMCell(cell.encoder, core, decoder, cell.mixture, k=k), noise=BitflipNoise(0.2))
    model.build((None, None, 6, 5, 1))
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape))
    for dense in (cell.encoder.layers[1], decoder.layers[0]):  # large, or the components are all alike
        dense.kernel.assign(4 * rng.standard_normal(dense.kernel.shape))
    system = System(model, EMLoss(cell.mixture, 0.5), ALIGNMENTS["next_frame"])
    frames = binary_frames(rng, 2, 7, 6, 5, 1)
    result = tf.function(system.forward)(frames, SEED, Rollout(1, "soft", noise=False))
    assert result.noisy.shape == result.target.shape == (2, 6, 6, 5, 1)

    (w, b), core_weights, (v, c) = (part.get_weights() for part in (cell.encoder, core, decoder))
    unit = reference.relational_core(3, len(core_weights)) if k > 1 else reference.lstm_core

    def network(masked, h):
        features = np.tanh(masked.reshape(len(masked), -1) @ w + b)
        output, h = unit(features, h, reference.taker(core_weights))
        return reference.sigmoid(output @ v + c).reshape(masked.shape), h

    gamma = first_state(system, 2).gamma.numpy().astype(float)
    expected = reference.soft_rollout(network, result.noisy.numpy(), frames[:, 1:], gamma, units, seen=2)
    for part, values in zip(("predictions", "gamma", "theta"), expected):
        np.testing.assert_allclose(result.outputs[part], values, rtol=1e-2, atol=1e-3, err_msg=part)
    psi, own, _, true, seen = expected
    np.testing.assert_allclose(result.noisy, seen, rtol=1e-3, atol=1e-4)
    losses = [reference.bernoulli_losses(frames[:, t + 1], psi[:, t], true[:, t]) for t in range(6)]
    intra, inter = np.moveaxis(losses, 0, -1)
    np.testing.assert_allclose(result.terms.intra, intra, rtol=1e-3)
    np.testing.assert_allclose(result.terms.loss, intra + 0.5 * inter, rtol=1e-3)
    if k > 1:
        assert np.abs(own - true)[:, 2:].max() > 0.1  # the two can be told apart
        assert np.abs(own - true)[:, :2].max() == 0


def test_what_is_imagined_has_noise_unless_it_shall_not(system, frames):
    def inputs(**form):
        result = system.forward(frames, SEED, Rollout(1, "soft", **form))
        return result.noisy.numpy(), result.outputs["predictions"].numpy(), result.outputs["gamma"].numpy()

    noisy, psi, gamma = inputs()
    soft = (gamma * psi).sum(2)[:, 1:-1]
    flipped = np.abs(noisy[:, 2:] - soft) > 1e-4
    np.testing.assert_allclose(noisy[:, 2:], np.where(flipped, 1 - soft, soft), atol=1e-4)
    assert 0.15 < flipped.mean() < 0.25
    assert (flipped[:, 0] != flipped[:, 1]).any()  # drawn anew for every step
    noisy, psi, gamma = inputs(noise=False)
    np.testing.assert_allclose(noisy[:, 2:], (gamma * psi).sum(2)[:, 1:-1], atol=1e-5)
    seeds = tf.constant([[0, -1], [0, -2], [0, -3], [0, -4]])
    rollout = Rollout(1, "soft")
    assert_same(system.forward(frames[1:3], seeds[1:3], rollout), system.forward(frames, seeds, rollout), slice(1, 3))
    draws = system.forward(frames, SEED, Rollout(1, noise=False)).noisy[:, 2:]
    assert set(np.unique(draws)) == {0, 1}


# ---- Actions.

ACTED = 1, 2  # the sequence and the frame whose action is another one


@pytest.fixture(scope="module")
def acting(system):
    keras.utils.set_random_seed(1)
    cell = small_cell()
    core = RelationalCore(7, attention_units=5, nr_actions=2)
    model = RNNEM(RNNEMCell(cell.encoder, core, cell.decoder, cell.mixture), noise=system.model.noise)
    model.build((None, None, 8, 8, 1))
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * tf.random.stateless_normal(variable.shape, [0, 1]))
    return system._replace(model=model)


@pytest.fixture
def actions(rng):
    """Those of `frames`, and the same but for one."""
    actions = np.float32(rng.standard_normal((4, 5, 2)))
    other = actions.copy()
    other[ACTED] += 2
    return actions, other


def moved(one, other):
    """Which sequences [B] and steps [T] have other representations."""
    return np.abs(one.outputs["theta"] - other.outputs["theta"]).max(axis=(2, 3)) > 1e-5


@pytest.mark.parametrize(
    ("alignment", "rollout"),
    [("next_frame", None), ("same_frame", None), ("next_frame", Rollout(0)), ("next_frame", Rollout(1, "soft"))],
)
def test_an_action_changes_its_own_sequence_from_the_step_of_its_frame_on(acting, frames, actions, alignment, rollout):
    """Also where the frame is imagined: actions are given from outside."""
    acting = acting._replace(alignment=ALIGNMENTS[alignment])
    one, other = (acting.forward(frames, SEED, rollout, actions=each) for each in actions)
    sequence, frame = ACTED
    expected = np.zeros(one.terms.loss.shape, bool)
    expected[sequence, frame:] = True
    np.testing.assert_array_equal(moved(one, other), expected)


def test_what_comes_with_the_last_frame_of_a_prediction_is_not_used(acting, frames, actions):
    actions, _ = actions
    other = actions.copy()
    other[:, -1] += 2
    results = [acting.forward(frames, SEED, actions=each) for each in (actions, other)]
    assert_same(*results)
    attention = [acting.attention(result.outputs, each) for result, each in zip(results, (actions, other))]
    changed = np.abs(attention[0] - attention[1]).max(axis=(0, 2, 3)) > 1e-5
    assert changed.tolist() == [False, False, False, True]  # the step that it would be used in


def test_the_attention_of_a_pass_is_that_of_the_step_after(acting, frames, actions):
    actions, _ = actions
    outputs = acting.forward(frames, SEED, actions=actions).outputs
    cell = acting.model.cell
    for t in range(4):
        expected = cell.attention(outputs["theta"][:, t], actions[:, t + 1])
        np.testing.assert_allclose(acting.attention(outputs, actions)[:, t], expected, atol=1e-6)
    assert acting._replace(alignment=ALIGNMENTS["same_frame"]).attention(outputs, actions[:, :4]).shape == (4, 4, 3, 3)


def test_the_parts_of_a_batch_have_their_own_actions(acting, frames, actions):
    whole = acting.forward(frames, SEED, actions=actions[0])
    for i in range(2):
        part = acting.forward(frames, SEED, share=(tf.constant(i), 2), actions=actions[0])
        assert_same(part, whole, slice(2 * i, 2 * i + 2))
    swapped = acting.forward(frames, SEED, actions=actions[0][::-1])
    assert moved(whole, swapped).all()  # else the parts could have those of any


def test_the_steps_of_a_roll_out():
    """Frames 0 to 2 are seen, which make predictions 0 to 2 of frames 1 to 3."""
    steps = list(range(5))
    for form in FORMS:
        assert (steps[Rollout(2, form).seen], steps[Rollout(2, form).imagined]) == ([0, 1, 2], [3, 4])


def test_masks_are_the_strongest_component_and_its_share(rng):
    gamma = rng.dirichlet(np.ones(3), (2, 4, 5, 6)).transpose(0, 1, 4, 2, 3)[..., None]
    masks = masks_of(tf.constant(gamma, tf.float32))
    assert masks.assignment.dtype == tf.uint8
    np.testing.assert_array_equal(masks.assignment, gamma[..., 0].argmax(2))
    np.testing.assert_allclose(masks.certainty, gamma[..., 0].max(2), rtol=1e-6)
