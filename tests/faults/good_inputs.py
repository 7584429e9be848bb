"""The good files that are spoiled, made small: a data set, a run, a preset, videos, digits."""

import gzip
import shutil
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tests.faults import watched

SIZES = {"training": 8, "validation": 4, "test": 4}
SMALL = [
    "--network=conftest:small_network", "--nr_steps=3", "--batch_size=4", "--train_size=8", "--valid_size=4",
    "--test_size=4", "--max_epochs=1", "--max_steps=2", "--passes=1",
]  # fmt: skip


class Good(NamedTuple):
    """Where the good files are."""

    ours: Path  # HDF5 of data_gen
    foreign: Path  # HDF5 of others
    run: Path
    preset: Path
    videos: Path  # a directory with clip.gif, clip.mp4, clip.npy, clip.npz, clip.h5 and the folder pictures
    idx: Path  # a directory
    npz: Path


def make(context, directory: Path) -> Good:
    """Makes the good files in a directory, those that are not there."""
    good = Good(*(directory / name for name in (
        "mine.h5", "foreign.h5", "run", "preset", "videos", "idx", "mnist.npz",
    )))  # fmt: skip
    if good.npz.exists():
        return good
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    made = context.Process(target=_files, args=(good,))
    made.start()
    made.join()
    if made.exitcode:
        raise RuntimeError("the good files cannot be made")
    for program, args in (
        ("nem_tf.train", [f"--dataset={good.ours}", f"--run_dir={good.run}", *SMALL]),
        ("nem_tf.evaluate", [f"--run_dir={good.run}"]),
        ("nem_tf.export", [f"--run_dir={good.run}", "--format=preset", f"--export_dir={good.preset}"]),
    ):
        place = directory / program
        place.mkdir()
        ended = watched.run(context, program, args, place)
        if ended.status != 0:
            raise RuntimeError(f"{program} of the good files: {ended.err}")
    _digits(good)
    return good


def _files(good):
    from clips import colours, write
    from PIL import Image

    from data_gen.shapes import FlyingShapes
    from data_gen.writer import write_dataset

    write_dataset(good.ours, "flying_shapes", FlyingShapes(nr_frames=6), SIZES)
    frames = colours(n=30)
    with h5py.File(good.foreign, "w") as file:
        file["frames"] = frames
        file["labels"] = np.arange(30)
    (good.videos / "pictures").mkdir(parents=True)
    for suffix in (".gif", ".mp4"):
        write(good.videos / f"clip{suffix}", frames)
    np.save(good.videos / "clip.npy", frames)
    np.savez_compressed(good.videos / "clip.npz", frames=frames)
    shutil.copy(good.foreign, good.videos / "clip.h5")
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(good.videos / "pictures" / f"{t}.png")


def _digits(good):
    """Made last: that they are there says that all is."""
    rng = np.random.default_rng(0)
    some = rng.integers(256, size=(64, 28, 28), dtype=np.uint8)
    train, test = np.tile(some, (160, 1, 1)), some
    good.idx.mkdir()
    for name, images in (("train-images-idx3-ubyte", train), ("t10k-images-idx3-ubyte", test)):
        header = np.array([2051, *images.shape], ">i4").tobytes()
        (good.idx / f"{name}.gz").write_bytes(gzip.compress(header + images.tobytes(), 1))
    np.savez_compressed(good.npz, x_train=train, x_test=test)
