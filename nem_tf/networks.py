"""The networks inside the RNN-EM cell: encoder, recurrent core, decoder (paper, appendix; method section 3).

They see B*K rows at once: the weights are shared over components and steps.
"""

import itertools
import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers


@tf.custom_gradient
def _normalise(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor):
    """scale * (x - mean) / sqrt(variance) + offset: x [B, .., C], its mean and variance [B, 1, .., 1], the others [C].

    The gradient is written out because TensorFlow's goes over tensors of the size of x twice as often, by twice as many
    operations: 2 to 5 % of a training step on a CPU.
    """
    features, pixels = list(range(1, len(x.shape))), list(range(1, len(x.shape) - 1))
    centred = x - tf.reduce_mean(x, features, keepdims=True)
    inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), features, keepdims=True) + LayerNorm.EPSILON)
    slope = inverse * scale  # [B, 1, .., C]

    def gradient(dy):
        # Sums over the pixels come first, so that only they and dx itself go over tensors of the size of x.
        doffset = tf.reduce_sum(dy, pixels, keepdims=True)
        dscale = inverse * tf.reduce_sum(dy * centred, pixels, keepdims=True)
        size = tf.cast(tf.size(x) / tf.shape(x)[0], x.dtype)
        mean = tf.reduce_sum(scale * doffset, features, keepdims=True) / size  # of the gradient by the normalised x
        slant = tf.reduce_sum(scale * dscale, features, keepdims=True) / size  # of it times the normalised x
        dx = slope * dy - (inverse * inverse * slant * centred + inverse * mean)
        batch_and_pixels = [0, *pixels]
        return dx, tf.reduce_sum(dscale, batch_and_pixels), tf.reduce_sum(doffset, batch_and_pixels)

    return centred * slope + offset, gradient


@keras.saving.register_keras_serializable("nem_tf")
class LayerNorm(layers.GroupNormalization):
    """The authors' layer norm: mean and variance over ALL non-batch axes, scale and offset per channel (last axis).

    `keras.layers.LayerNormalization` normalises the last axis only and is another function on a feature map;
    `keras.layers.GroupNormalization` of one group is this one, with TensorFlow's gradient. Computed in float32.

    Arguments:
        affine: whether there are a scale and an offset.

    Call: [B, .., C] -> the same. Weights: `gamma` [C] (ones) and `beta` [C] (zeros), if affine.
    """

    EPSILON = 1e-12

    def __init__(self, affine: bool = True, **kwargs):
        super().__init__(groups=1, epsilon=self.EPSILON, center=affine, scale=affine, **kwargs)
        self.affine = affine

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, tf.float32)
        scale, offset = (self.gamma, self.beta) if self.affine else (tf.ones(x.shape[-1]), tf.zeros(x.shape[-1]))
        y = _normalise(x, tf.convert_to_tensor(scale), tf.convert_to_tensor(offset))
        return tf.cast(y, self.compute_dtype)

    def get_config(self) -> dict:
        config = super().get_config()
        return {**{name: config[name] for name in ("name", "trainable", "dtype")}, "affine": self.affine}


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
    # The same for both axes as one matrix: 3x3 taps of 2x2 phases from the 4x4 kernel.
    PHASE_SUMS = np.einsum("pia,qjb->ijpqab", PHASES, PHASES).reshape(36, 16)

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
        channels = kernel.shape[2]
        sums = tf.matmul(tf.constant(self.PHASE_SUMS, kernel.dtype), tf.reshape(kernel, (16, -1)))
        small = tf.transpose(tf.reshape(sums, (9, 4, channels, self.filters)), (0, 2, 1, 3))
        small = tf.reshape(small, (3, 3, channels, 4 * self.filters))
        x = tf.nn.conv2d(x, small, strides=1, padding="SAME")  # [B, H, W, 4 * filters]
        # The bias before the rearrangement: TensorFlow fuses it with the convolution.
        x = tf.nn.bias_add(x, tf.tile(tf.cast(self.bias, x.dtype), [4]))
        return keras.ops.depth_to_space(x, 2, data_format="channels_last")  # [B, 2H, 2W, filters]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("nem_tf")
class HalvingConv2D(layers.Conv2D):
    """A 4x4 'same' convolution of stride 2: [B, H, W, C] -> [B, H/2, W/2, filters], H and W even.

    Computed as a 2x2 convolution on space_to_depth(2) of the padded image: the same function of the same weights, and
    for the one channel of a grey image twice as fast on a CPU.

    Arguments:
        filters: output channels.

    Weights: those of `keras.layers.Conv2D`.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, 4, strides=2, padding="same", **kwargs)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.space_to_depth(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 2)  # [B, H/2 + 1, W/2 + 1, 4C]
        channels = self.kernel.shape[2]
        blocks = tf.reshape(self.kernel, (2, 2, 2, 2, channels, self.filters))  # [block, in it] for each axis
        kernel = tf.reshape(tf.transpose(blocks, (0, 2, 1, 3, 4, 5)), (2, 2, 4 * channels, self.filters))
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides=1, padding="VALID"), self.bias)

    def get_config(self) -> dict:
        config = super().get_config()
        return {name: config[name] for name in ("name", "trainable", "dtype", "filters")}


@keras.saving.register_keras_serializable("nem_tf")
class SigmoidCore(layers.Layer):
    """The recurrent core, a Keras RNN cell:  a = W [input ; h] + b;  h' = sigmoid(a);  output = sigmoid(LN(a)).

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


