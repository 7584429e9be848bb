"""From the losses and scores of every sequence and step to the numbers of a record."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nem_tf.unrolling import Rollout

SPREAD = ("mean", "std", "q25", "median", "q75")
COLLISION = "collision_"  # begins the names of the losses of the pixels that collide
_STEP_LOSSES = ("loss", "intra", "inter")  # averaged over the steps as the objective weighs them
_CERTAIN = (*_STEP_LOSSES, "upper_bound", "baseline")  # defined for any frame: NaN is a model that has diverged
RATIOS = {"relative": ("upper_bound", "baseline")}  # quotients of losses
RATIOS |= {COLLISION + name: tuple(COLLISION + part for part in parts) for name, parts in RATIOS.items()}
ACCUMULATED = ("ari_video",)  # at every step a score of all frames so far: the last one is the score of the video
SPARSE = ("kept",)  # of few steps: the last one says nothing
STILL = 0.05  # baseline of what does not move: clipping its cross entropy leaves 1e-6 a pixel
TAIL = 10  # last steps that R-NEM's program reports beside all of them
SUFFIXES = {  # of the name of a score -> what it is a mean over
    "": "all steps",
    "_last": "the last step",
    "_last10": "the last 10 steps, where there are more",
    "_seen": "in a roll-out, the steps whose prediction is made from a frame",
    "_imagined": "in a roll-out, the steps after them",
}


def summarise(
    draws: Sequence[Mapping[str, np.ndarray]], step_weights: np.ndarray, rollout: Rollout | None = None
) -> tuple[dict, dict]:
    """Reduces the scores of a pass to the `scores` and the `per_step` of a record.

    Every sequence counts once, whatever the number of its frames with a score: each score is first reduced to one
    number per sequence. `X` is the mean over the T steps, `X_last` that of the last step, and so on: see `SUFFIXES`.
    The losses `X` are per EM step, the steps weighted as in training: sum_t w_t loss_t / sum_t w_t. `ari_video`, which
    accumulates, is that of the last step. NaN of a score is a frame without a labelled pixel and is left out; NaN of a
    loss is not, and makes its mean None.

    `relative` is the upper bound over that of the baseline, where that was scored (R-NEM, section 4). Its mean is the
    quotient of their means over the sequences, since that of one sequence may be 0. Its standard deviation is that of
    the ratio estimator, of (upper bound - mean * baseline) / mean baseline: over the root of the number of sequences
    it is the standard error. Its quartiles are those of the quotients of the sequences whose baseline is above 0.
    Where nothing moves, or collides, there is none.

    Arguments:
        draws: one or more initialisations of one pass: name -> [N, T]. Grouping scores may be absent.
        step_weights: [T], not all of them 0.
        rollout: that of the pass, if it was one.

    Returns:
        scores: name -> {mean, std, q25, median, q75} over all sequences and draws, None where no sequence has the
            score; with several draws also `initialisation_std`, the standard deviation of the draws' means.
        per_step: name -> the same at every step, lists of [T].

    Raises:
        ValueError: the scores do not have T steps, or the weights add up to 0.
    """
    spans = _spans(len(step_weights), rollout)
    reduced = [_per_sequence(draw, step_weights, spans) for draw in draws]
    scores = {}
    for name, suffix in reduced[0]:
        parts = [_known(draw[name, suffix], name) for draw in reduced]
        scores[name + suffix] = _spread(np.concatenate(parts))
        if len(draws) > 1:
            means = np.array([_mean(part) for part in parts])
            scores[name + suffix]["initialisation_std"] = _number(_std(_known(means, name), ddof=1))
    per_step = {}
    of_steps = [_with_ratios({name: np.asarray(values, float) for name, values in draw.items()}) for draw in draws]
    for name in of_steps[0]:
        steps = np.moveaxis(np.concatenate([draw[name] for draw in of_steps]), 1, 0)
        spreads = [_spread(_known(values, name)) for values in steps]
        per_step[name] = {key: [spread[key] for spread in spreads] for key in SPREAD}
    return scores, per_step


def means(scores: Mapping[str, np.ndarray], step_weights: np.ndarray) -> dict[str, float]:
    """Returns the means of `summarise` over all steps and of the last step, NaN where no sequence has the score.

    Arguments:
        scores: name -> [N, T].
        step_weights: [T], not all of them 0.
    """
    reduced = _per_sequence(scores, step_weights, {"": slice(None), "_last": slice(-1, None)})
    return {name + suffix: _mean(_known(values, name)) for (name, suffix), values in reduced.items()}


def split_name(name: str) -> tuple[str, str]:
    """Returns a score's name without its suffix, and the suffix, one of `SUFFIXES`."""
    suffix = max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len)
    return name.removesuffix(suffix), suffix


