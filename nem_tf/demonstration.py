"""A trained model at work on a few sequences, as an animation and as a picture."""

import io
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from nem_tf import build, datasets
from nem_tf.drawing import (
    FRAME,
    STILL_STEPS,
    TILE,
    attention_tiles,
    component_colours,
    enlarged,
    explained,
    framed,
    gif,
    in_colours,
    labelled,
    rgb,
)
from nem_tf.evaluation import check_rollout, sequences_for
from nem_tf.layers.system import masks_of
from nem_tf.scoring.metrics import ami, contingency
from nem_tf.scoring.passes import sequence_seeds
from nem_tf.scoring.tables import fixed
from nem_tf.settings import Settings
from nem_tf.trained import Trained
from nem_tf.unrolling import Rollout

MILLISECONDS, PAUSE = 160, 1440  # of a step of the animation, and at its end
LATER_STEPS = (0, 1, 2, 4, 6, 9)  # after the last frame that is seen, in place of most of them
IMAGINED = np.array([213, 94, 0]) / 255  # the frame around what nobody has shown the model
ATTENTION = "who then\naffects whom"
ARROWS = "a dot: the middle of what a component predicts; an arrow: how much attention the other one pays to it, if any"
FOOTNOTE = "AMI: how well the colours agree with the true objects, but for overlaps; 1 is perfect and 0 is chance"


class Shown(NamedTuple):
    """What is drawn of N sequences: C pictures of every one of T steps."""

    tiles: np.ndarray  # RGB in [0, 1], [N, T, C, h, w, 3]
    titles: list[str]  # of the C pictures, two lines each
    ami: np.ndarray | None  # [N, T], NaN where no object is seen; None without labels
    rollout: Rollout | None = None


def show(trained: Trained, tested: Settings, new: bool = True, rollout: Rollout | None = None) -> Shown:
    """Runs a model over test sequences with its noise.

    In a roll-out, and of a model whose components look at each other, one more picture shows what all components
    predict, in their colours; the arrows of another say who affects whom in the step that follows.

    Arguments:
        trained: the model.
        tested: its settings; `test_size` sequences, all at once, with noise of `seed`.
        new: whether a published data set is generated anew, from a seed that is not that of the training, in a
            directory that is gone afterwards; else it is that in `data_dir`.
        rollout: from where, and how, the model goes on by itself. What it imagines has an orange frame.

    Raises:
        UserError: data, weights and settings do not fit together.
    """
    check_rollout(rollout, tested)
    trained_seed = int(trained.data.get("seed", 0))
    with tempfile.TemporaryDirectory() as directory:
        if new and datasets.is_published(tested.data.dataset):
            sequences = sequences_for(
                trained, tested.replace(data_dir=directory), "test", trained_seed + 1 + tested.seed
            )
        else:
            sequences = sequences_for(trained, tested, "test", trained_seed)
    batch = sequences.batch(sequences.in_order(len(sequences))[0])
    model = build.build_model(tested, sequences.image_shape, sequences.nr_actions)
    build.restore(trained, model)
    system = build.build_system(tested, model)
    seeds = sequence_seeds(tested.seed, 0, len(sequences))
    forward = tf.function(system.forward, autograph=False)
    result = forward(tf.constant(batch.frames), seeds, rollout, actions=batch.actions)
    gamma, psi = (result.outputs[name].numpy() for name in ("gamma", "predictions"))
    strongest = model.cell.mixture.strongest(result.outputs["predictions"]).numpy()
    scores = None
    if batch.groups is not None:
        groups = system.alignment.predicted(batch.groups)
        scores = ami(contingency(groups, masks_of(result.outputs["gamma"]).assignment.numpy()))
    attention = system.attention(result.outputs, batch.actions)
    attention = attention if attention is None else attention.numpy()
    columns = _columns(result.noisy.numpy(), result.target.numpy(), gamma, psi, strongest, attention, rollout)
    moves = system.alignment.lag and not sequences.is_static
    titles = ["what the\nmodel sees", f"{'next' if moves else 'same'} frame,\nclean", "who explains\nwhich pixel"]
    titles += ["what all\npredict"] if attention is not None or rollout is not None else []
    titles += [ATTENTION] if attention is not None else []
    titles += [f"component {k + 1}\npredicts" for k in range(psi.shape[2])]
    return Shown(np.stack(columns, axis=2), titles, scores, rollout)


