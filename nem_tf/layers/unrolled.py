"""A cell unrolled over a sequence by `keras.layers.RNN`, with named outputs."""

from collections.abc import Callable

import keras
import tensorflow as tf

from nem_tf.layers.cells import EMCell, State
from nem_tf.layers.precision import float32_only


@keras.saving.register_keras_serializable("nem_tf")
class RNNEM(keras.layers.Layer):
    """N-EM or RNN-EM over T steps: unrolled expectation maximization, trained end to end.

    Arguments:
        cell: an `RNNEMCell` or another `EMCell`.
        unroll: as in `keras.layers.RNN`: the T steps are written out rather than looped over. A compiled step on a GPU
            is faster for it, and compiles for longer; T must be known.

    Call arguments:
        noisy: [B, T, H, W, C], the frames x~_0 .. x~_{T-1} that the components see, with noise.
        target: [B, T, H, W, C], the frames x_1 .. x_T to predict, clean. T + 1 frames make T steps.
        initial_state: `State`; by default a fresh one with the cell's k. It decides K.

    Returns a dict, step t being the state after frame t was seen and frame t + 1 predicted:
        predictions: [B, T, K, H, W, C], psi, the predicted means of the target.
        gamma: [B, T, K, H, W, 1], the responsibilities for the target; sum to 1 over K.
        theta: [B, T, K, M], the representation of each component.
    """

    def __init__(self, cell: EMCell, unroll: bool = False, **kwargs):
        super().__init__(**float32_only(kwargs))
        self.cell, self.unroll = cell, unroll
        self.rnn = keras.layers.RNN(cell, return_sequences=True, unroll=unroll, name="rnn", dtype=self.dtype_policy)

    def build(self, noisy_shape: tuple, target_shape: tuple | None = None) -> None:
        self.rnn.build((*noisy_shape[:-1], 2 * noisy_shape[-1]))

    def call(self, noisy: tf.Tensor, target: tf.Tensor, initial_state: State | None = None) -> dict[str, tf.Tensor]:
        # Keras' RNN takes one tensor per step: noisy and target frames travel packed on the channels.
        frames = tf.concat([noisy, target], axis=-1)  # [B, T, H, W, 2C]
        if initial_state is None:
            initial_state = self.cell.get_initial_state(tf.shape(frames)[0])
        packed = self.rnn(frames, initial_state=list(initial_state))  # [B, T, K, P]
        return self.cell.unpack(packed)

    def rollout(
        self,
        noisy: tf.Tensor,
        state: State,
        steps: int | tf.Tensor,
        imagine: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    ) -> dict[str, tf.Tensor]:
        """Goes on without looking: what it imagines takes the place of every later frame, as target and as input.

        Arguments:
            noisy: [B, H, W, C], the last frame seen.
            state: that before it.
            steps: how many to predict, at least 1; the first one is for the frame after `noisy`.
            imagine: (max_k psi_k [B, H, W, C], int32 number of the step) -> (target, next input), [B, H, W, C] each.

        Returns what calling the model does, for these steps; no responsibility knows a true frame.
        """

        def imagined_step(last, t):
            noisy, state = last
            psi, theta = self.cell.m_step(state.gamma * (noisy[:, None] - state.psi), state.theta)
            target, next_noisy = imagine(tf.reduce_max(psi, axis=1), t)
            return tf.ensure_shape(next_noisy, noisy.shape), State(theta, psi, self.cell.e_step(target, psi))

        _, states = tf.scan(imagined_step, tf.range(steps), initializer=(noisy, state))
        names = {"predictions": states.psi, "gamma": states.gamma, "theta": states.theta}
        return {name: tf.experimental.numpy.swapaxes(value, 0, 1) for name, value in names.items()}  # [B, steps, ...]

    def functional(self) -> keras.Model:
        """Returns the layer as a Keras model of (noisy, target), for any T: what has a file of weights, and `fit`.

        Its weights are those of the layer.
        """
        noisy, target = (keras.Input((None, *self.cell.image_shape)) for _ in range(2))
        return keras.Model([noisy, target], self(noisy, target))

    def compute_output_spec(
        self, noisy: keras.KerasTensor, target: keras.KerasTensor, initial_state: State | None = None
    ) -> dict:
        batch, steps, height, width, channels = noisy.shape
        k = self.cell.k if initial_state is None else initial_state[0].shape[1]
        shapes = {
            "predictions": (height, width, channels),
            "gamma": (height, width, 1),
            "theta": (self.cell.units,),
        }
        return {
            name: keras.KerasTensor((batch, steps, k, *shape), dtype=self.compute_dtype)
            for name, shape in shapes.items()
        }

    def get_config(self) -> dict:
        cell = keras.saving.serialize_keras_object(self.cell)
        return {**super().get_config(), "cell": cell, "unroll": self.unroll}

    @classmethod
    def from_config(cls, config: dict) -> "RNNEM":
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})