def _spans(steps, rollout):
    """The steps that each suffix names, none that would be empty or all of them."""
    spans = {"": slice(None), "_last": slice(-1, None)}
    if steps > TAIL:
        spans["_last10"] = slice(-TAIL, None)
    if rollout is not None and rollout.imagined.start < steps:
        spans |= {"_seen": rollout.seen, "_imagined": rollout.imagined}
    return spans


def _per_sequence(scores, step_weights, spans):
    """name -> [N, T] becomes (name, suffix) -> [N], or [N, 2] of a ratio."""
    weights = np.asarray(step_weights, float)
    if not weights.sum():
        raise ValueError(f"the weights of the steps add up to 0: {weights.tolist()}")
    reduced = {suffix: {} for suffix in spans}
    for name, values in scores.items():
        values = np.asarray(values, float)
        if values.ndim != 2 or values.shape[1:] != weights.shape:
            raise ValueError(f"{name}: expected [N, {len(weights)}], received {list(values.shape)}")
        if name in ACCUMULATED:
            reduced[""][name] = values[:, -1]
            continue
        for suffix, span in spans.items():
            if name in SPARSE and suffix.startswith("_last"):
                continue
            with np.errstate(invalid="ignore"):
                if name.removeprefix(COLLISION) in _STEP_LOSSES and suffix == "":
                    counted = weights != 0  # a step that training ignores may have diverged: 0 * inf is NaN
                    reduced[suffix][name] = values[:, counted] @ weights[counted] / weights.sum()
                elif _is_certain(name):
                    reduced[suffix][name] = values[:, span].mean(1)
                else:
                    known = ~np.isnan(values[:, span])
                    reduced[suffix][name] = np.where(known, values[:, span], 0).sum(1) / known.sum(1)
    ordered = {suffix: _with_ratios(columns) for suffix, columns in reduced.items()}
    names = dict.fromkeys(name for columns in ordered.values() for name in columns)
    return {
        (name, suffix): columns[name] for name in names for suffix, columns in ordered.items() if name in columns
    }  # fmt: skip


def _with_ratios(columns):
    """Adds every ratio whose parts are there, as [.., 2], after them."""
    found = {}
    for name, values in columns.items():
        found[name] = values
        for ratio, (above, below) in RATIOS.items():
            if name == below:
                found[ratio] = np.stack([columns[above], values], -1)
    return found


def _is_certain(name):
    return name.removeprefix(COLLISION) in _CERTAIN or name in RATIOS


def _known(values, name):
    """Leaves out the NaN of frames without a labelled pixel, [S] -> [S'], but not that of a diverged model."""
    return values if _is_certain(name) else values[~np.isnan(values)]


def _mean(values):
    """Averages numbers [S]; of pairs [S, 2], returns the ratio of their means."""
    if not len(values):
        return math.nan
    with np.errstate(invalid="ignore"):
        mean = values.mean(0)
        if values.ndim == 1:
            return float(mean)
        return math.nan if mean[1] <= STILL else float(mean[0] / mean[1])


def _std(values, ddof=0):
    with np.errstate(invalid="ignore"):  # infinite losses have none
        return values.std(ddof=ddof) if len(values) > ddof else math.nan


def _spread(values):
    mean, of_std = _mean(values), values
    if values.ndim == 2:
        if math.isnan(mean):
            return dict.fromkeys(SPREAD)
        above, below = values.T
        # Not that of the quotients: one sequence in which hardly anything happens could make it as large as it likes.
        of_std = (above - mean * below) / below.mean()
        values = above[below > 0] / below[below > 0]
    with np.errstate(invalid="ignore"):
        quartiles = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [math.nan] * 3
    return dict(zip(SPREAD, map(_number, (mean, _std(of_std), *quartiles))))


def _number(value):
    return float(value) if math.isfinite(value) else None
