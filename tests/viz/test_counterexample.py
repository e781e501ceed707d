"""Adam does go to the worst point and AMSGrad to the best, for the reason that the picture gives."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from minidl import optim, viz
from minidl.viz import counterexample


@pytest.fixture(scope="module")
def runs():
    return {method: counterexample.reddi_run(method) for method in ("Adam", "AMSGrad")}


def test_adam_ends_at_the_worst_point_and_amsgrad_at_the_best(runs):
    assert runs["Adam"].x[0] == runs["AMSGrad"].x[0] == 0
    assert (runs["Adam"].x[-300:] > 0.98).all()
    assert (runs["AMSGrad"].x[-300:] < -0.98).all()


@pytest.mark.parametrize("method", ["Adam", "AMSGrad"])
def test_the_run_is_the_papers_algorithm(runs, method):
    x, v, v_hat, paid = 0.0, 0.0, 0.0, 0.0
    for t in range(1, 3001):
        slope = 3.0 if t % 3 == 1 else -1.0
        paid += slope * (x - -1)
        v = 0.1 * v + 0.9 * slope**2
        v_hat = max(v_hat, v) if method == "AMSGrad" else v / (1 - 0.1**t)
        x = min(1.0, max(-1.0, x - 0.3 / np.sqrt(t) * slope / (np.sqrt(v_hat) + 1e-8)))
        assert runs[method].x[t] == pytest.approx(x, abs=1e-10)
        assert runs[method].regret[t - 1] == pytest.approx(paid / t, abs=1e-9)


def test_the_regret_of_adam_stays_and_that_of_amsgrad_goes(runs):
    assert runs["Adam"].regret[-1] == pytest.approx(2 / 3, abs=0.02)  # (C − 2)/3 a step, twice: from −1 to 1
    assert 0 < runs["AMSGrad"].regret[-1] < 0.03


def test_a_cycle_moves_adam_up_and_amsgrad_down(runs):
    # v repeats every three steps: a after the large gradient, then b and c
    a = (0.9 * 9 + 0.1 * 0.9 + 0.01 * 0.9) / (1 - 0.001)
    b = 0.1 * a + 0.9
    c = 0.1 * b + 0.9
    np.testing.assert_allclose(runs["Adam"].moves[-3:], [-3 / np.sqrt(a), 1 / np.sqrt(b), 1 / np.sqrt(c)], rtol=1e-6)
    np.testing.assert_allclose(runs["AMSGrad"].moves[-3:], np.array([-3, 1, 1]) / np.sqrt(a), rtol=1e-6)
    assert runs["Adam"].moves[-3:].sum() > 0 > runs["AMSGrad"].moves[-3:].sum()


def test_bias_correction_does_not_matter(runs, monkeypatch):
    monkeypatch.setitem(counterexample.METHODS, "Adam", partial(optim.Adam, bias_correction=False))
    assert counterexample.reddi_run("Adam").x[-1] == pytest.approx(runs["Adam"].x[-1], abs=1e-6)


def test_with_the_usual_betas_adam_goes_right(monkeypatch):
    monkeypatch.setattr(counterexample, "BETAS", (0.9, 0.999))
    assert counterexample.reddi_run("Adam").x[-1] < -0.95


def test_the_picture_shows_where_they_go_the_regret_and_why(runs):
    figure = viz.amsgrad_counterexample()
    where, regret, why = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Where they go", "Average regret", "The last cycle"]
    drawn = {line.get_label(): line.get_ydata() for line in where.lines}
    np.testing.assert_array_equal(drawn["Adam"], runs["Adam"].x[1:])
    np.testing.assert_array_equal(drawn["AMSGrad"], runs["AMSGrad"].x[1:])
    assert {text.get_text() for text in where.texts} == {"Adam", "AMSGrad"}
    assert len(regret.lines) == 3
    heights = [bar.get_height() for bar in why.patches]
    np.testing.assert_allclose(heights[3], sum(heights[:3]))
    assert [round(heights[3], 2), round(heights[7], 2)] == [0.68, -0.35]
    figure.canvas.get_renderer()
    assert all(text.get_window_extent().x1 < figure.bbox.x1 for text in figure.texts)


def test_the_last_cycle_is_a_whole_one():
    heights = [[bar.get_height() for bar in viz.amsgrad_counterexample(n).axes[2].patches] for n in (300, 302)]
    np.testing.assert_allclose(heights[0], heights[1], rtol=1e-9)


@pytest.mark.parametrize("steps", [2, 3.5, True])
def test_bad_input_is_named(steps):
    with pytest.raises(ValueError, match="reddi_run: steps is .*, expected an integer of at least 3"):
        viz.amsgrad_counterexample(steps)
    with pytest.raises(ValueError, match="reddi_run: method is 'SGD', expected one of Adam, AMSGrad"):
        counterexample.reddi_run("SGD")
