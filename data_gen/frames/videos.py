"""Videos, decoded by PyAV."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from data_gen import DataGenError
from data_gen.frames.clip import LARGEST, Clip, Frame, add_note, check_size, one_sentence

ERRORS = (av.FFmpegError, OSError, ValueError)
USUAL_RATE = Fraction(25)  # frames a second of a video that does not say


def video(path: Path, name: str) -> Clip:
    """Opens a video.

    Raises:
        DataGenError: it cannot be read, has no pictures, or too large ones.
    """
    with one_sentence(lambda: f"{name} is no video that can be read", ERRORS), av.open(str(path)) as container:
        if not container.streams.video:
            raise DataGenError(f"{name} holds no pictures: expected a video")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("of a codec that nobody knows")
        check_size(stream.height, stream.width)
        length, rate = stream.frames or None, stream.average_rate or stream.guessed_rate or USUAL_RATE
        seconds = length / rate if length else _seconds(container, stream)
        notes = ["sound left out"] if container.streams.audio else []
    frames = _decoded(path, name, rate, notes)
    return Clip(name, path.stem, path.suffix.lower(), frames, length, seconds, rate, notes)


def _seconds(container, stream):
    """How long it takes, where the file says it of the pictures: its sound may go on."""
    if stream.duration:
        return stream.duration * stream.time_base
    if container.duration and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")  # of Matroska and WebM, 00:00:06.000000000
    minutes, _, seconds = rest.partition(":")
    return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds) if seconds else None


def _decoded(path, name, rate, notes) -> Iterator[Frame]:
    number, previous, first = 0, None, Fraction(0)

    def fault():
        return f"{name} is damaged after frame {number - 1}" if number else f"{name} is no video that can be read"

    with one_sentence(fault, ERRORS), av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(LARGEST)}  # of later frames too
        for frame in container.decode(stream):
            bits = max(component.bits for component in frame.format.components)
            if bits > 8:
                add_note(notes, f"{bits} bit to 8 bit")
            pixels = frame.to_ndarray(format=_pixel_format(frame.format))
            pixels = pixels if pixels.ndim == 3 else pixels[..., None]
            quarters = round(frame.rotation / 90) % 4  # counter-clockwise, of a telephone held upright
            if quarters:
                add_note(notes, "turned as the file says")
            start = previous + 1 / rate if previous is not None else Fraction(0)
            if frame.pts is not None:
                first = frame.pts * frame.time_base if number == 0 else first
                told = frame.pts * frame.time_base - first
                start = told if previous is None or told > previous else start
            yield Frame(np.ascontiguousarray(np.rot90(pixels, quarters)), start)
            number, previous = number + 1, start


def _pixel_format(pixel_format):
    if pixel_format.name.startswith(("gray", "mono")):
        return "gray"
    has_alpha = pixel_format.name == "pal8" or any(component.is_alpha for component in pixel_format.components)
    return "rgba" if has_alpha else "rgb24"
