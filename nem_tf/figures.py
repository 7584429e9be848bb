"""Plots of scores: AMI over the steps (paper, Fig. 7) and next-step prediction (Fig. 6)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def rendered(figure: Figure) -> np.ndarray:
    """The pixels of a figure, RGB uint8 [h, w, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class Curve(NamedTuple):
    """A score after every step."""

    title: str
    spread: Mapping[str, Sequence[float]]  # mean, q25 and q75, [T] each
    trained_steps: int  # where training ended


def score_over_time(curves: Sequence[Curve], name: str = "AMI") -> Figure:
    """Mean and quartiles of a score after every step, one panel per curve; a dotted line where training ended.

    Arguments:
        curves: at least one.
        name: of the score.
    """
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.3), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (title, spread, trained_steps) in zip(panels.flat, curves):
        steps = np.arange(1, len(spread["mean"]) + 1)
        axes.fill_between(steps, spread["q25"], spread["q75"], alpha=0.25, linewidth=0, label="quartiles")
        axes.plot(steps, spread["mean"], marker="." if len(steps) <= 30 else None, label="mean")
        if len(steps) > trained_steps:
            axes.axvline(trained_steps, color="grey", linestyle=":", label="trained length")
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.set_ylim(min(0.0, *spread["q25"]), 1.02)
    for axes in panels[:, 0]:
        axes.set_ylabel(name)
    panels[0, 0].legend(fontsize="small", loc="best")
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    return figure


def next_step_prediction(losses: Mapping[str, Mapping[int, tuple[float, float]]]) -> Figure:
    """Cross entropies as bars, grouped by the number of objects (paper, Fig. 6).

    Arguments:
        losses: system -> number of objects -> mean and standard deviation over runs.
    """
    objects = sorted({n for by_objects in losses.values() for n in by_objects})
    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(losses)
    for index, (system, by_objects) in enumerate(losses.items()):
        places = [objects.index(n) + (index - (len(losses) - 1) / 2) * width for n in by_objects]
        means, stds = zip(*by_objects.values())
        bars = axes.bar(places, means, width, yerr=np.nan_to_num(stds), capsize=3, label=system)
        axes.bar_label(bars, fmt="%.0f", fontsize="small")
    axes.set_xticks(range(len(objects)), [f"{n} objects" for n in objects])
    axes.set_ylabel("binomial cross entropy, last step")
    axes.margins(y=0.15)
    axes.legend(fontsize="small", loc="upper left")
    return figure