def _block(linear: layers.Layer, activation: str) -> list[layers.Layer]:
    """linear + bias -> layer norm -> activation, the order of the authors' layers.

    Norm and activation are float32 whatever the policy: more exact, and faster on a CPU, which has bfloat16
    instructions for products only.
    """
    return [linear, LayerNorm(dtype="float32"), layers.Activation(activation, dtype="float32")]


def _encoder(filters: Sequence[int], dtype: str, first: Sequence[layers.Layer] = ()) -> keras.Sequential:
    """4x4 convolutions of stride 2, then 512 units. `first`: layers that see the masked differences before."""
    convolutions = [HalvingConv2D(filters[0], dtype=dtype)]
    convolutions += [layers.Conv2D(n, 4, strides=2, padding="same", dtype=dtype) for n in filters[1:]]
    blocks = [_block(convolution, "elu") for convolution in convolutions]
    dense = _block(layers.Dense(512, dtype=dtype), "elu")
    return keras.Sequential([*first, *itertools.chain(*blocks), layers.Flatten(dtype=dtype), *dense], name="encoder")


def _decoder(
    image_shape: tuple[int, int, int], filters: Sequence[int], activation: str, dtype: str
) -> keras.Sequential:
    """The encoder backwards: 512 units, a small map of filters[0] channels, then upsampling convolutions."""
    height, width, channels = image_shape
    shrink = 2 ** len(filters)
    small = (height // shrink, width // shrink, filters[0])
    blocks = [_block(UpsampleConv2D(n, dtype=dtype), "relu") for n in filters[1:]]
    return keras.Sequential(
        [
            *_block(layers.Dense(512, dtype=dtype), "relu"),
            *_block(layers.Dense(math.prod(small), dtype=dtype), "relu"),
            layers.Reshape(small, dtype=dtype),
            *itertools.chain(*blocks),
            UpsampleConv2D(channels, dtype=dtype),
            layers.Activation(activation, dtype="float32"),
        ],
        name="decoder",
    )


def _check_divisible(name: str, image_shape: tuple[int, int, int], halvings: int) -> None:
    height, width, _ = image_shape
    if height % 2**halvings or width % 2**halvings:
        raise ValueError(f"the {name} network halves the image {halvings} times: expected H and W divisible by "
                         f"{2**halvings}, received {height}x{width}")  # fmt: skip


def flying_shapes(image_shape: tuple[int, int, int], dtype: str = "float32") -> dict[str, layers.Layer]:
    """Encoder, core and decoder of the flying-shapes experiments, for `RNNEMCell(**flying_shapes(...))`.

    Arguments:
        image_shape: (H, W, C); H and W divisible by 4. (28, 28, 1) in the paper.
        dtype: Keras dtype policy of the convolutions and dense layers, e.g. "mixed_bfloat16". All else stays float32.

    Raises:
        ValueError: H or W is not divisible by 4.
    """
    _check_divisible("flying_shapes", image_shape, 2)
    return {
        "encoder": _encoder([32, 64], dtype),
        "core": SigmoidCore(100, name="core", dtype="float32"),
        "decoder": _decoder(image_shape, [64, 32], "sigmoid", dtype),
    }


def flying_mnist(image_shape: tuple[int, int, int], dtype: str = "float32") -> dict[str, layers.Layer]:
    """Encoder, core and decoder of the flying-MNIST experiments; its means are real-valued (a Gaussian mixture).

    The encoder standardises every masked difference (mean 0, variance 1 over the image); a constant image becomes 0.

    Arguments:
        image_shape: (H, W, C); H and W divisible by 8. (24, 24, 1) in the paper.
        dtype: as in `flying_shapes`.

    Raises:
        ValueError: H or W is not divisible by 8.
    """
    _check_divisible("flying_mnist", image_shape, 3)
    # In float32 also under a bfloat16 policy: a component that owns no pixel has differences of 1e-6.
    standardise = LayerNorm(affine=False, name="standardise", dtype="float32")
    return {
        "encoder": _encoder([32, 64, 128], dtype, first=[standardise]),
        "core": SigmoidCore(250, name="core", dtype="float32"),
        "decoder": _decoder(image_shape, [128, 64, 32], "linear", dtype),
    }


def static_rnn_em(image_shape: tuple[int, int, int], dtype: str = "float32") -> dict[str, layers.Layer]:
    """Encoder, core and decoder of RNN-EM on static shapes: the differences go straight into 250 recurrent units.

    Arguments:
        image_shape: (H, W, C), (28, 28, 1) in the paper.
        dtype: as in `flying_shapes`.
    """
    decoder = [
        layers.Dense(math.prod(image_shape), dtype=dtype),
        layers.Reshape(image_shape, dtype=dtype),
        layers.Activation("sigmoid", dtype="float32"),
    ]
    return {
        "encoder": keras.Sequential([layers.Flatten(dtype="float32")], name="encoder"),
        "core": SigmoidCore(250, use_layer_norm=False, name="core", dtype="float32"),
        "decoder": keras.Sequential(decoder, name="decoder"),
    }


NETWORKS = {"flying_shapes": flying_shapes, "flying_mnist": flying_mnist, "static_rnn_em": static_rnn_em}
