"""From the losses and scores of every sequence and step to the numbers of a record."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

SPREAD = ("mean", "std", "q25", "median", "q75")
STEP_LOSSES = ("loss", "intra", "inter")  # averaged over the steps as the objective weighs them
CERTAIN = (*STEP_LOSSES, "upper_bound")  # defined for any frame: NaN is a model that has diverged
ACCUMULATED = ("ari_video",)  # at every step a score of all frames so far: the last one is the score of the video


def summarise(draws: Sequence[Mapping[str, np.ndarray]], step_weights: np.ndarray) -> tuple[dict, dict]:
    """Reduces the scores of a pass to the `scores` and the `per_step` of a record.

    Every sequence counts once, whatever the number of its frames with a score: each score is first reduced to one
    number per sequence. `X` is the mean over the T steps and `X_last` that of the last step. The losses are per EM
    step, the steps weighted as in training: sum_t w_t loss_t / sum_t w_t. `ari_video`, which accumulates, is that of
    the last step. NaN of a score is a frame without a labelled pixel and is left out; NaN of a loss is not, and makes
    its mean None.

    Arguments:
        draws: one or more initialisations of one pass: name -> [N, T]. Grouping scores may be absent.
        step_weights: [T], not all of them 0.

    Returns:
        scores: name -> {mean, std, q25, median, q75} over all sequences and draws, None where no sequence has the
            score; with several draws also `initialisation_std`, the standard deviation of the draws' means.
        per_step: name -> the same at every step, lists of [T].

    Raises:
        ValueError: the scores do not have T steps, or the weights add up to 0.
    """
    reduced = [_per_sequence(draw, step_weights) for draw in draws]
    scores = {}
    for name in reduced[0]:
        scores[name] = _spread(_known(np.concatenate([draw[name] for draw in reduced]), name))
        if len(draws) > 1:
            means = np.array([_mean(_known(draw[name], name)) for draw in reduced])
            scores[name]["initialisation_std"] = _number(_std(_known(means, name), ddof=1))
    per_step = {}
    for name in draws[0]:
        steps = np.concatenate([draw[name] for draw in draws]).T
        spreads = [_spread(_known(np.asarray(values, float), name)) for values in steps]
        per_step[name] = {key: [spread[key] for spread in spreads] for key in SPREAD}
    return scores, per_step


def means(scores: Mapping[str, np.ndarray], step_weights: np.ndarray) -> dict[str, float]:
    """Returns the means of `summarise`, NaN where no sequence has the score.

    Arguments:
        scores: name -> [N, T].
        step_weights: [T], not all of them 0.
    """
    return {name: _mean(_known(values, name)) for name, values in _per_sequence(scores, step_weights).items()}


def _per_sequence(scores, step_weights):
    """name -> [N, T] becomes name and name_last -> [N]."""
    weights = np.asarray(step_weights, float)
    if not weights.sum():
        raise ValueError(f"the weights of the steps add up to 0: {weights.tolist()}")
    reduced = {}
    for name, values in scores.items():
        values = np.asarray(values, float)
        if values.ndim != 2 or values.shape[1:] != weights.shape:
            raise ValueError(f"{name}: expected [N, {len(weights)}], received {list(values.shape)}")
        if name in ACCUMULATED:
            reduced[name] = values[:, -1]
            continue
        with np.errstate(invalid="ignore"):
            if name in STEP_LOSSES:
                counted = weights != 0  # a step that training ignores may have diverged: 0 * inf is NaN
                reduced[name] = values[:, counted] @ weights[counted] / weights.sum()
            elif name in CERTAIN:
                reduced[name] = values.mean(1)
            else:
                known = ~np.isnan(values)
                reduced[name] = np.where(known, values, 0).sum(1) / known.sum(1)
        reduced[f"{name}_last"] = values[:, -1]
    return reduced


def _known(values, name):
    """Leaves out the NaN of frames without a labelled pixel, [S] -> [S'], but not that of a diverged model."""
    return values if name.removesuffix("_last") in CERTAIN else values[~np.isnan(values)]


def _mean(values):
    return float(values.mean()) if len(values) else math.nan


def _std(values, ddof=0):
    with np.errstate(invalid="ignore"):  # infinite losses have none
        return values.std(ddof=ddof) if len(values) > ddof else math.nan


def _spread(values):
    with np.errstate(invalid="ignore"):
        quartiles = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [math.nan] * 3
    return dict(zip(SPREAD, map(_number, (_mean(values), _std(values), *quartiles))))


def _number(value):
    return float(value) if math.isfinite(value) else None
