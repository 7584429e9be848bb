"""Does it bind? What masks look like when they do not, measured without labels, and a sentence for each.

People's loudest complaint about such models is that nothing binds: uniform masks, one component for everything, regions
of space, identities that switch. All of it shows in the masks alone.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import ndimage

LIT = 0.1  # by which a value of a pixel must differ from the background, which is 0, to show something
LEAST_SHARE = 0.02  # of the lit pixels: a component with less is empty
HELD_SHARE = 0.05  # of the lit pixels: what a component must have of a thing to hold it


class Symptoms(NamedTuple):
    """What masks look like, float64 [..., T] each, of the pixels that show something; NaN where none does."""

    certainty: np.ndarray  # mean of max_k gamma, from 1 / K to 1
    components: np.ndarray  # effective number, the exponential of the entropy of their shares, from 1 to K
    used: np.ndarray  # components that hold at least 2 % each, from 0 to K: none where all of more than 50 hold as much
    staying: np.ndarray  # share of the pixels that were lit, dark and are lit again whose component is the one before
    persistence: np.ndarray  # share of the pixels that were lit one step ago, too, whose component is the same
    idle: np.ndarray  # components that hold less than 2 %, as far as others hold several things apart, from 0 to K


SYMPTOMS = (*Symptoms._fields, "indifference")  # names of all that is measured


def symptoms(frames: np.ndarray, assignment: np.ndarray, certainty: np.ndarray, k: int) -> Symptoms:
    """Measures the masks of videos.

    Arguments:
        frames: [..., T, H, W, C] in [0, 1], those that the steps predict.
        assignment: integers [..., T, H, W] in [0, K), argmax_k gamma.
        certainty: [..., T, H, W], max_k gamma.
        k: number of components.
    """
    lit = lit_pixels(frames)  # [..., T, H, W]
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
        np.minimum(k - used, _surplus(lit, assignment, k)),
    )


def indifference(lit: np.ndarray, assignment: np.ndarray, other_lit: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Measures how little masks depend on the video: the share of pixels that another one gives the same component.

    Both videos start from the same responsibilities. By chance it is about 1 / K.

    Arguments:
        lit, other_lit: [..., T, H, W], the pixels that show something, of both videos; `lit_pixels`.
        assignment, other: integers [..., T, H, W], argmax_k gamma, of both.

    Returns:
        float64 [..., T], of the pixels that show something in both; NaN where none does.
    """
    both = lit & other_lit
    return _ratio(_sum(both & (assignment == other)), _sum(both))


def lit_pixels(frames: np.ndarray) -> np.ndarray:
    """Returns which pixels of frames [..., H, W, C] over black show something, bool [..., H, W]."""
    return (np.abs(np.asarray(frames, np.float32)) > LIT).any(-1)


def _surplus(lit, assignment, k):
    """Number of connected parts of lit pixels that components hold beyond one each, [..., H, W] -> float64 [...].

    A component holds a part of which it has 5 % of all lit pixels at least.
    """
    frames = lit.reshape(-1, *lit.shape[-2:])
    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True  # in the same frame, along edges and corners
    parts, number = ndimage.label(frames, touching)
    shown = frames.nonzero()
    part = parts[shown] - 1
    held = np.bincount(part * k + assignment.reshape(frames.shape)[shown], minlength=number * k).reshape(number, k)
    frame = np.zeros(number, int)
    frame[part] = shown[0]
    holds = held >= HELD_SHARE * frames.sum((1, 2))[frame, None]
    parts_held = np.zeros((len(frames), k))
    np.add.at(parts_held, frame, holds)
    return np.maximum(parts_held - 1, 0).sum(1).reshape(lit.shape[:-2])


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
    seen: str  # in the masks
    advice: str  # what has helped a training

    @property
    def sentence(self) -> str:
        """What is seen, and what has helped."""
        return f"{self.seen}. {self.advice}"


# Thresholds, found on trained models that are healthy or sick: docs/measurements.md.
UNIFORM = 0.2  # sharpness below which responsibilities tell nothing apart: 0 is uniform, 1 sure of every pixel
SINGLE = 1.15  # effective number of components, of those that share the pixels
RIGHT = 0.9  # ARI above which one component for everything is as it should be: there is one thing
INDIFFERENT = 0.8  # of the pixels lit in two videos
REGIONS = 0.5  # of the pixels seen again, beyond those that get the same component by chance
IDLE = 0.37  # components; models that leave one empty in three of ten frames pass for healthy
SWITCHING = 0.7  # of the pixels that stay
GAP = 0.2  # of the ARI of frames to that of the video
CHARGING = "A larger --loss_inter_weight charges a component for what others explain"


def findings(scores: Mapping[str, float], k: int) -> list[Finding]:
    """Says which diseases the masks of a validation have; [] where they look healthy.

    Arguments:
        scores: means over the sequences, by name: `X_last` of each symptom X, that of the last step. `ari` and
            `ari_last`, those of frames, and `ari_video` where there are labels.
        k: number of components; with one there is nothing to bind.
    """
    if k < 2:
        return []

    def last(name):
        return scores.get(f"{name}_last", math.nan)

    if (last("certainty") - 1 / k) / (1 - 1 / k) < UNIFORM:
        seen = (
            f"every component claims a like part of every pixel (at most {last('certainty'):.2f}, and {1 / k:.2f} is "
            "uniform)"
        )
        advice = (
            "Early in a training this passes; short windows first (--curriculum) and a higher --learning_rate with "
            "--clip_norm have shortened it, and so has, of a gaussian mixture, an --e_sigma below half the brightness "
            "of things"
        )
        return [Finding("uniform responsibilities", seen, advice)]
    single = last("components") < SINGLE
    if single and not last("ari") > RIGHT:
        seen = f"one component claims nearly all (the effective number is {last('components'):.2f} of {k})"
        return [Finding("one component for everything", seen, CHARGING)]
    if last("indifference") > INDIFFERENT:
        seen = (
            f"another video would get the same masks ({100 * last('indifference'):.0f} % of the pixels that are lit in "
            "both go to the same component)"
        )
        advice = "Less noise (--noise_prob) lets the model see what it is shown"
        return [Finding("masks that do not depend on the video", seen, advice)]
    found = []
    chance = 1 / last("components")  # of two things to be of one component
    placed = last("staying") - chance > REGIONS * (1 - chance)
    if placed:
        seen = (
            f"components hold places, not things ({100 * last('staying'):.0f} % of the pixels where something passes "
            "again go to the component of what passed before)"
        )
        advice = (
            "Blobs of space come before objects; longer training, and longer windows then (--curriculum), have helped"
        )
        found.append(Finding("regions of space", seen, advice))
    if last("idle") > IDLE:
        seen = (
            "a component stays empty while things that lie apart share another one (on average "
            f"{last('idle'):.1f} of the {k} components of a frame)"
        )
        found.append(Finding("a dead component", seen, CHARGING))
    if last("persistence") < SWITCHING:
        seen = (
            f"{100 * (1 - last('persistence')):.0f} % of the pixels that stay lit change their component from one step "
            "to the next"
        )
    elif scores.get("ari", math.nan) - scores.get("ari_video", math.nan) > GAP and not placed and not single:
        # Where components are places, a thing that moves changes its component, and no component its place. Of one
        # thing alone a first step that splits it makes the ARI of its video 0.
        seen = f"the ARI of frames is {scores['ari']:.2f}, that of the video {scores['ari_video']:.2f}"
    else:
        return found
    advice = "Windows long enough to follow a thing (--curriculum) have helped, and no more components than things"
    return [*found, Finding("identities that switch", seen, advice)]
