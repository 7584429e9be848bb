"""Checkpoints of a run: the `latest` chain to resume from, and the `best` by validation loss.

Both hold the same: `model`, the weights as trained; `averages`, their moving averages where the run keeps any;
`optimizer`; `progress`; and `data`, the identity of what they were trained on.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from nem_tf.errors import UserError

KEPT = 3  # checkpoints of the latest chain: what a corrupt one falls back on
WHICH = ("best", "latest")


class Checkpoints:
    """Writes and restores the checkpoints of a run. Constructing it writes nothing.

    Arguments:
        run_dir: its directory.
        data: identity of the data, of `nem_tf.data.identity_of`.
        writes: whether this process is the one that writes; the others only read.
        before_save: called before anything is written, e.g. to bring averages up to date.
        **tracked: objects to save and restore, by name; with variables built.
    """

    def __init__(
        self,
        run_dir: Path,
        data: Mapping[str, Any],
        *,
        writes: bool = True,
        before_save: Callable[[], None] = lambda: None,
        **tracked,
    ):
        self._identity = json.dumps(data, sort_keys=True)
        self._data = tf.Variable(self._identity, dtype=tf.string, trainable=False)
        self._checkpoint = tf.train.Checkpoint(data=self._data, **tracked)
        self._writes, self._before_save = writes, before_save
        self._managers = {
            "latest": tf.train.CheckpointManager(self._checkpoint, str(run_dir / "latest"), max_to_keep=KEPT),
            "best": tf.train.CheckpointManager(self._checkpoint, str(run_dir / "best"), max_to_keep=1),
        }

    def save(self, which: str, step: int) -> None:
        """Writes a checkpoint named by its training step.

        Raises:
            UserError: it cannot be written; those before it stay.
        """
        if not self._writes:
            return
        manager = self._managers[which]
        self._before_save()
        try:
            manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            reason = str(error).rpartition("}} ")[2]  # TensorFlow puts the name of a graph node in front
            raise UserError(f"cannot write a checkpoint to {manager.directory}: {reason}") from error

    def newest(self, which: str = "latest") -> str | None:
        """Returns the path of the newest checkpoint, None where there is none yet."""
        return self._managers[which].latest_checkpoint

    def resume(self) -> str | None:
        """Restores the last readable checkpoint of the latest chain. Returns its path, or None for an empty chain.

        Raises:
            UserError: there are checkpoints and none can be read, or they were trained on other data.
        """
        path = _restore_newest(self._checkpoint, self._managers["latest"], partial=False)
        trained_on = self._data.numpy().decode()
        if trained_on != self._identity:
            raise UserError(f"{path} was trained on other data ({trained_on}) than those given ({self._identity})")
        return path

    def kept_loss(self) -> float | None:
        """Returns the validation loss of the best checkpoint, None where there is none that can be read, or no number.

        Then any other checkpoint is better.
        """
        path = self.newest("best")
        try:
            loss = float(_progress_of(path)["kept_loss"]) if path else math.nan
        except Exception:  # a damaged file surfaces as anything
            return None
        return loss if math.isfinite(loss) else None


def restore_weights(run_dir: Path, which: str, averaged: bool, model: Any) -> str:
    """Restores a model from the "best" or "latest" checkpoint of a run. Returns the checkpoint's path.

    Arguments:
        averaged: whether the run keeps moving averages of its weights; then these.

    Raises:
        UserError: the run has none, or none that can be read.
    """
    checkpoint = tf.train.Checkpoint(**{"averages" if averaged else "model": model})
    manager = tf.train.CheckpointManager(checkpoint, str(run_dir / which), max_to_keep=None)
    path = _restore_newest(checkpoint, manager, partial=True)
    if path is None:
        raise UserError(f"{run_dir} has no {which} checkpoint yet")
    return path


def progress_of(run_dir: Path, which: str) -> dict[str, Any]:
    """Returns the counters of `Progress` in the newest checkpoint of a run, by name; {} where there is none."""
    path = tf.train.latest_checkpoint(str(run_dir / which))
    return _progress_of(path) if path else {}


def _progress_of(path: str) -> dict[str, Any]:
    reader = tf.train.load_checkpoint(path)
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("progress/")]
    return {name.split("/")[1]: reader.get_tensor(name).tolist() for name in names}


def _restore_newest(checkpoint: tf.train.Checkpoint, manager: tf.train.CheckpointManager, partial: bool) -> str | None:
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
