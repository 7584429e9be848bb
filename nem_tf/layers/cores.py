"""Recurrent cores: what turns the features of the K components and their state into a new state.

A core of a cell sees all slots of an image at once, [B, K, D], so that components may look at each other. One that
treats them alike and apart, as every core of the paper does, is a plain Keras RNN cell in a `PerSlot`.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

from nem_tf.layers.normalisation import LayerNorm


class SlotCore(layers.Layer):
    """What `RNNEMCell` expects of a core; a subclass has `state_size` and `output_size`, the widths of both.

    Call: `(slots [B, K, D], states [[B, K, M]]) -> (output [B, K, M'], [new state [B, K, M]])`, for any K from
    `smallest_k` on. A core with `nr_actions` = A above 0 is also given `actions` [B, A], one action an image.
    """

    state_size: int
    output_size: int
    smallest_k: int = 1
    nr_actions: int = 0

    def attention(self, theta: tf.Tensor, actions: tf.Tensor | None = None) -> tf.Tensor | None:
        """Returns how much each component looks at each other one in the step after theta, [.., K, K]; None if it has
        no such numbers."""
        return None


@keras.saving.register_keras_serializable("nem_tf")
class PerSlot(SlotCore):
    """Applies a Keras RNN cell to every slot by itself, with the same weights.

    A cell with dropout draws what it drops anew at every step, where Keras' own RNN draws it once a sequence.

    Arguments:
        cell: RNN cell with one state, [B, D] -> [B, M]; `SigmoidCore` in the paper, but a `keras.layers.GRUCell`
            will do.

    Raises:
        ValueError: a cell with several states.
    """

    def __init__(self, cell: keras.Layer, **kwargs):
        # In the precision of the cell: under a global bfloat16 policy its state would lose digits on the way.
        super().__init__(**{"dtype": cell.dtype_policy, **kwargs})
        if not isinstance(cell.state_size, int):
            raise ValueError(f"core must be an RNN cell with one state; received state_size={cell.state_size}")
        self.cell = cell
        self.state_size, self.output_size = cell.state_size, cell.output_size

    def build(self, input_shape: tuple) -> None:
        if not self.cell.built:
            self.cell.build((None, input_shape[-1]))

    def call(self, slots: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        batch, k = tf.shape(slots)[0], tf.shape(slots)[1]
        rows = [tf.reshape(x, (-1, x.shape[-1])) for x in (slots, *states)]  # [B*K, D], [B*K, M]
        for reset in ("reset_dropout_mask", "reset_recurrent_dropout_mask"):  # else the first one stays for ever
            getattr(self.cell, reset, lambda: None)()
        output, (state,) = self.cell(rows[0], rows[1:])
        return (
            tf.reshape(output, (batch, k, self.output_size)),
            [tf.reshape(state, (batch, k, self.state_size))],
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config: dict) -> "PerSlot":
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})


@keras.saving.register_keras_serializable("nem_tf")
class SigmoidCore(layers.Layer):
    """The paper's recurrent core, a Keras RNN cell:  a = W [input ; h] + b;  h' = sigmoid(a);  output = sigmoid(LN(a)).

    The norm is on the output, not on the carried state. Without layer norm the output is h' itself.

    Arguments:
        units: M, the size of the state.
        use_layer_norm: whether the output passes through a `LayerNorm`.

    Call: `(inputs [B, D], states [[B, M]]) -> (output [B, M], [h' [B, M]])`.
    """

    def __init__(self, units: int, use_layer_norm: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.use_layer_norm = use_layer_norm
        self.state_size = self.output_size = units
        self.dense = layers.Dense(units, name="dense", dtype=self.dtype_policy)
        self.norm = LayerNorm(name="norm", dtype=self.dtype_policy) if use_layer_norm else None

    def build(self, input_shape: tuple) -> None:
        self.dense.build((input_shape[0], input_shape[-1] + self.units))
        if self.norm is not None:
            self.norm.build((input_shape[0], self.units))

    def call(self, inputs: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        a = self.dense(tf.concat([inputs, states[0]], axis=-1))
        h = tf.sigmoid(a)
        output = tf.sigmoid(self.norm(a)) if self.norm is not None else h
        return output, [h]

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "use_layer_norm": self.use_layer_norm}


@keras.saving.register_keras_serializable("nem_tf")
class LSTMCore(layers.Layer):
    """LSTM with layer norm on the gates and on the cell, a Keras RNN cell of one state: the baseline of R-NEM.

        i, j, f, o = W [input ; h]                         without bias
        c' = LN(c * sigmoid(LN(f) + 1) + sigmoid(LN(i)) * tanh(LN(j)))
        h' = tanh(c') * sigmoid(LN(o));  output = h'

    The normalised cell is the one that is carried, as in TensorFlow 1's `LayerNormBasicLSTMCell`.

    Arguments:
        units: width of c and of h, and of the output.

    Call: `(inputs [B, D], states [[B, 2 * units]]) -> (output [B, units], [state [B, 2 * units]])`; the state is
    [c ; h], packed, since a core has one.
    """

    FORGET_BIAS = 1.0

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = self.output_size = units
        self.state_size = 2 * units
        self.dense = layers.Dense(4 * units, use_bias=False, name="dense", dtype=self.dtype_policy)
        names = ("input", "transform", "forget", "output", "state")
        self.norms = [LayerNorm(name=f"norm_{name}", dtype=self.dtype_policy) for name in names]

    def build(self, input_shape: tuple) -> None:
        self.dense.build((input_shape[0], input_shape[-1] + self.units))
        for norm in self.norms:
            norm.build((input_shape[0], self.units))

    def call(self, inputs: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        c, h = tf.split(states[0], 2, axis=-1)
        gates = tf.split(self.dense(tf.concat([inputs, h], axis=-1)), 4, axis=-1)
        *norms, norm_state = self.norms
        i, j, f, o = (norm(gate) for norm, gate in zip(norms, gates))
        c = norm_state(c * tf.sigmoid(f + self.FORGET_BIAS) + tf.sigmoid(i) * tf.tanh(j))
        h = tf.tanh(c) * tf.sigmoid(o)
        return h, [tf.concat([c, h], axis=-1)]

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}
