"""The picture of exact zeros: the bars and shares that it shows are those of the weights."""

from __future__ import annotations

import re

import numpy as np
import pytest

from minidl import viz
from minidl.viz.sparsity import sparsity
from minidl.viz.style import ACCENT

RNG = np.random.default_rng(0)
DENSE = RNG.standard_normal((50, 20))
SPARSE = np.where(RNG.random(1000) < 0.4, 0, RNG.standard_normal(1000) / 2).astype(np.float32)


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def accent_bars(axes):
    return [patch for container in axes.containers for patch in container]


def filled(axes):
    return next(patch for patch in axes.patches if hasattr(patch, "get_data") and patch.get_fill()).get_data()


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_each_run_has_a_panel_with_its_histogram_and_its_exact_zeros():
    figure = sparsity({"no penalty": DENSE, "L1": SPARSE, "half": [0, 0.0, 1e-9, -1]}, "Title", "subtitle")
    assert [text.get_text() for text in figure.texts] == ["Title", "subtitle"]
    dense, sparse, half = (panels(figure)[name] for name in ("no penalty", "L1", "half"))
    zeros = int((SPARSE == 0).sum())
    assert texts(dense) == ["none exactly 0"]
    assert texts(sparse) == [f"{zeros / 1000:.1%} exactly 0", "outline: no penalty"]
    assert texts(half) == ["50.0% exactly 0"]

    assert accent_bars(dense) == []
    for axes, count in ((sparse, zeros), (half, 2)):
        (bar,) = accent_bars(axes)
        assert bar.get_y() + bar.get_height() == pytest.approx(count)
        assert bar.get_x() + bar.get_width() / 2 == pytest.approx(0)
        assert tuple(bar.get_facecolor()[:3]) == pytest.approx(
            tuple(int(ACCENT[i : i + 2], 16) / 255 for i in (1, 3, 5))
        )
    for axes, values in ((dense, DENSE), (sparse, SPARSE), (half, np.array([1e-9, -1]))):
        histogram = filled(axes)
        expected = np.histogram(values[values != 0], histogram.edges)[0]
        np.testing.assert_array_equal(histogram.values, expected)
        assert histogram.values.sum() == (values != 0).sum(), "no weight lies outside the bins"
    values, edges, _ = filled(half)
    middle = len(values) // 2
    assert edges[middle] == pytest.approx(-edges[middle + 1])
    assert values[middle] == 1, "a tiny weight is in the middle bin, but is no exact zero"


def test_all_panels_share_their_axes_which_show_everything():
    figure = sparsity({"wide": DENSE, "sparse": SPARSE, "zeros": np.zeros(5000)}, "Title", "subtitle")
    limits = {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}
    assert len(limits) == 1
    ((left, right), (bottom, top)) = limits.pop()
    assert left < DENSE.min()
    assert right > DENSE.max()
    assert bottom < 1
    assert top > 5000
    assert all(axes.get_yscale() == "log" for axes in figure.axes)


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 7])
def test_any_number_of_runs_is_drawn_without_overlap(runs, tmp_path):
    figure = sparsity({f"run {i}": SPARSE * i for i in range(runs)}, "Title", "subtitle")
    assert len(figure.axes) == runs
    assert viz.save(figure, tmp_path / "sparsity.png").stat().st_size > 10_000
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "sparsity: weights is empty, expected at least one run"),
        ({"a": DENSE, "b": []}, "sparsity: weights['b'] has no elements"),
        ({"a": [1, np.nan]}, "sparsity: weights['a'] has elements that are NaN or infinite"),
        ({"a": [1, np.inf]}, "sparsity: weights['a'] has elements that are NaN or infinite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(weights, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sparsity(weights, "Title", "subtitle")
