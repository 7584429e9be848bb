"""The sequences of a split, in memory or in their file, cut into batches."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nem_tf.data.packed import Deflated, Packed, Plain
from nem_tf.data.stored import Stored

READERS, AHEAD = 2, 2  # threads that make batches, and batches that wait for the caller


class Batch(NamedTuple):
    """Sequences of F frames."""

    frames: np.ndarray  # [B, F, H, W, C], clean, in [0, 1]; uint8 where binary, else float32
    groups: np.ndarray | None = None  # uint8 [B, F, H, W]; None where the data set has no labels
    collisions: np.ndarray | None = None  # uint8 [B, F, H, W, 1], 1 where objects collide; None unless asked for
    actions: np.ndarray | None = None  # float32 [B, F, A], what was done when a frame was seen; None unless asked for


class Pick(NamedTuple):
    """What a batch is made of."""

    index: np.ndarray  # [B], numbers of the sequences
    window: slice = slice(None)  # of their frames


@dataclass(frozen=True)
class Split:
    """The first sequences of one split. Of static images it holds one frame, shown again and again."""

    features: Packed | Plain | Stored  # [N, F or 1, H, W, C]
    labels: Packed | Deflated | Stored | None  # [N, F or 1, H, W, 1]
    frames: int  # F
    white: int = 1  # the largest value of a feature
    collisions: Packed | Deflated | Stored | None = None  # [N, F or 1, H, W, 1]
    actions: Plain | None = None  # [N, F or 1, A]

    def __len__(self) -> int:
        return len(self.features)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.features.shape[2:]

    @property
    def nr_actions(self) -> int:
        """A, 0 where there are no actions."""
        return self.actions.shape[2] if self.actions else 0

    @property
    def has_groups(self) -> bool:
        return self.labels is not None

    @property
    def is_static(self) -> bool:
        """Whether all frames of a sequence are one image."""
        return self.features.shape[1] < self.frames

    def batch(self, pick: Pick) -> Batch:
        """Returns the picked frames of the picked sequences."""
        frames = self._taken(self.features, pick)
        if self.white != 1:
            frames = frames.astype(np.float32) / self.white
        groups = self._taken(self.labels, pick)[..., 0] if self.labels else None
        beside = (self._taken(store, pick) if store else None for store in (self.collisions, self.actions))
        return Batch(frames, groups, *beside)

    def batches(self, picks: Sequence[Pick]) -> Iterator[Batch]:
        """Yields a batch for every pick, made while the caller works on the ones before.

        Raises:
            UserError: the sequences are in a file that cannot be read any more.
        """
        # Not by tf.data: TensorFlow keeps every function of Python that a pipeline was made of, and with it the picks,
        # for as long as the process lives (tensorflow #123269), so that memory would grow with the epochs.
        pool, ready = ThreadPoolExecutor(READERS), deque()
        try:
            for pick in picks:
                ready.append(pool.submit(self.batch, pick))
                if len(ready) > READERS + AHEAD:
                    yield ready.popleft().result()
            while ready:
                yield ready.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def in_order(self, batch_size: int) -> list[Pick]:
        """Returns picks of every sequence once; the last batch may be smaller."""
        numbers = np.arange(len(self))
        return [Pick(numbers[start : start + batch_size]) for start in range(0, len(self), batch_size)]

    def mean_frame(self) -> np.ndarray:
        """Returns the mean of the frames of at most the first 1,024 sequences, float32 [H, W, C]."""
        batches = self.batches(self.in_order(64)[:16])
        sums, counts = zip(*((batch.frames.sum((0, 1), dtype=float), batch.frames.shape[:2]) for batch in batches))
        return (sum(sums) / sum(b * f for b, f in counts)).astype(np.float32)

    def _taken(self, store, pick):
        if store.shape[1] == self.frames:
            return store.take(*pick)
        shown = len(range(self.frames)[pick.window])
        return np.repeat(store.take(pick.index), shown, axis=1)  # a static image
