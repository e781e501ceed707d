"""The picture of learning-rate schedules shows their numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minidl import viz
from minidl.optim.schedules import Constant, Cosine, InEpochs, PiecewiseConstant, ReduceOnPlateau, Restarts, WarmUp


def drawn(axes):
    """Return t and η of the panel's line."""
    (line,) = axes.get_lines()
    assert line.get_drawstyle() == "steps-post"
    return line.get_xdata(), line.get_ydata()


def test_each_panel_shows_the_rates_of_its_schedule():
    plateau = ReduceOnPlateau(0.1, 0.5, patience=1)
    for t in range(1, 30):
        plateau.observe(t, 1.0)
    schedules = {"first": Cosine(0.1, 25, final=0.001), "second": plateau, "third": lambda t: 1e-3 / (t + 1)}
    figure = viz.rates(schedules, 30, title="Three")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(schedules)
    for axes, schedule in zip(figure.axes, schedules.values(), strict=True):
        t, eta = drawn(axes)
        np.testing.assert_array_equal(t, range(31))
        np.testing.assert_array_equal(eta[:-1], [schedule(k) for k in range(30)])
        assert eta[-1] == eta[-2]  # the last rate holds to the end of its step
        assert axes.get_xlim() == (0, 30)
        low, high = axes.get_ylim()
        assert low == 0
        assert max(eta) < high < 1.2 * max(eta)
    assert figure.texts[0].get_text() == "Three"
    assert viz.rates({"one": Constant(0.1)}, 5, unit="epoch").axes[0].get_xlabel() == "t, finished epochs"


def test_a_long_run_is_drawn_from_a_part_of_its_rates_up_to_its_end():
    schedule = InEpochs(PiecewiseConstant([0.1, 0.001], [120]), 3910)
    t, eta = drawn(viz.rates({"R": schedule}, 160 * 3910).axes[0])
    assert len(t) < 3000
    assert (t[0], t[-2], t[-1]) == (0, 160 * 3910 - 1, 160 * 3910)
    np.testing.assert_array_equal(eta[:-1], [schedule(int(k)) for k in t[:-1]])
    falls = t[np.flatnonzero(np.diff(eta)) + 1]
    assert falls == pytest.approx([120 * 3910], rel=1e-3)


def test_nothing_overlaps_or_leaves_the_figure():
    names = ("WarmUp", "Restarts", "InEpochs", "a function")
    made = (
        WarmUp(0.0003, 0.1, warmup=20, steps=180, final=0.0001),
        Restarts(0.1, 10, mult=1.5),
        InEpochs(WarmUp(0.0003, 0.1, warmup=20, steps=180, final=0.0001), 12345, smooth=True),
        lambda t: 0.0,
    )
    figure = viz.rates(dict(zip(names, made, strict=True)), 200)
    figure.canvas.draw()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.texts[1].get_window_extent().y0
        for other in boxes[:i]:
            apart = box.x0 >= other.x1 or other.x0 >= box.x1 or box.y0 >= other.y1 or other.y0 >= box.y1
            assert apart


@pytest.mark.parametrize(
    ("schedules", "steps", "error", "message"),
    [
        ({}, 5, ValueError, "rates: schedules is empty"),
        ({"a": Constant(1)}, 0, ValueError, "rates: steps is 0, expected a positive integer"),
        ({"a": Constant(1)}, 2.5, ValueError, "rates: steps is 2.5"),
        ({"a": 0.1}, 5, TypeError, r"rates: schedules\['a'\] is 0.1, expected a function of t"),
        ({"a": lambda t: math.nan if t == 3 else t}, 5, ValueError, r"schedules\['a'\] gives nan at t = 3"),
    ],
)
def test_bad_arguments(schedules, steps, error, message):
    with pytest.raises(error, match=message):
        viz.rates(schedules, steps)
