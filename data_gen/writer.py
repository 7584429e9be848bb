"""Writes data sets as HDF5 in the authors' layout.

    /training /validation /test     groups, one per split
        features    (T, N, H, W, C)   uint8, 0 to the attribute `white`: 1 for binary images, 255 for grey ones
        groups      (T, N, H, W, 1)   uint8, ground truth: 0 background and overlap, 1 and up the objects
        ..          (T, N, ..)        others that the generator has, whose attribute `about` says what they are

T is 1 for static images. Chunked by sequences and gzip-compressed; long or large sequences have a chunk each, so that a
reader need not keep them in memory. The file's attributes are its identity, see
`data_gen.identity`, and `source`, which is no part of it: JSON of where the digits came from. Sequences are drawn in
blocks, each from a random stream of its own that is named by seed, split and block number. So the bytes do not depend
on the number of workers, no two splits share a stream, and a larger or longer set of the same seed begins with the
smaller one.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from data_gen import DataGenError, __version__
from data_gen.generator import Generator, Member
from data_gen.identity import identity_of
from data_gen.names import SPLITS
from data_gen.signals import ended_later
from data_gen.workers import NEEDS_GUARD, Workers, runs_the_script_again

BLOCK = 64  # sequences drawn together; also the HDF5 chunk, if this is not too large
LARGEST_CHUNK = 1 << 22  # bytes; a larger one is a single sequence
COMPRESSION_LEVEL = 4
WORTH_SAYING = 100_000_000  # bytes on disk

_Extent = dict[str, tuple[int, int]]  # split -> (sequences, frames)


def write_dataset(
    path: Path, name: str, generator: Generator, sizes: Mapping[str, int], seed: int = 0, workers: int = 1
) -> str:
    """Writes a data set, or extends one of the same stream to more or longer sequences.

    The file appears under its name only when whole; an existing one is replaced only by one that begins with it. Of
    several processes that write the same file one does, and the others wait and look again. A file that holds enough
    needs no right to write.

    Arguments:
        path: the file to write.
        name: name of the data set, an attribute of the file.
        generator: draws the sequences.
        sizes: number of sequences of each split. A split of 0, or left out, stays what it is in an existing file, and
            is left out of a new one.
        seed: same seed, same bytes.
        workers: number of processes that draw and compress.

    Returns:
        "written", "extended", or "complete" if the file held all of it before.

    Raises:
        DataGenError: the file is another data set, the directory cannot be written, the disk is too small, or the
            generator's digits cannot be read.
    """
    identity = identity_of(name, generator.settings, seed)
    target = Path(os.path.realpath(path))  # a link stays a link
    names = [member.name for member in generator.members]
    held = _held(path, identity, names)
    if held is not None and _wanted(held, sizes, generator) == held:
        return "complete"
    with _writing(path, target):
        held = _held(path, identity, names)  # again: another process may have written since
        wanted = _wanted(held or {}, sizes, generator)
        if wanted == held:
            return "complete"
        _remove_stale(target)
        _check_disk(path, target.parent, generator, wanted)
        _write(target, identity, generator, held, wanted, workers)
    return "written" if held is None else "extended"


def write_once(path: Path, identity: Mapping[str, str | int], fill: Callable[[h5py.File], None]) -> str:
    """Writes a data set that is never extended, under the same guarantees as `write_dataset`.

    Arguments:
        path: the file to write.
        identity: of the data set, as `identity_of` gives it.
        fill: writes the splits into the open file that it is given, which lies beside `path` and has its attributes.

    Returns:
        "written", or "complete" if the file was there before.

    Raises:
        DataGenError: the file is another data set, or the directory cannot be written, or whatever `fill` raises.
    """
    target = Path(os.path.realpath(path))
    if _held(path, identity, ("features",)) is not None:
        return "complete"
    with _writing(path, target):
        if _held(path, identity, ("features",)) is not None:
            return "complete"
        _remove_stale(target)
        with _in_place_when_whole(target) as partial, h5py.File(partial, "w") as file:
            file.attrs.update(identity)
            fill(file)
    return "written"


def seed_sequence(seed: int, split: str, block: int) -> np.random.SeedSequence:
    """Makes the random stream of one block of one split."""
    return np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), block))


def _wanted(held: _Extent, sizes: Mapping[str, int], generator: Generator) -> _Extent:
    wanted = dict(held)
    for split in (split for split in SPLITS if sizes.get(split)):
        size, nr_frames = held.get(split, (0, 0))
        wanted[split] = (max(size, sizes[split]), max(nr_frames, generator.nr_frames))
    return wanted


def _held(path: Path, identity: Mapping[str, str | int], datasets: Sequence[str]) -> _Extent | None:
    """Reads the extent of an existing file of the same stream; None if there is no file.

    Arguments:
        path: the file.
        identity: of the stream.
        datasets: that every split has to have, `features` among them.

    Raises:
        DataGenError: the file holds something else, or cannot be read.
    """
    try:
        with h5py.File(path) as file:
            attributes = {key: file.attrs.get(key) for key in (*identity, "source")}
            shapes = {(split, name): file[split][name].shape for split in SPLITS if split in file for name in datasets}
        rules, source = (json.loads(attributes.pop(key) or "{}") for key in ("settings", "source"))
        attributes.update(rules)
        extent = {split: (shapes[split, "features"][1], shapes[split, "features"][0]) for split, _ in shapes}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise DataGenError(_unreadable(path, error)) from error
    _check_identity(path, attributes, source, identity)
    return extent


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        return f"{path} is locked by another program, which has it open for writing: wait for it, or end it"
    if isinstance(error, PermissionError):
        return f"cannot read {path}: {error.strerror or error}"
    return f"{path} is there but is not a whole data set of data_gen: move it away first"


def _check_identity(path: Path, theirs: Mapping, source: Mapping, identity: Mapping[str, str | int]) -> None:
    """Compares what a file says of itself with what is asked for.

    Arguments:
        path: the file.
        theirs: its attributes, and the rules in its settings.
        source: where its digits came from.
        identity: of what is asked for.

    Raises:
        DataGenError: the file was not made by this version of data_gen, or holds another data set.
    """
    ours = {**identity, **json.loads(identity["settings"])}
    del ours["settings"]
    if theirs["generator"] != ours["generator"]:
        raise DataGenError(f"{path} was not made by data_gen: move it away first, or train on it as --dataset={path}")
    if theirs["version"] != __version__:
        rules = f"other rules (version {theirs['version']} of data_gen; this is {__version__})"
        if theirs["version"] == "1":
            rules = "earlier rules (version 1 of data_gen), which for shapes are not the published ones"
        raise DataGenError(
            f"{path} was made by {rules}: move it away and generate it anew, or train on it as --dataset={path}"
        )
    differing = [key for key in ours if theirs.get(key) != ours[key]]
    if differing:
        differences = "; ".join(f"{key}={theirs.get(key)}, not {ours[key]}" for key in differing)
        hint = f", --mnist={source['mnist']} among them" if "digits_sha256" in differing and "mnist" in source else ""
        raise DataGenError(
            f"{path} holds another data set ({differences}): give the flags that made it{hint}, or another --data_dir"
            + " or --dataset" * ("sources_sha256" in ours)
        )


@contextlib.contextmanager
def _writing(path: Path, target: Path) -> Iterator[None]:
    """Makes the directory, keeps other processes away, and says what the system does not allow.

    Raises:
        DataGenError: the system does not allow to write the directory or the file, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            yield
    except (OSError, RuntimeError) as error:  # the second is HDF5's, where the end of a file cannot be written
        of_hdf5 = re.findall("error message = '([^']+)'", str(error))
        if not of_hdf5 and isinstance(error, RuntimeError):
            raise
        reason = of_hdf5[-1] if of_hdf5 else error.strerror or error
        raise DataGenError(f"cannot write {path}: {reason}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other processes from writing a file; waits, and says so, while another one does.

    Raises:
        DataGenError: a worker process runs the script that started it once more.
    """
    lock = FileLock(_beside(path, "lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if runs_the_script_again():  # the lock is its parent's, which waits for this process
            raise DataGenError(NEEDS_GUARD) from None
        print(f"data_gen: waiting for another process that writes {path}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{ending}")


def _remove_stale(path: Path) -> None:
    """Removes what generators of this file left that were killed; to be called under the lock."""
    for other in path.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(path.name)}\.[0-9]+\.partial", other.name):
            with contextlib.suppress(OSError):
                other.unlink()


def _check_disk(path: Path, directory: Path, generator: Generator, wanted: _Extent) -> None:
    """Says how much of the disk a data set takes, if this is worth saying, and refuses one that is too large.

    Raises:
        DataGenError: the disk has less room than the data set may take.
    """
    frames = sum(size * nr_frames for size, nr_frames in wanted.values())
    needed = generator.disk_share * frames * sum(_bytes_of_frame(member) for member in generator.members)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise DataGenError(f"{directory} has {free / 1e6:.0f} MB free; the data set takes up to {needed / 1e6:.0f} MB")
    if needed >= WORTH_SAYING:
        print(f"data_gen: {path} takes up to {needed / 1e6:.0f} MB on disk", file=sys.stderr, flush=True)


def _bytes_of_frame(member: Member) -> int:
    return math.prod(member.shape) * np.dtype(member.dtype).itemsize


def _write(
    path: Path, identity: Mapping, generator: Generator, held: _Extent | None, wanted: _Extent, workers: int
) -> None:
    """Writes the whole file beside its place and moves it there."""
    changed = [split for split in wanted if wanted[split] != (held or {}).get(split)]
    with _in_place_when_whole(path) as partial:
        with h5py.File(partial, "w") as file, Workers(workers) as pool:
            file.attrs.update(identity, source=json.dumps(generator.provenance, sort_keys=True))
            for split in (split for split in SPLITS if split in wanted):
                if split in changed:
                    size, nr_frames = wanted[split]
                    longer = dataclasses.replace(generator, nr_frames=nr_frames)
                    _write_split(file, longer, split, size, identity["seed"], pool)
                else:
                    with h5py.File(path) as old:
                        old.copy(split, file)
        redrawn = [split for split in changed if split in (held or {})]
        again = [f"{split}/{member.name}" for split in redrawn for member in generator.members]
        if again and not _begins_with(partial, path, again):
            raise DataGenError(f"{path} differs from what its attributes say made it; move it away to generate it anew")


@contextlib.contextmanager
def _in_place_when_whole(path: Path) -> Iterator[Path]:
    """Gives the path of a file beside a place, and moves it there in the end; after an exception nothing is left."""
    partial = _beside(path, f"{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _write_split(file: h5py.File, generator: Generator, split: str, size: int, seed: int, pool: Workers) -> None:
    chunks = [min(_sequences_of_chunk(member, generator.nr_frames), size) for member in generator.members]
    with ended_later():
        for member, chunk in zip(generator.members, chunks):
            dataset = file.create_dataset(
                f"{split}/{member.name}",
                shape=(generator.nr_frames, size, *member.shape),
                dtype=member.dtype,
                chunks=(generator.nr_frames, chunk, *member.shape),
                compression="gzip",
                compression_opts=COMPRESSION_LEVEL,
            )
            if member.about:
                dataset.attrs["about"] = member.about
        file[split]["features"].attrs["white"] = generator.white
    blocks = [
        (generator, seed, split, start // BLOCK, min(BLOCK, size - start), chunks) for start in range(0, size, BLOCK)
    ]
    with tqdm(total=size, unit="seq", desc=f"{file.attrs['dataset']} {split}", disable=None) as bar:
        for (_, _, _, block, n, _), drawn in zip(blocks, pool.map(_compressed_block, blocks)):
            with ended_later():
                for member, chunk, parts in zip(generator.members, chunks, drawn):
                    for number, part in enumerate(parts):
                        place = (0, block * BLOCK + number * chunk, *(0 for _ in member.shape))
                        file[split][member.name].id.write_direct_chunk(place, part)
            bar.update(n)


def _sequences_of_chunk(member: Member, nr_frames: int) -> int:
    return BLOCK if BLOCK * nr_frames * _bytes_of_frame(member) <= LARGEST_CHUNK else 1


def _compressed_block(generator, seed, split, block, n, chunks) -> list[list[bytes]]:
    """Draws the first n sequences of a block: of every member the HDF5 chunks, which hold so many sequences each."""
    rng = np.random.default_rng(seed_sequence(seed, split, block))
    arrays = generator.sequences(rng, BLOCK, split)  # always the whole block: its first sequences must not depend on n
    for array in arrays:
        array[:, n:] = 0  # an HDF5 chunk is stored whole, also the part beyond the end of the data set
    return [
        [
            zlib.compress(np.ascontiguousarray(array[:, start : start + chunk]), COMPRESSION_LEVEL)
            for start in range(0, n, chunk)
        ]
        for array, chunk in zip(arrays, chunks)
    ]


def _begins_with(longer: Path, shorter: Path, datasets: Sequence[str]) -> bool:
    with h5py.File(longer) as a, h5py.File(shorter) as b:
        for dataset in datasets:
            new, old = a[dataset], b[dataset]
            frames, n = old.shape[:2]
            for start in range(0, n, BLOCK):
                ours, theirs = new[:frames, start : min(start + BLOCK, n)], old[:, start : start + BLOCK]
                if not np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
                    return False
    return True
