"""R-NEM: the relational core against the NumPy reference, in the cell, with actions, and what attention is returned."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from conftest import binary_frames, small_cell

from nem_tf import layers
from nem_tf.layers import RNNEM, BernoulliMixture, EMLoss, RelationalCore, RNNEMCell
from nem_tf.layers.relational import PairDense

FORMS = {
    "attention": {},
    "no attention": {"use_attention": False},
    "actions": {"nr_actions": 3, "action_units": 4},
}


def built_core(rng, features=6, units=5, **options):
    """A core whose weights are away from their start, where states of 0 are all alike."""
    core = RelationalCore(units, attention_units=7, **options)
    core.build((None, None, features))
    core.set_weights([weight + 0.3 * rng.standard_normal(weight.shape) for weight in core.get_weights()])
    return core


def inputs_of(rng, core, k, batch=3, features=6):
    """Slots, theta and actions in float32, and the actions as the arguments that the core takes."""
    slots, theta = rng.standard_normal((batch, k, features)), rng.random((batch, k, core.units))
    actions = rng.standard_normal((batch, core.nr_actions)) if core.nr_actions else None
    slots, theta = np.float32(slots), np.float32(theta)
    return slots, theta, {} if actions is None else {"actions": np.float32(actions)}


def expected_of(core, slots, theta, actions=None):
    """Output, theta', attention and effects of the reference, image by image."""
    actions = [None] * len(slots) if actions is None else np.float64(actions)
    images = [
        reference.relational(core.get_weights(), *image, core.use_attention, action)
        for *image, action in zip(np.float64(slots), np.float64(theta), actions)
    ]
    return [np.stack(part) for part in zip(*images)]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "tf.function"])
@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("form", FORMS)
def test_the_core_is_the_reference(rng, form, k, compiled):
    core = built_core(rng, **FORMS[form])
    slots, theta, actions = inputs_of(rng, core, k)
    run = tf.function(core) if compiled else core
    output, (new_theta,) = run(slots, [theta], **actions)
    expected_output, expected_theta, expected_attention, _ = expected_of(core, slots, theta, **actions)
    np.testing.assert_allclose(output, expected_output, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new_theta, expected_theta, rtol=1e-4, atol=1e-5)
    attention = core.attention(tf.constant(theta), **actions)
    if form == "no attention":
        assert attention is None
    else:
        np.testing.assert_allclose(attention, expected_attention, rtol=1e-4, atol=1e-6)


def test_a_dense_layer_on_pairs_is_the_plain_one_values_and_gradients(rng):
    layer, plain = PairDense(4), keras.layers.Dense(4)
    z, direction = rng.standard_normal((2, 3, 5)), rng.standard_normal((2 * 3 * 2, 4))
    z, direction = tf.constant(z, tf.float32), tf.constant(direction, tf.float32)
    layer.build(z.shape)
    layer.bias.assign(rng.standard_normal(4))
    plain.build((None, 10))
    plain.set_weights(layer.get_weights())

    def pairs(z):
        order = [(b, k, j) for b in range(2) for k in range(3) for j in range(3) if j != k]
        return tf.stack([tf.concat([z[b, k], z[b, j]], 0) for b, k, j in order])

    results = []
    for function, weights in ((layer, layer.weights), (lambda z: plain(pairs(z)), plain.weights)):
        with tf.GradientTape() as tape:
            tape.watch(z)
            rows = function(z)
            value = tf.reduce_sum(direction * rows)
        results.append([rows, *tape.gradient(value, [z, *(weight.value for weight in weights)])])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert layer.compute_output_shape((None, 3, 5)) == (None, 4)
    limit = np.sqrt(6 / (10 + 4))  # Glorot's of the pairs, not of the halves
    assert 0.8 * limit < np.abs(layer.kernel).max() <= limit


