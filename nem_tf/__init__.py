"""Neural Expectation Maximization in TensorFlow and Keras.

Greff, van Steenkiste and Schmidhuber, "Neural Expectation Maximization", NIPS 2017, arXiv 1708.03498.

One alphabet of axes, here and in every comment:

    B  batch            K  components          C  channels
    T  EM steps         H, W  height, width    M  size of a component's representation theta

The layers are those of `nem_tf.layers`, which importing it registers with Keras; every name of it can be had from this
package too, and so can trained models: `from_preset`, `save_to_preset`. All are imported when first asked for, so that
a program answers --help without TensorFlow.
"""

import importlib.util
import os
from pathlib import Path

_found = importlib.util.find_spec("data_gen")  # of a project that has its own
_place = next(iter(_found.submodule_search_locations or [_found.origin])) if _found else None
if _place and Path(_place).resolve().parent != Path(__file__).resolve().parents[1]:
    raise ImportError(
        f"{_place} hides the package data_gen that nem_tf comes with: give it another name, or work elsewhere; the "
        "commands nem-train, nem-segment and so on are not disturbed by it"
    )

# TensorFlow reads these when it is imported: import nem_tf before it. oneDNN's convolutions, its default on processors
# with AVX-512 VNNI only, are faster on those with AVX2, too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The start-up messages of TensorFlow's C++ read like errors on a machine without a GPU. What fails still raises.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "1.0.0"
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
    "from_preset",
    "save_to_preset",
    "space_invaders_r_nem",
    "static_n_em",
    "static_rnn_em",
]
_PRETRAINED = ("from_preset", "save_to_preset")


def __getattr__(name: str):
    """Takes a public name from where it is, and TensorFlow with it, when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module nem_tf has no attribute {name!r}")
    if name in _PRETRAINED:
        from nem_tf import pretrained

        return getattr(pretrained, name)
    from nem_tf import layers

    return getattr(layers, name)
