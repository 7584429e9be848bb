"""The mixtures, noises, networks, cells and the loss as Keras layers. They know no settings and no files.

Importing this package registers all of them with Keras, for `keras.saving` and `keras.models.load_model`.
"""

from nem_tf.layers.cells import EMCell, NEMCell, RNNEMCell, State
from nem_tf.layers.convolution import HalvingConv2D, NearestResize, UpsampleConv2D
from nem_tf.layers.cores import LSTMCore, PerSlot, SigmoidCore, SlotCore
from nem_tf.layers.losses import BoundTerms, EMLoss, LossTerms
from nem_tf.layers.mixture import BernoulliMixture, GaussianMixture, SpatialMixture
from nem_tf.layers.networks import (
    balls_lstm,
    balls_r_nem,
    balls_r_nem_no_attention,
    balls_rnn_em,
    convolutional,
    flying_mnist,
    flying_shapes,
    space_invaders_r_nem,
    static_n_em,
    static_rnn_em,
)
from nem_tf.layers.noise import BitflipNoise, FrameNoise, MaskedUniformNoise
from nem_tf.layers.normalisation import LayerNorm
from nem_tf.layers.relational import RelationalCore
from nem_tf.layers.unrolled import RNNEM

__all__ = [
    "RNNEM",
    "BernoulliMixture",
    "BitflipNoise",
    "BoundTerms",
    "EMCell",
    "EMLoss",
    "FrameNoise",
    "GaussianMixture",
    "HalvingConv2D",
    "LSTMCore",
    "LayerNorm",
    "LossTerms",
    "MaskedUniformNoise",
    "NEMCell",
    "NearestResize",
    "PerSlot",
    "RNNEMCell",
    "RelationalCore",
    "SigmoidCore",
    "SlotCore",
    "SpatialMixture",
    "State",
    "UpsampleConv2D",
    "balls_lstm",
    "balls_r_nem",
    "balls_r_nem_no_attention",
    "balls_rnn_em",
    "convolutional",
    "flying_mnist",
    "flying_shapes",
    "space_invaders_r_nem",
    "static_n_em",
    "static_rnn_em",
]
