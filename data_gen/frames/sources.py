"""Finds what people call their videos, and opens it."""

import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_gen import DataGenError
from data_gen.frames.arrays import array_clips, array_length
from data_gen.frames.clip import Clip, one_sentence
from data_gen.frames.pictures import animation, is_still, pictures

VIDEOS = (".mp4", ".mov", ".avi", ".webm", ".mkv", ".m4v")
ANIMATIONS = (".gif", ".webp")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ARRAYS = (".npy", ".npz", ".h5", ".hdf5")
KNOWN = (*VIDEOS, *ANIMATIONS, *PICTURES, *ARRAYS)
NO_PYAV = "PyAV, which reads videos and writes them and animations, is not installed: pip install av"
EXPECTED = (
    "mp4, mov, avi, webm, mkv, gif, webp, npy, npz, h5, or a folder or a pattern of them or of png or jpg pictures"
)


class Source(NamedTuple):
    """A file, or the pictures of a folder in their order."""

    name: str  # as its user knows it
    paths: tuple[Path, ...]
    is_folder: bool = False

    @property
    def holds_arrays(self) -> bool:
        """Whether it is NumPy's or HDF5, of whose content a layout, a split or a number of sequences can be asked."""
        return self.paths[0].suffix.lower() in ARRAYS

    @property
    def own_name(self) -> str:
        """Its name without directories."""
        return (self.paths[0].parent.absolute() if self.is_folder else self.paths[0]).name


def find(places: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Finds the sources that files, folders and patterns name, in a natural order (2 before 10), each once.

    Pictures of the same folder are one source, whether a pattern, the shell or the folder named them, and come last. It
    is called as the folder, a single picture by its own name.

    Arguments:
        places: as above; ~ means home.

    Returns:
        The sources, and a sentence for every place where there is none.
    """
    found: dict[Path, str] = {}
    faults = []
    for place in places:
        try:
            found |= {path: name for path, name in _files(place).items() if path not in found}
        except DataGenError as error:
            faults.append(str(error))
    sources, folders = [], {}
    for path, name in found.items():
        suffix = path.suffix.lower()
        if suffix in PICTURES or (suffix == ".webp" and is_still(path)):
            folders.setdefault(path.parent, []).append(path)
        else:
            sources.append(Source(name, (path,)))
    of_pictures = [
        Source(found[each[0]] if len(each) == 1 else str(folder), tuple(sorted(each, key=_natural)), True)
        for folder, each in folders.items()
    ]
    return sources + of_pictures, faults


def clips_of(
    source: Source, layout: str | None = None, split: str | None = None, sequences: int | None = None
) -> Iterator[Clip]:
    """Yields the clips of a source, most often one; each is to be read before the next is asked for.

    Arguments:
        source: of `find`.
        layout, split, sequences: of arrays, see `array_clips`.

    Raises:
        DataGenError: it is damaged or without a frame, or a video where PyAV, an extra, is not installed.
    """
    (path, *_), suffix = source.paths, source.paths[0].suffix.lower()
    if source.is_folder:
        yield pictures(source.paths, source.name)
    elif suffix in ARRAYS:
        yield from array_clips(path, source.name, layout, split, sequences)
    elif suffix in ANIMATIONS:
        yield animation(path, source.name)
    else:
        try:
            from data_gen.frames.videos import video
        except ModuleNotFoundError as error:
            raise DataGenError(f"{source.name}: {NO_PYAV}") from error
        yield video(path, source.name)


def length_of(source: Source, layout: str | None = None) -> int | None:
    """Returns how many frames its clips have if it is an array of many, else None.

    Raises:
        DataGenError: it cannot be read.
    """
    (path, *_) = source.paths
    return array_length(path, source.name, layout) if path.suffix.lower() in ARRAYS else None


def digest(source: Source) -> str:
    """Returns the SHA-256 digest of what a source is read from: of its bytes, or of the names and digests of its files.

    Raises:
        DataGenError: it cannot be read.
    """
    try:
        digests = []
        for path in source.paths:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise DataGenError(f"{source.name} cannot be read: {error.strerror or error}") from error
    if len(digests) == 1:
        return digests[0]
    lines = "".join(f"{path.name}\0{of_file}\n" for path, of_file in zip(source.paths, digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def _files(place: str) -> dict[Path, str]:
    """The files of known kinds at a place, and their names."""
    with one_sentence(lambda: place, (RuntimeError, OSError)):
        given = Path(place).expanduser()
        return _files_at(place, given)


def _files_at(place: str, given: Path) -> dict[Path, str]:
    if given.is_file() and given.suffix.lower() not in KNOWN:
        raise DataGenError(f"{place} is of no known kind: expected {EXPECTED}")
    matches = [given] if given.exists() else sorted(map(Path, glob.glob(str(given), recursive=True)), key=_natural)
    if not matches:
        raise DataGenError(f"{place} is missing: expected {EXPECTED}")
    files: dict[Path, str] = {}
    for path in matches:
        inner = _inside(path, set()) if path.is_dir() else [path]
        files |= {each: place if each == given else str(each) for each in inner if each.suffix.lower() in KNOWN}
    for each in files:
        if not _is_text(str(each)):
            raise DataGenError(f"{str(each)!a} is no name in UTF-8: rename the file first")
        if each.exists() and not each.is_file():  # a pipe would wait for whoever writes to it
            raise DataGenError(f"{each} is no regular file: expected {EXPECTED}")
    if not files:
        raise DataGenError(f"{place} holds no video: expected {EXPECTED}")
    return files


def _inside(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """All files in a folder and in those below, but for hidden ones; a link may lead back."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    for path in sorted(folder.iterdir(), key=_natural):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _inside(path, seen)
        else:
            yield path


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path)) if part]
