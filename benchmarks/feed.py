"""Batches per second of a training's feed, from the file of a data set and from memory, beside its training step.

    python -m benchmarks.feed [--size=64] [--k=3] [--batch_size=4] [--json=feed.json]

Invented colour videos of moving rectangles on a textured background are written as `data_gen --from` writes them, in
chunks of one sequence. The feed of the programs reads them both ways, in turns, round by round, first alone and then
before the training step, which computes meanwhile. A couple of minutes on two cores. The file is in the cache of the
system: what a disk adds is not measured.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.speed import training_step
from data_gen.from_files import Options, from_files
from nem_tf import build, cli
from nem_tf.data import Split, load_split, stored
from nem_tf.settings import resolve
from nem_tf.training.feed import Feed
from nem_tf.unrolling import parse_curriculum

FRAMES = 21
VIDEOS = 12


def videos(size: int, sequences: int) -> np.ndarray:
    """uint8 [N, T, H, W, 3], all of them as long as so many sequences together ask for."""
    rng = np.random.default_rng(0)
    length = -(-sequences // VIDEOS) * FRAMES
    out = np.empty((VIDEOS, length, size, size, 3), np.uint8)
    out[:] = rng.integers(60, 80, (VIDEOS, 1, size, size, 3))
    places = np.linspace(0, 0.7 * size, length).astype(int)
    for video in out:
        for colour in rng.integers(100, 256, (3, 3)):
            for frame, y, x in zip(video, np.roll(places, rng.integers(length)), np.roll(places, rng.integers(length))):
                frame[y : y + size // 4, x : x + size // 4] = colour
        video += rng.integers(0, 4, video.shape, np.uint8)  # noise of a camera, hard to compress
    return out


def splits(directory: Path, size: int, sequences: int) -> dict[str, Split]:
    """The training split of such a set, in memory and in its file."""
    np.save(directory / "videos.npy", videos(size, sequences))
    path = directory / "benchmark.h5"
    options = Options(size=size, frames=FRAMES, test_share=1 / VIDEOS)
    from_files(path, "benchmark", [str(directory / "videos.npy")], options, "NTHWC")
    held = {}
    for name, share in (("memory", 1.0), ("file", 0.0)):
        stored.MEMORY_SHARE = share
        count = sequences * (VIDEOS - 2) // VIDEOS
        held[name] = load_split(path, "training", count, FRAMES, binary=False)
    return held


def main(options: flags.FlagValues) -> None:
    size, batch_size = options.size, options.batch_size
    chosen = {"network": "convolutional", "mixture": "gaussian", "noise": "masked_uniform", "k": options.k}
    settings = resolve({**chosen, "dataset": "benchmark.h5", "batch_size": batch_size, "nr_steps": FRAMES - 1})
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        both = splits(Path(directory), size, options.sequences)
        system = build.build_system(settings, build.build_model(settings, (size, size, 3)))
        feeds = {
            name: Feed(
                split,
                system.alignment,
                parse_curriculum("", FRAMES - 1),
                FRAMES - 1,
                batch_size=batch_size,
                seed=0,
            )
            for name, split in both.items()
        }
        first = next(feeds["memory"].calls(0, 0, 0, 1))
        step = training_step(settings, system, first.frames[0])
        step().numpy()
        for epoch in range(options.rounds):
            for name, feed in feeds.items():
                start = time.perf_counter()
                made = sum(1 for _ in feed.calls(epoch, 0, 0))
                rates.setdefault(f"feed alone, from {name}", []).append(made / (time.perf_counter() - start))
            for name, feed in list(feeds.items())[:: 1 if epoch % 2 else -1]:  # neither is always the second
                start = time.perf_counter()
                for _ in feed.calls(epoch, 0, 0, options.steps):
                    step().numpy()
                rates.setdefault(f"training, from {name}", []).append(options.steps / (time.perf_counter() - start))
    found = {name: float(np.median(each)) for name, each in rates.items()}
    print(f"{size}x{size}x3, {FRAMES} frames, K {options.k}, batches of {batch_size}, TensorFlow {tf.__version__}")
    print(f"{'steps per second':30} {'median':>8} {'least':>8} {'most':>8}")
    for name, each in rates.items():
        print(f"{name:30} {np.median(each):8.3f} {min(each):8.3f} {max(each):8.3f}")
    ratios = np.divide(rates["training, from file"], rates["training, from memory"])  # of a round each
    spare = found["feed alone, from file"] / found["training, from memory"]
    print(
        f"training from file over that from memory: {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
    )
    print(f"the feed from the file alone over a training from memory: {spare:.0f}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_integer("size", 64, "Height and width of the frames.", lower_bound=8, **this)
    flags.DEFINE_integer("k", 3, "Components.", lower_bound=1, **this)
    flags.DEFINE_integer("batch_size", 4, "Sequences of a training step.", lower_bound=1, **this)
    flags.DEFINE_integer("sequences", 240, "Sequences of all splits.", lower_bound=100, **this)
    flags.DEFINE_integer("steps", 3, "Training steps of a round.", lower_bound=1, **this)
    flags.DEFINE_integer("rounds", 6, "Rounds.", lower_bound=1, **this)
    cli.define_output(options, "json", "JSON file to write.")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.feed", __doc__)
