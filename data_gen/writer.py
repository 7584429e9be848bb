"""Writes data sets as HDF5 in the authors' layout.

    /training /validation /test     groups, one per split
        features    (T, N, H, W, C)   uint8 (binary images)
        groups      (T, N, H, W, 1)   uint8, ground truth: 0 background and overlap, 1.. objects

Chunked by sequences and gzip-compressed. The file's attributes say what made it: generator, version, seed and
settings (JSON). Sequences are drawn in blocks, each from a random stream of its own that is named by seed, split and
block number. So the bytes do not depend on the number of workers, no two splits share a stream, and a larger or
longer set of the same seed begins with the smaller one.
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
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from data_gen import __version__
from data_gen.flying_shapes import FlyingShapes

SPLITS = ("training", "validation", "test")
BLOCK = 64  # sequences drawn together; also the HDF5 chunk
COMPRESSION_LEVEL = 4
DISK_SHARE = 0.15  # compressed bytes over raw ones, at most; flying shapes with 5 objects: measured 0.08


class DataGenError(Exception):
    """What was asked for cannot be done; the message is one sentence for the user."""


def write_dataset(
    path: Path, name: str, generator: FlyingShapes, sizes: Mapping[str, int], seed: int = 0, workers: int = 1
) -> str:
    """Writes a data set, or extends one of the same stream to more or longer sequences.

    The file appears under its name only when whole; an existing one is replaced only by one that begins with it.

    Arguments:
        path: the file to write.
        name: name of the data set, an attribute of the file.
        generator: draws the sequences.
        sizes: number of sequences of each split, at least 1 each.
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
    if existing:
        held_sizes, held_frames = _held(path, identity)
        if held_frames >= generator.nr_frames and all(held_sizes[split] >= sizes[split] for split in SPLITS):
            return "complete"
        sizes = {split: max(sizes[split], held_sizes[split]) for split in SPLITS}
        generator = dataclasses.replace(generator, nr_frames=max(generator.nr_frames, held_frames))

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_disk(path.parent, generator, sizes)
        with h5py.File(partial, "w") as file:
            file.attrs.update(identity)
            _write_splits(file, generator, sizes, seed, workers)
        if existing and not _begins_with(partial, path):
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


def _held(path: Path, identity: Mapping) -> tuple[dict[str, int], int]:
    """Sizes and frames of an existing file of the same stream."""
    try:
        with h5py.File(path) as file:
            held = {key: file.attrs.get(key) for key in identity}
            shapes = {split: file[split]["features"].shape for split in SPLITS}
    except (OSError, KeyError) as error:
        raise DataGenError(f"{path} is there but is not a whole data set of data_gen: move it away first") from error
    other = [f"{key}={held[key]}, not {value}" for key, value in identity.items() if held[key] != value]
    if other:
        raise DataGenError(f"{path} holds another data set ({'; '.join(other)}): choose another --data_dir")
    return {split: shape[1] for split, shape in shapes.items()}, shapes["training"][0]


def _check_disk(directory: Path, generator: FlyingShapes, sizes: Mapping[str, int]) -> None:
    needed = 2 * DISK_SHARE * sum(sizes.values()) * generator.nr_frames * np.prod(generator.frame_shape)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise DataGenError(f"{directory} has {free / 1e6:.0f} MB free; the data set takes up to {needed / 1e6:.0f} MB")


def _write_splits(file: h5py.File, generator: FlyingShapes, sizes: Mapping, seed: int, workers: int) -> None:
    blocks = []
    for split in SPLITS:
        chunk = min(BLOCK, sizes[split])
        for dataset in ("features", "groups"):
            file.create_dataset(
                f"{split}/{dataset}",
                shape=(generator.nr_frames, sizes[split], *generator.frame_shape),
                dtype=np.uint8,
                chunks=(generator.nr_frames, chunk, *generator.frame_shape),
                compression="gzip",
                compression_opts=COMPRESSION_LEVEL,
            )
        starts = range(0, sizes[split], BLOCK)
        blocks += [
            (generator, seed, split, start // BLOCK, min(BLOCK, sizes[split] - start), chunk) for start in starts
        ]
    with tqdm(total=sum(sizes.values()), unit="seq", desc=file.attrs["dataset"], disable=None) as bar:
        for (_, _, split, block, n, _), chunks in zip(blocks, _ordered_map(_compressed_block, blocks, workers)):
            for dataset, chunk_bytes in zip(("features", "groups"), chunks):
                file[split][dataset].id.write_direct_chunk((0, block * BLOCK, 0, 0, 0), chunk_bytes)
            bar.update(n)


def _compressed_block(generator, seed, split, block, n, chunk) -> list[bytes]:
    """The first n sequences of a block: features and groups as the bytes of HDF5 chunks of `chunk` sequences."""
    rng = np.random.default_rng(seed_sequence(seed, split, block))
    arrays = generator.sequences(rng, BLOCK)  # always the whole block: its first sequences must not depend on n
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


def _begins_with(longer: Path, shorter: Path) -> bool:
    with h5py.File(longer) as a, h5py.File(shorter) as b:
        for split, dataset in itertools.product(SPLITS, ("features", "groups")):
            new, old = a[split][dataset], b[split][dataset]
            frames, n = old.shape[:2]
            for start in range(0, n, BLOCK):
                if not np.array_equal(new[:frames, start : min(start + BLOCK, n)], old[:, start : start + BLOCK]):
                    return False
    return True
