"""Writes data sets as HDF5 in the authors' layout.

    /training /validation /test     groups, one per split
        features    (T, N, H, W, C)   uint8, 0 to the attribute `white`: 1 for binary images, 255 for grey ones
        groups      (T, N, H, W, 1)   uint8, ground truth: 0 background and overlap, 1.. objects

T is 1 for static images. Chunked by sequences and gzip-compressed. The file's attributes say what made it: generator,
version, seed and settings (JSON). Sequences are drawn in blocks, each from a random stream of its own that is named by
seed, split and block number. So the bytes do not depend on the number of workers, no two splits share a stream, and a
larger or longer set of the same seed begins with the smaller one.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from tqdm import tqdm

from data_gen import __version__

SPLITS = ("training", "validation", "test")
BLOCK = 64  # sequences drawn together; also the HDF5 chunk
COMPRESSION_LEVEL = 4


class DataGenError(Exception):
    """What was asked for cannot be done; the message is one sentence for the user."""


class Generator(Protocol):
    """What draws sequences: a picklable frozen dataclass."""

    nr_frames: int
    white: int  # the largest value of a feature
    disk_share: float  # compressed bytes over raw ones, at most

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""

    @property
    def settings(self) -> dict:
        """What the sequences depend on, beside the seed; without the length, which only says where they stop."""

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws features uint8 [T, n, H, W, C] and groups uint8 [T, n, H, W, 1]."""


def write_dataset(
    path: Path, name: str, generator: Generator, sizes: Mapping[str, int], seed: int = 0, workers: int = 1
) -> str:
    """Writes a data set, or extends one of the same stream to more or longer sequences.

    The file appears under its name only when whole; an existing one is replaced only by one that begins with it.

    Arguments:
        path: the file to write.
        name: name of the data set, an attribute of the file.
        generator: draws the sequences.
        sizes: number of sequences of each split. A split of 0 stays what it is in an existing file, and is left out
            of a new one.
        seed: same seed, same bytes.
        workers: number of processes that draw and compress.

    Returns: "written", "extended", or "complete" if the file held all of it before.

    Raises:
        DataGenError: the file is another data set, the directory cannot be written, or the disk is too small.
    """
    identity = {
        "dataset": name,
        "generator": "data_gen",
        "version": __version__,
        "seed": seed,
        "settings": json.dumps(generator.settings, sort_keys=True),
    }
    existing = path.exists()
    held = _held(path, identity) if existing else {}
    wanted = dict(held)
    for split in (split for split in SPLITS if sizes[split]):
        size, nr_frames = held.get(split, (0, 0))
        wanted[split] = (max(size, sizes[split]), max(nr_frames, generator.nr_frames))
    if wanted == held:
        return "complete"
    changed = [split for split in SPLITS if wanted.get(split) != held.get(split)]

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_disk(path.parent, generator, wanted)
        with h5py.File(partial, "w") as file:
            file.attrs.update(identity)
            for split in SPLITS:
                if split in changed:
                    size, nr_frames = wanted[split]
                    _write_split(file, dataclasses.replace(generator, nr_frames=nr_frames), split, size, seed, workers)
                elif split in held:
                    with h5py.File(path) as old:
                        old.copy(split, file)
        if existing and not _begins_with(partial, path, [split for split in changed if split in held]):
            raise DataGenError(f"{path} differs from what its attributes say made it; move it away to generate it anew")
        partial.replace(path)
    except OSError as error:
        raise DataGenError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return "extended" if existing else "written"


def seed_sequence(seed: int, split: str, block: int) -> np.random.SeedSequence:
    """The random stream of one block of one split."""
    return np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), block))


def _held(path: Path, identity: Mapping) -> dict[str, tuple[int, int]]:
    """Sizes and frames of the splits in an existing file of the same stream."""
    try:
        with h5py.File(path) as file:
            attributes = {key: file.attrs.get(key) for key in identity}
            shapes = {split: file[split]["features"].shape for split in SPLITS if split in file}
    except (OSError, KeyError) as error:
        raise DataGenError(f"{path} is there but is not a whole data set of data_gen: move it away first") from error
    theirs, ours = ({**held, **json.loads(held["settings"] or "{}")} for held in (attributes, identity))
    other = [
        f"{key}={theirs.get(key)}, not {ours[key]}"
        for key in ours
        if key != "settings" and theirs.get(key) != ours[key]
    ]
    if other:
        raise DataGenError(
            f"{path} holds another data set ({'; '.join(other)}): give the flags that made it, or another --data_dir"
        )
    return {split: (shape[1], shape[0]) for split, shape in shapes.items()}


def _check_disk(directory: Path, generator: Generator, wanted: Mapping[str, tuple[int, int]]) -> None:
    frames = sum(size * nr_frames for size, nr_frames in wanted.values())
    needed = 2 * generator.disk_share * frames * np.prod(generator.frame_shape)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise DataGenError(f"{directory} has {free / 1e6:.0f} MB free; the data set takes up to {needed / 1e6:.0f} MB")


def _write_split(file: h5py.File, generator: Generator, split: str, size: int, seed: int, workers: int) -> None:
    chunk = min(BLOCK, size)
    for name, channels in (("features", generator.frame_shape[-1]), ("groups", 1)):
        image_shape = (*generator.frame_shape[:-1], channels)
        file.create_dataset(
            f"{split}/{name}",
            shape=(generator.nr_frames, size, *image_shape),
            dtype=np.uint8,
            chunks=(generator.nr_frames, chunk, *image_shape),
            compression="gzip",
            compression_opts=COMPRESSION_LEVEL,
        )
    file[split]["features"].attrs["white"] = generator.white
    blocks = [
        (generator, seed, split, start // BLOCK, min(BLOCK, size - start), chunk) for start in range(0, size, BLOCK)
    ]
    with tqdm(total=size, unit="seq", desc=f"{file.attrs['dataset']} {split}", disable=None) as bar:
        for (_, _, _, block, n, _), chunks in zip(blocks, _ordered_map(_compressed_block, blocks, workers)):
            for name, chunk_bytes in zip(("features", "groups"), chunks):
                file[split][name].id.write_direct_chunk((0, block * BLOCK, 0, 0, 0), chunk_bytes)
            bar.update(n)


def _compressed_block(generator, seed, split, block, n, chunk) -> list[bytes]:
    """The first n sequences of a block: features and groups as the bytes of HDF5 chunks of `chunk` sequences."""
    rng = np.random.default_rng(seed_sequence(seed, split, block))
    arrays = generator.sequences(rng, BLOCK, split)  # always the whole block: its first sequences must not depend on n
    for array in arrays:
        array[:, n:] = 0  # an HDF5 chunk is stored whole, also the part beyond the end of the data set
    return [zlib.compress(np.ascontiguousarray(array[:, :chunk]), COMPRESSION_LEVEL) for array in arrays]


def _ordered_map(function, tasks, workers) -> Iterator:
    """function(*task) for every task, in order, by processes that run only a few tasks ahead: memory stays bounded."""
    if workers == 1:
        yield from itertools.starmap(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting = collections.deque()
        for task in tasks:
            waiting.append(pool.submit(function, *task))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _begins_with(longer: Path, shorter: Path, splits: Sequence[str]) -> bool:
    with h5py.File(longer) as a, h5py.File(shorter) as b:
        for split, dataset in itertools.product(splits, ("features", "groups")):
            new, old = a[split][dataset], b[split][dataset]
            frames, n = old.shape[:2]
            for start in range(0, n, BLOCK):
                if not np.array_equal(new[:frames, start : min(start + BLOCK, n)], old[:, start : start + BLOCK]):
                    return False
    return True