def test_attention_of_a_whole_sequence_is_that_of_each_step(rng):
    core = built_core(rng, nr_actions=2)
    theta, actions = np.float32(rng.random((3, 4, 5, core.units))), np.float32(rng.standard_normal((3, 4, 2)))
    attention = core.attention(tf.constant(theta), tf.constant(actions)).numpy()
    assert attention.shape == (3, 4, 5, 5)
    for b, t in np.ndindex(3, 4):
        step = core.attention(tf.constant(theta[b : b + 1, t]), tf.constant(actions[b : b + 1, t]))
        np.testing.assert_allclose(attention[b, t], step[0], rtol=1e-5, atol=1e-6)
    off_diagonal = attention[..., ~np.eye(5, dtype=bool)]
    assert (off_diagonal > 0).all()
    assert (off_diagonal < 1).all()
    assert not attention[..., np.eye(5, dtype=bool)].any()
    assert np.abs(attention.sum(-1) - 1).min() > 1e-3  # each by itself, no softmax
    assert np.abs(attention - attention.swapaxes(-1, -2)).max() > 1e-2  # who looks, and at whom


def test_permuting_the_components_permutes_what_the_core_returns(rng):
    core = built_core(rng)
    slots, theta, _ = inputs_of(rng, core, 4)
    order = [3, 1, 0, 2]
    for ours, permuted in zip(
        tf.nest.flatten(core(slots, [theta])), tf.nest.flatten(core(slots[:, order], [theta[:, order]]))
    ):
        np.testing.assert_allclose(tf.gather(ours, order, axis=1), permuted, rtol=1e-4, atol=1e-6)
    attention = core.attention(tf.constant(theta)).numpy()
    permuted = core.attention(tf.constant(theta[:, order]))
    np.testing.assert_allclose(attention[:, order][:, :, order], permuted, rtol=1e-4, atol=1e-6)


def test_a_component_sees_the_state_of_all_others_and_not_their_input(rng):
    core = built_core(rng)
    slots, theta, _ = inputs_of(rng, core, 4)
    other_slots, other_theta = slots.copy(), theta.copy()
    other_slots[:, 1] += 1
    other_theta[:, 1] = 1 - other_theta[:, 1]
    _, (before,) = core(slots, [theta])
    for changed, expected in (((other_slots, theta), [0, 1, 0, 0]), ((slots, other_theta), [1, 1, 1, 1])):
        _, (after,) = core(changed[0], [changed[1]])
        moved = np.abs(after - before).max(axis=(0, 2))
        assert (moved > 1e-3).tolist() == [bool(each) for each in expected]


def test_without_attention_every_effect_counts_fully(rng):
    """Which is the core with an attention of 1, and not the one with its own."""
    core, without = built_core(rng), RelationalCore(5, use_attention=False)
    without.build((None, None, 6))
    *before, update, bias, scale, offset = core.get_weights()
    without.set_weights([*before[:12], update, bias, scale, offset])
    slots, theta, _ = inputs_of(rng, core, 4)
    plain, _ = without(slots, [theta])
    assert np.abs(core(slots, [theta])[0] - plain).max() > 1e-2
    core.attend.layers[-1].bias.assign([100.0])
    np.testing.assert_allclose(core(slots, [theta])[0], plain, rtol=1e-4, atol=1e-6)


def test_the_action_of_an_image_reaches_all_of_its_components_and_no_other_image(rng):
    core = built_core(rng, nr_actions=3)
    slots, theta, actions = inputs_of(rng, core, 4)
    (_, (before,)), attention = core(slots, [theta], **actions), core.attention(tf.constant(theta), **actions)
    actions["actions"][1] *= -1
    (_, (after,)), other_attention = core(slots, [theta], **actions), core.attention(tf.constant(theta), **actions)
    moved = np.abs(after - before).max(axis=2)
    assert (moved > 1e-4).tolist() == [[False] * 4, [True] * 4, [False] * 4]
    assert (np.abs(attention - other_attention).max(axis=(1, 2)) > 1e-4).tolist() == [False, True, False]


