"""The run directory: settings, metrics, checkpoints. Nothing in it that is not its own rotation is ever deleted.

flags.txt       the resolved settings, a flagfile that can be fed back
data.json       the shape of the frames
origin.json     where the first weights came from, with --init_from
metrics.jsonl   one JSON object per epoch
latest/         the last checkpoints, to resume from
best/           the checkpoint with the best validation loss
evaluation_*    what nem_tf.evaluate found
events.out.*    TensorBoard
"""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from nem_tf.config import FLAGFILE, Config, differences, from_flagfile, to_flagfile
from nem_tf.errors import UserError

DATA_FILE = "data.json"
ORIGIN_FILE = "origin.json"
METRICS_FILE = "metrics.jsonl"
KEPT = 3  # checkpoints of the latest chain: what a corrupt one falls back on


def open_run(
    config: Config,
    image_shape: tuple[int, int, int],
    origin: dict[str, Any] | None = None,
    read_only: bool = False,
) -> Path:
    """Makes the run directory, or takes an existing one of the same configuration. Returns its path.

    Arguments:
        config, image_shape: of the run.
        origin: where its first weights come from, of `restore_initial_weights`.
        read_only: leave it to another process to check and to make it.

    Raises:
        UserError: it holds another configuration or something else, or cannot be written.
    """
    run_dir = Path(config.run_dir)
    if read_only:
        return run_dir
    try:
        if (run_dir / FLAGFILE).exists():
            other = differences(from_flagfile(run_dir / FLAGFILE), config)
            if other:
                raise UserError(f"{run_dir} holds a run with {'; '.join(other)}: choose another --run_dir")
            if (run_dir / DATA_FILE).exists() and read_image_shape(run_dir) != tuple(image_shape):
                raise UserError(f"{run_dir} holds a run on frames of {read_image_shape(run_dir)}, not {image_shape}")
        elif run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
            raise UserError(f"{run_dir} exists and is not a run directory: choose another --run_dir")
        run_dir.mkdir(parents=True, exist_ok=True)
        write_whole(run_dir / FLAGFILE, to_flagfile(config))
        write_whole(run_dir / DATA_FILE, json.dumps({"image_shape": image_shape}) + "\n")
        if origin:
            write_whole(run_dir / ORIGIN_FILE, json.dumps(origin, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write --run_dir={run_dir}: {error.strerror or error}") from error
    return run_dir


def read_run(run_dir: str | None) -> tuple[Path, Config]:
    """The directory and the configuration of a trained run, from the value of --run_dir.

    Raises:
        UserError: no value, or not a run directory.
    """
    if not run_dir:
        raise UserError("--run_dir is missing: expected the directory of a trained run, e.g. runs/flying_shapes_k4")
    return Path(run_dir), from_flagfile(Path(run_dir) / FLAGFILE)


def read_image_shape(run_dir: Path) -> tuple[int, int, int]:
    """(H, W, C) of the frames that a run was trained on.

    Raises:
        UserError: not a run directory.
    """
    try:
        return tuple(json.loads((run_dir / DATA_FILE).read_text())["image_shape"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run_dir} is not a run directory: cannot read {DATA_FILE} ({error})") from error


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there either whole or as it was."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def append_metrics(run_dir: Path, line: dict[str, Any]) -> None:
    """Adds a line to metrics.jsonl. A later line of the same epoch replaces an earlier one for its readers."""
    with (run_dir / METRICS_FILE).open("a") as file:
        file.write(json.dumps(line) + "\n")


class Checkpoints:
    """The `latest` chain and the `best` checkpoint of a run.

    Arguments:
        run_dir: its directory.
        **tracked: objects to save and restore, by name; with variables built.
    """

    def __init__(self, run_dir: Path, **tracked):
        self.checkpoint = tf.train.Checkpoint(**tracked)
        self.latest = tf.train.CheckpointManager(self.checkpoint, str(run_dir / "latest"), max_to_keep=KEPT)
        self.best = tf.train.CheckpointManager(self.checkpoint, str(run_dir / "best"), max_to_keep=1)

    def save(self, manager: tf.train.CheckpointManager, step: int) -> None:
        """Writes a checkpoint named by its training step.

        Raises:
            UserError: it cannot be written; those before it stay.
        """
        try:
            manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            reason = str(error).rpartition("}} ")[2]  # TensorFlow puts the name of a graph node in front
            raise UserError(f"cannot write a checkpoint to {manager.directory}: {reason}") from error

    def resume(self) -> str | None:
        """Restores the last readable checkpoint of the chain. Returns its path, or None for an empty chain.

        Raises:
            UserError: there are checkpoints and none can be read.
        """
        return restore_newest(self.checkpoint, self.latest, partial=False)


def restore_newest(checkpoint: tf.train.Checkpoint, manager: tf.train.CheckpointManager, partial: bool) -> str | None:
    """Restores the newest checkpoint of a manager that can be read, and says so where it is not the last.

    Arguments:
        partial: whether the checkpoint may hold more than `checkpoint` tracks.
    """
    for path in reversed(manager.checkpoints):
        try:
            status = checkpoint.restore(path)
            status.assert_existing_objects_matched()
            if partial:
                status.expect_partial()
            return path
        except Exception as error:  # a damaged file surfaces as anything from DataLossError to IndexError
            print(f"checkpoint {path} cannot be read ({type(error).__name__}); trying the one before", file=sys.stderr)
    if manager.checkpoints:
        raise UserError(f"no checkpoint in {manager.directory} can be read")
    return None


def restore_weights(run_dir: Path, which: str, **tracked) -> str:
    """Restores tracked objects from the "best" or "latest" checkpoint of a run. Returns the checkpoint's path.

    Raises:
        UserError: the run has none, or none that can be read.
    """
    checkpoint = tf.train.Checkpoint(**tracked)
    manager = tf.train.CheckpointManager(checkpoint, str(run_dir / which), max_to_keep=None)
    path = restore_newest(checkpoint, manager, partial=True)
    if path is None:
        raise UserError(f"{run_dir} has no {which} checkpoint yet")
    return path


def has_checkpoint(config: Config) -> bool:
    """Whether the run has something to resume from."""
    return tf.train.latest_checkpoint(str(Path(config.run_dir) / "latest")) is not None


def restore_initial_weights(config: Config, image_shape: tuple[int, int, int], **tracked) -> dict[str, Any]:
    """Restores the weights, and nothing else, of the run that --init_from names.

    Returns what is recorded of them: run, checkpoint and settings.

    Raises:
        UserError: it is no run with weights, or they are for another network or other frames.
    """
    source_dir, source = read_run(config.init_from)
    theirs, ours = (source.network, read_image_shape(source_dir)), (config.network, tuple(image_shape))
    if theirs != ours:
        raise UserError(
            f"--init_from={source_dir} does not fit: it holds weights of --network={theirs[0]} for frames of "
            f"{theirs[1]}, not of {ours[0]} for {ours[1]}"
        )
    checkpoint = restore_weights(source_dir, "best", **tracked)
    return {"run_dir": str(source_dir), "checkpoint": checkpoint, "settings": dataclasses.asdict(source)}
