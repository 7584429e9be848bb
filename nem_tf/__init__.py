"""Neural Expectation Maximization in TensorFlow and Keras.

Greff, van Steenkiste and Schmidhuber, "Neural Expectation Maximization", NIPS 2017, arXiv 1708.03498.

One alphabet of axes, here and in every comment:

    B  batch            K  components          C  channels
    T  EM steps         H, W  height, width    M  size of a component's representation theta

A sequence of T steps has T + 1 frames. Importing this package registers its layers with Keras.
"""

import os

# TensorFlow reads these when it is imported: import nem_tf before it. oneDNN's convolutions, its default on processors
# with AVX-512 VNNI only, make a training step 1.5 to 2 times as fast on one with AVX2.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The start-up messages of TensorFlow's C++ read like errors on a machine without a GPU. What fails still raises.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from nem_tf.cell import EMCell, NEMCell, RNNEMCell, State
from nem_tf.losses import EMLoss, LossTerms
from nem_tf.mixture import BernoulliMixture, GaussianMixture, SpatialMixture
from nem_tf.model import RNNEM
from nem_tf.networks import (
    HalvingConv2D,
    LayerNorm,
    SigmoidCore,
    UpsampleConv2D,
    flying_mnist,
    flying_shapes,
    static_rnn_em,
)
from nem_tf.noise import BitflipNoise, MaskedUniformNoise

__version__ = "0.1.0"
__all__ = [
    "RNNEM",
    "BernoulliMixture",
    "BitflipNoise",
    "EMCell",
    "EMLoss",
    "GaussianMixture",
    "HalvingConv2D",
    "LayerNorm",
    "LossTerms",
    "MaskedUniformNoise",
    "NEMCell",
    "RNNEMCell",
    "SigmoidCore",
    "SpatialMixture",
    "State",
    "UpsampleConv2D",
    "flying_mnist",
    "flying_shapes",
    "static_rnn_em",
]
