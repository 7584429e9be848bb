"""Overlays as videos and animations, encoded by PyAV as frames come."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

H264 = ("libx264", "mpeg4")  # the first that this build of FFmpeg has
ENCODERS = {
    ".mp4": H264,
    ".m4v": H264,
    ".mov": H264,
    ".mkv": H264,
    ".avi": ("mpeg4",),
    ".webm": ("libvpx-vp9", "libvpx"),
    ".gif": ("gif",),
    ".webp": ("libwebp_anim",),
}
QUALITY = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(3 * 118)},  # in units of FFmpeg's lambda
    "libvpx-vp9": {"crf": "24", "deadline": "realtime", "cpu-used": "8"},
    "libvpx": {"crf": "10", "deadline": "realtime", "cpu-used": "8"},
    "libwebp_anim": {"quality": "90"},
}
TICK = {".gif": Fraction(1, 100), ".webp": Fraction(1, 1000)}  # seconds in which a kind tells time
FINE_TICK = Fraction(1, 90000)  # of the others, but for AVI, which has frames at a rate and no time


class VideoWriter:
    """A video or an animation, encoded as frames come.

    Arguments:
        path: of the file.
        suffix: its kind, one of `ENCODERS`.
        size: (height, width).
        rate: frames a second.

    Raises:
        OSError: it cannot be written, here and by its methods.
    """

    def __init__(self, path: Path, suffix: str, size: tuple[int, int], rate: Fraction):
        self._tick = 1 / rate if suffix == ".avi" else TICK.get(suffix, FINE_TICK)
        self._ticks = -1
        codec = _first_available(ENCODERS[suffix])
        with _os_errors():
            self._container = av.open(str(path), "w", options={"loop": "0"} if suffix in TICK else {})
            self._stream = stream = self._container.add_stream(codec, rate=rate, options=QUALITY.get(codec, {}))
        stream.height, stream.width = size
        stream.codec_context.time_base = self._tick
        self._has_palette = suffix == ".gif"
        # 4:2:0 is what every player plays; x264 has it for even sizes only.
        odd = codec == "libx264" and any(side % 2 for side in size)
        stream.pix_fmt = "pal8" if self._has_palette else "yuv444p" if odd else "yuv420p"

    def add(self, picture: np.ndarray, start: Fraction, duration: Fraction | None = None) -> None:
        """Writes a picture, uint8 [H, W, 3], that is shown from `start` seconds on, for `duration` if it is the last.

        A WebP, whose encoder has one packet for all, shows the last one for the mean of the others.
        """
        frame = _with_palette(picture) if self._has_palette else av.VideoFrame.from_ndarray(picture, format="rgb24")
        self._ticks = max(round(start / self._tick), self._ticks + 1)
        frame.pts, frame.time_base = self._ticks, self._tick
        with _os_errors():
            for packet in self._stream.encode(frame):
                if duration is not None:
                    packet.duration = round(duration / packet.time_base)
                self._container.mux(packet)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        with _os_errors(), self._container:
            if kind is None:
                self._container.mux(self._stream.encode(None))


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """FFmpeg's errors as those of other files, whose callers need not know PyAV."""
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def _first_available(codecs):
    for codec in codecs[:-1]:
        if codec in av.codecs_available:
            return codec
    return codecs[-1]


def _with_palette(picture):
    """A frame of 256 colours, its own."""
    # Median cut is nearer by a little, and far slower on natural pictures.
    image = Image.fromarray(picture).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
    colours = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    palette[: len(colours), 1:] = colours
    return av.VideoFrame.from_ndarray((np.asarray(image), palette), format="pal8")
