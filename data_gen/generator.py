"""Says what a generator of sequences has to offer, so that `data_gen.writer` can make a file of them."""

from dataclasses import asdict
from typing import NamedTuple, Protocol

import numpy as np


class Member(NamedTuple):
    """Describes one of the arrays of a split."""

    name: str
    shape: tuple[int, ...]  # of one frame of one sequence
    dtype: type = np.uint8
    about: str = ""  # what it holds, for a reader of the file, where the name alone does not say it


def images_and_labels(frame_shape: tuple[int, int, int]) -> tuple[Member, Member]:
    """Returns the members that every data set has: `features` [T, N, H, W, C] and `groups` [T, N, H, W, 1]."""
    return Member("features", frame_shape), Member("groups", (*frame_shape[:-1], 1))


class OfItsFields:
    """What a generator, a dataclass, offers whose sequences depend on nothing but its fields and the seed."""

    @property
    def settings(self) -> dict:
        settings = asdict(self)
        del settings["nr_frames"]
        return settings

    @property
    def provenance(self) -> dict:
        return {}


class Generator(Protocol):
    """Draws sequences. Has to be a frozen dataclass that can be pickled, because worker processes receive it."""

    nr_frames: int  # T
    white: int  # the largest value of a feature

    @property
    def disk_share(self) -> float:
        """Compressed bytes over raw ones, at most."""

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""

    @property
    def members(self) -> tuple[Member, ...]:
        """What `sequences` returns, in that order: features and groups first."""

    @property
    def settings(self) -> dict:
        """Everything that the sequences depend on beside the seed, fit for JSON.

        The length is left out, because it only says where the sequences stop.
        """

    @property
    def provenance(self) -> dict:
        """Where the material came from, fit for JSON: enough to make the same generator again on this machine."""

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, ...]:
        """Draws n sequences of a split.

        The same random stream has to give the same sequences, and a longer T the same ones continued.

        Returns:
            features: uint8 [T, n, H, W, C], 0 to `white`.
            groups: uint8 [T, n, H, W, 1]; 0 is background and overlap, 1 and up are the objects.
            Others that the generator has as members.
        """
