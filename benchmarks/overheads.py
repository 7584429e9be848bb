"""Everything around the training step of flying shapes, each beside what it is to be measured by: one table.

    python -m benchmarks.overheads [--json=overheads.json]

Scores after inference, the input pipeline, TensorBoard's pictures, the way from the command to the first step, and the
latency of a served frame. About two minutes on two cores.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.speed import training_step
from data_gen.shapes import FlyingShapes
from nem_tf import build, cli
from nem_tf.data import Split
from nem_tf.data.packed import Packed
from nem_tf.layers.system import Masks
from nem_tf.scoring.passes import mask_scores, sequence_seeds
from nem_tf.serving import export
from nem_tf.settings import Settings, resolve
from nem_tf.training.feed import Feed
from nem_tf.training.tensorboard import Summaries
from nem_tf.unrolling import parse_curriculum

SEQUENCES = 10_000  # of the validation and the test split in the paper
EPOCH = 50_000
FAR_BEYOND_CACHES = 1 << 30  # bytes


def seconds(function, times: int) -> np.ndarray:
    """Of each of so many calls, after one that does not count."""
    function()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return np.array(taken)


def synthetic_split(settings: Settings, size: int) -> Split:
    arrays = FlyingShapes(nr_frames=settings.data.nr_steps + 1).sequences(np.random.default_rng(0), size, "training")
    stores = []
    for array in arrays:
        batch_major = array.swapaxes(0, 1)
        stores.append(Packed(size, batch_major.shape[1:]))
        stores[-1].put(0, batch_major)
    return Split(*stores, frames=settings.data.nr_steps + 1)


def scoring(split: Split, settings: Settings, rounds: int) -> dict[str, float]:
    """Seconds of all scores of 10,000 sequences, from masks of which 30 % of the pixels are wrong."""
    rng = np.random.default_rng(0)
    groups = split.batch(split.in_order(settings.optimisation.batch_size)[0]).groups[:, 1:]
    wrong = rng.integers(0, settings.model.k, groups.shape)
    assignment = np.where(rng.random(groups.shape) < 0.7, groups, wrong).astype(np.uint8)
    masks = Masks(assignment, np.ones(groups.shape, np.float32))
    taken = seconds(lambda: mask_scores(masks, groups), rounds)
    return {"score_10000_seconds": np.median(taken) * SEQUENCES / len(groups)}


def pipeline_and_pictures(split: Split, settings: Settings, directory: Path, rounds: int) -> dict[str, float]:
    """Seconds of a training step over those of its input, and of an epoch's pictures over those of its steps."""
    batch_size = settings.optimisation.batch_size
    system = build.build_system(settings, build.build_model(settings, split.image_shape))
    frames = split.batch(split.in_order(batch_size)[0]).frames
    step = training_step(settings, system, frames)
    stages = parse_curriculum("", settings.data.nr_steps)
    feed = Feed(split, system.alignment, stages, settings.data.nr_steps, batch_size=batch_size, seed=0)
    summaries = Summaries(directory)

    def pictures():
        summaries.pictures(system.forward(tf.constant(frames[:2]), sequence_seeds(0, 0, 2)), 0)
        summaries.flush()

    def inputs():
        return sum(1 for _ in feed.calls(0, 0, 0))

    step(), pictures(), inputs()
    ratios, shares = [], []
    for _ in range(rounds):
        trained = seconds(lambda: step().numpy(), 2).mean()
        start = time.perf_counter()
        made = inputs()
        ratios.append(trained * made / (time.perf_counter() - start))
        shares.append(seconds(pictures, 1)[0] / (trained * (EPOCH // batch_size)))
    return {"step_over_input": np.median(ratios), "pictures_of_an_epoch": np.median(shares)}


def start_up(directory: Path, times: int) -> dict[str, float]:
    """Seconds of a command of one training step, so many times: until its checkpoint is there, and until all has ended.

    First come imports, data, the graph and the step; then a validation with a graph of its own, pictures, checkpoints.
    """
    where = [f"--data_dir={directory / 'data'}", "--train_size=64", "--valid_size=64"]
    generate = [sys.executable, "-m", "data_gen", "--dataset=flying_shapes", "--test_size=0", *where]
    subprocess.run(generate, check=True, capture_output=True)
    first, whole = [], []
    for i in range(times):
        run_dir = directory / f"run{i}"
        command = [sys.executable, "-m", "nem_tf.train", *where, "--max_steps=1", f"--run_dir={run_dir}"]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not (run_dir / "latest/checkpoint").exists():
                time.sleep(0.05)
            first.append(time.perf_counter() - start)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        whole.append(time.perf_counter() - start)
    return {"first_step_seconds": np.median(first), "one_step_command_seconds": np.median(whole)}


def streaming(settings: Settings, image_shape: tuple[int, int, int], directory: Path, rounds: int) -> dict[str, float]:
    """Milliseconds of a frame served by the SavedModel's `step`, one sequence, and of one read of its weights."""
    model = build.build_model(settings, image_shape)
    export(model, build.alignment_of(settings), directory / "model")
    served = tf.saved_model.load(directory / "model").signatures
    state = served["init"](batch_size=tf.constant(1), k=tf.constant(settings.model.k))
    frame = tf.cast(tf.random.uniform((1, *image_shape)) < 0.2, tf.float32)

    def one_frame():
        nonlocal state
        outputs = served["step"](frame=frame, **state)
        outputs["masks"].numpy()
        state = {name: outputs[name] for name in state}

    taken = 1e3 * seconds(one_frame, 1000)[100:]
    memory = tf.zeros(FAR_BEYOND_CACHES // 4)
    read = seconds(lambda: tf.reduce_max(memory).numpy(), rounds)
    weights = sum(4 * int(np.prod(weight.shape)) for weight in model.trainable_variables)
    return {
        "frame_median_ms": np.median(taken),
        "frame_p99_ms": np.quantile(taken, 0.99),
        "weights_read_ms": 1e3 * np.median(read) * weights / FAR_BEYOND_CACHES,
    }


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_integer("rounds", 7, "Number of times everything is measured.", lower_bound=1, **this)
    cli.define_output(options, "json", "File for the numbers.")


def main(options: flags.FlagValues) -> None:
    settings, rounds = resolve({"dataset": "flying_shapes"}), options.rounds
    split = synthetic_split(settings, 4096)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        found = {
            **streaming(settings.replace(k=4), split.image_shape, directory, rounds),
            **start_up(directory, min(rounds, 3)),
            **scoring(split, settings, rounds),
            **pipeline_and_pictures(split, settings, directory, rounds),
        }
    rows = [
        ("scores of 10,000 sequences of 20 masks", f"{found['score_10000_seconds']:.1f} s"),
        ("a training step over its input, batch 64", f"{found['step_over_input']:.0f}"),
        ("pictures of an epoch over its 781 steps", f"{100 * found['pictures_of_an_epoch']:.2f} %"),
        ("train --max_steps=1, first step on disk", f"{found['first_step_seconds']:.1f} s"),
        ("train --max_steps=1, whole command", f"{found['one_step_command_seconds']:.1f} s"),
        ("a served frame, K 4: median", f"{found['frame_median_ms']:.2f} ms"),
        ("a served frame, K 4: 99th percentile", f"{found['frame_p99_ms']:.2f} ms"),
        ("one read of the weights from memory", f"{found['weights_read_ms']:.2f} ms"),
    ]
    for name, value in rows:
        print(f"{name:<42}{value:>12}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.overheads", __doc__)
