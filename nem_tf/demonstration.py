"""A trained model at work on a few sequences, as an animation and as a picture."""

import io
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from nem_tf import build, datasets
from nem_tf.drawing import component_colours, enlarged, framed, gif, labelled, mixed_colours, rgb
from nem_tf.evaluation import sequences_for
from nem_tf.layers.system import masks_of
from nem_tf.scoring.metrics import ami, contingency
from nem_tf.scoring.passes import sequence_seeds
from nem_tf.settings import Settings
from nem_tf.trained import Trained

TILE = 112  # pixels of a picture, about: every pixel of a frame is a square of whole pixels
FRAME = 3  # pixels around a picture
FAINT = 0.3  # brightness of the responsibilities where a frame is black
MILLISECONDS, PAUSE = 160, 1440  # of a step of the animation, and at its end
STILL_STEPS = (1, 2, 3, 5, 8, 12, 16)  # that the still picture shows, beside the last one
FOOTNOTE = "AMI: how well the colours agree with the true objects, but for overlaps; 1 is perfect and 0 is chance"


class Shown(NamedTuple):
    """What is drawn of N sequences: C pictures of every one of T steps."""

    tiles: np.ndarray  # RGB in [0, 1], [N, T, C, h, w, 3]
    titles: list[str]  # of the C pictures, two lines each
    ami: np.ndarray | None  # [N, T], NaN where no object is seen; None without labels


def show(trained: Trained, tested: Settings, new: bool = True) -> Shown:
    """Runs a model over test sequences with its noise.

    Arguments:
        trained: the model.
        tested: its settings; `test_size` sequences, all at once, with noise of `seed`.
        new: whether a published data set is generated anew, from a seed that is not that of the training, in a
            directory that is gone afterwards; else it is that in `data_dir`.

    Raises:
        UserError: data, weights and settings do not fit together.
    """
    trained_seed = int(trained.data.get("seed", 0))
    with tempfile.TemporaryDirectory() as directory:
        if new and datasets.is_published(tested.data.dataset):
            sequences = sequences_for(
                trained, tested.replace(data_dir=directory), "test", trained_seed + 1 + tested.seed
            )
        else:
            sequences = sequences_for(trained, tested, "test", trained_seed)
    batch = sequences.batch(sequences.in_order(len(sequences))[0])
    model = build.build_model(tested, sequences.image_shape)
    build.restore(trained, model)
    system = build.build_system(tested, model)
    result = tf.function(system.forward, autograph=False)(
        tf.constant(batch.frames), sequence_seeds(tested.seed, 0, len(sequences))
    )
    gamma, psi = (result.outputs[name].numpy() for name in ("gamma", "predictions"))
    scores = None
    if batch.groups is not None:
        groups = system.alignment.predicted(batch.groups)
        scores = ami(contingency(groups, masks_of(result.outputs["gamma"]).assignment.numpy()))
    columns = _columns(result.noisy.numpy(), result.target.numpy(), gamma, psi)
    moves = system.alignment.lag and not datasets.is_static(tested.data.dataset)
    titles = ["what the\nmodel sees", f"{'next' if moves else 'same'} frame,\nclean", "who explains\nwhich pixel"]
    titles += [f"component {k + 1}\npredicts" for k in range(psi.shape[2])]
    return Shown(np.stack(columns, axis=2), titles, scores)


def animation(shown: Shown) -> bytes:
    """Returns a GIF of T pictures: a row is a sequence."""
    sequences, steps = shown.tiles.shape[:2]
    labels = [[_label(shown, n, t) for n in range(sequences)] for t in range(steps)]
    pictures = labelled(np.swapaxes(shown.tiles, 0, 1), shown.titles, labels, _footnote(shown))
    return gif(pictures, MILLISECONDS, PAUSE)


def still(shown: Shown, sequence: int = 0) -> bytes:
    """Returns a PNG of one sequence: a column is a step, and some steps are left out."""
    last = shown.tiles.shape[1] - 1
    steps = [*(step - 1 for step in STILL_STEPS if step <= last), last]
    tiles = np.swapaxes(shown.tiles[sequence, steps], 0, 1)[None]
    labels = [_label(shown, sequence, t) for t in steps]
    (picture,) = labelled(tiles, labels, [shown.titles], _footnote(shown))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def as_text(score: float) -> str:
    """Returns a score to two digits, a dash where there is none."""
    return "-" if np.isnan(score) else f"{score:.2f}"


def _columns(noisy, target, gamma, psi):
    """The C pictures of N sequences at T steps, [N, T, h, w, 3] each.

    Arguments:
        noisy, target: [N, T, H, W, C].
        gamma, psi: [N, T, K, H, W, 1] and [N, T, K, H, W, C].
    """
    scale = max(1, round(TILE / max(target.shape[2:4])))
    seen = rgb(target).max(-1, keepdims=True)
    explained = np.stack([mixed_colours(each) for each in gamma]) * (FAINT + (1 - FAINT) * seen)
    columns = [framed(enlarged(images, scale), 1.0, FRAME) for images in (rgb(noisy), rgb(target), explained)]
    for k, colour in enumerate(component_colours(psi.shape[2])):
        columns.append(framed(enlarged(rgb(psi[:, :, k]), scale), colour, FRAME))
    return columns


def _label(shown, sequence, t):
    step = f"step {t + 1}"
    return step if shown.ami is None else f"{step}\nAMI {as_text(shown.ami[sequence, t])}"


def _footnote(shown):
    return "" if shown.ami is None else FOOTNOTE
