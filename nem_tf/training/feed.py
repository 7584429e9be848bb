"""The data position: which frames and seeds the next training steps take. A pure function of seed and step."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nem_tf.alignment import Alignment
from nem_tf.data.split import Pick, Split
from nem_tf.unrolling import Stage, stage_at


class Call(NamedTuple):
    """The data of n training steps, made in one call."""

    frames: np.ndarray  # [n, B, F, H, W, C]
    seeds: np.ndarray  # int [n, 2], of noise and initial responsibilities
    groups: np.ndarray | None  # uint8 [B, F, H, W], labels of the last step; None where the data set has none
    actions: np.ndarray | None  # float32 [n, B, F, A]; None where the split has none


class Feed:
    """Yields the calls of an epoch, from any position of it.

    Arguments:
        split: the training sequences.
        alignment: how many frames a number of EM steps takes.
        stages: of a curriculum.
        em_steps: EM steps of the whole sequences, from which shorter windows are cut at random.
        batch_size: sequences of a training step; what is left over at the end of an epoch is left out.
        seed: of the order of the sequences, the windows, and the draws of the steps.
        passes: times that an epoch takes every sequence.
        steps_per_call: most training steps of a call.
    """

    def __init__(
        self,
        split: Split,
        alignment: Alignment,
        stages: Sequence[Stage],
        em_steps: int,
        *,
        batch_size: int,
        seed: int,
        passes: int = 1,
        steps_per_call: int = 1,
    ):
        self.split, self.alignment, self.stages, self.em_steps = split, alignment, stages, em_steps
        self.batch_size, self.seed, self.passes, self.steps_per_call = batch_size, seed, passes, steps_per_call

    @property
    def steps_per_epoch(self) -> int:
        return self.passes * len(self.split) // self.batch_size

    def calls(self, epoch: int, epoch_step: int, step: int, most: int | None = None) -> Iterator[Call]:
        """Yields the rest of an epoch.

        Arguments:
            epoch: its number, from 0.
            epoch_step: training steps already taken in it.
            step: training steps already taken in all.
            most: training steps at most; None: no limit.
        """
        rng = np.random.default_rng((self.seed, epoch))
        order = np.concatenate([rng.permutation(len(self.split)) for _ in range(self.passes)])
        left = self.steps_per_epoch - epoch_step
        steps = range(step, step + (left if most is None else min(left, most)))
        picks = [
            Pick(order[(epoch_step + i) * self.batch_size :][: self.batch_size], self.window(steps[i]))
            for i in range(len(steps))
        ]
        batches = self.split.batches(picks)
        while taken := list(itertools.islice(batches, self._next_length(step))):
            frames = np.stack([batch.frames for batch in taken])
            seeds = np.array([[self.seed, step + i] for i in range(len(taken))])
            actions = np.stack([batch.actions for batch in taken]) if self.split.actions else None
            yield Call(frames, seeds, taken[-1].groups, actions)
            step += len(taken)

    def window(self, step: int) -> slice:
        """Returns which frames of its sequences a training step sees: drawn from the number of the step alone."""
        em_steps, _ = stage_at(self.stages, step)
        start = int(np.random.default_rng((self.seed, step)).integers(self.em_steps - em_steps + 1))
        return slice(start, start + self.alignment.frames_for(em_steps))

    def _next_length(self, step):
        """Training steps of the next call: no further than the end of the stage, whose frames are of one number."""
        _, left = stage_at(self.stages, step)
        return self.steps_per_call if left is None else min(self.steps_per_call, left)
