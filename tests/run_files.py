"""What the tests read in a run directory."""

import struct

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from nem_tf.run import Run, read_lines
from nem_tf.training.tensorboard import HYPERPARAMETERS, LAYOUT

TIMES = ("wall_time", "sequences_per_second")  # what no two runs have in common
AT_THE_START = (HYPERPARAMETERS, "_hparams_/experiment", LAYOUT)  # tags that a run writes once


def lines_of(run_dir, times=False):
    """The lines of metrics.jsonl, by default without the times."""
    lines = read_lines(Run(run_dir).metrics)
    assert len(lines) == len(Run(run_dir).metrics.read_text().splitlines())
    return [{name: value for name, value in line.items() if times or name not in TIMES} for line in lines]


def events_of(run_dir):
    """(tag, step, value) of everything in the event files, by tag and step; a value of speed is left out."""
    found = []
    for path in run_dir.iterdir():
        if path.name.startswith("events.out.tfevents."):
            for record in records_of(path.read_bytes()):
                event = Event.FromString(record)
                for value in event.summary.value:
                    shown = None if value.tag.startswith("speed/") else tf.make_ndarray(value.tensor).tolist()
                    found.append((value.tag, event.step, shown if value.tag[0] != "_" else None))
    return sorted(found, key=lambda each: each[:2])


def records_of(content):
    """The records of a TFRecord file: a length of 8 bytes, 4 of its checksum, the record, 4 of its checksum.

    For TensorFlow it ends where a length is cut off.
    """
    records, at = [], 0
    while at + 12 <= len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        records.append(content[at + 12 : at + 12 + length])
        at += length + 16
    assert at <= len(content)
    return records


def kept_in(run_dir, which):
    """Everything in the newest checkpoint but the times, by name."""
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(), str(run_dir / which), max_to_keep=None)
    reader = tf.train.load_checkpoint(manager.latest_checkpoint)
    left_out = ("wall_time", "train_seconds", "save_counter", "OBJECT_GRAPH")
    names = [name for name in reader.get_variable_to_shape_map() if not any(part in name for part in left_out)]
    return {name.split("/.A")[0]: np.asarray(reader.get_tensor(name)).tolist() for name in names}


def outcome_of(run_dir):
    """Everything that two trainings have in common where they are the same training."""
    kept = {which: kept_in(run_dir, which) for which in ("latest", "best")}
    return {"lines": lines_of(run_dir), "events": events_of(run_dir), **kept}


def checkpoint_names(run_dir, which="latest"):
    return sorted(path.stem for path in (run_dir / which).glob("*.index")) if (run_dir / which).exists() else []


def damage(run_dir, which, name, keep=100):
    """Cuts the values of a checkpoint off."""
    (path,) = [p for p in (run_dir / which).iterdir() if p.name.startswith(f"{name}.data")]
    path.write_bytes(path.read_bytes()[:keep])
