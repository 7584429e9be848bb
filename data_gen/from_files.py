"""Makes a data set of people's own videos: found, brought to one size, cut into sequences, written.

The file has the layout of `data_gen.writer` without labels, grey values with `white` = 255, one chunk per sequence so
that single ones can be read, and the identity of `data_gen.identity` with the options and a digest of all sources as
its rules. `/sources` lists name and SHA-256 digest of every source, (n, 2) strings.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from PIL import Image
from tqdm import tqdm

from data_gen import DataGenError, names
from data_gen.cutting import Plan, plan
from data_gen.frames import Clip, Source, clips_of, composed, digest, find, is_transparent, length_of
from data_gen.identity import identity_of
from data_gen.names import SPLITS
from data_gen.signals import ended_later
from data_gen.writer import COMPRESSION_LEVEL, write_once

DEFAULT_FRAMES = 21  # 20 EM steps
MEDIAN_OF = 200  # frames of a video, evenly spaced
BACKGROUNDS_KEPT = 64  # in memory
SPARE = 2**23  # bytes of the disk that stay free: HDF5 crashes where it cannot write what it has in memory
WHITE = 255
_NAMED = 3  # things of a kind that a message names
FEW = 16  # sequences of a training below which it is said that they are few


@dataclasses.dataclass(frozen=True)
class Options:
    """Says what is made of the videos; all of it is part of the data set's identity.

    Attributes:
        size: height and width of the frames in pixels; frames of another shape are squeezed.
        grey: whether colour is left out. Frames that are all grey have one channel anyway.
        every: takes every n-th frame, from the first on.
        frames: number of frames of a sequence; None for 21, or fewer where the sources are arrays of shorter videos.
        background: "none", or what the absolute difference is taken from, of every video by itself: its "median" over
            time, or its "first" frame. A fixed camera's background becomes black.
        test_share: share of the sequences for the test split, and as many for the validation split, 0.001 to 0.4.
    """

    size: int = 64
    grey: bool = False
    every: int = 1
    frames: int | None = None
    background: str = "none"
    test_share: float = 0.1


def from_files(
    path: Path, name: str, places: Sequence[str], options: Options, layout: str | None = None, seed: int = 0
) -> str:
    """Writes a data set of videos; says on stdout what was found and converted, and how far it is on stderr.

    Arguments:
        path: the file; ~ means home. It appears when it is whole.
        name: what the data set is called in the file.
        places: files, folders and patterns, see `data_gen.frames`.
        options: what to make of them.
        layout: of arrays, see `data_gen.frames.arrays`; None to read it off their shapes.
        seed: of what goes to which split and in which order.

    Returns:
        "written", or "complete" if the file held just this before.

    Raises:
        DataGenError: a source is missing, cannot be read or has too few frames, the file is there and is another data
            set, or it cannot be written; the message is one sentence.
    """
    names.check_own(name, "dataset")
    sources, faults = find(places)
    if faults:
        raise DataGenError(faults[0])
    if layout is not None and not any(source.holds_arrays for source in sources):
        raise DataGenError(f"--layout={layout} is for npy, npz and h5, and --from names none of them: leave it out")
    sources, digests = _distinct(sources)
    options = _complete(options, sources, layout)
    rules = {
        **dataclasses.asdict(options),
        "layout": layout,
        "sources": len(sources),
        "sources_sha256": _digest_of(sources, digests),
    }

    def fill(file: h5py.File) -> None:
        listed = [(source.own_name, of_source) for source, of_source in zip(sources, digests)]
        try:
            with _Scratch(Path(file.filename).parent) as scratch:
                _say_reading(_read_all(sources, layout, options, scratch), options, scratch)
                cuts = plan(scratch.lengths, options.frames, options.test_share, seed)
                _say_plan(cuts, scratch, options)
                _write(file, scratch, cuts, options)
                file.create_dataset("sources", data=np.array(listed, object), dtype=h5py.string_dtype())
        except OSError as error:
            raise OSError(
                error.errno, os.strerror(error.errno) if error.errno else str(error)
            ) from error  # HDF5 says it in several lines

    return write_once(Path(path).expanduser(), identity_of(name, rules, seed), fill)


def _distinct(sources: list[Source]) -> tuple[list[Source], list[str]]:
    """The sources of which none has the content of another, which might lie in another split, and their digests."""
    first: dict[str, Source] = {}
    for source in tqdm(sources, unit="file", desc="digests", disable=None, leave=False):
        key = digest(source)
        if key in first:
            print(f"left out: {source.name}, the same as {first[key].name}", flush=True)
        else:
            first[key] = source
    return list(first.values()), list(first)


def _digest_of(sources: Sequence[Source], digests: Sequence[str]) -> str:
    """Makes one digest of the names and digests of all sources."""
    lines = "".join(f"{source.own_name}\0{of_source}\n" for source, of_source in zip(sources, digests))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _complete(options: Options, sources: Sequence[Source], layout: str | None) -> Options:
    frames = options.frames
    if frames is None:
        lengths = [length for source in sources if (length := length_of(source, layout))]
        frames = min([DEFAULT_FRAMES, *(-(-length // options.every) for length in lengths)])
    return dataclasses.replace(options, frames=frames)


# ---- Reading.


class _Scratch(contextlib.AbstractContextManager):
    """Small frames of all videos one after the other on disk, so that every video is decoded once."""

    def __init__(self, directory: Path):
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by __exit__
        self._begins: list[int] = []  # byte of every video
        self._shapes: list[tuple[int, int, int]] = []  # of its frames
        self.lengths: list[int] = []  # frames of every video
        self.grey = True  # whether no frame has colour

    def __exit__(self, *exception) -> None:
        self._file.close()

    def begin(self) -> None:
        self._begins.append(self._file.tell())
        self._shapes.append((0, 0, 1))
        self.lengths.append(0)

    def append(self, frame: np.ndarray) -> None:
        """Stores the next frame of the video begun last, uint8 [H, W, 1 or 3]."""
        self.grey = self.grey and bool((frame == frame[..., :1]).all())
        if self.lengths[-1] and frame.shape != self._shapes[-1]:  # pictures of a folder, some grey and some in colour
            self._widen()
            frame = np.broadcast_to(frame, self._shapes[-1])
        self._shapes[-1] = frame.shape
        self._file.write(np.ascontiguousarray(frame).tobytes())
        self.lengths[-1] += 1

    def _widen(self) -> None:
        """Gives the frames of the video begun last three channels, if they have one."""
        *size, channels = self._shapes[-1]
        if channels == 3:
            return
        pixels, begin = int(np.prod(size)), self._begins[-1]
        for number in reversed(range(self.lengths[-1])):  # none is written over before it is read
            self._file.seek(begin + number * pixels)
            frame = np.frombuffer(self._file.read(pixels), np.uint8)
            self._file.seek(begin + 3 * number * pixels)
            self._file.write(frame.repeat(3).tobytes())
        self._file.seek(begin + 3 * self.lengths[-1] * pixels)
        self._shapes[-1] = (*size, 3)

    def read(self, video: int, start: int, count: int = 1) -> np.ndarray:
        """Returns frames of a video, uint8 [count, H, W, C], all videos with C = 1 if no frame has colour, else 3."""
        shape = self._shapes[video]
        size = int(np.prod(shape))
        self._file.seek(self._begins[video] + start * size)
        frames = np.frombuffer(self._file.read(count * size), np.uint8).reshape(count, *shape)
        if self.grey:
            return frames[..., :1]
        return np.broadcast_to(frames, (*frames.shape[:-1], 3))


class _Reading(NamedTuple):
    """What was found while the videos were decoded."""

    frames: int  # of all videos, those that `every` leaves out among them
    notes: Counter[str]  # in how many videos something was converted
    sizes: Counter[tuple[int, int]]  # how many videos have frames of a height and width
    short: list[str]  # the videos that have too few frames for a sequence


def _read_all(sources: Sequence[Source], layout: str | None, options: Options, scratch: _Scratch) -> _Reading:
    """Decodes all videos into the scratch file; says at once which one may be cut short."""
    seen, notes, sizes, short = 0, Counter(), Counter(), []
    with tqdm(unit="frame", desc="reading", disable=None, leave=False) as bar:
        for clip in itertools.chain.from_iterable(clips_of(source, layout) for source in sources):
            _check_size(clip, options.size)
            scratch.begin()
            own_notes = set()
            for number, frame in enumerate(clip):
                if number % options.every == 0:
                    scratch.append(_resized(_bytes(frame.pixels, clip.white, own_notes), options))
                bar.update()
            seen += clip.count
            sizes[clip.size] += 1
            notes.update([*clip.notes, *own_notes, *["uneven times of frames to even ones"] * clip.is_uneven])
            if clip.cut_short:
                print(f"{clip.name}: {_number(clip.count, 'frame')}, {clip.cut_short}", flush=True)
            if scratch.lengths[-1] < options.frames:
                short.append(f"{clip.name} ({scratch.lengths[-1]})")
    return _Reading(seen, notes, sizes, short)


def _say_reading(reading: _Reading, options: Options, scratch: _Scratch) -> None:
    found, sizes = len(scratch.lengths), [f"{width}x{height}" for height, width in reading.sizes]
    print(f"found: {_number(found, 'video')}, {_number(reading.frames, 'frame')} of {_listed(sizes)}", flush=True)
    resized = sum(count for size, count in reading.sizes.items() if size != (options.size, options.size))
    squeezed = sum(count for (height, width), count in reading.sizes.items() if height != width)
    if resized:
        aside = f", {squeezed} of them squeezed to a square" if squeezed else ""
        print(f"converted: to {options.size}x{options.size}, {_number(resized, 'video')}{aside}")
    for note, count in sorted(reading.notes.items()):
        print(f"converted: {note}, {_number(count, 'video')}")
    if options.grey:
        print("converted: to grey")
    elif scratch.grey:
        print("no colour: one channel")
    if reading.short:
        left_out = f"{_number(len(reading.short), 'video')} of fewer than {options.frames} frames"
        print(f"left out: {left_out}: {_listed(reading.short)}")


def _check_size(clip: Clip, size: int) -> None:
    height, width = clip.size
    if size > min(height, width):
        raise DataGenError(
            f"--size={size} is too large for {clip.name}, {width}x{height}: expected {min(height, width)} at most"
        )


def _bytes(pixels: np.ndarray, white: int, notes: set[str]) -> np.ndarray:
    """uint8 [H, W, 1 or 3] of a frame; adds to the notes what is done for that."""
    if is_transparent(pixels):
        notes.add("transparency over black")
    pixels = composed(pixels)
    if pixels.dtype != np.uint8:
        notes.add(f"0..{white} to 0..{WHITE}" if white != WHITE else "fractions to whole numbers")
        pixels = np.rint(pixels * np.float32(WHITE)).astype(np.uint8)
    return pixels


def _resized(frame: np.ndarray, options: Options) -> np.ndarray:
    """uint8 [size, size, C] of uint8 [H, W, C]: means over the areas of the pixels."""
    image = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    if image.size != (options.size, options.size):
        image = image.resize((options.size, options.size), Image.Resampling.BOX)
    if options.grey:
        image = image.convert("L")
    small = np.asarray(image)
    return small[..., None] if small.ndim == 2 else small


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def _listed(things: Sequence[str]) -> str:
    return ", ".join(things[:_NAMED]) + (f" and {len(things) - _NAMED} more" if len(things) > _NAMED else "")


# ---- Writing.


def _say_plan(cuts: Plan, scratch: _Scratch, options: Options) -> None:
    if options.background != "none":
        what = "median over time" if options.background == "median" else "first frame"
        print(f"background: the {what} of every video is subtracted")
    how = "no two splits share a video" if cuts.whole_videos else "every split has its own stretch of time"
    print(f"splits: {how}")
    for split in SPLITS:
        sequences, videos = len(cuts.cuts[split]), cuts.videos(split)
        print(f"{split}: {_number(videos, 'video')}, {_number(sequences, 'sequence')} of {options.frames} frames")
    used = options.frames * sum(map(len, cuts.cuts.values()))
    left_over = sum(length for length in scratch.lengths if length >= options.frames) - used
    if left_over:
        why = "the ends of videos" if cuts.whole_videos else "the ends of videos, and the gaps between the splits"
        print(f"left over: {_number(left_over, 'frame')}, {why}")
    if len(cuts.cuts["training"]) < FEW:
        print("few for a training: shorter --frames or a smaller --every, under another --dataset name, make more")


def _write(file: h5py.File, scratch: _Scratch, cuts: Plan, options: Options) -> None:
    background = functools.lru_cache(BACKGROUNDS_KEPT)(functools.partial(_background, scratch, options.background))
    shape = (options.size, options.size, 1 if scratch.grey else 3)
    for split in SPLITS:
        with ended_later():
            features = file.create_dataset(
                f"{split}/features",
                shape=(options.frames, len(cuts.cuts[split]), *shape),
                dtype=np.uint8,
                chunks=(options.frames, 1, *shape),
                compression="gzip",
                compression_opts=COMPRESSION_LEVEL,
            )
            features.attrs["white"] = WHITE
        for number, cut in enumerate(tqdm(cuts.cuts[split], unit="seq", desc=split, disable=None, leave=False)):
            if shutil.disk_usage(Path(file.filename).parent).free < SPARE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            frames = scratch.read(cut.video, cut.start, options.frames)
            if options.background != "none":
                frames = np.abs(frames - background(cut.video).astype(np.int16)).astype(np.uint8)
            with ended_later():
                features[:, number] = frames


def _background(scratch: _Scratch, kind: str, video: int) -> np.ndarray:
    """What stays the same in a video, uint8 [H, W, C]."""
    if kind == "first":
        return scratch.read(video, 0)[0]
    length = scratch.lengths[video]
    moments = np.unique(np.linspace(0, length - 1, min(length, MEDIAN_OF)).round().astype(int))
    some = np.concatenate([scratch.read(video, moment) for moment in moments])
    return np.rint(np.median(some, axis=0)).astype(np.uint8)
