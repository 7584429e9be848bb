"""One pass of a model over a split: losses and grouping scores of every sequence at every step."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from nem_tf.config import Config
from nem_tf.data import Batch
from nem_tf.losses import EMLoss, LossTerms
from nem_tf.metrics import confidence, grouping_scores
from nem_tf.model import RNNEM
from nem_tf.noise import FrameNoise


class Forward(NamedTuple):
    """What a pass over a batch of T + 1 frames gives."""

    noisy: tf.Tensor  # [B, T, H, W, C]
    target: tf.Tensor  # [B, T, H, W, C]
    outputs: dict[str, tf.Tensor]  # of `RNNEM`
    terms: LossTerms


def forward(
    model: RNNEM, noise: FrameNoise, loss: EMLoss, frames: tf.Tensor, seed: tf.Tensor, k: int | None = None
) -> Forward:
    """Noise, EM steps and loss of a batch; a pure function of the weights, the frames and the seed.

    Arguments:
        frames: uint8 or float [B, T+1, H, W, C].
        seed: int [2], of the noise and of the initial responsibilities.
        k: number of components, by default the cell's.
    """
    noise_seed, gamma_seed = tf.unstack(tf.random.split(seed, alg="philox"))
    frames = tf.cast(frames, model.compute_dtype)
    noisy, target = noise(frames, seed=noise_seed)[:, :-1], frames[:, 1:]
    initial_state = model.cell.get_initial_state(tf.shape(frames)[0], k=k, seed=gamma_seed)
    outputs = model(noisy, target, initial_state=initial_state)
    return Forward(noisy, target, outputs, loss.terms(outputs, target))


class Masks(NamedTuple):
    """The part of the responsibilities that the scores need; small enough to leave the device."""

    assignment: tf.Tensor  # uint8 [B, T, H, W], argmax_k gamma
    certainty: tf.Tensor  # float32 [B, T, H, W], max_k gamma


def masks_of(gamma: tf.Tensor) -> Masks:
    """From gamma [B, T, K, H, W, 1]."""
    gamma = gamma[..., 0]
    return Masks(tf.cast(tf.argmax(gamma, axis=2), tf.uint8), tf.reduce_max(gamma, axis=2))


def mask_scores(masks: Masks, groups: tf.Tensor) -> dict[str, np.ndarray]:
    """ami, ami_arithmetic, ari and confidence, float64 [B, T] each.

    Arguments:
        masks: of T steps.
        groups: uint8 [B, T+1, H, W], the labels of the sequence; the masks of step t are for frame t + 1.
    """
    groups = np.asarray(groups)[:, 1:]
    scores = grouping_scores(groups, np.asarray(masks.assignment))
    return {**scores._asdict(), "confidence": confidence(np.asarray(masks.certainty), groups)}


def use_xla(config: Config) -> bool:
    """Whether to compile with XLA. On a CPU it makes a loop around convolutions many times slower."""
    return config.jit == "on" or (config.jit == "auto" and bool(tf.config.list_physical_devices("GPU")))


def make_evaluation_step(model: RNNEM, noise: FrameNoise, loss: EMLoss, jit: bool, k: int | None = None) -> Callable:
    """The compiled pass of `score_batches`: (frames, seed) -> (LossTerms, Masks)."""

    @tf.function(jit_compile=jit, reduce_retracing=True)
    def evaluation_step(frames, seed):
        result = forward(model, noise, loss, frames, seed, k)
        return result.terms, masks_of(result.outputs["gamma"])

    return evaluation_step


def score_batches(evaluation_step: Callable, batches: Iterable[Batch], seed: int,
                  after_batch: Callable[[], Any] = lambda: None) -> dict[str, np.ndarray]:  # fmt: skip
    """Every score of every sequence and step, float64 [N, T] each: the fields of `LossTerms` and of `mask_scores`.

    Noise and initial responsibilities are drawn from the seed and the number of the batch: two evaluations agree.

    Arguments:
        evaluation_step: of `make_evaluation_step`.
        seed: of the evaluation.
        after_batch: called after each batch, e.g. to advance a progress bar.
    """
    collected = []
    for index, batch in enumerate(batches):
        # Training step i draws from [seed, i]; counting down from -1 keeps clear of it.
        terms, masks = evaluation_step(batch.frames, tf.constant([seed, -1 - index]))
        losses = {name: np.asarray(values, float) for name, values in terms._asdict().items()}
        collected.append({**losses, **mask_scores(masks, batch.groups)})
        after_batch()
    return {name: np.concatenate([scores[name] for scores in collected]) for name in collected[0]}


def per_sequence(scores: dict[str, np.ndarray], step_weights: np.ndarray) -> dict[str, np.ndarray]:
    """One number per sequence and score, [N] each, from [N, T] each.

    The loss and its parts are weighted sums over the steps, as trained; the upper bound is the last step's; every
    other score is a weighted mean over the steps that have one.

    Arguments:
        scores: any of the fields of `LossTerms` and of `mask_scores`.
        step_weights: [T].
    """
    reduced = {}
    for name, values in scores.items():
        if name in ("loss", "intra", "inter"):
            reduced[name] = values @ step_weights
        elif name == "upper_bound":
            reduced[name] = values[:, -1]
        else:
            weights = np.where(np.isnan(values), 0, step_weights)
            with np.errstate(invalid="ignore"):
                reduced[name] = (np.nan_to_num(values) * weights).sum(1) / weights.sum(1)
    return reduced


def means(scores: dict[str, np.ndarray], step_weights: np.ndarray) -> dict[str, float]:
    """`per_sequence`, averaged over the sequences; only the confidence leaves out the NaN of an empty image."""
    return {
        name: float((np.nanmean if name == "confidence" else np.mean)(values))
        for name, values in per_sequence(scores, step_weights).items()
    }
