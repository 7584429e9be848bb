"""Scores of a grouping against the ground truth, for whole batches of masks at once (NumPy, float64).

All start from contingency tables: `table[g, k]` counts the pixels of object g + 1 that component k claims. Background
and overlapping pixels (ground truth 0) are not counted (paper, section 4). Every score is invariant to a permutation
of the components. AMI and ARI equal scikit-learn's, degenerate cases included (one object and one component agree
fully, 1), but for a frame without a labelled pixel: scikit-learn calls two empty groupings identical and gives 1; here
every score of such a frame is NaN, so that a frame with nothing to group does not raise an average.
"""

import math
from typing import NamedTuple

import numpy as np

LARGEST_LABEL = 65_535  # a table is as large as its largest label
CHUNK = 1 << 22  # terms of the expected mutual information held in memory at once


class GroupingScores(NamedTuple):
    """Scores of a batch of videos; every field is float64 [..., T], NaN where no labelled pixel was seen."""

    ami: np.ndarray  # adjusted mutual information normalised by the maximum of the entropies, as published
    ami_arithmetic: np.ndarray  # by their arithmetic mean, scikit-learn's default today
    ari: np.ndarray  # adjusted Rand index
    ari_video: np.ndarray  # of all frames so far as one image: an object that changes its component counts as an error
    mbo: np.ndarray  # mean best overlap


def grouping_scores(groups: np.ndarray, assignment: np.ndarray) -> GroupingScores:
    """Returns every score of every mask.

    Arguments:
        groups: integers [..., T, H, W], ground truth >= 0; 0 is ignored.
        assignment: integers [..., T, H, W] >= 0, argmax_k gamma.

    Raises:
        ValueError: the shapes differ or have fewer than three axes, or a label is no whole number, below 0 or above
            65,535.
    """
    table = _of_steps(groups, assignment)
    so_far = table.cumsum(axis=-3)
    return GroupingScores(
        ami(table, "max"), ami(table, "arithmetic"), ari(table), ari(so_far), mean_best_overlap(table)
    )


