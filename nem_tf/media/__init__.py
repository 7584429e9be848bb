"""People's own pictures: frames out of files, one after the other, and into files. No model, settings, TensorFlow.

PyAV decodes and encodes videos, and encodes animations: it keeps the time of every frame, and holds a few frames only.
Pillow reads animations and pictures.
"""

from nem_tf.media.clip import Clip, Frame
from nem_tf.media.fitting import NO_LABEL, SIZES, Converter, Fit, composed
from nem_tf.media.reading import EXPECTED, Source, clips_of, sources_of
from nem_tf.media.writing import LabelsFile, overlay_name, overlay_writer

__all__ = [
    "EXPECTED",
    "NO_LABEL",
    "SIZES",
    "Clip",
    "Converter",
    "Fit",
    "Frame",
    "LabelsFile",
    "Source",
    "clips_of",
    "composed",
    "overlay_name",
    "overlay_writer",
    "sources_of",
]