@pytest.mark.parametrize(("nr_actions", "given"), [(0, 2), (3, None), (3, 2)])
def test_actions_that_are_not_those_it_takes_are_refused(rng, nr_actions, given):
    model = relational_model(nr_actions=nr_actions)
    noisy, target = binary_frames(rng, 2, 2, 2, 8, 8, 1)
    actions = None if given is None else np.zeros((2, 2, given), np.float32)
    with pytest.raises(ValueError, match=f"takes actions of {nr_actions} entries; received {given or 0}"):
        model(noisy, target, actions=actions)
    core = RelationalCore(3, nr_actions=nr_actions)
    slots, theta = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 3), np.float32)
    with pytest.raises(ValueError, match=f"of A = {nr_actions} entries; received {given or 0}"):
        core(slots, [theta], actions=None if actions is None else actions[:, 0])


def test_one_component_alone_is_refused(rng):
    cell = small_cell()
    with pytest.raises(ValueError, match=r"RelationalCore takes at least 2 components.*received k=1"):
        RNNEMCell(cell.encoder, RelationalCore(7), cell.decoder, cell.mixture, k=1)
    core = built_core(rng)
    slots, theta, _ = inputs_of(rng, core, 1)
    with pytest.raises(ValueError, match="received K=1"):
        core(slots, [theta])
    with pytest.raises(ValueError, match="received K=1"):
        core.attention(tf.constant(theta))


# ---- In the cell.


def relational_model(k=3, nr_actions=0, **options):
    cell = small_cell()
    core = RelationalCore(7, attention_units=5, nr_actions=nr_actions, **options)
    model = RNNEM(RNNEMCell(cell.encoder, core, cell.decoder, cell.mixture, k=k, seed=1))
    model.build((None, None, 8, 8, 1))
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:  # fresh components are too alike for gamma to matter
        variable.assign(2 * variable + 0.1 * random.standard_normal(variable.shape))
    return model


@pytest.mark.parametrize("network", [layers.balls_r_nem, layers.balls_r_nem_no_attention])
def test_three_steps_of_r_nem_and_their_mean_loss_are_the_reference(rng, network):
    model = RNNEM(network((12, 12, 1), BernoulliMixture(), k=3, widths=(4, 6), hidden=12))
    model.build((None, None, 12, 12, 1))
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    cell = model.cell
    noisy, target = binary_frames(rng, 2, 2, 3, 12, 12, 1)
    state = cell.get_initial_state(2, seed=[1, 2])
    loss = EMLoss(cell.mixture, step_weights="mean")
    outputs = tf.function(model)(noisy, target, initial_state=state)
    total = loss.total(loss.terms(outputs, target))
    with tf.GradientTape() as tape:
        learned = loss.total(loss.terms(model(noisy, target, initial_state=state), target))
    gradients = tape.gradient(learned, model.trainable_variables)
    assert all(np.isfinite(gradient).all() and np.any(gradient) for gradient in gradients)

    core = reference.relational_core(3, len(cell.core.get_weights()), use_attention=cell.core.use_attention)
    weights = [w for part in (cell.encoder, cell.core, cell.decoder) for w in part.get_weights()]
    step = reference.ConvNetwork(weights, 2, lambda x: x, reference.sigmoid, core)
    psi, gamma, theta = reference.em(step, noisy, target, state.gamma.numpy().astype(float), units=250)
    for name, expected in (("predictions", psi), ("gamma", gamma), ("theta", theta)):
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-3, atol=1e-4, err_msg=name)
    terms = [sum(reference.bernoulli_losses(target[:, t], psi[:, t], gamma[:, t])) for t in range(3)]
    np.testing.assert_allclose(total, np.mean(terms), rtol=1e-4)