def animation(shown: Shown) -> bytes:
    """Returns a GIF of T pictures: a row is a sequence."""
    sequences, steps = shown.tiles.shape[:2]
    labels = [[_label(shown, n, t) for n in range(sequences)] for t in range(steps)]
    pictures = labelled(np.swapaxes(shown.tiles, 0, 1), shown.titles, labels, _footnote(shown))
    return gif(pictures, MILLISECONDS, PAUSE)


def still(shown: Shown, sequence: int = 0) -> bytes:
    """Returns a PNG of one sequence: a column is a step, and some steps are left out."""
    last = shown.tiles.shape[1] - 1
    steps = [step - 1 for step in STILL_STEPS]
    if shown.rollout is not None:
        first = shown.rollout.last_seen
        steps = [step for step in steps[1::2] if step < first] + [first + step for step in LATER_STEPS]
    steps = [*(step for step in steps if step < last), last]
    tiles = np.swapaxes(shown.tiles[sequence, steps], 0, 1)[None]
    labels = [_label(shown, sequence, t) for t in steps]
    (picture,) = labelled(tiles, labels, [shown.titles], _footnote(shown))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _columns(noisy, target, gamma, psi, strongest, attention, rollout):
    """The C pictures of N sequences at T steps, [N, T, h, w, 3] each.

    Arguments:
        noisy, target: [N, T, H, W, C].
        gamma, psi: [N, T, K, H, W, 1] and [N, T, K, H, W, C].
        strongest: of psi, [N, T, H, W, C]; see `SpatialMixture.strongest`.
        attention: [N, T, K, K] or None.
        rollout: see `show`.
    """
    scale = max(1, round(TILE / max(target.shape[2:4])))
    frames = np.ones((target.shape[1], 1, 1, 3))  # of every step
    lit = rgb(target)
    if rollout is not None:
        frames[rollout.imagined] = IMAGINED
        own = np.broadcast_to(rgb(strongest), lit.shape)  # what is true is not what it explains
        lit = np.concatenate([lit[:, rollout.seen], own[:, rollout.imagined]], axis=1)
    masks = np.stack([explained(*video) for video in zip(gamma, lit)])
    columns = [
        framed(enlarged(images, scale), colour, FRAME)
        for images, colour in ((rgb(noisy), frames), (rgb(target), 1.0), (masks, frames))
    ]
    videos = list(zip(gamma, psi))
    if attention is not None or rollout is not None:
        predicted = np.stack([in_colours(*video) for video in videos])
        columns.append(framed(enlarged(predicted, scale), frames, FRAME))
    if attention is not None:
        arrows = np.stack([attention_tiles(*video, each, scale) for video, each in zip(videos, attention)])
        columns.append(framed(arrows, frames, FRAME))
    for k, colour in enumerate(component_colours(psi.shape[2])):
        columns.append(framed(enlarged(rgb(psi[:, :, k]), scale), colour, FRAME))
    return columns


def _label(shown, sequence, t):
    step = f"step {t + 1}"
    if shown.rollout is not None and t > shown.rollout.last_seen:
        step += ",\nimagined"
    return step if shown.ami is None else f"{step}\nAMI {fixed(shown.ami[sequence, t], 2)}"


def _footnote(shown):
    lines = [FOOTNOTE] if shown.ami is not None else []
    if ATTENTION in shown.titles:
        lines.append(ARROWS)
    return "\n".join(lines)
