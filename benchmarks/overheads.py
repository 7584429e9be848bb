"""Everything around the training step of flying shapes, each beside what it is to be measured by: one table.

    python -m benchmarks.overheads [--json=overheads.json]

Scores after inference, the input pipeline, TensorBoard's pictures, the way from the command to the first step, and the
latency of a served frame. About two minutes on two cores.
"""

import itertools
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
from nem_tf import cli
from nem_tf.config import Config, resolve
from nem_tf.data import Split
from nem_tf.export import export
from nem_tf.model import build_model
from nem_tf.scoring import Masks, build_setup, forward, mask_scores, sequence_seeds, use_xla
from nem_tf.summaries import Summaries

FLAGS = flags.FLAGS
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


def synthetic_split(config: Config, size: int) -> Split:
    frames, groups = FlyingShapes(nr_frames=config.nr_steps + 1).sequences(np.random.default_rng(0), size, "training")
    return Split(tf.constant(frames.swapaxes(0, 1)), tf.constant(groups[..., 0].swapaxes(0, 1)))  # batch-major


def scoring(split: Split, config: Config) -> dict[str, float]:
    """Seconds of all scores of 10,000 sequences, from masks of which 30 % of the pixels are wrong."""
    rng = np.random.default_rng(0)
    groups = split.groups.numpy()[: config.batch_size, 1:]
    wrong = rng.integers(0, config.k, groups.shape)
    assignment = np.where(rng.random(groups.shape) < 0.7, groups, wrong).astype(np.uint8)
    masks = Masks(assignment, np.ones(groups.shape, np.float32))
    taken = seconds(lambda: mask_scores(masks, groups), FLAGS.rounds)
    return {"score_10000_seconds": np.median(taken) * SEQUENCES / len(groups)}


def pipeline_and_pictures(split: Split, config: Config, directory: Path) -> dict[str, float]:
    """Seconds of a training step over those of its input, and of an epoch's pictures over those of its steps.

    The trainer has the pictures drawn while it goes on; here they are waited for.
    """
    setup = build_setup(config, build_model(config, split.image_shape))
    batch = next(iter(split.batches(config.batch_size)))
    step = training_step(setup, batch.frames, jit=use_xla(config))
    batches = itertools.chain.from_iterable(split.shuffled_batches(config.batch_size, 0, i) for i in itertools.count())
    summaries = Summaries(directory)

    def pictures():
        summaries.pictures(forward(setup, batch.frames[:2], sequence_seeds(0, 0, 2)), 2, 0)
        summaries.flush()

    step(), pictures()
    ratios, shares = [], []
    for _ in range(FLAGS.rounds):
        trained = seconds(lambda: step().numpy(), 2).mean()
        ratios.append(trained / seconds(lambda: next(batches), 200).mean())
        shares.append(seconds(pictures, 1)[0] / (trained * (EPOCH // config.batch_size)))
    return {"step_over_input": np.median(ratios), "pictures_of_an_epoch": np.median(shares)}


def start_up(directory: Path) -> dict[str, float]:
    """Seconds of a command of one training step: until its checkpoint is there, and until all has ended.

    First come imports, data, the graph and the step; then a validation with a graph of its own, pictures, checkpoints.
    """
    where = [f"--data_dir={directory / 'data'}", "--train_size=64", "--valid_size=64", "--test_size=64"]
    subprocess.run(
        [sys.executable, "-m", "data_gen", "--dataset=flying_shapes", *where], check=True, capture_output=True
    )
    first, whole = [], []
    for i in range(3):
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


def streaming(config: Config, image_shape: tuple[int, int, int], directory: Path) -> dict[str, float]:
    """Milliseconds of a frame served by the SavedModel's `step`, one sequence, and of one read of its weights."""
    model = build_model(config, image_shape)
    export(model, directory / "model")
    served = tf.saved_model.load(directory / "model").signatures
    state = served["init"](batch_size=tf.constant(1), k=tf.constant(config.k))
    frame = tf.cast(tf.random.uniform((1, *image_shape)) < 0.2, tf.float32)

    def one_frame():
        nonlocal state
        outputs = served["step"](frame=frame, **state)
        outputs["masks"].numpy()
        state = {name: outputs[name] for name in state}

    taken = 1e3 * seconds(one_frame, 1000)[100:]
    memory = tf.zeros(FAR_BEYOND_CACHES // 4)
    read = seconds(lambda: tf.reduce_max(memory).numpy(), FLAGS.rounds)
    weights = sum(4 * int(np.prod(weight.shape)) for weight in model.trainable_variables)
    return {
        "frame_median_ms": np.median(taken),
        "frame_p99_ms": np.quantile(taken, 0.99),
        "weights_read_ms": 1e3 * np.median(read) * weights / FAR_BEYOND_CACHES,
    }


def main() -> None:
    config = resolve({"dataset": "flying_shapes"})
    split = synthetic_split(config, 4096)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        found = {
            **streaming(resolve({"dataset": "flying_shapes", "k": 4}), split.image_shape, directory),
            **start_up(directory),
            **scoring(split, config),
            **pipeline_and_pictures(split, config, directory),
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
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 7, "Times everything is measured.", lower_bound=1, module_name=cli.OWN_GROUP)
    cli.define_output("json", "File for the numbers.")
    cli.run(main, "benchmarks.overheads", __doc__)
