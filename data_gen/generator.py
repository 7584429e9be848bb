"""Says what a generator of sequences has to offer, so that `data_gen.writer` can make a file of them."""

from typing import Protocol

import numpy as np

SPLITS = ("training", "validation", "test")


class Generator(Protocol):
    """Draws sequences. Has to be a frozen dataclass that can be pickled, because worker processes receive it."""

    nr_frames: int  # T
    white: int  # the largest value of a feature
    disk_share: float  # compressed bytes over raw ones, at most

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""

    @property
    def settings(self) -> dict:
        """Everything that the sequences depend on beside the seed, fit for JSON.

        The length is left out, because it only says where the sequences stop.
        """

    @property
    def provenance(self) -> dict:
        """Where the material came from, fit for JSON: enough to make the same generator again on this machine."""

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws n sequences of a split.

        The same random stream has to give the same sequences, and a longer T the same ones continued.

        Returns:
            features: uint8 [T, n, H, W, C], 0 to `white`.
            groups: uint8 [T, n, H, W, 1]; 0 is background and overlap, 1 and up are the objects.
        """
