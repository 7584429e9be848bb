"""What TensorBoard shows: scalars, hyperparameters, and the pictures of the paper's Fig. 4, still and moving."""

import dataclasses
import io
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.image import metadata as image_metadata

from nem_tf.config import Config
from nem_tf.figures import rendered
from nem_tf.scoring import Forward

BORDER = 2  # pixels around every tile
BACKGROUND = 1.0  # white
FRAME_MILLISECONDS = 250
GRID_COLUMNS = 4  # of the animation


def component_colours(k: int) -> np.ndarray:
    """RGB in [0, 1], float [K, 3]: well apart, the same for the same k everywhere."""
    palette = matplotlib.colormaps["tab10"].colors if k <= 10 else matplotlib.colormaps["hsv"](np.arange(k) / k)
    return np.array(palette)[:k, :3]


def picture_rows(result: Forward, sample: int) -> dict[str, np.ndarray]:
    """The rows of the overview of one sample: name -> RGB tiles, float [T, h, w, 3] in [0, 1].

    Input, reconstruction (psi weighted by gamma), responsibilities in the components' colours, each component's
    prediction framed in its colour, and the noisy input that the step saw.
    """
    target, noisy = np.asarray(result.target[sample]), np.asarray(result.noisy[sample])  # [T, H, W, C]
    psi, gamma = (np.asarray(result.outputs[name][sample]) for name in ("predictions", "gamma"))  # [T, K, H, W, C]
    colours = component_colours(gamma.shape[1])
    rows = {
        "input": _tiles(_rgb(target)),
        "reconstruction": _tiles(_rgb((gamma * psi).sum(1))),
        "gamma": _tiles(np.einsum("tkhw,kc->thwc", gamma[..., 0], colours)),
    }
    rows |= {f"component {k + 1}": _tiles(_rgb(psi[:, k]), colour) for k, colour in enumerate(colours)}
    rows["noisy input"] = _tiles(_rgb(noisy))
    return rows


def overview(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """All steps side by side, labelled: RGB uint8 [h, w, 3]. `rows` come from `picture_rows`."""
    mosaic = np.concatenate([np.concatenate(list(tiles), axis=1) for tiles in rows.values()])
    steps, height, width, _ = next(iter(rows.values())).shape
    figure = Figure(figsize=(mosaic.shape[1] / 50 + 1.6, mosaic.shape[0] / 50 + 0.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_yticks((np.arange(len(rows)) + 0.5) * height, rows.keys())
    axes.set_xticks((np.arange(steps) + 0.5) * width, np.arange(1, steps + 1))
    axes.set_xlabel("step")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return rendered(figure)


def animation(rows: Mapping[str, np.ndarray], scale: int = 4) -> bytes:
    """One step after the other as an endless GIF, the rows as a grid of tiles. `rows` come from `picture_rows`."""
    tiles = list(rows.values())
    tiles += [np.full_like(tiles[0], BACKGROUND)] * (-len(tiles) % GRID_COLUMNS)
    lines = [np.concatenate(tiles[i : i + GRID_COLUMNS], axis=2) for i in range(0, len(tiles), GRID_COLUMNS)]
    steps = np.concatenate(lines, axis=1)  # [T, h, w, 3]
    steps = (255 * steps).astype(np.uint8).repeat(scale, axis=1).repeat(scale, axis=2)
    first, *rest = [Image.fromarray(step) for step in steps]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0)
    return buffer.getvalue()


class Summaries:
    """Writes to TensorBoard; every step is a number of training steps.

    Arguments:
        run_dir: where the event files go.
    """

    def __init__(self, run_dir: Path):
        self._writer = tf.summary.create_file_writer(str(run_dir))
        self._painter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")
        self._painting: Future | None = None

    def hyperparameters(self, config: Config) -> None:
        """The settings, so that the HParams tab compares runs."""
        with self._writer.as_default():
            hparams.hparams(dataclasses.asdict(config))

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(f"{prefix}/{name}", value)

    def pictures(self, result: Forward, samples: int, step: int) -> None:
        """Overview and animation of the first samples of a batch, drawn while the caller goes on.

        Raises:
            Exception: whatever kept the pictures of the call before from being drawn.
        """
        self._wait()
        self._painting = self._painter.submit(self._paint, result, samples, step)

    def _paint(self, result: Forward, samples: int, step: int) -> None:
        with self._writer.as_default(step):
            for sample in range(min(samples, result.target.shape[0])):
                rows = picture_rows(result, sample)
                tf.summary.image(f"overview/{sample}", overview(rows)[None])
                _write_gif(f"animation/{sample}", animation(rows))

    def image(self, tag: str, picture: np.ndarray, step: int) -> None:
        """One picture, RGB uint8 [h, w, 3]."""
        with self._writer.as_default(step):
            tf.summary.image(tag, picture[None])

    def _wait(self) -> None:
        painting, self._painting = self._painting, None
        if painting is not None:
            painting.result()

    def flush(self) -> None:
        """Has all of it on disk, pictures included.

        Raises:
            Exception: see `pictures`.
        """
        self._wait()
        self._writer.flush()


def _write_gif(name, gif):
    """The Images tab plays whatever the browser can; only `tf.summary.image` insists on PNG."""
    width, height = Image.open(io.BytesIO(gif)).size
    metadata = image_metadata.create_summary_metadata(display_name=None, description="one frame per EM step")
    tf.summary.write(name, tf.stack([str(width), str(height), gif]), metadata=metadata)


def _rgb(images):
    """[T, H, W, C] -> [T, H, W, 3] in [0, 1]: three channels are colours, any other number a grey mean."""
    if images.shape[-1] != 3:
        images = images.mean(-1, keepdims=True).repeat(3, axis=-1)
    return images.clip(0, 1)


def _tiles(images, frame=None):
    """Puts a frame of a colour (none: of the background) and then a border around each of [T, H, W, 3]."""
    images = _padded(images, BACKGROUND if frame is None else frame)
    return _padded(images, BACKGROUND)


def _padded(images, colour):
    steps, height, width, _ = images.shape
    out = np.empty((steps, height + 2 * BORDER, width + 2 * BORDER, 3))
    out[:] = colour
    out[:, BORDER:-BORDER, BORDER:-BORDER] = images
    return out
