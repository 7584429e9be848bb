"""The figures: what is drawn, rather than how it looks."""

import numpy as np
import pytest
from records import spread

from nem_tf.scoring import figures

pytestmark = pytest.mark.filterwarnings("error")


def test_a_curve_has_its_mean_its_quartiles_and_the_trained_length():
    curves = [figures.Curve("long", spread(0.5, 40), 20), figures.Curve("short", spread(0.25, 20), 20)]
    figure = figures.score_over_time(curves, "ARI")
    long, short = figure.axes
    np.testing.assert_array_equal(long.lines[0].get_data(), [np.arange(1, 41), np.full(40, 0.5)])
    assert long.lines[1].get_xdata()[0] == 20
    assert len(short.lines) == 1
    np.testing.assert_allclose(long.collections[0].get_datalim(long.transData).get_points(), [[1, 0.01], [40, 0.01]])
    assert (long.get_title(), short.get_title(), long.get_ylabel()) == ("long", "short", "ARI")


def test_steps_without_a_score_are_a_gap():
    values = {"mean": [None, 0.5, 0.6], "q25": [None, -0.2, 0.4], "q75": [None, 0.7, 0.8]}
    figure = figures.score_over_time([figures.Curve("gap", values, 3)])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [np.nan, 0.5, 0.6])
    assert figure.axes[0].get_ylim()[0] == pytest.approx(-0.2)


def test_no_panel_cuts_the_quartiles_of_another():
    low, high = ({"mean": [m, m], "q25": [q, q], "q75": [0.9, 0.9]} for m, q in ((0.1, -0.2), (0.6, 0.4)))
    for curves in ((low, high), (high, low)):
        figure = figures.score_over_time([figures.Curve("", values, 2) for values in curves])
        assert figure.axes[0].get_ylim() == (-0.2, 1.02)


def test_bars_stand_at_their_number_of_objects():
    figure = figures.next_step_prediction({"a": {3: (100.0, 5.0), 5: (200.0, np.nan)}, "b": {4: (150.0, np.nan)}})
    (axes,) = figure.axes
    bars = {round(bar.get_x() + bar.get_width() / 2, 3): bar.get_height() for bar in axes.patches}
    assert bars == {-0.2: 100.0, 1.8: 200.0, 1.2: 150.0}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3 objects", "4 objects", "5 objects"]


def test_the_name_of_a_bar_may_be_long(recwarn):
    """It is wrapped below the bars, inside of the figure."""
    name = "RNN-EM (" + ", ".join(f"setting_{i} {i}" for i in range(20)) + ")"
    figure = figures.next_step_prediction({name: {3: (100.0, 5.0)}, "b": {3: (150.0, 0.0)}})
    _, width, _ = figures.rendered(figure).shape
    assert not recwarn.list
    place = figure.legends[0].get_window_extent()
    assert place.x0 >= 0
    assert place.x1 <= width
    assert place.y1 < figure.axes[0].get_window_extent().y0


def test_a_figure_becomes_pixels():
    pixels = figures.rendered(figures.score_over_time([figures.Curve("one", spread(0.5, 3), 3)]))
    assert pixels.dtype == np.uint8
    assert np.abs(np.subtract(pixels.shape, (310, 420, 3))).max() <= 1  # versions of matplotlib round differently
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