def test_space_invaders_is_the_reference(rng):
    """Of an image whose quarter is odd, with actions."""
    shape = (36, 28, 1)
    cell = layers.space_invaders_r_nem(shape, BernoulliMixture(), k=3, nr_actions=2)
    cell.build((None, 36, 28, 3))
    for variable in cell.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    masked, theta = rng.standard_normal((1, 3, *shape)), rng.random((1, 3, 250))
    action = rng.standard_normal((1, 2))
    psi, new_theta = cell.m_step(*(tf.constant(x, tf.float32) for x in (masked, theta, action)))
    core = reference.relational_core(3, len(cell.core.get_weights()), action=action[0])
    weights = [w for part in (cell.encoder, cell.core, cell.decoder) for w in part.get_weights()]
    expected, expected_theta = reference.space_invaders(weights, core)(masked[0], theta[0])
    np.testing.assert_allclose(psi[0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(new_theta[0], expected_theta, rtol=1e-3, atol=1e-4)


def test_permuting_the_components_permutes_the_outputs(rng):
    model = relational_model(k=4)
    noisy, target = binary_frames(rng, 2, 2, 3, 8, 8, 1)
    state = model.cell.get_initial_state(2, seed=[0, 1])
    order = [3, 1, 0, 2]
    one = model(noisy, target, initial_state=state)
    other = model(noisy, target, initial_state=[tf.gather(part, order, axis=1) for part in state])
    for name, values in one.items():
        np.testing.assert_allclose(tf.gather(values, order, axis=2), other[name], rtol=1e-3, atol=1e-5)


def test_k_is_free_at_call_time(rng):
    """One trace of unknown B, T and K serves them all, its attention too; the numbers are those of a known K."""
    model = relational_model(k=2)
    frames = tf.TensorSpec([None, None, 8, 8, 1])

    @tf.function(input_signature=[frames, frames, tf.TensorSpec([], tf.int32)])
    def run(noisy, target, k):
        state = model.cell.get_initial_state(tf.shape(noisy)[0], k=k, seed=[0, 0])
        outputs = model(noisy, target, initial_state=state)
        return {**outputs, "attention": model.cell.attention(outputs["theta"])}

    for batch, steps, k in ((1, 1, 2), (2, 3, 6)):
        noisy, target = binary_frames(rng, 2, batch, steps, 8, 8, 1)
        outputs = run(noisy, target, k)
        state = model.cell.get_initial_state(batch, k=k, seed=[0, 0])
        for name, values in model(noisy, target, initial_state=state).items():
            np.testing.assert_allclose(outputs[name], values, rtol=1e-4, atol=1e-5)
        assert outputs["attention"].shape == (batch, steps, k, k)


def test_actions_come_to_the_step_that_they_belong_to(rng):
    model = relational_model(nr_actions=2)
    noisy, target = binary_frames(rng, 2, 2, 4, 8, 8, 1)
    actions = np.float32(rng.standard_normal((2, 4, 2)))
    state = model.cell.get_initial_state(2, seed=[0, 1])
    before = model(noisy, target, initial_state=state, actions=actions)["theta"]
    other = actions.copy()
    other[1, 2] *= -1
    after = model(noisy, target, initial_state=state, actions=other)["theta"]
    moved = np.abs(after - before).max(axis=(2, 3)) > 1e-5
    assert moved.tolist() == [[False] * 4, [False, False, True, True]]
    _, theta = model.cell.m_step(state.gamma * (noisy[:, 0, None] - state.psi), state.theta, actions[:, 0])
    np.testing.assert_allclose(before[:, 0], theta, rtol=1e-5, atol=1e-6)


def test_a_rollout_takes_the_actions_of_its_steps(rng):
    model = relational_model(nr_actions=2)
    noisy, state = binary_frames(rng, 2, 8, 8, 1), model.cell.get_initial_state(2, seed=[0, 1])
    actions = np.float32(rng.standard_normal((2, 3, 2)))
    outputs = model.rollout(noisy, state, 3, lambda psi, t: (tf.reduce_max(psi, axis=1),) * 2, tf.constant(actions))
    frame = noisy
    for t in range(3):
        psi, theta = model.cell.m_step(state.gamma * (frame[:, None] - state.psi), state.theta, actions[:, t])
        frame = tf.reduce_max(psi, axis=1)
        state = layers.State(theta, psi, model.cell.e_step(frame, psi))
        np.testing.assert_allclose(outputs["theta"][:, t], theta, rtol=1e-4, atol=1e-6)


def test_more_actions_than_pixels_are_refused():
    cell = small_cell(image_shape=(2, 2, 1))
    cell = RNNEMCell(cell.encoder, RelationalCore(7, nr_actions=5), cell.decoder, cell.mixture)
    with pytest.raises(ValueError, match="at most 4 actions, one a pixel; received 5"):
        RNNEM(cell).build((None, None, 2, 2, 1))


def test_fit_lowers_the_loss_and_a_keras_file_keeps_the_function(rng, tmp_path):
    cell = relational_model(nr_actions=2).cell
    frames, actions = keras.Input((4, 8, 8, 1), name="frames"), keras.Input((3, 2), name="actions")
    outputs = RNNEM(cell)(noisy=frames[:, :-1], target=frames[:, 1:], actions=actions)
    loss = EMLoss(cell.mixture, step_weights="mean")(outputs, frames[:, 1:])
    model = keras.Model({"frames": frames, "actions": actions}, loss)
    model.compile("adam")
    batch = {
        "frames": binary_frames(rng, 16, 1, 8, 8, 1).repeat(4, axis=1),
        "actions": np.float32(rng.standard_normal((16, 3, 2))),
    }
    history = model.fit(batch, batch_size=8, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.non_trainable_variables, loaded.non_trainable_variables, strict=True):
        theirs.assign(ours)  # Keras starts the seed generators of a loaded model anew
    some = {name: values[:2] for name, values in batch.items()}
    expected, outputs = model(some), loaded(some)
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_it_serialises(rng, form):
    options = {name: value for name, value in FORMS[form].items() if name != "action_units"}
    model = relational_model(**options)
    clone = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    clone.build((None, None, 8, 8, 1))
    clone.set_weights(model.get_weights())
    noisy, target = binary_frames(rng, 2, 2, 2, 8, 8, 1)
    actions = {"actions": np.float32(rng.standard_normal((2, 2, 3)))} if model.cell.nr_actions else {}
    state = model.cell.get_initial_state(2, seed=[0, 1])
    for name, values in model(noisy, target, initial_state=state, **actions).items():
        np.testing.assert_array_equal(clone(noisy, target, initial_state=state, **actions)[name], values)


@pytest.mark.parametrize("nr_actions", [0, 2])
def test_the_functional_model_is_the_layer(rng, nr_actions):
    model = relational_model(nr_actions=nr_actions)
    inputs = [*binary_frames(rng, 2, 2, 3, 8, 8, 1)]
    if nr_actions:
        inputs.append(np.zeros((2, 3, nr_actions), np.float32))
    functional = model.functional()
    assert len(functional.inputs) == len(inputs)
    assert {name: values.shape for name, values in functional(inputs).items()} == {
        "predictions": (2, 3, 3, 8, 8, 1), "gamma": (2, 3, 3, 8, 8, 1), "theta": (2, 3, 3, 7)
    }  # fmt: skip


def test_cells_whose_components_do_not_look_at_each_other_have_no_attention():
    theta = tf.zeros((2, 3, 7))
    assert small_cell().attention(theta) is None
    assert layers.NEMCell(7, BernoulliMixture()).attention(theta) is None
    assert relational_model(use_attention=False).cell.attention(theta) is None


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_under_a_policy_of_keras_it_is_that_of_float32_nearly(rng, policy):
    core = built_core(rng)
    lower = built_core(rng, dtype=policy)
    lower.set_weights(core.get_weights())
    slots, theta, _ = inputs_of(rng, core, k=3)
    expected, _ = core(slots, [theta])
    found, _ = lower(slots, [theta])
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=0.05)
    np.testing.assert_allclose(tf.cast(lower.attention(theta), tf.float32), core.attention(theta), atol=0.05)
