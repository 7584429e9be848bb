"""The validation of a training: losses and scores of a split, what the doctor looks at, and the pictures."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from nem_tf.data import Batch, Split
from nem_tf.layers.system import Forward, Masks, System
from nem_tf.scoring import doctor
from nem_tf.scoring.passes import make_scorer, score_batches, sequence_seeds
from nem_tf.scoring.summary import means
from nem_tf.training import devices

PICTURED = 2  # sequences that TensorBoard shows


class Validation:
    """Scores a split, every time from the same draws of noise and responsibilities. Calling it is one validation.

    Arguments:
        system: the model that is scored.
        split: the sequences; those without labels have losses and the doctor's symptoms only.
        weights: of the EM steps in a mean, [T].
        batch_size: how many sequences are scored at once.
        seed: of noise and responsibilities.
        strategy: its devices, which agree on the means.
        shares, jit: see `make_scorer`.
    """

    def __init__(
        self,
        system: System,
        split: Split,
        weights: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        strategy: tf.distribute.Strategy,
        shares: int = 1,
        jit: bool = False,
    ):
        self._system, self._split, self._weights, self._seed = system, split, weights, seed
        self._picks, self._strategy = split.in_order(batch_size), strategy
        self._scorer = make_scorer(system, jit, shares=shares, moves=not split.is_static)

    def __call__(self, after_batch: Callable[[], None], bar: Callable[..., tqdm]) -> dict[str, float]:
        """Returns the mean of every loss, score and symptom.

        Arguments:
            after_batch: called after each batch.
            bar: (title, total, unit) -> the progress bar of so many batches.
        """
        with bar("validation", len(self._picks), unit="batch") as drawn:

            def after():
                drawn.update()
                after_batch()

            scores = score_batches(self._scorer, self._split.batches(self._picks), self._seed, after, self._symptoms)
        scores["indifference"] = self._indifference(self._split.batch(self._picks[0]))
        return devices.agree(self._strategy, means(scores, self._weights))

    def pictured(self) -> Forward:
        """Returns what the model makes of the first sequences, with the attention of one that has any."""
        batch = self._split.batch(self._split.in_order(PICTURED)[0])
        seeds = sequence_seeds(self._seed, 0, len(batch.frames))
        result = self._system.forward(tf.constant(batch.frames), seeds, actions=batch.actions)
        attention = self._system.attention(result.outputs, batch.actions)
        if attention is not None:
            result.outputs["attention"] = attention
        return result

    def _symptoms(self, frames: np.ndarray, masks: Masks) -> dict[str, np.ndarray]:
        assignment, certainty = (np.asarray(part) for part in masks)
        return doctor.symptoms(self._over_black(frames), assignment, certainty, self._system.model.cell.k)._asdict()

    def _indifference(self, batch: Batch) -> np.ndarray:
        """Measures it of videos and their neighbours in the batch, with the same first responsibilities, [B, T]."""
        seeds = sequence_seeds(self._seed, 0, len(batch.frames))
        each = []
        for places in (0, 1):
            video, actions = (x if x is None else np.roll(x, places, axis=0) for x in (batch.frames, batch.actions))
            _, masks = self._scorer.step(video, seeds, actions=actions)
            lit = doctor.lit_pixels(self._over_black(self._system.alignment.predicted(video)))
            each += [lit, np.asarray(masks.assignment)]
        return doctor.indifference(*each) if len(batch.frames) > 1 else np.full(each[0].shape[:2], np.nan)

    def _over_black(self, frames):
        return frames - np.asarray(self._system.model.cell.mixture.prior_mean, np.float32)
