"""The networks inside the RNN-EM cell: encoder, recurrent core, decoder (paper, appendix; method section 3).

They see B*K rows at once: the weights are shared over components and steps.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def layer_norm(**kwargs) -> layers.GroupNormalization:
    """The authors' layer norm: mean and variance over ALL non-batch axes, scale and offset per channel (last axis).

    `keras.layers.LayerNormalization` normalises the last axis only and is another function on a feature map;
    one group over all channels is exactly this one.
    """
    return layers.GroupNormalization(groups=1, epsilon=1e-12, **kwargs)


@keras.saving.register_keras_serializable("nem_tf")
class UpsampleConv2D(layers.Layer):
    """x2 nearest-neighbour upsampling, then a 4x4 'same' convolution: [B, H, W, C] -> [B, 2H, 2W, filters].

    Computed as a 3x3 'same' convolution on the small map to 4 * filters channels, followed by depth_to_space(2):
    the same function of the same 4x4 kernel, with 36 instead of 64 multiplications per input channel and 2x2 output
    block and no upsampled map in memory. On one axis an even output pixel sees the input through the taps
    (w0, w1+w2, w3), an odd one through (0, w0+w1, w2+w3).

    Arguments:
        filters: output channels.

    Weights: `kernel` [4, 4, C, filters] (Glorot uniform) and `bias` [filters] (zeros), those of the plain convolution.
    """

    # [phase, tap, kernel row]: which kernel rows add up to each tap of the two output phases.
    PHASES = np.array([[[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]])

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight(
            name="kernel", shape=(4, 4, input_shape[-1], self.filters), initializer="glorot_uniform"
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        kernel = tf.convert_to_tensor(self.kernel)
        phases = tf.constant(self.PHASES, kernel.dtype)
        small = tf.einsum("pia,qjb,abcf->ijcpqf", phases, phases, kernel)
        small = tf.reshape(small, (3, 3, kernel.shape[2], 4 * self.filters))
        x = tf.nn.conv2d(x, small, strides=1, padding="SAME")  # [B, H, W, 4 * filters]
        x = keras.ops.depth_to_space(x, 2, data_format="channels_last")  # [B, 2H, 2W, filters]
        return x + tf.cast(self.bias, x.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("nem_tf")
class SigmoidCore(layers.Layer):
    """The recurrent core, a Keras RNN cell:  a = W [input ; h] + b;  h' = sigmoid(a);  output = sigmoid(LN(a)).

    The norm is on the output, not on the carried state. Without layer norm the output is h' itself.

    Arguments:
        units: M, the size of the state.
        use_layer_norm: whether the output passes through `layer_norm`.

    Call: `(inputs [B, D], states [[B, M]]) -> (output [B, M], [h' [B, M]])`.
    """

    def __init__(self, units: int, use_layer_norm: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.use_layer_norm = use_layer_norm
        self.state_size = self.output_size = units
        self.dense = layers.Dense(units, name="dense", dtype=self.dtype_policy)
        self.norm = layer_norm(name="norm", dtype=self.dtype_policy) if use_layer_norm else None

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


def _block(linear: layers.Layer, activation: str) -> list[layers.Layer]:
    """linear + bias -> layer norm -> activation, the order of the authors' layers."""
    return [linear, layer_norm(dtype=linear.dtype_policy), layers.Activation(activation, dtype=linear.dtype_policy)]


def flying_shapes(image_shape: tuple[int, int, int], dtype: str = "float32") -> dict[str, layers.Layer]:
    """Encoder, core and decoder of the flying-shapes experiments, for `RNNEMCell(**flying_shapes(...))`.

    Arguments:
        image_shape: (H, W, C); H and W divisible by 4. (28, 28, 1) in the paper.
        dtype: Keras dtype policy of the convolutions and dense layers, e.g. "mixed_bfloat16". The recurrent core and
            the last sigmoid stay float32: they carry the state and the probabilities.

    Raises:
        ValueError: H or W is not divisible by 4.
    """
    height, width, channels = image_shape
    if height % 4 or width % 4:
        raise ValueError(f"the flying_shapes network halves the image twice: expected H and W divisible by 4, "
                         f"received {height}x{width}")  # fmt: skip
    small = (height // 4, width // 4, 64)
    encoder = keras.Sequential(
        [
            *_block(layers.Conv2D(32, 4, strides=2, padding="same", dtype=dtype), "elu"),
            *_block(layers.Conv2D(64, 4, strides=2, padding="same", dtype=dtype), "elu"),
            layers.Flatten(dtype=dtype),
            *_block(layers.Dense(512, dtype=dtype), "elu"),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            *_block(layers.Dense(512, dtype=dtype), "relu"),
            *_block(layers.Dense(np.prod(small).item(), dtype=dtype), "relu"),
            layers.Reshape(small, dtype=dtype),
            *_block(UpsampleConv2D(32, dtype=dtype), "relu"),
            UpsampleConv2D(channels, dtype=dtype),
            layers.Activation("sigmoid", dtype="float32"),
        ],
        name="decoder",
    )
    return {"encoder": encoder, "core": SigmoidCore(100, name="core", dtype="float32"), "decoder": decoder}


NETWORKS = {"flying_shapes": flying_shapes}
