"""The paper's networks as a textbook writes them: upsampling and convolution as two layers, no convolution rearranged.

--network=benchmarks.textbook:flying_shapes
"""

import keras
from keras import layers

from nem_tf.layers import EMCell, HalvingConv2D, RNNEMCell, UpsampleConv2D, networks


def flying_shapes(image_shape: tuple[int, int, int], mixture, dtype: str = "float32", **cell) -> EMCell:
    return _textbook(networks.flying_shapes(image_shape, mixture, dtype, **cell), cell)


def flying_mnist(image_shape: tuple[int, int, int], mixture, dtype: str = "float32", **cell) -> EMCell:
    return _textbook(networks.flying_mnist(image_shape, mixture, dtype, **cell), cell)


def _textbook(fast: RNNEMCell, cell: dict) -> RNNEMCell:
    parts = {
        name: keras.Sequential([layer for old in getattr(fast, name).layers for layer in _written_out(old)], name=name)
        for name in ("encoder", "decoder")
    }
    return RNNEMCell(**parts, core=fast.core, mixture=fast.mixture, **cell)


def _written_out(layer: keras.Layer) -> list[keras.Layer]:
    if isinstance(layer, UpsampleConv2D):
        convolution = layers.Conv2D(layer.filters, 4, padding="same", dtype=layer.dtype_policy)
        return [layers.UpSampling2D(2, dtype=layer.dtype_policy), convolution]
    if isinstance(layer, HalvingConv2D):
        return [layers.Conv2D(layer.filters, 4, strides=2, padding="same", dtype=layer.dtype_policy)]
    return [layer]
