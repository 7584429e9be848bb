"""What a page presupposes its reader to have: videos, data files, flagfiles, runs, all of them small."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
from clips import colours, write
from PIL import Image

from tests.commands.pages import ROOT

OF_TRAINING = (
    "--train_size=8", "--valid_size=4", "--test_size=4", "--batch_size=4", "--passes=1", "--nr_steps=4",
    "--max_steps=2",
)  # fmt: skip
# Of flags/reproduction; the second begins from the weights of the first.
RECIPES = ("balls_1_rnn_em", "balls_rnn_em", "coloured_shapes", "flying_shapes_k3", "static_shapes_rnn_em")
# Commands that make the runs and the data of a page, and flags to append to those. Of a training one step is made, so
# that there is something left to do.
ONE_STEP = ("--max_steps=1",)
BEFORE = {
    # In place of what the Python of the page makes.
    "docs/extend.md": [("python -m data_gen --dataset=flying_shapes_2 --size=24 --name=bars", ())],
    "docs/reproduce.md": [
        ("python -m nem_tf.train --flagfile=flags/flying_shapes.flags --run_dir=R", (*ONE_STEP, "--nr_steps=11")),
        ("python -m nem_tf.train --flagfile=flags/flying_mnist_2.flags --run_dir=runs/flying_mnist_2_staged", ONE_STEP),
        ("python -m nem_tf.train --flagfile=flags/balls_r_nem.flags", ONE_STEP),
    ],
    "docs/segment.md": [
        ("python -m data_gen --dataset=flying_shapes", ()),
        ("python -m data_gen --from=clips --dataset=mine", ()),
        ("python -m nem_tf.train --dataset=data/mine.h5 --run_dir=runs/mine", ONE_STEP),
    ],
    "docs/serve.md": [("python -m nem_tf.train --flagfile=flags/flying_shapes.flags --run_dir=R", ONE_STEP)],
    "docs/training.md": [("python -m nem_tf.train --flagfile=flags/flying_shapes.flags --run_dir=runs/NAME", ONE_STEP)],
}


def _moving(n, start):
    """Makes a patch that goes from one side to the other and comes in again, uint8 [n, H, W, 3]."""
    (patch,) = colours(1, 72, 96)
    return np.stack([np.roll(patch, start + 2 * t, axis=1) for t in range(n)])


def make_files(directory: Path) -> None:
    """Makes the files that a page may name, and the flagfiles of a clone."""
    for name, n in (("clip.mp4", 20), ("other.gif", 20), ("shots/shot.webm", 20), ("vtest.avi", 240)):
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        write(path, _moving(n, 0))
    for folder, number in (("clips", 6), ("more", 2)):
        (directory / folder).mkdir()
        for i in range(number):
            write(directory / folder / f"{i}.mp4", _moving(80, 4 * i + len(folder)))
    (directory / "pictures").mkdir()
    for t, frame in enumerate(_moving(6, 0)):
        Image.fromarray(frame).save(directory / "pictures" / f"{t}.png")
    _space_invaders(directory / "data" / "atari.h5")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extend.md").read_text(), re.DOTALL)
    (directory / "my_network.py").write_text(next(block for block in blocks if "def my_network" in block))
    shutil.copytree(ROOT / "flags", directory / "flags")
    shutil.rmtree(directory / "flags/reproduction")
    (directory / "flags/reproduction").mkdir()
    for name in RECIPES:  # nem_tf.resume takes no flags of a training: here they are appended to the flagfiles
        lines = [f"--flagfile={ROOT}/flags/reproduction/{name}.flags", *OF_TRAINING, "--curriculum="]
        (directory / f"flags/reproduction/{name}.flags").write_text("\n".join(lines) + "\n")


def _space_invaders(path):
    """A file of frames and actions: one of six buttons."""
    rng = np.random.default_rng(0)
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        for split, n in (("training", 8), ("validation", 4), ("test", 4)):
            file[f"{split}/features"] = (rng.random((31, n, 84, 84, 1)) < 0.1).astype(np.float32)
            file[f"{split}/actions"] = np.eye(6, dtype=np.float32)[rng.integers(6, size=(31, n))]
