"""One pass of a system over a split: losses and grouping scores of every sequence at every step."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nem_tf.alignment import Alignment
from nem_tf.data.split import Batch
from nem_tf.layers.losses import LossTerms
from nem_tf.layers.system import Masks, Rollout, System, masks_of
from nem_tf.scoring.metrics import GroupingScores, confidence, grouping_scores

SCORES = (*GroupingScores._fields, "confidence")  # names of what `mask_scores` gives


def mask_scores(masks: Masks, groups: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the fields of `GroupingScores` and the confidence, float64 [B, T] each.

    Arguments:
        masks: of T steps.
        groups: uint8 [B, T, H, W], the labels of the frames that the steps predict.
    """
    groups = np.asarray(groups)
    scores = grouping_scores(groups, np.asarray(masks.assignment))
    return {**scores._asdict(), "confidence": confidence(np.asarray(masks.certainty), groups)}


class Scorer(NamedTuple):
    """A compiled pass for `score_batches`."""

    alignment: Alignment
    step: Callable[[np.ndarray, tf.Tensor], tuple[LossTerms, Masks]]  # (frames, seeds [B, 2])


def make_scorer(system: System, jit: bool = False, rollout: Rollout | None = None, shares: int = 1) -> Scorer:
    """Compiles a pass.

    Arguments:
        system, rollout: see `System.forward`.
        jit: whether to use XLA.
        shares: parts of a batch that are computed side by side; a batch that does not divide is computed as a whole.
    """

    @tf.function(jit_compile=jit, reduce_retracing=True, autograph=False)
    def score(frames, seeds):
        result = system.forward(frames, seeds, rollout)
        return result.terms, masks_of(result.outputs["gamma"])

    @tf.function(reduce_retracing=True, autograph=False)
    def score_shares(frames, seeds):
        parts = [score(*share) for share in zip(tf.split(frames, shares), tf.split(seeds, shares))]
        return tf.nest.map_structure(lambda *each: tf.concat(each, 0), *parts)

    def step(frames, seeds):
        divides = shares > 1 and len(frames) % shares == 0
        return score_shares(frames, seeds) if divides else score(frames, seeds)

    return Scorer(system.alignment, step)


def sequence_seeds(seed: int, start: int, size: int) -> tf.Tensor:
    """Returns the seeds [size, 2] of the sequences start, start + 1, .. of an evaluation.

    Training step i draws from [seed, i]; counting down from -1 keeps clear of it.
    """
    return tf.constant([[seed, -1 - index] for index in range(start, start + size)])


def score_batches(
    scorer: Scorer,
    batches: Iterable[Batch],
    seed: int,
    after_batch: Callable[[], object] = lambda: None,
    also: Callable[[np.ndarray, Masks], dict[str, np.ndarray]] = lambda frames, masks: {},
) -> dict[str, np.ndarray]:
    """Returns every score of every sequence and step, float64 [N, T] each.

    They are the fields of `LossTerms` and, where the data have labels, those of `mask_scores`. Noise and initial
    responsibilities are drawn from the seed and the number of the sequence: two evaluations agree, whatever their batch
    size.

    Arguments:
        scorer: of `make_scorer`.
        batches: the split, in order.
        seed: of the evaluation.
        after_batch: called after each batch, e.g. to advance a progress bar.
        also: gives more scores, [B, T] each, from the frames that the steps predict, [B, T, H, W, C], and the masks.
    """
    collected, done = [], 0
    for batch in batches:
        terms, masks = scorer.step(batch.frames, sequence_seeds(seed, done, len(batch.frames)))
        done += len(batch.frames)
        scores = {name: np.asarray(values, float) for name, values in terms._asdict().items()}
        if batch.groups is not None:
            scores |= mask_scores(masks, scorer.alignment.predicted(batch.groups))
        scores |= also(scorer.alignment.predicted(batch.frames), masks)
        collected.append(scores)
        after_batch()
    return {name: np.concatenate([scores[name] for scores in collected]) for name in collected[0]}
