"""From files to batches. A data set is one HDF5 file in the authors' layout:

    /training /validation /test
        features    (T, N, H, W, C)   binary or grey values: floats in [0, 1], or integers from 0 to the attribute
                                      `white` of the HDF5 data set (1 where it has none); T is 1 for static images
        groups      (T, N, H, W, 1)   ground truth: 0 background and overlap, 1.. objects

In memory a split is batch-major and holds integers as uint8.
"""

import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import tensorflow as tf

from nem_tf.config import Config
from nem_tf.errors import UserError

SPLITS = {"training": "train_size", "validation": "valid_size", "test": "test_size"}  # and the flag of its size


class Batch(NamedTuple):
    """Sequences of T + 1 frames."""

    frames: tf.Tensor  # [B, T+1, H, W, C], clean, in [0, 1]; uint8 where binary, else float32
    groups: tf.Tensor  # uint8 [B, T+1, H, W]


@dataclass(frozen=True)
class Split:
    """The first sequences of one split, in host memory. Of static images it holds one frame, shown again and again."""

    frames: tf.Tensor  # [N, T+1 or 1, H, W, C]; uint8, 0 to white, or float32 in [0, 1]
    groups: tf.Tensor  # uint8 [N, T+1 or 1, H, W]
    repeats: int = 1  # of every frame: T+1 for static images
    white: int = 1

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.frames.shape[2:])

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Every sequence once, in order, as `Batch`; the last batch may be smaller."""
        return self._pipeline(np.arange(len(self)), batch_size, drop_remainder=False)

    def shuffled_batches(self, batch_size: int, seed: int, epoch: int, skip: int = 0) -> tf.data.Dataset:
        """The full batches of one epoch, the sequences in an order that is a pure function of seed and epoch.

        `skip` leaves out the first batches: where an interrupted epoch goes on.
        """
        order = np.random.default_rng((seed, epoch)).permutation(len(self))
        return self._pipeline(order[skip * batch_size :], batch_size, drop_remainder=True)

    def _pipeline(self, order, batch_size, drop_remainder):
        indices = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=drop_remainder)
        batches = indices.map(
            lambda index: self._sequences(tf.gather(self.frames, index), tf.gather(self.groups, index)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _sequences(self, frames, groups):
        if self.white != 1:
            frames = tf.cast(frames, tf.float32) / self.white
        return Batch(tf.repeat(frames, self.repeats, axis=1), tf.repeat(groups, self.repeats, axis=1))


def dataset_path(config: Config) -> Path:
    return Path(config.data_dir) / f"{config.dataset}.h5"


def generate_missing(config: Config, splits: Collection[str] = tuple(SPLITS)) -> None:
    """Has `data_gen` write, or extend, some splits of the data set to what the configuration asks for; says so.

    The two packages share only the file format, so this is the command line that a user would type.

    Raises:
        UserError: it could not; its own sentence is on stderr.
    """
    path = dataset_path(config)
    if path.exists() and all(_holds_enough(path, config, split) for split in splits):
        return
    sizes = {flag: getattr(config, flag) if split in splits else 0 for split, flag in SPLITS.items()}
    command = [
        sys.executable,
        *("-m", "data_gen", f"--dataset={config.dataset}", f"--data_dir={config.data_dir}"),
        *(f"--{flag}={size}" for flag, size in sizes.items()),
        f"--nr_steps={config.nr_steps}",
    ]
    print(f"{path} does not hold the sequences asked for; generating them: {' '.join(command[1:])}", flush=True)
    if subprocess.run(command).returncode:
        raise UserError(f"{path} could not be generated")


def load_split(config: Config, split: str) -> Split:
    """Reads the first sequences and frames of a split that the configuration asks for.

    Arguments:
        config: names file, sizes and nr_steps.
        split: "training", "validation" or "test".

    Raises:
        UserError: the file is missing, truncated, foreign, too small or too short, or its values do not fit.
    """
    path = dataset_path(config)
    size, nr_frames = getattr(config, SPLITS[split]), config.nr_steps + 1
    with _opened(path) as file:
        features, groups = _datasets(path, file, split)
        static = features.shape[0] == 1
        if not static and features.shape[0] < nr_frames:
            raise UserError(
                f"{path} holds sequences of {features.shape[0]} frames; --nr_steps={config.nr_steps} needs {nr_frames}"
            )
        if features.shape[1] < size:
            raise UserError(
                f"{path} holds {features.shape[1]} {split} sequences; --{SPLITS[split]}={size} asks for more"
            )
        if split == "training" and size < config.batch_size:
            raise UserError(f"--train_size={size} is less than one batch: --batch_size={config.batch_size}")
        white = int(features.attrs.get("white", 1))
        if white > 1 and config.mixture == "bernoulli":
            raise UserError(f"{path} holds grey images: --mixture=bernoulli takes binary ones, --mixture=gaussian both")
        try:
            stored = 1 if static else nr_frames
            frames = _read(features, stored, size, config.mixture == "bernoulli" or features.dtype.kind in "bui")
            labels = _read(groups, stored, size, as_bytes=True)[..., 0]
        except OSError as error:
            raise UserError(f"{path} is damaged: {split} cannot be read ({error})") from error
    if not (np.isfinite(frames).all() and frames.min() >= 0 and frames.max() <= white):
        raise UserError(f"{path}: {split}/features must lie in [0, {white}]")
    with tf.device("CPU"):
        return Split(tf.constant(frames), tf.constant(labels), nr_frames if static else 1, white)


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: python -m data_gen writes it") from error
    except OSError as error:
        raise UserError(f"{path} is not a readable HDF5 file, or a truncated one: {error}") from error


def _datasets(path: Path, file: h5py.File, split: str) -> tuple[h5py.Dataset, h5py.Dataset]:
    """`features` and `groups` of a split, after a look at their shapes and dtypes."""
    found = [file.get(f"{split}/{name}") for name in ("features", "groups")]
    for name, dataset in zip(("features", "groups"), found):
        if not isinstance(dataset, h5py.Dataset):
            raise UserError(f"{path} has no {split}/{name}: expected the layout that data_gen writes")
        if dataset.ndim != 5 or dataset.dtype.kind not in "buif":
            raise UserError(
                f"{path}: {split}/{name} must be numbers (T, N, H, W, C), is {dataset.dtype} {dataset.shape}"
            )
    features, groups = found
    if groups.shape != (*features.shape[:-1], 1):
        raise UserError(
            f"{path}: {split}/groups must be {(*features.shape[:-1], 1)} as its features are, is {groups.shape}"
        )
    return features, groups


def _holds_enough(path: Path, config: Config, split: str) -> bool:
    with _opened(path) as file:
        if split not in file:
            return False
        features, _ = _datasets(path, file, split)
        enough_frames = features.shape[0] > config.nr_steps or features.shape[0] == 1
        return enough_frames and features.shape[1] >= getattr(config, SPLITS[split])


def _read(dataset: h5py.Dataset, nr_frames: int, size: int, as_bytes: bool) -> np.ndarray:
    """[N, T+1, H, W, C] of a (T, N, H, W, C) dataset, read chunk by chunk of sequences.

    Raises:
        UserError: values that are no whole numbers where bytes are wanted.
    """
    out = np.empty((size, nr_frames, *dataset.shape[2:]), np.uint8 if as_bytes else np.float32)
    step = (dataset.chunks or (0, 64))[1]
    for start in range(0, size, step):
        block = dataset[:nr_frames, start : min(start + step, size)]
        if as_bytes and block.dtype != np.uint8 and not np.array_equal(block, block.astype(np.uint8)):
            raise UserError(f"{dataset.file.filename}: {dataset.name} must be whole numbers (binary images, labels)")
        out[start : start + step] = np.swapaxes(block, 0, 1)
    return out
