"""The cell unrolled over a sequence by `keras.layers.RNN`, with named outputs."""

import keras
import tensorflow as tf

from nem_tf.cell import RNNEMCell, State
from nem_tf.config import Config
from nem_tf.errors import UserError
from nem_tf.mixture import BernoulliMixture, GaussianMixture, SpatialMixture
from nem_tf.networks import NETWORKS


@keras.saving.register_keras_serializable("nem_tf")
class RNNEM(keras.layers.Layer):
    """RNN-EM over T steps: unrolled expectation maximization, trained end to end.

    Arguments:
        cell: an `RNNEMCell`.

    Call arguments:
        noisy: [B, T, H, W, C], the frames x~_0 .. x~_{T-1} that the components see, with noise.
        target: [B, T, H, W, C], the frames x_1 .. x_T to predict, clean. T + 1 frames make T steps.
        initial_state: `State`; by default a fresh one with the cell's k. It decides K.

    Returns a dict, step t being the state after frame t was seen and frame t + 1 predicted:
        predictions: [B, T, K, H, W, C], psi, the predicted means of the target.
        gamma: [B, T, K, H, W, 1], the responsibilities for the target; sum to 1 over K.
        theta: [B, T, K, M], the representation of each component.
    """

    def __init__(self, cell: RNNEMCell, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.cell = cell
        self.rnn = keras.layers.RNN(cell, return_sequences=True, name="rnn", dtype=self.dtype_policy)

    def build(self, noisy_shape: tuple, target_shape: tuple | None = None) -> None:
        self.rnn.build((*noisy_shape[:-1], 2 * noisy_shape[-1]))

    def call(self, noisy: tf.Tensor, target: tf.Tensor, initial_state: State | None = None) -> dict[str, tf.Tensor]:
        # Keras' RNN takes one tensor per step: noisy and target frames travel packed on the channels.
        frames = tf.concat([noisy, target], axis=-1)  # [B, T, H, W, 2C]
        if initial_state is None:
            initial_state = self.cell.get_initial_state(tf.shape(frames)[0])
        packed = self.rnn(frames, initial_state=list(initial_state))  # [B, T, K, P]
        return self.cell.unpack(packed)

    def compute_output_spec(
        self, noisy: keras.KerasTensor, target: keras.KerasTensor, initial_state: State | None = None
    ) -> dict:
        batch, steps, height, width, channels = noisy.shape
        k = self.cell.k if initial_state is None else initial_state[0].shape[1]
        shapes = {
            "predictions": (height, width, channels),
            "gamma": (height, width, 1),
            "theta": (self.cell.core.state_size,),
        }
        return {
            name: keras.KerasTensor((batch, steps, k, *shape), dtype=self.compute_dtype)
            for name, shape in shapes.items()
        }

    def get_config(self) -> dict:
        return {**super().get_config(), "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config: dict) -> "RNNEM":
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})


def build_mixture(config: Config) -> SpatialMixture:
    """The pixel model that the configuration names."""
    if config.mixture == "gaussian":
        return GaussianMixture(e_sigma=config.e_sigma)
    return BernoulliMixture()


def build_model(config: Config, image_shape: tuple[int, int, int]) -> RNNEM:
    """The model of a configuration for frames of shape (H, W, C), with its weights.

    Raises:
        UserError: the network does not fit the frames.
    """
    try:
        network = NETWORKS[config.network](image_shape, dtype=config.precision)
    except ValueError as error:
        raise UserError(f"--network={config.network} and --dataset={config.dataset} do not fit: {error}") from error
    cell = RNNEMCell(
        **network, mixture=build_mixture(config), k=config.k, gamma_gradient=config.gamma_gradient, seed=config.seed
    )
    model = RNNEM(cell)
    model.build((None, None, *image_shape))
    return model
