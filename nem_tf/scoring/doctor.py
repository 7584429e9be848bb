"""Does it bind? What masks look like when they do not, measured without labels, and a sentence for each.

People's loudest complaint about such models is that nothing binds: uniform masks, one component for everything, regions
of space, identities that switch. All of it shows in the masks alone.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

LIT = 0.1  # by which a value of a pixel must differ from the background, which is 0, to show something
LEAST_SHARE = 0.02  # of the lit pixels: a component with less is empty


class Symptoms(NamedTuple):
    """What masks look like, float64 [..., T] each, of the pixels that show something; NaN where none does."""

    certainty: np.ndarray  # mean of max_k gamma, from 1 / K to 1
    components: (
        np.ndarray
    )  # effective number of components, the exponential of the entropy of their shares, from 1 to K
    used: np.ndarray  # components that hold at least 2 % each, from 1 to K
    staying: np.ndarray  # share of the pixels that were lit, dark and are lit again whose component is the one before
    persistence: np.ndarray  # share of the pixels that were lit one step ago, too, whose component is the same


SYMPTOMS = Symptoms._fields


def symptoms(frames: np.ndarray, assignment: np.ndarray, certainty: np.ndarray, k: int) -> Symptoms:
    """Measures the masks of videos.

    Arguments:
        frames: [..., T, H, W, C] in [0, 1], those that the steps predict.
        assignment: integers [..., T, H, W] in [0, K), argmax_k gamma.
        certainty: [..., T, H, W], max_k gamma.
        k: number of components.
    """
    lit = (np.abs(np.asarray(frames, np.float32)) > LIT).any(-1)  # [..., T, H, W]
    count = _sum(lit)
    shares = np.stack([_ratio(_sum(lit & (assignment == i)), count) for i in range(k)], -1)  # [..., T, K]
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(shares == 0, 0.0, shares * np.log(shares)).sum(-1)
    used = np.where(np.isnan(shares[..., 0]), np.nan, (shares >= LEAST_SHARE).sum(-1))
    again, before = _seen_again(np.moveaxis(lit, -3, 0), np.moveaxis(assignment, -3, 0))
    same, both = (np.zeros(lit.shape, bool) for _ in range(2))
    both[..., 1:, :, :] = lit[..., 1:, :, :] & lit[..., :-1, :, :]
    same[..., 1:, :, :] = assignment[..., 1:, :, :] == assignment[..., :-1, :, :]
    again, before = np.moveaxis(again, 0, -3), np.moveaxis(before, 0, -3)
    return Symptoms(
        _ratio(_sum(np.where(lit, certainty, 0.0)), count),
        np.exp(entropy),
        used,
        _ratio(_sum(again & (before == assignment)), _sum(again)),
        _ratio(_sum(both & same), _sum(both)),
    )


def _seen_again(lit, assignment):
    """Which pixels [T, ..., H, W] were lit before, dark since and are lit, and their component when last lit before."""
    again = np.zeros(lit.shape, bool)
    before = np.full(lit.shape, -1, np.int16)
    last = np.full(lit.shape[1:], -1, np.int16)  # component when last lit
    earlier = last.copy()  # component when last lit before it was dark
    for t in range(len(lit)):
        begins = lit[t] & ~lit[t - 1] if t else np.zeros(lit.shape[1:], bool)
        earlier = np.where(begins, last, earlier)
        before[t] = earlier
        again[t] = lit[t] & (earlier >= 0)
        last = np.where(lit[t], assignment[t].astype(np.int16), last)
    return again, before


def _sum(pixels):
    """[..., H, W] -> float64 [...]."""
    return pixels.sum((-2, -1), dtype=float)


def _ratio(part, whole):
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


class Finding(NamedTuple):
    """What the doctor says."""

    name: str
    sentence: str  # what is seen, and what has helped


# Thresholds, found on trained models that are healthy or sick: docs/measurements.md.
UNIFORM = 0.2  # sharpness below which responsibilities tell nothing apart: 0 is uniform, 1 sure of every pixel
SINGLE = 1.15  # effective number of components, of those that share the pixels
REGIONS = 0.65  # of the pixels seen again
SWITCHING = 0.7  # of the pixels that stay


def findings(scores: Mapping[str, float], k: int) -> list[Finding]:
    """Says which diseases the masks of a validation have; [] where they look healthy.

    Arguments:
        scores: means over the sequences, by name: `X_last` of each symptom X, that of the last step.
        k: number of components; with one there is nothing to bind.
    """
    if k < 2:
        return []
    certainty, components, _, staying, persistence = (scores.get(f"{name}_last", math.nan) for name in SYMPTOMS)
    if (certainty - 1 / k) / (1 - 1 / k) < UNIFORM:
        sentence = (
            f"every component claims a like part of every pixel (at most {certainty:.2f}, and {1 / k:.2f} is uniform). "
            "Early in a training this passes; short windows first (--curriculum) and a higher --learning_rate with "
            "--clip_norm have shortened it"
        )
        return [Finding("uniform responsibilities", sentence)]
    if components < SINGLE:
        sentence = (
            f"one component claims nearly all (the effective number is {components:.2f} of {k}). "
            "A larger --loss_inter_weight charges a component for what others explain"
        )
        return [Finding("one component for everything", sentence)]
    found = []
    if staying > REGIONS:
        sentence = (
            f"components hold places, not things ({100 * staying:.0f} % of the pixels where something passes again go "
            "to the component of what passed before). Blobs of space come before objects; longer training, and longer "
            "windows then (--curriculum), have helped"
        )
        found.append(Finding("regions of space", sentence))
    if persistence < SWITCHING:
        sentence = (
            f"{100 * (1 - persistence):.0f} % of the pixels that stay lit change their component from one step to the "
            "next. Windows long enough to follow a thing (--curriculum) have helped, and no more components than things"
        )
        found.append(Finding("identities that switch", sentence))
    return found
