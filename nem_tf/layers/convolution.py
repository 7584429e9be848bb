"""The convolutions that halve and double an image, computed with fewer multiplications than they are written with."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable("nem_tf")
class UpsampleConv2D(layers.Layer):
    """x2 nearest-neighbour upsampling, then a 4x4 'same' convolution: [B, H, W, C] -> [B, 2H, 2W, filters].

    Computed as a 3x3 'same' convolution on the small map to 4 * filters channels, followed by depth_to_space(2):
    the same function of the same 4x4 kernel, with 36 instead of 64 multiplications per input channel and 2x2 output
    block and no upsampled map in memory. On one axis an even output pixel sees the input through the taps
    (w0, w1+w2, w3), an odd one through (0, w0+w1, w2+w3).

    Arguments:
        filters: output channels.
        output_size: (height, width) to which the result is cut at its lower right, e.g. (13, 13) of 14 x 14, for an
            image whose size is odd; None cuts nothing.

    Weights: `kernel` [4, 4, C, filters] (Glorot uniform) and `bias` [filters] (zeros), those of the plain convolution.

    Raises:
        ValueError: output_size is more than twice the size of the input.
    """

    # [phase, tap, kernel row]: which kernel rows add up to each tap of the two output phases.
    PHASES = np.array([[[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]])
    # The same for both axes as one matrix: 3x3 taps of 2x2 phases from the 4x4 kernel.
    PHASE_SUMS = np.einsum("pia,qjb->ijpqab", PHASES, PHASES).reshape(36, 16)

    def __init__(self, filters: int, output_size: tuple[int, int] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.output_size = output_size and tuple(output_size)

    def build(self, input_shape: tuple) -> None:
        *_, height, width, channels = input_shape
        if self.output_size and any(cut > 2 * size for cut, size in zip(self.output_size, (height, width)) if size):
            raise ValueError(f"output_size={self.output_size} is more than twice the input, {height}x{width}")
        self.kernel = self.add_weight(
            name="kernel", shape=(4, 4, channels, self.filters), initializer="glorot_uniform"
        )  # fmt: skip
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        kernel = tf.convert_to_tensor(self.kernel)
        channels = kernel.shape[2]
        sums = tf.matmul(tf.constant(self.PHASE_SUMS, kernel.dtype), tf.reshape(kernel, (16, -1)))
        small = tf.transpose(tf.reshape(sums, (9, 4, channels, self.filters)), (0, 2, 1, 3))
        small = tf.reshape(small, (3, 3, channels, 4 * self.filters))
        x = tf.nn.conv2d(x, small, strides=1, padding="SAME")  # [B, H, W, 4 * filters]
        # The bias before the rearrangement: TensorFlow fuses it with the convolution.
        x = tf.nn.bias_add(x, tf.tile(tf.cast(self.bias, x.dtype), [4]))
        x = tf.nn.depth_to_space(x, 2)  # [B, 2H, 2W, filters]
        if self.output_size is None or tuple(x.shape[1:3]) == self.output_size:
            return x
        height, width = self.output_size
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, _ = input_shape
        return (batch, *(self.output_size or (height and 2 * height, width and 2 * width)), self.filters)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters, "output_size": self.output_size}


@keras.saving.register_keras_serializable("nem_tf")
class HalvingConv2D(layers.Layer):
    """A 4x4 'same' convolution of stride 2: [B, H, W, C] -> [B, ceil(H/2), ceil(W/2), filters].

    Computed as a 2x2 convolution on space_to_depth(2) of the padded image: the same function of the same weights, and
    for the one channel of a grey image faster on a CPU.

    Arguments:
        filters: output channels.

    Weights: `kernel` [4, 4, C, filters] (Glorot uniform) and `bias` [filters] (zeros), as `keras.layers.Conv2D` has.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight(
            name="kernel", shape=(4, 4, input_shape[-1], self.filters), initializer="glorot_uniform"
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        sizes, channels = tf.shape(x), x.shape[-1]
        height, width = (sizes[axis] if x.shape[axis] is None else x.shape[axis] for axis in (1, 2))
        # 'same' pads an image of odd size by one more at the end.
        x = tf.nn.space_to_depth(tf.pad(x, [[0, 0], [1, 1 + height % 2], [1, 1 + width % 2], [0, 0]]), 2)
        blocks = tf.reshape(self.kernel, (2, 2, 2, 2, channels, self.filters))  # [block, in it] for each axis
        kernel = tf.reshape(tf.transpose(blocks, (0, 2, 1, 3, 4, 5)), (2, 2, 4 * channels, self.filters))
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides=1, padding="VALID"), self.bias)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, _ = input_shape
        return (batch, height and -(-height // 2), width and -(-width // 2), self.filters)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters}
