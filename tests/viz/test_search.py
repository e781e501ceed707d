"""The picture of a search."""

from __future__ import annotations

import pytest

from minidl import viz
from minidl.viz.style import OTHER

SPACE = {
    "lr": {"low": 1e-4, "high": 1.0, "log": True, "integer": False},
    "n": {"low": 1, "high": 4, "log": False, "integer": True},
    "kind": {"choices": ["a", None]},
}


def trial(number, lr, n, kind, value, pruned=False):
    return {"trial": number, "values": {"lr": lr, "n": n, "kind": kind}, "value": value, "pruned": pruned}


TRIALS = [
    trial(1, 0.1, 2, "a", 0.8),
    trial(2, 0.01, 3, None, 0.9),
    trial(3, 0.001, 4, "a", 0.3, pruned=True),
    trial(4, 0.5, 1, None, None),
    trial(5, 0.02, 1, "a", 0.85),
]


def dots(axes):
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]


def test_every_trial_with_a_value_is_a_dot_in_every_panel(tmp_path):
    figure = viz.search(TRIALS, SPACE, "a search", ylabel="accuracy")
    lr, n, kind, progress = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["lr", "n", "kind", "best so far"]
    low = lr.get_ylim()[0]
    assert dots(lr) == [(0.1, 0.8), (0.01, 0.9), (0.001, low), (0.02, 0.85)]
    assert 0.3 < low < 0.8  # what was pruned lies at the edge
    assert [x for x, _ in dots(n)] == [2, 3, 4, 1]
    assert [round(x) for x, _ in dots(kind)] == [0, 1, 0, 0]
    assert [label.get_text() for label in kind.get_xticklabels()] == ["a", "None"]
    assert lr.get_xscale() == "log"
    best = [line for line in lr.lines if line.get_markerfacecolor() == OTHER]
    assert [line.get_ydata()[0] for line in best] == [0.9]
    assert [line.get_marker() for line in lr.lines] == ["o", "o", "v", "o"]
    line = next(line for line in progress.lines if len(line.get_xdata()) > 1)
    assert list(line.get_xdata()) == [1, 2, 3, 4, 5]
    assert list(line.get_ydata()) == [0.8, 0.9, 0.9, 0.9, 0.9]
    texts = [text.get_text() for text in figure.texts]
    assert "5 trials; later ones darker, the best one orange, 1 pruned: hollow, 1 without a value: not drawn" in texts
    assert viz.save(figure, tmp_path / "search.png").stat().st_size > 1000


def test_a_minimum_is_marked_and_a_far_value_lies_at_the_edge():
    trials = [trial(i, 0.1, 1, "a", value) for i, value in enumerate([1.0, 1.1, 0.9, 1.2, 0.8, 500.0], start=1)]
    figure = viz.search(trials, SPACE, direction="minimize")
    lr = figure.axes[0]
    assert lr.get_ylim()[1] < 5
    assert lr.lines[-1].get_marker() == "^"
    assert [line.get_ydata()[0] for line in lr.lines if line.get_markerfacecolor() == OTHER] == [0.8]
    line = next(line for line in figure.axes[-1].lines if len(line.get_xdata()) > 1)
    assert list(line.get_ydata()) == [1.0, 1.0, 0.9, 0.9, 0.8, 0.8]


@pytest.mark.parametrize("trials", [[], [trial(1, 0.1, 1, "a", None)], [trial(1, 0.1, 1, "a", 0.0)], TRIALS[2:3]])
def test_little_is_drawn_too(trials, tmp_path):
    viz.save(viz.search(trials, SPACE), tmp_path / "search.png")


def test_a_bad_direction():
    with pytest.raises(ValueError, match="search: direction is 'up', expected 'maximize' or 'minimize'"):
        viz.search(TRIALS, SPACE, direction="up")
