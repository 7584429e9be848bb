"""Finds videos wherever they can be had, and reads them frame by frame; memory does not grow with their length.

mp4, mov, avi, webm, mkv, m4v    videos, decoded by PyAV
gif, webp                        animations, decoded by Pillow
png, jpg, jpeg, bmp, tif, tiff   the images of one folder are the frames of one video, in the order of their names
npy, npz                         arrays of one video or of many, see `LAYOUTS`
a folder                         everything in it and in the folders below
a pattern                        with *, ? or [..], whatever it matches
"""

import glob
import hashlib
import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from data_gen import DataGenError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".webm", ".mkv", ".m4v")
ANIMATION_SUFFIXES = (".gif", ".webp")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ARRAY_SUFFIXES = (".npy", ".npz")
LAYOUTS = ("THW", "THWC", "TNHW", "NTHW", "TNHWC", "NTHWC")  # axes of an array: frames, videos, rows, columns, channels
CHANNELS = (1, 3, 4)
BYTE_WHITE, SHORT_WHITE = 255, 65535
_BLOCK_BYTES = 1 << 24  # of an array that are looked at together


class Source(Protocol):
    """Holds one video or several.

    Attributes:
        name: what it is called in messages and in the identity of a data set; says no directory.
        files: what it is read from.
        length: frames of each of its videos where these are many of one length, else None.
    """

    name: str
    files: Sequence[Path]
    length: int | None

    def videos(self) -> Iterator["Video"]:
        """Yields its videos in order; each has to be read before the next is asked for.

        Raises:
            DataGenError: they cannot be read.
        """


@dataclass
class Video:
    """One video, to be read once.

    Attributes:
        name: what it is called in messages.
        frames: uint8 [H, W, C] each, C being 1 or 3; raises DataGenError where they cannot be read.
        notes: what was converted, known once the frames are read.
    """

    name: str
    frames: Iterator[np.ndarray]
    notes: set[str]


def find(places: Sequence[str], layout: str | None = None) -> list[Source]:
    """Finds the sources that files, folders and patterns name, in a natural order (2 before 10), each once.

    Arguments:
        places: as above; ~ means home.
        layout: of all arrays, one of `LAYOUTS`; None to read it off their shapes.

    Raises:
        DataGenError: one of the places is missing or has no video, or an array has no such layout.
    """
    found: dict[Path, None] = {}
    for place in places:
        path = _expanded(place)
        paths = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural)
        if not paths:
            raise DataGenError(f"--from={place} matches nothing: expected a video, a folder or a pattern such as *.mp4")
        files = [file for path in paths for file in _files(path)]
        if not files:
            raise DataGenError(f"--from={place} holds no video: expected {', '.join(map(_bare, _KNOWN))}")
        found.update(dict.fromkeys(files))
    sources: list[Source] = []
    images: dict[Path, list[Path]] = {}
    for path in found:
        if path.suffix.lower() in IMAGE_SUFFIXES or _is_still(path):
            images.setdefault(path.parent, []).append(path)
        elif path.suffix.lower() in ARRAY_SUFFIXES:
            sources.extend(_arrays(path, layout))
        elif path.suffix.lower() in ANIMATION_SUFFIXES:
            sources.append(_Animation(path))
        else:
            sources.append(_VideoFile(path))
    sources += [_Images(folder, tuple(sorted(paths, key=_natural))) for folder, paths in images.items()]
    return sources


def digest(source: Source) -> str:
    """Returns the SHA-256 digest of what a source is read from: of its bytes, or of the names and digests of its files.

    Raises:
        DataGenError: it cannot be read.
    """
    try:
        digests = []
        for path in source.files:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise DataGenError(f"{source.name} cannot be read: {error.strerror or error}") from error
    if len(digests) == 1:
        return digests[0]
    lines = "".join(f"{path.name}\0{of_file}\n" for path, of_file in zip(source.files, digests))
    return hashlib.sha256(lines.encode()).hexdigest()


_KNOWN = (*VIDEO_SUFFIXES, *ANIMATION_SUFFIXES, *IMAGE_SUFFIXES, *ARRAY_SUFFIXES)


def _bare(suffix: str) -> str:
    return suffix.lstrip(".")


def _expanded(place: str) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise DataGenError(f"--from={place}: {error}") from error


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path)) if part]


