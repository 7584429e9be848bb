"""Plots of scores: AMI over the steps (paper, Fig. 7) and next-step prediction (Fig. 6)."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # matplotlib takes half a second to import: what draws nothing does without
    from matplotlib.figure import Figure

LABEL_WIDTH = 90  # letters of a line of a legend below a plot


def as_png(figure: "Figure") -> bytes:
    """Returns a figure as a PNG."""
    figure.savefig(buffer := io.BytesIO(), format="png")
    return buffer.getvalue()


def rendered(figure: "Figure") -> np.ndarray:
    """Returns the pixels of a figure, RGB uint8 [h, w, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class Curve(NamedTuple):
    """A score after every EM step."""

    title: str
    spread: Mapping[str, Sequence[float | None]]  # mean, q25 and q75, [T] each; None where a step has no score
    trained_steps: int  # EM steps of a sequence in training


def score_over_time(curves: Sequence[Curve], name: str = "AMI") -> "Figure":
    """Draws mean and quartiles of a score after every EM step, one panel per curve (paper, Fig. 7).

    A dotted line marks the length of the sequences in training where a curve is longer.

    Arguments:
        curves: at least one.
        name: what the axis calls the score.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.3), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (title, spread, trained_steps) in zip(panels.flat, curves):
        mean, low, high = (np.array(spread[key], float) for key in ("mean", "q25", "q75"))  # None becomes NaN: a gap
        steps = np.arange(1, len(mean) + 1)
        axes.fill_between(steps, low, high, alpha=0.25, linewidth=0, label="quartiles")
        axes.plot(steps, mean, marker="." if len(steps) <= 30 else None, label="mean")
        if len(steps) > trained_steps:
            axes.axvline(trained_steps, color="grey", linestyle=":", label="trained length")
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    for axes in panels[:, 0]:
        axes.set_ylabel(name)
    lowest = np.concatenate([np.array(curve.spread["q25"], float) for curve in curves])
    panels[0, 0].set_ylim(np.fmin.reduce(lowest, initial=0.0), 1.02)  # of all: they share it
    panels[0, 0].legend(fontsize="small", loc="best")
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    return figure


def next_step_prediction(losses: Mapping[str, Mapping[int, tuple[float, float]]]) -> "Figure":
    """Draws cross entropies as bars, grouped by the number of objects (paper, Fig. 6).

    Arguments:
        losses: at least one system -> number of objects -> mean and standard deviation over runs, NaN of a single run.
    """
    from matplotlib.figure import Figure

    objects = sorted({n for by_objects in losses.values() for n in by_objects})
    labels = [textwrap.fill(system, LABEL_WIDTH) for system in losses]  # settings that tell systems apart may be many
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(6.4, 3.4 + 0.17 * lines), dpi=100, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(losses)
    for index, (label, by_objects) in enumerate(zip(labels, losses.values())):
        places = [objects.index(n) + (index - (len(losses) - 1) / 2) * width for n in by_objects]
        means, stds = zip(*by_objects.values())
        bars = axes.bar(places, means, width, yerr=np.nan_to_num(stds), capsize=3, label=label)
        axes.bar_label(bars, fmt="%.0f", fontsize="small")
    axes.set_xticks(range(len(objects)), [f"{n} objects" for n in objects])
    axes.set_ylabel("binomial cross entropy, last step")
    axes.margins(y=0.15)
    figure.legend(fontsize="small", loc="outside lower center")
    return figure
