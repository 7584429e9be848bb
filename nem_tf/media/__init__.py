"""A file's frames to a model's size and back, and into files. No model, settings, TensorFlow.

`data_gen.frames` reads. PyAV encodes videos and animations: it keeps the time of every frame, and holds a few only.
"""

from nem_tf.media.fitting import NO_LABEL, SIZES, Converter, Fit
from nem_tf.media.writing import LabelsFile, is_of_overlay, overlay_name, overlay_writer

__all__ = ["NO_LABEL", "SIZES", "Converter", "Fit", "LabelsFile", "is_of_overlay", "overlay_name", "overlay_writer"]
