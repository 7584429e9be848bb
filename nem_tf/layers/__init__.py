"""The mixtures, noises, networks, cells and the loss as Keras layers. They know no settings and no files.

Importing this package registers them with Keras, for `keras.saving` and `keras.models.load_model`.
"""

from nem_tf.layers.cells import EMCell, NEMCell, RNNEMCell, State
from nem_tf.layers.convolution import HalvingConv2D, UpsampleConv2D
from nem_tf.layers.cores import PerSlot, SigmoidCore, SlotCore
from nem_tf.layers.losses import EMLoss, LossTerms
from nem_tf.layers.mixture import BernoulliMixture, GaussianMixture, SpatialMixture
from nem_tf.layers.networks import convolutional, flying_mnist, flying_shapes, static_n_em, static_rnn_em
from nem_tf.layers.noise import BitflipNoise, FrameNoise, MaskedUniformNoise
from nem_tf.layers.normalisation import LayerNorm
from nem_tf.layers.unrolled import RNNEM

__all__ = [
    "RNNEM",
    "BernoulliMixture",
    "BitflipNoise",
    "EMCell",
    "EMLoss",
    "FrameNoise",
    "GaussianMixture",
    "HalvingConv2D",
    "LayerNorm",
    "LossTerms",
    "MaskedUniformNoise",
    "NEMCell",
    "PerSlot",
    "RNNEMCell",
    "SigmoidCore",
    "SlotCore",
    "SpatialMixture",
    "State",
    "UpsampleConv2D",
    "convolutional",
    "flying_mnist",
    "flying_shapes",
    "static_n_em",
    "static_rnn_em",
]
