"""Cores: the paper's own, any Keras RNN cell slot by slot, and one whose slots look at each other."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import binary_frames, small_cell
from reference import layer_norm, lstm_core, sigmoid, taker

from nem_tf.layers import RNNEM, LSTMCore, PerSlot, RNNEMCell, SigmoidCore, SlotCore


@keras.saving.register_keras_serializable("tests")
class MeanFieldCore(SlotCore):
    """theta' = tanh(W [own ; mean of the others ; theta]): every component looks at all others."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units
        self.output_size = units + 1
        self.dense = keras.layers.Dense(units, activation="tanh")

    def build(self, input_shape):
        self.dense.build((None, None, 2 * input_shape[-1] + self.units))

    def call(self, slots, states):
        k = tf.cast(tf.shape(slots)[1], slots.dtype)
        others = (tf.reduce_sum(slots, axis=1, keepdims=True) - slots) / tf.maximum(k - 1, 1)
        theta = self.dense(tf.concat([slots, others, states[0]], axis=-1))
        return tf.concat([theta, tf.reduce_mean(theta, -1, keepdims=True)], -1), [theta]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.mark.parametrize("use_layer_norm", [True, False])
def test_sigmoid_core_normalises_the_output_and_not_the_state(rng, use_layer_norm):
    core = SigmoidCore(5, use_layer_norm=use_layer_norm)
    x, h = rng.standard_normal((2, 3)), rng.random((2, 5))
    core.build((2, 3))
    core.set_weights([rng.standard_normal(w.shape) for w in core.get_weights()])
    output, (state,) = core(np.float32(x), [np.float32(h)])
    kernel, bias, *norm = core.get_weights()
    a = np.concatenate([x, h], 1) @ kernel + bias
    np.testing.assert_allclose(state, sigmoid(a), rtol=1e-5)
    np.testing.assert_allclose(output, sigmoid(layer_norm(a, *norm)) if norm else sigmoid(a), rtol=1e-4)


def test_the_lstm_carries_its_normalised_cell(rng):
    core = LSTMCore(5)
    x, state = rng.standard_normal((2, 3)), rng.standard_normal((2, 10))
    core.build((2, 3))
    core.set_weights([rng.standard_normal(w.shape) for w in core.get_weights()])
    output, (new_state,) = core(np.float32(x), [np.float32(state)])
    expected, expected_state = lstm_core(x, state, taker(core.get_weights()))
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new_state, expected_state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", [SigmoidCore(5), LSTMCore(5), keras.layers.GRUCell(5), keras.layers.SimpleRNNCell(5)],
                         ids=lambda cell: type(cell).__name__)  # fmt: skip
def test_per_slot_is_the_cell_row_by_row(rng, cell):
    core = PerSlot(cell)
    slots, theta = (np.float32(rng.standard_normal((2, 3, size))) for size in (4, core.state_size))
    core.build((None, None, 4))
    output, (state,) = core(slots, [theta])
    assert output.shape == (2, 3, core.output_size)
    for i, j in np.ndindex(2, 3):
        expected, (row,) = cell(slots[i : i + 1, j], [theta[i : i + 1, j]])
        np.testing.assert_allclose(output[i, j], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state[i, j], row[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_core_with_dropout_drops_anew_at_every_step_of_a_training(rng, compiled):
    cell = small_cell()
    core = keras.layers.GRUCell(6, dropout=0.5, recurrent_dropout=0.5)
    cell = RNNEMCell(cell.encoder, core, cell.decoder, cell.mixture, k=2, seed=1)
    layer = RNNEM(cell)
    layer.build((None, None, 8, 8, 1))
    frames = binary_frames(rng, 2, 4, 8, 8, 1)
    state = cell.get_initial_state(2, seed=[0, 1])

    def theta(training):
        return layer(frames[:, :-1], frames[:, 1:], initial_state=state, training=training)["theta"]

    run = tf.function(theta, autograph=False) if compiled else theta
    assert np.abs(run(True) - run(True)).max() > 1e-3
    np.testing.assert_array_equal(run(False), run(False))


def test_per_slot_computes_in_the_precision_of_its_cell(rng):
    slots, theta = np.float32(rng.standard_normal((2, 3, 4))), np.float32(rng.standard_normal((2, 3, 5)))
    cell = SigmoidCore(5, dtype="float32")
    expected, _ = PerSlot(cell)(slots, [theta])
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        core = PerSlot(cell)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(core(slots, [theta])[0], expected)


def interacting_cell(k=3):
    cell = small_cell()
    return RNNEMCell(cell.encoder, MeanFieldCore(6), cell.decoder, cell.mixture, k=k, seed=1)


@pytest.fixture(scope="module")
def interacting():
    model = RNNEM(interacting_cell())
    model.build((None, None, 8, 8, 1))
    for variable in model.trainable_variables:
        variable.assign(3 * variable)
    return model


def test_a_core_that_sees_slots_works_in_the_cell(interacting, rng):
    noisy, target = binary_frames(rng, 2, 2, 4, 8, 8, 1)
    state = interacting.cell.get_initial_state(2, seed=[0, 1])
    outputs = tf.function(interacting)(noisy, target, initial_state=state)
    assert outputs["theta"].shape == (2, 4, 3, 6)
    order = [2, 0, 1]
    permuted = interacting(noisy, target, initial_state=[tf.gather(part, order, axis=1) for part in state])
    for name, values in outputs.items():
        np.testing.assert_allclose(tf.gather(values, order, axis=2), permuted[name], rtol=1e-4, atol=1e-6)
    for k in (1, 5):
        fresh = interacting.cell.get_initial_state(2, k=k, seed=[0, 1])
        assert interacting(noisy, target, initial_state=fresh)["theta"].shape == (2, 4, k, 6)


def test_its_components_look_at_each_other_and_those_of_the_paper_do_not(interacting, rng):
    """What component 1 is given changes what component 0 becomes, within one step."""
    paper = RNNEM(small_cell())
    paper.build((None, None, 8, 8, 1))
    masked = rng.standard_normal((1, 3, 8, 8, 1)).astype(np.float32)
    other = masked.copy()
    other[:, 1] *= -1
    changed = []
    for model in (interacting, paper):
        theta = tf.zeros((1, 3, model.cell.units))
        (_, before), (_, after) = (model.cell.m_step(tf.constant(x), theta) for x in (masked, other))
        changed.append(np.abs(before - after).max(axis=(0, 2)))
    assert (changed[0] > 1e-3).all()
    assert (changed[1] > 1e-3).tolist() == [False, True, False]


def test_it_serialises(interacting, rng):
    noisy, target = binary_frames(rng, 2, 2, 2, 8, 8, 1)
    clone = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(interacting))
    clone.build((None, None, 8, 8, 1))
    clone.set_weights(interacting.get_weights())
    state = interacting.cell.get_initial_state(2, seed=[0, 1])
    for name, values in interacting(noisy, target, initial_state=state).items():
        np.testing.assert_array_equal(clone(noisy, target, initial_state=state)[name], values)


def test_a_core_of_several_states_is_refused():
    with pytest.raises(ValueError, match="one state"):
        PerSlot(keras.layers.LSTMCell(3))
