"""Small data sets and invented digits that tests share."""

import contextlib
import signal

import h5py
import numpy as np

from data_gen.names import SPLITS
from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset

SIZES = {"training": 130, "validation": 3, "test": 64}  # more than two blocks, less than one, exactly one
SMALL = {"training": 2, "validation": 1, "test": 1}


def write(path, generator=None, sizes=SIZES, **kwargs):
    return write_dataset(path, "flying_shapes", generator or FlyingShapes(nr_frames=5), sizes, **kwargs)


def read(path):
    with h5py.File(path) as file:
        return {f"{split}/{name}": file[split][name][...] for split in SPLITS for name in ("features", "groups")}


def visible(directory):
    """Names of what a user sees in a directory: the lock files stay, so that every process finds the same one."""
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(".lock"))


@contextlib.contextmanager
def signals_heeded():
    """Makes this process and those that it starts heed Ctrl-C, which a background process of a shell ignores."""
    fresh = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):  # which a process of nohup ignores
        fresh[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in fresh.items()}
    try:
        yield fresh
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fake_mnist():
    """The two sets of MNIST, shrunk: 50 training, 10,000 validation and 20 test digits.

    Each digit has one grey value, 250, 200 or 150, that names its split, and is dark at the border.
    """
    images = np.zeros((10_070, 28, 28), np.uint8)
    for value, part in ((250, slice(0, 50)), (200, slice(50, 10_050)), (150, slice(10_050, None))):
        images[part, 6:22, 6:22] = value
    return images[:10_050], images[10_050:]


def write_npz(path):
    train, test = fake_mnist()
    np.savez(path, x_train=train, x_test=test)
    return path