def _files(path: Path) -> Iterator[Path]:
    """The files of known kinds at a place; of a single file whoever named it knows what it is."""
    if not path.is_dir():
        if path.suffix.lower() not in _KNOWN:
            raise DataGenError(f"{path.name} is of no known kind: expected {', '.join(map(_bare, _KNOWN))}")
        yield path
        return
    for inner in sorted(path.iterdir(), key=_natural):
        if inner.name.startswith("."):
            continue
        if inner.is_dir() or inner.suffix.lower() in _KNOWN:
            yield from _files(inner)


def _is_still(path: Path) -> bool:
    """Tells whether a webp is an image, and no animation; one that cannot be read is refused later."""
    if path.suffix.lower() != ".webp":
        return False
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1
    except (OSError, ValueError):
        return False


# ---- Videos and animations.


def _read(name: str, frames: Iterable[np.ndarray], errors: tuple[type[Exception], ...]) -> Iterator[np.ndarray]:
    """Passes frames on; whatever the decoder raises becomes one sentence, and so do frames of changing sizes."""
    size, number = None, 0
    try:
        for frame in frames:
            size = size or frame.shape[:2]
            if frame.shape[:2] != size:
                raise DataGenError(
                    f"{name} changes its size at frame {number + 1}, from {_by(size)} to {_by(frame.shape[:2])}: "
                    "expected frames of one size"
                )
            yield frame
            number += 1
    except errors as error:
        where = f" beyond {number} frames" if number else ""
        raise DataGenError(f"{name} cannot be read{where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "strerror", None) or error).split("\n")
    return lines[0] or type(error).__name__


def _by(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"


@dataclass(frozen=True)
class _VideoFile:
    path: Path
    length: int | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def videos(self) -> Iterator[Video]:
        import av  # loads FFmpeg: only where there is something to decode

        notes: set[str] = set()
        errors = (av.FFmpegError, OSError, ValueError)
        yield Video(self.name, _read(self.name, self._decoded(av, notes), errors), notes)

    def _decoded(self, av, notes):
        with av.open(str(self.path)) as container:
            if not container.streams.video:
                raise DataGenError(f"{self.name} has no pictures: expected a video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if any(component.bits > 8 for component in frame.format.components):
                    notes.add("more than 8 bits a colour, cut to 8")
                turns = round(getattr(frame, "rotation", 0) / 90) % 4
                if turns:
                    notes.add("turned as the file says")
                yield np.rot90(frame.to_ndarray(format="rgb24"), turns)


_IMAGE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class _Animation:
    path: Path
    length: int | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def videos(self) -> Iterator[Video]:
        notes: set[str] = set()
        yield Video(self.name, _read(self.name, self._decoded(notes), _IMAGE_ERRORS), notes)

    def _decoded(self, notes):
        with Image.open(self.path) as image:
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                yield _rgb(image, notes)


@dataclass(frozen=True)
class _Images:
    folder: Path
    files: tuple[Path, ...]
    length: int | None = None

    @property
    def name(self) -> str:
        return self.folder.absolute().name

    def videos(self) -> Iterator[Video]:
        notes: set[str] = set()
        yield Video(self.name, _read(self.name, self._decoded(notes), _IMAGE_ERRORS), notes)

    def _decoded(self, notes):
        for path in self.files:
            try:
                with Image.open(path) as image:
                    yield _rgb(image, notes)
            except _IMAGE_ERRORS as error:
                raise DataGenError(f"{self.name}/{path.name} cannot be read: {_reason(error)}") from error


def _rgb(image: Image.Image, notes: set[str]) -> np.ndarray:
    """uint8 [H, W, 3] of an image of any mode, on black."""
    if image.mode.startswith("I"):
        notes.add("more than 8 bits a colour, cut to 8")
        image = Image.fromarray((np.asarray(image).clip(0, SHORT_WHITE) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels; expected whole numbers")
    if image.has_transparency_data:
        return _on_black(np.asarray(image.convert("RGBA")), notes)
    return np.asarray(image.convert("RGB"))


def _on_black(rgba: np.ndarray, notes: set[str]) -> np.ndarray:
    """uint8 [H, W, 3] of uint8 [H, W, 4]."""
    if (rgba[..., 3] == BYTE_WHITE).all():
        return rgba[..., :3]
    notes.add("what is transparent is put on black")
    return (rgba[..., :3].astype(np.uint16) * rgba[..., 3:] // BYTE_WHITE).astype(np.uint8)


# ---- Arrays.


@dataclass(frozen=True)
class _Array:
    path: Path
    member: str | None  # of an npz
    layout: str
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.path.name if self.member is None else f"{self.path.name}:{self.member.removesuffix('.npy')}"

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    @property
    def length(self) -> int | None:
        return self.shape[self.layout.index("T")] if "N" in self.layout else None

    def videos(self) -> Iterator[Video]:
        try:
            with tempfile.TemporaryDirectory() as directory:
                yield from self._videos(np.load(self._unpacked(Path(directory)), mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataGenError(f"{self.name} cannot be read: {_reason(error)}") from error

    def _unpacked(self, directory: Path) -> Path:
        if self.member is None:
            return self.path
        unpacked = directory / "array.npy"
        with zipfile.ZipFile(self.path) as file, file.open(self.member) as packed, unpacked.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        return unpacked

    def _videos(self, values):
        scale, note = _scale_of(values, self.name)
        if "C" not in self.layout:
            values = values[..., None]
        if "N" not in self.layout:
            values = values[None]
        elif self.layout.startswith("T"):
            values = values.swapaxes(0, 1)
        for number, sequence in enumerate(values):
            notes = {note} if note else set()
            name = self.name if "N" not in self.layout else f"{self.name}[{number}]"
            yield Video(name, (_plain(frame, scale, notes) for frame in sequence), notes)


def _arrays(path: Path, layout: str | None) -> Iterator[_Array]:
    """The arrays of a file that can be videos: of an npz those of three axes and more."""
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                members = {None: _shape(file)}
        else:
            with zipfile.ZipFile(path) as file:
                members = {name: _shape(file.open(name)) for name in file.namelist() if name.endswith(".npy")}
            members = {name: shape for name, shape in members.items() if len(shape) >= 3}
            if not members:
                raise ValueError("it has no array of three axes or more")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataGenError(f"{path.name} cannot be read: {_reason(error)}") from error
    for member, shape in members.items():
        yield _Array(path, member, _layout_of(path, shape, layout), shape)


def _shape(file) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)[0]


def _layout_of(path: Path, shape: tuple[int, ...], layout: str | None) -> str:
    if layout is None:
        four = "THWC" if shape[-1] in CHANNELS else "TNHW"  # as Moving MNIST has it
        layout = {3: "THW", 4: four, 5: "TNHWC"}.get(len(shape), "")
    fits = len(shape) == len(layout) and 0 not in shape and (layout[-1] != "C" or shape[-1] in CHANNELS)
    if not fits:
        raise DataGenError(f"{path.name} is an array {shape}: expected {layout or 'THW, THWC, TNHW or TNHWC'}, C 1, 3 "
                           f"or 4; --layout takes {', '.join(LAYOUTS)}")  # fmt: skip
    return layout


def _scale_of(values: np.ndarray, name: str) -> tuple[float, str]:
    """What the values of an array are to be multiplied by to lie in [0, 255], and what there is to say of it.

    Raises:
        DataGenError: NaN, negative or too large values, or no numbers.
    """
    if values.dtype.kind not in "buif":
        raise DataGenError(f"{name} holds {values.dtype}: expected numbers")
    low, high = math.inf, -math.inf
    rows = max(1, _BLOCK_BYTES // max(1, values[0].nbytes))
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        extremes = block.min(), block.max()
        if not np.isfinite(extremes).all():
            raise DataGenError(f"{name} holds NaN or infinity: expected numbers from 0 to 1, or to 255")
        low, high = min(low, extremes[0]), max(high, extremes[1])
    if low < 0 or high > (SHORT_WHITE if values.dtype == np.uint16 else BYTE_WHITE):
        raise DataGenError(f"{name} holds values from {low} to {high}: expected 0 to 1, or to 255")
    if high > BYTE_WHITE:
        return BYTE_WHITE / SHORT_WHITE, "values up to 65535, divided by 257"
    if high <= 1:
        return BYTE_WHITE, "values from 0 to 1, multiplied by 255"
    return 1, "fractions up to 255, rounded" if values.dtype.kind == "f" else ""


def _plain(frame: np.ndarray, scale: float, notes: set[str]) -> np.ndarray:
    """uint8 [H, W, 1 or 3] of numbers [H, W, 1, 3 or 4]."""
    if scale != 1 or frame.dtype != np.uint8:
        frame = np.rint(np.asarray(frame, np.float32) * np.float32(scale)).astype(np.uint8)
    return _on_black(np.asarray(frame), notes) if frame.shape[-1] == 4 else np.asarray(frame)
