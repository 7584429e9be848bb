"""What TensorBoard shows: scalars, hyperparameters, pictures. Every step is a number of training steps."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.image import metadata as image_metadata

from nem_tf.layers.system import Forward
from nem_tf.training.pictures import animation, attention_picture, overview, picture_rows

HYPERPARAMETERS = "_hparams_/session_start_info"  # tags that TensorBoard's plugins choose
LAYOUT = layout_metadata.CONFIG_SUMMARY_TAG
CHARTS = {  # category -> title -> tags
    "Does it bind?": {
        "AMI of masks and objects, 1 at best": ("ami", "ami_last"),
        "ARI: a video's falls below its frames' where components swap objects": ("ari", "ari_video"),
        "confidence of the masks, 1/K if uniform": ("confidence", "confidence_last"),
    },
    "Does it predict?": {
        "loss": ("loss", "loss_last"),
        "loss relative to the frame before, 1 if no better": ("relative", "relative_last"),
        "loss of the components' own pixels, and of the others'": ("intra", "inter"),
    },
}
COMPARED = {
    "validation/ami_last": "ami_last",
    "validation/ami": "ami",
    "validation/ari": "ari",
    "validation/loss": "loss",
}


class Summaries:
    """Writes event files.

    Arguments:
        run_dir: where they go.
    """

    def __init__(self, run_dir: Path):
        self._writer = tf.summary.create_file_writer(str(run_dir))

    def hyperparameters(self, settings: Mapping[str, Any], columns: Sequence[str]) -> None:
        """Writes the settings, so that the HParams tab compares runs by their scores.

        Arguments:
            settings: all of them, by name.
            columns: names of those that the table has; it shows the first five of the alphabet until it is told more.
        """
        with self._writer.as_default():
            hparams.hparams_config(
                [hparams.HParam(name) for name in columns],
                [hparams.Metric(f"validation/{name}", display_name=name) for name in COMPARED],
            )
            hparams.hparams(dict(settings))

    def layout(self) -> None:
        """Writes which scalars the Custom Scalars tab draws into which chart."""
        layout = layout_pb2.Layout()
        for title, charts in CHARTS.items():
            category = layout.category.add(title=title)
            for name, scores in charts.items():
                tags = [f"^(train|validation)/{score}$" for score in scores]
                category.chart.add(title=name, multiline=layout_pb2.MultilineChartContent(tag=tags))
        with self._writer.as_default(0):
            tf.summary.write(LAYOUT, layout.SerializeToString(), metadata=layout_metadata.create_summary_metadata())

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        with self._at(step):
            for name, value in values.items():
                # TensorFlow keeps every number of Python that it has made a tensor of, but none of NumPy's.
                tf.summary.scalar(f"{prefix}/{name}", np.asarray(value, np.float32))

    def pictures(self, result: Forward, step: int) -> None:
        """Writes overview and animation of every sequence of a batch, and the attention where there is any."""
        with self._at(step):
            for sample in range(result.target.shape[0]):
                rows = picture_rows(result, sample)
                tf.summary.image(f"overview/{sample}", overview(rows)[None])
                _write_gif(f"animation/{sample}", animation(rows))
                picture = attention_picture(result, sample)
                if picture is not None:
                    tf.summary.image(f"attention/{sample}", picture[None])

    def image(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Writes one picture, RGB uint8 [h, w, 3]."""
        with self._at(step):
            tf.summary.image(tag, picture[None])

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Writes a text."""
        with self._at(step):
            tf.summary.text(tag, markdown)

    def _at(self, step):
        return self._writer.as_default(np.asarray(step, np.int64))

    def flush(self) -> None:
        """Has all of it on disk."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def keep_events(run_dir: Path, keep: Callable[[str, int], bool]) -> set[str]:
    """Rewrites the event files of a run without what is not kept. Returns the tags that they then have.

    What a process wrote after its last checkpoint will be written again by the one that resumes.

    Arguments:
        keep: (tag, step) -> whether to keep it.
    """
    tags = set()
    paths = sorted(path for path in run_dir.iterdir() if path.name.startswith("events.out.tfevents."))
    for path in paths:
        kept, dropped = [], False
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = Event.FromString(record)
                values = [value for value in event.summary.value if keep(value.tag, event.step)]
                tags |= {value.tag for value in values}
                if len(values) < len(event.summary.value):
                    dropped = True
                    del event.summary.value[:]
                    event.summary.value.extend(values)
                    if not values:
                        continue
                kept.append(event.SerializeToString())
        except tf.errors.DataLossError:
            dropped = True  # a crash cut the last record
        if dropped:
            partial = path.with_name(f".{path.name}.partial")
            with tf.io.TFRecordWriter(str(partial)) as writer:
                for record in kept:
                    writer.write(record)
            os.replace(partial, path)
    return tags


def _write_gif(name, gif):
    """The Images tab plays whatever the browser can; only `tf.summary.image` insists on PNG."""
    width, height = Image.open(io.BytesIO(gif)).size
    metadata = image_metadata.create_summary_metadata(display_name=None, description="one frame per EM step")
    tf.summary.write(name, tf.stack([str(width), str(height), gif]), metadata=metadata)
