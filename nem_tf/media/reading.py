"""Videos, animations and folders of pictures as clips."""

import glob
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageOps

from nem_tf.errors import UserError
from nem_tf.media.arrays import ARRAYS, RATE, array_clips
from nem_tf.media.clip import Clip, Frame

VIDEOS = (".mp4", ".mov", ".avi", ".webm", ".m4v", ".mkv")
ANIMATIONS = (".gif", ".webp")
PICTURES = (".png", ".jpg", ".jpeg")
EXPECTED = "mp4, mov, avi, webm, mkv, gif, webp, npy, npz, h5, or a folder or a pattern of png or jpg pictures"
UNSAID = Fraction(
    1, 10
)  # seconds that a frame of an animation is shown which does not say for how long, as browsers do
# What Pillow raises for a damaged or a huge file.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class Source(NamedTuple):
    """A file, or the pictures of a folder in their order."""

    name: str  # as its user knows it
    paths: tuple[Path, ...]
    is_folder: bool = False


def sources_of(arguments: Sequence[str]) -> list[Source]:
    """Returns what the arguments of a command line name: files, folders and patterns.

    Pictures of the same folder are one source, whether a pattern, the shell or the folder named them. Numbers in their
    names count as numbers. What is not there is a source too: whoever opens it says so.
    """
    sources: dict[Path, Source] = {}
    for argument in arguments:
        given = Path(argument).expanduser()
        matches = [] if given.exists() else sorted(map(Path, glob.glob(str(given))), key=_in_order)
        for path in matches or [given]:
            is_picture = path.suffix.lower() in PICTURES and not path.is_dir()
            if not is_picture and not path.is_dir():
                sources[path] = Source(str(path) if matches else argument, (path,))
                continue
            folder, pictures = (path.parent, [path]) if is_picture else (path, _pictures_in(path))
            known = sources.get(folder, Source(str(folder), (), True))
            sources[folder] = known._replace(paths=tuple(sorted({*known.paths, *pictures}, key=_in_order)))
    return list(sources.values())


def _pictures_in(folder):
    return [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]


def _in_order(path):
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def clips_of(source: Source, split: str = "test", sequences: int = 1) -> Iterator[Clip]:
    """Yields the clips of a source: one, or of a data set of this package its first sequences.

    Arguments:
        source: of `sources_of`.
        split, sequences: of a data set, which and how many.

    Raises:
        UserError: it is missing, of no known kind, damaged or without a frame.
    """
    if source.is_folder:
        if not source.paths:
            raise UserError(f"{source.name} holds no pictures: expected a folder of png or jpg")
        folder = source.paths[0].parent.resolve()
        stems = [path.stem for path in source.paths]
        names = stems if len({*stems}) == len(stems) else [path.name for path in source.paths]
        notes: list[str] = []
        frames = _pictures(source, notes)
        yield Clip(source.name, folder.name, "", frames, len(stems), RATE, notes, names)
        return
    (path,) = source.paths
    suffix = path.suffix.lower()
    if not path.exists():
        raise UserError(f"{source.name} is missing: expected {EXPECTED}")
    if suffix in VIDEOS:
        yield _video(path, source.name)
    elif suffix in ANIMATIONS:
        yield _animation(path, source.name)
    elif suffix in ARRAYS:
        yield from array_clips(path, source.name, split, sequences)
    else:
        raise UserError(f"{source.name} is of no known kind: expected {EXPECTED}")


def _video(path, name):
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{name} holds no pictures: expected a video")
            stream = container.streams.video[0]
            length, rate = stream.frames or None, stream.average_rate or stream.guessed_rate or Fraction(25)
            if length is None and container.duration:  # in microseconds; webm does not say how many frames
                length = round(container.duration * rate / 10**6)
            notes = ["sound left out"] if container.streams.audio else []
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{name} is no video that can be read: {_reason(error)}") from error
    return Clip(name, path.stem, path.suffix.lower(), _video_frames(path, name, rate, notes), length, rate, notes)


def _video_frames(path, name, rate, notes):
    number, previous, first = 0, None, Fraction(0)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                bits = max(component.bits for component in frame.format.components)
                if bits > 8:
                    _add(notes, f"{bits} bit to 8 bit")
                pixels = frame.to_ndarray(format=_pixel_format(frame.format))
                pixels = pixels if pixels.ndim == 3 else pixels[..., None]
                quarters = round(frame.rotation / 90) % 4  # counter-clockwise, of a telephone held upright
                start = previous + 1 / rate if previous is not None else Fraction(0)
                if frame.pts is not None:
                    first = frame.pts * frame.time_base if number == 0 else first
                    told = frame.pts * frame.time_base - first
                    start = told if previous is None or told > previous else start
                yield Frame(np.ascontiguousarray(np.rot90(pixels, quarters)), start)
                number, previous = number + 1, start
    except (av.FFmpegError, OSError) as error:
        what = f"is damaged after frame {number - 1}" if number else "is no video that can be read"
        raise UserError(f"{name} {what}: {_reason(error)}") from error


def _pixel_format(pixel_format):
    if pixel_format.name.startswith(("gray", "mono")):
        return "gray"
    has_alpha = pixel_format.name == "pal8" or any(component.is_alpha for component in pixel_format.components)
    return "rgba" if has_alpha else "rgb24"


def _animation(path, name):
    try:
        with Image.open(path) as image:
            length = getattr(image, "n_frames", 1)
            image.load()  # a WebP knows the duration of a frame after that
            seconds = Fraction(round(image.info.get("duration", 0)), 1000) or UNSAID
    except UNREADABLE as error:
        raise UserError(f"{name} is no {path.suffix.lower()[1:]} that can be read: {_reason(error)}") from error
    return Clip(name, path.stem, path.suffix.lower(), _animation_frames(path, name, length), length, 1 / seconds)


def _animation_frames(path, name, length):
    number, start = 0, Fraction(0)
    try:
        with Image.open(path) as image:
            for number in range(length):
                image.seek(number)
                image.load()
                yield Frame(np.asarray(image.convert("RGBA")), start)
                start += Fraction(round(image.info.get("duration", 0)), 1000) or UNSAID
    except UNREADABLE as error:
        raise UserError(f"{name} is damaged at frame {number}: {_reason(error)}") from error


def _pictures(source, notes):
    for number, path in enumerate(source.paths):
        try:
            with Image.open(path) as image:
                pixels = _pixels(ImageOps.exif_transpose(image), notes)
        except UNREADABLE as error:
            raise UserError(f"{path} is no picture that can be read: {_reason(error)}") from error
        yield Frame(pixels, number / RATE)


def _pixels(image, notes):
    """uint8 [H, W, C] of a picture."""
    if image.mode.startswith("I"):  # grey of 16 bits
        _add(notes, "16 bit to 8 bit")
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[..., None]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _add(notes, note):
    if note not in notes:
        notes.append(note)


def _reason(error):
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
