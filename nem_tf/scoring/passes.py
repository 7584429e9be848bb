"""One pass of a system over a split: losses and grouping scores of every sequence at every step."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nem_tf.alignment import Alignment
from nem_tf.data.split import Batch
from nem_tf.layers.system import Masks, System, masks_of
from nem_tf.scoring.metrics import GroupingScores, confidence, grouping_scores, kept
from nem_tf.scoring.summary import COLLISION
from nem_tf.unrolling import Rollout

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
    # (frames, seeds [B, 2], collisions [B, T, H, W, 1] or None, actions [B, F, A] or None) -> losses by name, [B, T]
    # each, and masks
    step: Callable[..., tuple[dict[str, tf.Tensor], Masks]]


def make_scorer(
    system: System, jit: bool = False, rollout: Rollout | None = None, shares: int = 1, moves: bool = True
) -> Scorer:
    """Compiles a pass, whose losses are

        loss, intra, inter, upper_bound     the fields of `LossTerms`
        baseline                            the upper bound of what repeats the current clean frame as the prediction of
                                            the next one (R-NEM, section 4); not of models of the same frame
        collision_..                        all of these, of the pixels where the predicted frame has a collision

    The collisions are those of the frame that is predicted. (The authors' program multiplies the losses of frame t + 1
    by the mask of frame t.)

    Arguments:
        system, rollout: see `System.forward`.
        jit: whether to use XLA.
        shares: parts of a batch that are computed side by side; a batch that does not divide is computed as a whole.
        moves: whether the frames of a sequence differ; else there is no baseline, which would be perfect.
    """

    @tf.function(jit_compile=jit, reduce_retracing=True, autograph=False)
    def score(frames, seeds, collisions, actions):
        result = system.forward(frames, seeds, rollout, actions=actions)
        losses = result.terms._asdict()
        judged = system.judged(result.outputs, result.target, rollout)
        repeated = tf.cast(system.alignment.seen(frames), result.target.dtype)[:, :, None]  # [B, T, 1, H, W, C]

        def baseline(pixel_weights=None):
            return system.loss.bound_terms({"predictions": repeated}, result.target, pixel_weights).intra

        has_baseline = moves and system.alignment.lag
        losses |= {"baseline": baseline()} if has_baseline else {}
        if collisions is not None:
            of_pixels = system.loss.terms(judged, result.target, collisions)._asdict()
            of_pixels |= {"baseline": baseline(collisions)} if has_baseline else {}
            losses |= {f"{COLLISION}{name}": values for name, values in of_pixels.items()}
        return losses, masks_of(result.outputs["gamma"])

    @tf.function(reduce_retracing=True, autograph=False)
    def score_shares(*inputs):
        split = ([None] * shares if each is None else tf.split(each, shares) for each in inputs)
        parts = [score(*share) for share in zip(*split)]
        return tf.nest.map_structure(lambda *each: tf.concat(each, 0), *parts)

    def step(frames, seeds, collisions=None, actions=None):
        divides = shares > 1 and len(frames) % shares == 0
        return (score_shares if divides else score)(frames, seeds, collisions, actions)

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

    They are the losses of `make_scorer` and, where the data have labels, those of `mask_scores`, and `kept` where
    objects come out of hiding. Noise and initial responsibilities are drawn from the seed and the number of the
    sequence: two evaluations agree, whatever their batch size.

    Arguments:
        scorer: of `make_scorer`.
        batches: the split, in order.
        seed: of the evaluation.
        after_batch: called after each batch, e.g. to advance a progress bar.
        also: gives more scores, [B, T] each, from the frames that the steps predict, [B, T, H, W, C], and the masks.
    """
    collected, done = [], 0
    for batch in batches:
        seeds = sequence_seeds(seed, done, len(batch.frames))
        collisions = None if batch.collisions is None else scorer.alignment.predicted(batch.collisions)
        losses, masks = scorer.step(batch.frames, seeds, collisions, batch.actions)
        done += len(batch.frames)
        scores = {name: np.asarray(values, float) for name, values in losses.items()}
        if batch.groups is not None:
            groups = scorer.alignment.predicted(batch.groups)
            scores |= {**mask_scores(masks, groups), "kept": kept(groups, np.asarray(masks.assignment))}
        scores |= also(scorer.alignment.predicted(batch.frames), masks)
        collected.append(scores)
        after_batch()
    scores = {name: np.concatenate([scores[name] for scores in collected]) for name in collected[0]}
    if "kept" in scores and np.isnan(scores["kept"]).all():
        del scores["kept"]
    return scores
