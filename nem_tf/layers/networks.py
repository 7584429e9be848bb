"""The systems of the paper as cells: RNN-EM with each of its networks, and N-EM (paper, section 4 and appendix).

Those of its sequel, R-NEM (van Steenkiste et al., 2018), are here too, and what it is compared with.

A network is a function (image_shape, mixture, dtype, **of the cell) -> EMCell; `nem_tf.registry` gives it a name. What
is inside sees B*K rows at once: the weights are shared over components and steps.
"""

import itertools
import math
from collections.abc import Sequence

from keras import Sequential, layers

from nem_tf.layers.cells import NEMCell, RNNEMCell
from nem_tf.layers.convolution import Conv2D, HalvingConv2D, NearestResize, UpsampleConv2D
from nem_tf.layers.cores import LSTMCore, SigmoidCore
from nem_tf.layers.gathering import Dense
from nem_tf.layers.mixture import SpatialMixture
from nem_tf.layers.normalisation import LayerNorm, block
from nem_tf.layers.relational import RelationalCore

SMALLEST_MAP = 8  # an image is halved until it is at most that high and wide
MOST_WEIGHTS = 200_000_000  # a larger network is almost certainly a mistake


def _halved(size: int, times: int) -> list[int]:
    """The size of an image, and that after each of so many halvings."""
    sizes = [size]
    for _ in range(times):
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def default_widths(image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Returns channels for as many halvings as bring an image to at most 8 x 8, at least one: 32, 64, 128, 128, .."""
    halvings = 1
    while _halved(max(image_shape[:2]), halvings)[-1] > SMALLEST_MAP:
        halvings += 1
    return tuple(min(32 * 2**i, 128) for i in range(halvings))


def convolutional(
    image_shape: tuple[int, int, int],
    mixture: SpatialMixture,
    dtype: str = "float32",
    *,
    widths: Sequence[int] | None = None,
    hidden: int = 512,
    units: int = 250,
    core: layers.Layer | None = None,
    standardise: bool = False,
    **cell,
) -> RNNEMCell:
    """RNN-EM with a convolutional encoder and the same backwards as decoder, for images of any size.

    Encoder: for each width a 4x4 convolution of stride 2, then `hidden` units. Core: `units` sigmoids. Decoder:
    `hidden` units, the smallest map, then for each halving an upsampling convolution back; a size that was odd is cut.
    The last activation is the mixture's inverse link.

    Arguments:
        image_shape: (H, W, C).
        mixture: the pixel model.
        dtype: Keras dtype policy of convolutions and dense layers, e.g. "mixed_bfloat16". All else stays float32.
        widths: channels of the convolutions; by default those of `default_widths`.
        hidden: units of the dense layers.
        units: M, the size of theta.
        core: another core than the `SigmoidCore` of so many units, see `RNNEMCell`; it has units of its own.
        standardise: whether every masked difference is brought to mean 0 and variance 1 over the image before; a
            constant one becomes 0.
        **cell: k, gamma_gradient, seed and others of `RNNEMCell`.

    Raises:
        ValueError: no widths, one below 1, or more than `MOST_WEIGHTS` weights.
    """
    widths = tuple(default_widths(image_shape) if widths is None else widths)
    if not widths or min(widths) < 1:
        raise ValueError(f"widths are the channels of at least one convolution; received {widths}")
    heights, lengths = (_halved(size, len(widths)) for size in image_shape[:2])
    small = (heights[-1], lengths[-1], widths[-1])
    channels = (image_shape[-1], *widths)
    _check_weights(
        2 * hidden * math.prod(small) + 2 * hidden * units + units**2
        + 2 * 16 * sum(a * b for a, b in itertools.pairwise(channels)),
        image_shape,
    )  # fmt: skip

    # In float32 also under a bfloat16 policy: a component that owns no pixel has differences of 1e-6.
    first = [LayerNorm(affine=False, name="standardise", dtype="float32")] if standardise else []
    # The first convolution has few channels, where the rearranged one is faster.
    halving = [HalvingConv2D(widths[0], dtype=dtype)]
    halving += [Conv2D(n, 4, strides=2, padding="same", data_format="channels_last", dtype=dtype) for n in widths[1:]]
    encoder = [
        *first,
        *itertools.chain(*(block(convolution, "elu") for convolution in halving)),
        layers.Flatten(data_format="channels_last", dtype=dtype),
        *block(Dense(hidden, dtype=dtype), "elu"),
    ]
    sizes = list(zip(heights, lengths))[-2::-1]  # from the smallest but one to the image
    doubling = [UpsampleConv2D(n, size, dtype=dtype) for n, size in zip((*widths[-2::-1], image_shape[-1]), sizes)]
    decoder = [
        *block(Dense(hidden, dtype=dtype), "relu"),
        *block(Dense(math.prod(small), dtype=dtype), "relu"),
        layers.Reshape(small, dtype=dtype),
        *itertools.chain(*(block(convolution, "relu") for convolution in doubling[:-1])),
        doubling[-1],
        layers.Activation(mixture.inverse_link, dtype="float32"),
    ]
    return RNNEMCell(
        encoder=Sequential(encoder, name="encoder"),
        core=SigmoidCore(units, name="core", dtype="float32") if core is None else core,
        decoder=Sequential(decoder, name="decoder"),
        mixture=mixture,
        **cell,
    )


def flying_shapes(
    image_shape: tuple[int, int, int], mixture: SpatialMixture, dtype: str = "float32", **cell
) -> RNNEMCell:
    """RNN-EM of the flying-shapes experiments, 28x28x1 in the paper. Arguments and errors as in `convolutional`."""
    return convolutional(image_shape, mixture, dtype, **{"widths": (32, 64), "units": 100, **cell})


def flying_mnist(
    image_shape: tuple[int, int, int], mixture: SpatialMixture, dtype: str = "float32", **cell
) -> RNNEMCell:
    """RNN-EM of the flying-MNIST experiments, 24x24x1 in the paper. Arguments and errors as in `convolutional`."""
    return convolutional(
        image_shape, mixture, dtype, **{"widths": (32, 64, 128), "units": 250, "standardise": True, **cell}
    )


def balls_rnn_em(
    image_shape: tuple[int, int, int], mixture: SpatialMixture, dtype: str = "float32", **cell
) -> RNNEMCell:
    """RNN-EM of the bouncing balls, 64x64x1 (R-NEM, bouncing balls); give k=1 for the RNN that it is compared with.

    Arguments and errors as in `convolutional`.
    """
    return convolutional(image_shape, mixture, dtype, **{"widths": (16, 32, 64), "units": 250, **cell})


def balls_r_nem(
    image_shape: tuple[int, int, int],
    mixture: SpatialMixture,
    dtype: str = "float32",
    *,
    units: int = 250,
    use_attention: bool = True,
    **cell,
) -> RNNEMCell:
    """R-NEM of the bouncing balls (R-NEM, bouncing balls): `balls_rnn_em`, whose components see each other.

    Arguments and errors as in `convolutional`; for `use_attention` see `RelationalCore`.
    """
    core = _relational(units, use_attention=use_attention)
    return balls_rnn_em(image_shape, mixture, dtype, **{"units": units, "core": core, **cell})


def balls_r_nem_no_attention(
    image_shape: tuple[int, int, int], mixture: SpatialMixture, dtype: str = "float32", **cell
) -> RNNEMCell:
    """R-NEM without attention (R-NEM, bouncing balls): every component affects the others fully."""
    return balls_r_nem(image_shape, mixture, dtype, use_attention=False, **cell)


def balls_lstm(
    image_shape: tuple[int, int, int], mixture: SpatialMixture, dtype: str = "float32", *, units: int = 250, **cell
) -> RNNEMCell:
    """The LSTM of `units` that R-NEM is compared with on bouncing balls: give k=1 (R-NEM, bouncing balls)."""
    core = LSTMCore(units, name="core", dtype="float32")
    return balls_rnn_em(image_shape, mixture, dtype, **{"units": units, "core": core, **cell})


def space_invaders_r_nem(
    image_shape: tuple[int, int, int],
    mixture: SpatialMixture,
    dtype: str = "float32",
    *,
    nr_actions: int = 0,
    **cell,
) -> RNNEMCell:
    """R-NEM of Space Invaders, 84x84x1 in the paper, of any size here (R-NEM, Space Invaders).

    Encoder: a convolution that shrinks the image four times, one that halves it, 250 units. Decoder: 250 units, the
    smallest map, its nearest neighbours at a quarter of the image with a convolution, and that four times as large.

    Arguments:
        image_shape, mixture, dtype, **cell: as in `convolutional`.
        nr_actions: entries of the action that comes with every frame; 0 for none.

    Raises:
        ValueError: more than `MOST_WEIGHTS` weights.
    """
    units = 250
    heights, lengths = ([-(-size // 4), max(-(-size // 4) // 2, 1)] for size in image_shape[:2])
    small = (heights[1], lengths[1], 32)
    _check_weights(2 * units * math.prod(small) + 2 * units**2, image_shape)
    encoder = [
        *block(Conv2D(16, 8, 4, padding="same", data_format="channels_last", dtype=dtype), "elu"),
        *block(Conv2D(32, 4, 2, padding="same", data_format="channels_last", dtype=dtype), "elu"),
        layers.Flatten(data_format="channels_last", dtype=dtype),
        *block(Dense(units, dtype=dtype), "elu"),
    ]
    decoder = [
        *block(Dense(units, dtype=dtype), "relu"),
        *block(Dense(math.prod(small), dtype=dtype), "relu"),
        layers.Reshape(small, dtype=dtype),
        NearestResize((heights[0], lengths[0]), dtype=dtype),
        *block(Conv2D(16, 4, padding="same", data_format="channels_last", dtype=dtype), "relu"),
        UpsampleConv2D(image_shape[-1], image_shape[:2], factor=4, dtype=dtype),
        layers.Activation(mixture.inverse_link, dtype="float32"),
    ]
    return RNNEMCell(
        encoder=Sequential(encoder, name="encoder"),
        core=_relational(units, nr_actions=nr_actions),
        decoder=Sequential(decoder, name="decoder"),
        mixture=mixture,
        **cell,
    )


def _relational(units: int, **options) -> RelationalCore:
    return RelationalCore(units, name="core", dtype="float32", **options)


def static_rnn_em(
    image_shape: tuple[int, int, int], mixture: SpatialMixture, dtype: str = "float32", **cell
) -> RNNEMCell:
    """RNN-EM on static shapes: the masked differences go straight into 250 recurrent units; one dense layer decodes.

    Arguments:
        image_shape: (H, W, C), (28, 28, 1) in the paper.
        mixture, dtype, **cell: as in `convolutional`.

    Raises:
        ValueError: more than `MOST_WEIGHTS` weights.
    """
    units, pixels = 250, math.prod(image_shape)
    _check_weights(2 * units * pixels + units**2, image_shape)
    decoder = [
        layers.Dense(pixels, dtype=dtype),
        layers.Reshape(image_shape, dtype=dtype),
        layers.Activation(mixture.inverse_link, dtype="float32"),
    ]
    return RNNEMCell(
        encoder=Sequential([layers.Flatten(data_format="channels_last", dtype="float32")], name="encoder"),
        core=SigmoidCore(units, use_layer_norm=False, name="core", dtype="float32"),
        decoder=Sequential(decoder, name="decoder"),
        mixture=mixture,
        **cell,
    )


def static_n_em(image_shape: tuple[int, int, int], mixture: SpatialMixture, dtype: str = "float32", **cell) -> NEMCell:
    """N-EM on static shapes, with 250 units.

    Arguments:
        image_shape: (H, W, C), (28, 28, 1) in the paper.
        mixture, **cell: as in `convolutional`.
        dtype: "float32"; the step of gradient ascent is not computed in less.

    Raises:
        ValueError: another dtype, or more than `MOST_WEIGHTS` weights.
    """
    if dtype != "float32":
        raise ValueError(f"N-EM computes in float32; received {dtype}")
    units = 250
    _check_weights(units * math.prod(image_shape), image_shape)
    return NEMCell(units=units, mixture=mixture, **cell)


def _check_weights(count: int, image_shape: tuple[int, int, int]) -> None:
    if count > MOST_WEIGHTS:
        height, width, channels = image_shape
        raise ValueError(
            f"this network would have {count / 1e6:,.0f} million weights for frames of {height}x{width}x{channels}: "
            f"expected at most {MOST_WEIGHTS / 1e6:.0f} million; take smaller frames, or the convolutional network "
            "with smaller widths"
        )
