"""Checkpoints of a run: the `latest` chain to resume from, and the `best` by validation loss.

Both hold the same: `model`, the weights as trained; `averages`, their moving averages where the run keeps any;
`optimizer`; `progress`; and `data`, the identity of what they were trained on.
"""

import atexit
import functools
import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from nem_tf.errors import UserError
from nem_tf.reading import check_regular

KEPT = 3  # checkpoints of the latest chain: what a corrupt one falls back on


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
        kept = {"latest": KEPT, "best": 1}
        self._chains = {which: _Chain(self._checkpoint, run_dir, which, number) for which, number in kept.items()}

    def save(self, which: str, step: int) -> None:
        """Writes a checkpoint named by its training step.

        Raises:
            UserError: it cannot be written; those before it stay.
        """
        if not self._writes:
            return
        chain = self._chains[which]
        self._before_save()
        try:
            chain.manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            reason = str(error).rpartition("}} ")[2]  # TensorFlow puts the name of a graph node in front
            raise UserError(f"cannot write a checkpoint to {chain.directory}: {reason}") from error

    def newest(self, which: str = "latest") -> str | None:
        """Returns the path of the newest checkpoint, None where there is none yet."""
        paths = self._chains[which].paths
        return paths[-1] if paths else None

    def resume(self) -> str | None:
        """Restores the last readable checkpoint of the latest chain. Returns its path, or None for an empty chain.

        Raises:
            UserError: there are checkpoints and none can be read, or they were trained on other data.
        """
        try:
            path = self._chains["latest"].restore_newest(partial=False)
        except UserError as error:
            raise UserError(f"{error}; another --run_dir begins anew") from None
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
            loss = progress_of(path)["kept_loss"] if path else math.nan
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
    chain = _Chain(tf.train.Checkpoint(**{"averages" if averaged else "model": model}), run_dir, which)
    path = chain.restore_newest(partial=True)
    if path is None:
        other = ": the first validation makes one; --checkpoint=latest takes what there is" if which == "best" else ""
        raise UserError(f"{run_dir} has no {which} checkpoint yet{other}")
    return path


def latest_progress(run_dir: Path) -> dict[str, Any]:
    """Returns the counters of `Progress` in the newest readable checkpoint of a run, by name; {} where there is none.

    It is the one that a training would resume from.
    """
    for path in reversed(_Chain(tf.train.Checkpoint(), run_dir, "latest").paths):
        try:
            return progress_of(path)
        except Exception:  # a damaged file surfaces as anything
            continue
    return {}


def progress_of(path: str) -> dict[str, Any]:
    """Returns the counters of `Progress` in a checkpoint, by name."""
    _check_files(path)
    place = Path(path).absolute()  # that of a run in "." has no third part
    reader = tf.train.load_checkpoint(str(_without_wildcards(place.parents[1]) / place.parent.name / place.name))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("progress/")]
    return {name.split("/")[1]: reader.get_tensor(name).tolist() for name in names}


class _Chain:
    """The checkpoints in a directory of a run.

    Arguments:
        checkpoint: what they hold.
        run_dir, which: the directory and the name of the chain in it.
        kept: how many of them are kept; None: all.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, run_dir: Path, which: str, kept: int | None = None):
        self._checkpoint, self._kept, self.directory = checkpoint, kept, run_dir / which
        self._place = str(_without_wildcards(run_dir.absolute()) / which)

    @functools.cached_property
    def manager(self) -> tf.train.CheckpointManager:
        """Writes, and keeps so many. What cannot be a checkpoint is not counted among them."""
        for left in self.directory.glob("ckpt-*_temp"):  # of a process that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        places = [str(Path(self._place) / Path(path).name) for path in self.paths if _has_index(path)]
        if places and not self._is_listed(places[-1]):
            times = [float(i + 1) for i in range(len(places))]  # after the last one it keeps for good: none
            tf.compat.v1.train.update_checkpoint_state(
                self._place, places[-1], places, all_model_checkpoint_timestamps=times, last_preserved_timestamp=0.0
            )
        return tf.train.CheckpointManager(self._checkpoint, self._place, self._kept)

    def _is_listed(self, newest):
        """Whether TensorFlow's list of the checkpoints has the newest one; it would delete none that are not in it."""
        try:
            check_regular(self.directory / "checkpoint")
            state = tf.train.get_checkpoint_state(self._place)
        except Exception:  # a damaged file surfaces as anything
            return False
        listed = state.all_model_checkpoint_paths if state else []
        return Path(newest).name in (Path(path).name for path in listed)

    @property
    def paths(self) -> list[str]:
        """The oldest first: what lies there, whatever TensorFlow's list of it says."""
        found = (re.fullmatch(r"ckpt-([0-9]+)\.(index|data-.*)", path.name) for path in self.directory.glob("ckpt-*"))
        return [str(self.directory / f"ckpt-{number}") for number in sorted({int(each[1]) for each in found if each})]

    def restore_newest(self, partial: bool) -> str | None:
        """Restores the newest one that can be read, and says so where it is not the last; None where there is none.

        Arguments:
            partial: whether it may hold more than is tracked.

        Raises:
            UserError: there are some and none can be read.
        """
        for shown in reversed(self.paths):
            try:
                _check_files(shown)
                status = self._checkpoint.restore(str(Path(self._place) / Path(shown).name))
                status.assert_existing_objects_matched()
                if partial:
                    status.expect_partial()
                return shown
            except Exception as error:  # a damaged file surfaces as anything from DataLossError to IndexError
                print(f"{shown} cannot be read ({type(error).__name__}): trying the one before", file=sys.stderr)
                tf.get_logger().addFilter(_is_news)
        if self.paths:
            raise UserError(f"no checkpoint in {self.directory} can be read")
        return None


def _is_news(record):
    """False for each value that TensorFlow names as not restored when it forgets, late, a restore that failed."""
    return not re.search("with unrestored values|could not be found in the restored object", record.getMessage())


def _check_files(path):
    """Refuses a checkpoint of which a file is a pipe or a device, for which TensorFlow would wait."""
    for file in Path(path).parent.glob(f"{Path(path).name}.*"):
        check_regular(file)


def _has_index(path):
    try:
        _check_files(path)
        tf.train.load_checkpoint(path)
    except Exception:  # a damaged file surfaces as anything
        return False
    return True


@functools.cache
def _without_wildcards(run_dir: Path) -> Path:
    """The directory; where its path has wildcards, which TensorFlow would expand when it reads, a link without any."""
    if not re.search(r"[][*?]", str(run_dir)):
        return run_dir
    link = Path(tempfile.mkdtemp(prefix="nem_tf_")) / "run"
    atexit.register(shutil.rmtree, link.parent, ignore_errors=True)
    try:
        link.symlink_to(run_dir, target_is_directory=True)
    except OSError as error:
        raise UserError(f"--run_dir={run_dir}: expected a path without [, ], * and ? ({error.strerror})") from error
    return link
