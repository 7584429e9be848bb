"""Overlays in the kind of what they lie over, and labels, as frames come."""

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, PngImagePlugin

from data_gen.frames import NO_PYAV, Clip
from nem_tf.errors import UserError

if TYPE_CHECKING:
    from nem_tf.media.videos import VideoWriter

MARK = ("Software", "nem_tf.segment")  # by which a picture of an overlay is known
DEFLATE = 1  # labels are large even patches: more effort gains little


def overlay_name(clip: Clip) -> str:
    """Returns the name of the overlay of a clip: a file, or a folder of pictures."""
    return f"{clip.stem}.overlay{clip.suffix}"


def overlay_writer(path: Path, clip: Clip) -> "VideoWriter | PicturesWriter":
    """Returns what writes an overlay of a clip; a context manager.

    Raises:
        OSError: it cannot be written.
        UserError: it is a video or an animation, and PyAV, an extra, is not installed.
    """
    if clip.suffix == "":
        return PicturesWriter(path, clip.names)
    try:
        from nem_tf.media.videos import VideoWriter
    except ModuleNotFoundError as error:
        raise UserError(f"{clip.name}: {NO_PYAV}") from error
    return VideoWriter(path, clip.suffix, clip.size, clip.rate)


def is_of_overlay(path: Path) -> bool:
    """Tells whether a file is a picture that `PicturesWriter` wrote, and no user's own."""
    with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(path) as image:
        return image.info.get(MARK[0]) == MARK[1]
    return False


class PicturesWriter:
    """A folder of PNGs.

    Arguments:
        path: of the folder; it is made.
        names: of the pictures.
    """

    def __init__(self, path: Path, names: Sequence[str]):
        self._path, self._names = path, iter(names)
        path.mkdir()

    def add(self, picture: np.ndarray, start: Fraction, duration: Fraction | None = None) -> None:
        """Writes a picture, uint8 [H, W, 3]."""
        mark = PngImagePlugin.PngInfo()
        mark.add_text(*MARK)
        Image.fromarray(picture).save(self._path / f"{next(self._names)}.png", pnginfo=mark)

    def __enter__(self) -> "PicturesWriter":
        return self

    def __exit__(self, *error) -> None:
        pass


class LabelsFile:
    """An .npz whose arrays are written frame by frame.

    Arguments:
        path: of the file.
    """

    def __init__(self, path: Path):
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=DEFLATE)

    def add(self, name: str, shape: tuple[int, ...], dtype: np.dtype | type, frames: Iterator[np.ndarray]) -> None:
        """Writes an array.

        Arguments:
            name: of it.
            shape, dtype: of it.
            frames: its parts along the first axis, one after the other.
        """
        dtype = np.dtype(dtype)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for frame in frames:
                file.write(np.ascontiguousarray(frame, dtype).tobytes())

    def __enter__(self) -> "LabelsFile":
        return self

    def __exit__(self, *error) -> None:
        self._archive.close()