def contingency(groups: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Counts pixels: contingency tables, int64 [..., G, K], G the largest object and K the largest component label + 1.

    Arguments:
        groups: integers [..., H, W], ground truth >= 0; 0 is ignored.
        assignment: integers [..., H, W] >= 0.

    Raises:
        ValueError: the shapes differ or have fewer than two axes, or a label is no whole number, below 0 or above
            65,535.
    """
    groups, assignment = (_labels(name, labels) for name, labels in (("groups", groups), ("assignment", assignment)))
    if groups.shape != assignment.shape or groups.ndim < 2:
        raise ValueError(f"expected two equal shapes [..., H, W], received {groups.shape} and {assignment.shape}")
    lead = groups.shape[:-2]
    nr_groups, nr_components = (int(labels.max(initial=0)) + 1 for labels in (groups, assignment))
    cell = np.arange(math.prod(lead)).reshape(*lead, 1, 1) * nr_groups + groups
    cell = cell * nr_components + assignment
    counts = np.bincount(cell.ravel(), minlength=math.prod(lead) * nr_groups * nr_components)
    return counts.reshape(*lead, nr_groups, nr_components)[..., 1:, :]


def _labels(name, labels):
    labels = np.asarray(labels)
    low, high = labels.min(initial=0), labels.max(initial=0)
    if labels.dtype.kind not in "bui" or low < 0 or high > LARGEST_LABEL:
        raise ValueError(
            f"expected {name} to be whole numbers from 0 to {LARGEST_LABEL}, where 0 of a ground truth is ignored; "
            f"received {labels.dtype} from {low} to {high}"
        )
    return labels.astype(np.int64, copy=False)


def _of_steps(groups, assignment):
    """`contingency` of videos, [..., T, G, K]."""
    if np.ndim(groups) < 3:
        raise ValueError(f"expected labels [..., T, H, W], received {np.shape(groups)}")
    return contingency(groups, assignment)


def _checked_table(table):
    table = np.asarray(table)
    if table.dtype.kind not in "ui" or table.ndim < 2 or table.min(initial=0) < 0:
        raise ValueError(f"expected a table of counts [..., G, K]; received {table.dtype} {table.shape}")
    return table.astype(np.int64, copy=False)


def ari(table: np.ndarray) -> np.ndarray:
    """Returns the adjusted Rand index (Hubert and Arabie 1985, from pair counts), float64 [...] in [-1, 1].

    NaN where a table has no pixel; scikit-learn gives 1.

    Arguments:
        table: integers [..., G, K].

    Raises:
        ValueError: no such table.
    """
    table = _checked_table(table)
    n = table.sum((-2, -1)).astype(float)
    same_both = (table.astype(float) ** 2).sum((-2, -1)) - n  # ordered pairs together in both groupings
    same_true = (table.sum(-1).astype(float) ** 2).sum(-1) - n
    same_pred = (table.sum(-2).astype(float) ** 2).sum(-1) - n
    pairs = n * (n - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = same_true * same_pred / pairs
        score = (same_both - expected) / ((same_true + same_pred) / 2 - expected)
    # Identical groupings, among them the ones with nothing to adjust for (0 / 0): one group, all singletons.
    identical = (same_both == same_true) & (same_both == same_pred)
    return np.where(n == 0, np.nan, np.where(identical, 1.0, score))


def ami(table: np.ndarray, average_method: str = "max") -> np.ndarray:
    """Returns the adjusted mutual information (Vinh, Epps and Bailey 2010), float64 [...], at most 1.

        AMI = (MI - E[MI]) / (average(H_true, H_pred) - E[MI])

    NaN where a table has no pixel; scikit-learn gives 1.

    Arguments:
        table: integers [..., G, K].
        average_method: "max", as the program of the paper's authors has it, or "arithmetic", scikit-learn's default
            today, which is the more lenient: one of three objects split in two has 0.823 by the one and 0.903 by the
            other.

    Raises:
        ValueError: another average_method, or no such table.
    """
    table = _checked_table(table)
    averages = {"max": np.maximum, "arithmetic": lambda a, b: (a + b) / 2}
    if average_method not in averages:
        raise ValueError(f'average_method is "max" or "arithmetic", received {average_method!r}')
    lead = table.shape[:-2]
    table = table.reshape(math.prod(lead), *table.shape[-2:])
    a, b = table.sum(2), table.sum(1)  # [S, G], [S, K]
    n = a.sum(1)
    expected = _expected_mutual_information(a, b)
    mutual = _entropy(a, n) + _entropy(b, n) - _entropy(table.reshape(len(table), math.prod(table.shape[1:])), n)
    tiny = np.finfo(float).eps
    numerator = _away_from_zero(np.where(mutual < tiny, 0.0, mutual) - expected, tiny)
    denominator = _away_from_zero(averages[average_method](_entropy(a, n), _entropy(b, n)) - expected, tiny)
    one_alone = ((a > 0).sum(1) == 1) | ((b > 0).sum(1) == 1)
    score = np.where(one_alone, 0.0, numerator / denominator)
    # Of identical groupings both are the same; of objects of one pixel each they are 0 but for how they are rounded.
    cells = table > 0
    identical = (cells.sum(2).max(1, initial=0) <= 1) & (cells.sum(1).max(1, initial=0) <= 1)
    score = np.where(identical, 1.0, score)
    return np.where(n == 0, np.nan, score).reshape(lead)


def mean_best_overlap(table: np.ndarray) -> np.ndarray:
    """Averages over the objects the intersection over union with the component that fits best, float64 [...] in [0, 1].

    Counted over the pixels of the table, as every score: what a component claims of the background costs nothing.
    NaN where a table has no pixel.

    Arguments:
        table: integers [..., G, K].

    Raises:
        ValueError: no such table.
    """
    table = _checked_table(table)
    sizes = table.sum(-1)  # [..., G]
    union = sizes[..., None] + table.sum(-2)[..., None, :] - table
    best = (table / np.maximum(union, 1)).max(-1, initial=0)
    present = sizes > 0
    with np.errstate(invalid="ignore"):
        return np.where(present, best, 0).sum(-1) / present.sum(-1)


def kept(groups: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Tells whether objects that were hidden are held by the component that held them before, float64 [..., T].

    An object is hidden in a frame without a pixel of it, and seen for some frames before and after. What holds it
    meanwhile is the component of most of its pixels in all of these frames. The score of a step is the share, among the
    objects that come out of hiding in it, of those with the same component as before; NaN where none comes out. By
    chance it is about 1 / K.

    Arguments:
        groups: integers [..., T, H, W], ground truth >= 0; 0 is ignored.
        assignment: integers [..., T, H, W] >= 0, argmax_k gamma.

    Raises:
        ValueError: see `grouping_scores`.
    """
    table = _of_steps(groups, assignment)
    lead, (steps, nr_groups, _) = table.shape[:-3], table.shape[-3:]
    counts = np.moveaxis(table, -2, -3).reshape(math.prod(lead) * nr_groups, steps, table.shape[-1])  # [S*G, T, K]
    seen = counts.any(-1)  # [S*G, T]
    begins = seen & ~np.pad(seen, ((0, 0), (1, 0)))[:, :-1]
    same, all_out = np.zeros((2, *seen.shape))
    for row in np.flatnonzero(begins.sum(1) > 1):
        starts = np.flatnonzero(begins[row])
        holders = np.add.reduceat(counts[row], starts, axis=0).argmax(1)  # of frames in which it is hidden it adds 0
        all_out[row, starts[1:]] = 1
        same[row, starts[1:]] = holders[1:] == holders[:-1]
    same, all_out = (part.reshape(*lead, nr_groups, steps).sum(-2) for part in (same, all_out))
    with np.errstate(invalid="ignore"):
        return same / all_out


def _away_from_zero(x, tiny):
    """Keeps the absolute value of x at least tiny, so that a perfect 0 / 0 is 1."""
    return np.where(x < 0, np.minimum(x, -tiny), np.maximum(x, tiny))


def _entropy(counts, n):
    """Returns the entropy in nats, [S], of the counts [S, L] that sum to n [S]."""
    p = counts / np.maximum(n, 1)[:, None]
    return -(p * np.log(np.where(p > 0, p, 1))).sum(1)


def _expected_mutual_information(a, b):
    """Returns E[MI], [S], of two groupings with marginals a [S, G] and b [S, K] under random relabelling.

    It is a sum over all tables' cells and all counts a cell may have under the hypergeometric model. Cells of the same
    (a_i, b_j, n) have the same value: each is computed once.
    """
    n = np.broadcast_to(a.sum(1)[:, None, None], (len(a), a.shape[1], b.shape[1]))
    cells = np.stack([np.broadcast_to(a[:, :, None], n.shape), np.broadcast_to(b[:, None, :], n.shape), n], -1)
    cells = cells.reshape(-1, 3)
    top = int(cells.max(initial=0)) + 1
    if not len(cells):
        return np.zeros(len(a))
    code, inverse = np.unique((cells[:, 0] * top + cells[:, 1]) * top + cells[:, 2], return_inverse=True)
    ai, bj, nn = code // top // top, code // top % top, code % top

    log = np.log(np.maximum(np.arange(top + 1), 1))
    log_factorial = np.cumsum(log)
    longest = int(np.minimum(ai, bj).max(initial=0))
    values = np.empty(len(code))
    step = max(1, CHUNK // (longest + 1))
    for start in range(0, len(code), step):
        i, j, m = (x[start : start + step, None] for x in (ai, bj, nn))
        count = np.arange(1, longest + 1)[None]  # the cell's count; 0 contributes nothing
        possible = (count <= i) & (count <= j) & (count >= i + j - m)
        count = np.where(possible, count, np.maximum(i + j - m, 0))  # any possible count: masked below
        log_probability = (
            log_factorial[i] + log_factorial[j] + log_factorial[m - i] + log_factorial[m - j] - log_factorial[m]
            - log_factorial[count] - log_factorial[i - count] - log_factorial[j - count]
            - log_factorial[m - i - j + count]
        )  # fmt: skip
        terms = count / np.maximum(m, 1) * (log[m] + log[count] - log[i] - log[j]) * np.exp(log_probability)
        values[start : start + step] = np.where(possible, terms, 0).sum(1)
    return values[inverse].reshape(n.shape).sum((1, 2))


def confidence(certainty: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Averages max_k gamma over the labelled pixels, float64 [...] in [1/K, 1]; NaN where an image has none.

    Arguments:
        certainty: floats [..., H, W], max_k gamma.
        groups: integers [..., H, W]; 0 is ignored.

    Raises:
        ValueError: the shapes differ.
    """
    certainty, groups = np.asarray(certainty), np.asarray(groups)
    if certainty.shape != groups.shape:
        raise ValueError(f"expected two equal shapes [..., H, W], received {certainty.shape} and {groups.shape}")
    foreground = groups != 0
    with np.errstate(invalid="ignore"):
        return np.where(foreground, certainty, 0).sum((-2, -1), dtype=float) / foreground.sum((-2, -1))
