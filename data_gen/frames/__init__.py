"""People's own pictures, frame by frame: memory does not grow with their length.

mp4, mov, avi, webm, mkv, m4v    videos, decoded by PyAV, the extra [video]
gif, webp                        animations, decoded by Pillow
png, jpg, jpeg, bmp, tif, tiff   the images of one folder are the frames of one clip, in the order of their names
npy, npz, h5, hdf5               arrays of one clip or of many, see `LAYOUTS`, or data sets of this package
a folder                         everything in it and in the folders below
a pattern                        with *, ? or [..], whatever it matches
"""

from data_gen.frames.clip import Clip, Frame, composed, is_transparent
from data_gen.frames.sources import ANIMATIONS, EXPECTED, NO_PYAV, VIDEOS, Source, clips_of, digest, find, length_of
from data_gen.names import LAYOUTS

__all__ = [
    "ANIMATIONS",
    "EXPECTED",
    "LAYOUTS",
    "NO_PYAV",
    "VIDEOS",
    "Clip",
    "Frame",
    "Source",
    "clips_of",
    "composed",
    "digest",
    "find",
    "is_transparent",
    "length_of",
]
