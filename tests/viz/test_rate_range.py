"""The picture of a range test."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from minidl import viz
from minidl.training import RateRange

RATES = np.geomspace(1e-4, 10, 11)
SMOOTHED = np.array([2.3, 2.3, 2.2, 1.9, 1.2, 0.8, 0.6, 0.5, 0.7, 1.5, 3.0])
RESULT = RateRange(RATES, SMOOTHED + 0.1, SMOOTHED, float(RATES[4]), -1.1, float(RATES[7]), None)


def texts(figure):
    return [text.get_text() for text in (*figure.axes[0].texts, *figure.texts)]


def test_it_shows_both_curves_on_a_logarithmic_axis():
    axes = viz.rate_range(RESULT).axes[0]
    assert axes.get_xscale() == "log"
    faint, smooth = axes.lines[:2]
    for line, color, losses in ((faint, viz.FAINT, RESULT.losses), (smooth, viz.ACCENT, RESULT.smoothed)):
        assert to_hex(line.get_color()) == color
        np.testing.assert_array_equal(line.get_xdata(), RATES)
        np.testing.assert_array_equal(line.get_ydata(), losses)


def test_it_marks_suggestion_least_and_divergence():
    figure = viz.rate_range(replace(RESULT, diverged_at=20.0), title="Adam")
    assert {"steepest: 0.01", "least: 0.32", "diverged at 20", "Adam"} <= set(texts(figure))
    dots = [tuple(map(float, line.get_xydata()[0])) for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots == [(RATES[4], 1.2), (RATES[7], 0.5)]
    assert [line for line in figure.axes[0].lines if set(line.get_xdata()) == {20.0}]
    assert figure.axes[0].get_xlim()[1] > 20
    assert any(text.startswith("11 steps, the rate rising from 0.0001 to 10;") for text in texts(figure))


def test_what_is_not_there_is_not_marked():
    shown = " ".join(texts(viz.rate_range(replace(RESULT, suggestion=math.nan))))
    assert "steepest" not in shown
    assert "diverged" not in shown
    assert "least" in shown


@pytest.mark.parametrize("last", [3.0, 1e6, 1e300])
def test_a_loss_that_explodes_does_not_flatten_the_rest(last):
    losses = SMOOTHED.copy()
    losses[-1] = last
    low, high = viz.rate_range(replace(RESULT, losses=losses, smoothed=losses)).axes[0].get_ylim()
    assert low < 0.5
    assert 2.3 < high < 3.5


@pytest.mark.parametrize("least", [0, 10])
@pytest.mark.parametrize("constant", [False, True])
def test_nothing_is_cut_off(least, constant):
    smoothed = np.ones(11) if constant else np.roll(SMOOTHED, least - 7)
    figure = viz.rate_range(
        replace(RESULT, losses=smoothed, smoothed=smoothed, least=float(RATES[least]), diverged_at=12.0)
    )
    figure.canvas.draw()
    page = figure.bbox
    for text in (*figure.axes[0].texts, *figure.texts):
        box = text.get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text.get_text()


def test_it_can_be_saved(tmp_path):
    path = viz.save(viz.rate_range(RESULT), tmp_path / "range.png")
    assert path.stat().st_size > 5000
