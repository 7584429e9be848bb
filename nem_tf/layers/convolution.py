"""The convolutions that halve and double an image, computed in the way that is fastest for them."""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from nem_tf.layers.precision import bias_add

CHANNELS_OF_A_PRODUCT = 64  # from so many on, a gradient is faster as products (docs/measurements.md)


@keras.saving.register_keras_serializable("nem_tf")
class UpsampleConv2D(layers.Layer):
    """x2 nearest-neighbour upsampling, then a 4x4 'same' convolution: [B, H, W, C] -> [B, 2H, 2W, filters].

    Computed as a 3x3 'same' convolution on the small map to 4 * filters channels, followed by depth_to_space(2):
    the same function of the same 4x4 kernel, with 36 instead of 64 multiplications per input channel and 2x2 output
    block and no upsampled map in memory. On one axis an even output pixel sees the input through the taps
    (w0, w1+w2, w3), an odd one through (0, w0+w1, w2+w3). Another `factor` n goes with a kernel of 2n x 2n, whose
    n x n phases have 3x3 taps just so.

    Arguments:
        filters: output channels.
        output_size: (height, width) to which the result is cut at its lower right, e.g. (13, 13) of 14 x 14, for an
            image whose size is odd; None cuts nothing.
        factor: n, how many times as high and wide the image becomes.

    Weights: `kernel` [2n, 2n, C, filters] (Glorot uniform) and `bias` [filters] (zeros), those of the plain
    convolution.

    Raises:
        ValueError: an output_size that is no pair, or more than n times the size of the input; n < 2.
    """

    def __init__(self, filters: int, output_size: tuple[int, int] | None = None, factor: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        if output_size is not None and np.shape(output_size) != (2,):
            raise ValueError(f"output_size is (height, width); received {output_size!r}")
        if factor < 2:
            raise ValueError(f"factor is at least 2; received {factor}")
        self.output_size = output_size and tuple(output_size)
        self.factor = factor

    def build(self, input_shape: tuple) -> None:
        self._check_cut(input_shape)
        shape = (2 * self.factor, 2 * self.factor, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def _check_cut(self, input_shape):
        """Refuses to cut more than there is, where that is known: of a symbolic input only when it is called."""
        _, height, width, _ = input_shape
        n, sizes = self.factor, (height, width)
        if self.output_size and any(cut > n * size for cut, size in zip(self.output_size, sizes) if size):
            times = {2: "twice"}.get(n, f"{n} times")
            raise ValueError(f"output_size={self.output_size} is more than {times} the input, {height}x{width}")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        self._check_cut(x.shape)
        kernel = tf.convert_to_tensor(self.kernel)
        channels, phases = kernel.shape[2], self.factor**2
        sums = tf.matmul(tf.constant(_phase_sums(self.factor), kernel.dtype), tf.reshape(kernel, (4 * phases, -1)))
        small = tf.transpose(tf.reshape(sums, (9, phases, channels, self.filters)), (0, 2, 1, 3))
        small = tf.reshape(small, (3, 3, channels, phases * self.filters))
        x = _convolution(x, small, "SAME")  # [B, H, W, n * n * filters]
        # The bias before the rearrangement: TensorFlow fuses it with the convolution.
        x = bias_add(x, tf.tile(self.bias, [phases]))
        x = tf.nn.depth_to_space(x, self.factor)  # [B, nH, nW, filters]
        if self.output_size is None or tuple(x.shape[1:3]) == self.output_size:
            return x
        height, width = self.output_size
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, _ = input_shape
        n = self.factor
        return (batch, *(self.output_size or (height and n * height, width and n * width)), self.filters)

    def get_config(self) -> dict:
        own = {"filters": self.filters, "output_size": self.output_size, "factor": self.factor}
        return {**super().get_config(), **own}


@functools.cache
def _phase_sums(n: int) -> np.ndarray:
    """Which entries of a 2n x 2n kernel add up to each of the 3x3 taps of n x n phases: [9 n^2, 4 n^2], of 0 and 1."""
    phases = np.zeros((n, 3, 2 * n))  # of one axis: phase, tap, kernel row
    for phase, row in np.ndindex(n, 2 * n):
        # 'same' puts n - 1 pixels before the first one: that of the large map which the row sees, and where it is from.
        phases[phase, (phase + row - (n - 1)) // n + 1, row] = 1
    return np.einsum("pia,qjb->ijpqab", phases, phases).reshape(9 * n**2, 4 * n**2)


@keras.saving.register_keras_serializable("nem_tf")
class NearestResize(layers.Layer):
    """Nearest neighbours at another size: [B, H, W, C] -> [B, H', W', C], where H' and W' need not be multiples.

        y[i, j] = x[floor(i H / H'), floor(j W / W')]

    as TensorFlow 1 had it. Computed as a product with a matrix of 0 and 1 for each axis, whose gradient is one too.

    Arguments:
        output_size: (H', W').
    """

    def __init__(self, output_size: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.output_size = tuple(output_size)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        rows, columns = (
            tf.constant(np.eye(size)[np.arange(out) * size // out], x.dtype)
            for size, out in zip(x.shape[1:3], self.output_size)
        )
        return tf.einsum("ih,jw,bhwc->bijc", rows, columns, x)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], *self.output_size, input_shape[-1])

    def get_config(self) -> dict:
        return {**super().get_config(), "output_size": self.output_size}


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
        return bias_add(_halving(x, tf.convert_to_tensor(self.kernel)), self.bias)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, _ = input_shape
        return (batch, height and -(-height // 2), width and -(-width // 2), self.filters)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("nem_tf")
class Conv2D(layers.Conv2D):
    """`keras.layers.Conv2D`, with its arguments and weights; in bfloat16 on a CPU a 4x4 one of stride 2 is faster.

    That is then computed as `HalvingConv2D` does. The name is Keras' too, which files of weights keep.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kind = (self.kernel_size, self.strides, self.dilation_rate, self.groups, self.padding, self.data_format)
        halves = kind == ((4, 4), (2, 2), (1, 1), 1, "same", "channels_last")
        convolve = _halving if halves and _in_bfloat16_on_a_cpu(inputs) else self.convolution_op
        x = convolve(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            x = bias_add(x, self.bias)
        return x if self.activation is None else self.activation(x)


def _halving(x, kernel):
    """A 4x4 'same' convolution of stride 2, as one of 2x2 on blocks of 2x2 pixels."""
    (_, height, width, _), (channels, filters) = keras.ops.shape(x), kernel.shape[2:]
    # 'same' pads an image of odd size by one more at the end.
    x = tf.nn.space_to_depth(tf.pad(x, [[0, 0], [1, 1 + height % 2], [1, 1 + width % 2], [0, 0]]), 2)
    blocks = tf.reshape(kernel, (2, 2, 2, 2, channels, filters))  # [block, in it] for each axis
    kernel = tf.reshape(tf.transpose(blocks, (0, 2, 1, 3, 4, 5)), (2, 2, 4 * channels, filters))
    return _convolution(x, kernel, "VALID")


def _convolution(x, kernel, padding):
    """A convolution of stride 1, x [B, H, W, C] and kernel [k, k, C, F]: `tf.nn.conv2d`, but for its gradient.

    That of the kernel is slow in bfloat16 on a CPU. Where a pixel has enough channels, one product for each tap,

        dW[i, j] = sum_{b, h, w} x[b, h + i, w + j]^T dy[b, h, w]

    is several times as fast.
    """
    if not (x.shape[-1] >= CHANNELS_OF_A_PRODUCT and _in_bfloat16_on_a_cpu(x)):
        return tf.nn.conv2d(x, kernel, strides=1, padding=padding)

    @tf.custom_gradient
    def convolution(x, kernel):
        def gradient(dy):
            size, *_, channels, filters = kernel.shape
            dx = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, strides=[1] * 4, padding=padding
            )
            before = (size - 1) // 2
            border = [before, size - 1 - before] if padding == "SAME" else [0, 0]
            padded = tf.pad(x, [[0, 0], border, border, [0, 0]])
            _, height, width, _ = keras.ops.shape(dy)
            dy = tf.reshape(dy, (-1, filters))
            taps = (padded[:, i : i + height, j : j + width] for i, j in np.ndindex(size, size))
            products = [tf.matmul(tf.reshape(tap, (-1, channels)), dy, transpose_a=True) for tap in taps]
            return dx, tf.reshape(tf.stack(products), kernel.shape)

        return tf.nn.conv2d(x, kernel, strides=1, padding=padding), gradient

    return convolution(x, kernel)


def _in_bfloat16_on_a_cpu(x):
    return x.dtype == tf.bfloat16 and not tf.config.list_logical_devices("GPU")
