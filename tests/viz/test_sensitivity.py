"""Final loss over rate and momentum: what is drawn is what the sweep found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from minidl import surfaces, viz

RATES = (0.001, 0.01, 0.1, 1.0)
STEPS = 60


@pytest.fixture(scope="module")
def sweep():
    """κ = 100: without momentum, rates above 2/100 diverge."""
    return surfaces.sweep(
        surfaces.quadratic(100), "sgd,heavyball,adadelta,adam,newton", steps=STEPS, rates=RATES,
        epsilons=(1e-6, 1e-3, 1.0), momenta=(0.0, 0.9),
    )  # fmt: skip


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def line(axes, label):
    return next(line for line in axes.lines if line.get_label() == label)


def family(sweep, name):
    return next(family for family in sweep.families if family.method.name == name)


def header_fits(figure):
    figure.canvas.get_renderer()
    return all(text.get_window_extent().x1 < figure.bbox.x1 for text in figure.texts)


def test_each_method_with_a_rate_has_a_panel_and_the_last_one_shows_the_rates_that_work(sweep):
    shown = panels(viz.rate_sensitivity(sweep))
    assert list(shown) == ["SGD", "Heavy ball", "Adadelta", "Adam", "Rates that work"]
    assert shown["SGD"].get_xlabel() == "learning rate η"
    assert shown["Adadelta"].get_xlabel() == "ε"
    assert [shown["SGD"].get_xscale(), shown["SGD"].get_yscale()] == ["log", "log"]
    names = [text.get_text() for text in shown["Rates that work"].texts]
    assert names == ["SGD", "Heavy ball", "Adam", "Newton"]


def test_the_line_is_the_loss_at_the_end_and_ends_where_crosses_begin(sweep):
    axes = panels(viz.rate_sensitivity(sweep))["SGD"]
    curve = next(line for line in axes.lines if line.get_color() == viz.ACCENT and line.get_linewidth() == 2)
    np.testing.assert_array_equal(curve.get_xdata(), RATES)
    x, y = sweep.start
    t = np.arange(STEPS + 1)[-((STEPS + 1) // 4) :]  # the last quarter
    runs = (0.5 * (x * (1 - eta) ** t) ** 2 + 50 * (y * (1 - 100 * eta) ** t) ** 2 for eta in RATES[:2])
    expected = [np.median(run) for run in runs]
    np.testing.assert_allclose(curve.get_ydata()[:2], expected, rtol=1e-9)
    assert np.isnan(curve.get_ydata()[2:]).all()
    np.testing.assert_array_equal(line(axes, "diverged").get_xdata(), RATES[2:])
    assert line(axes, "diverged").get_marker() == "x"
    assert line(axes, "lowest").get_xdata() == [0.01]
    assert axes.get_title(loc="right") == "η 0.01"


def test_the_best_momentum_is_bold_and_the_others_are_faint(sweep):
    axes = panels(viz.rate_sensitivity(sweep))["Heavy ball"]
    ball = family(sweep, "heavyball")
    faint = [line for line in axes.lines if line.get_color() == viz.FAINT]
    assert len(faint) == 1
    i, j = ball.best
    np.testing.assert_allclose(faint[0].get_ydata(), ball.ends[:, 1 - j])
    assert line(axes, "lowest").get_ydata() == [ball.ends[i, j]]
    assert ball.ends[i, j] == np.nanmin(ball.ends)


def test_rates_that_work_end_below_one_percent(sweep):
    axes = panels(viz.rate_sensitivity(sweep))["Rates that work"]
    worked = {row: np.array([]) for row in range(4)}
    for dots in axes.lines:
        if dots.get_marker() == "o" and len(dots.get_xdata()):
            worked[int(dots.get_ydata()[0])] = dots.get_xdata()
    for row, name in enumerate(["sgd", "heavyball", "adam"]):
        found = family(sweep, name)
        final = found.ends[:, found.best[1]]
        np.testing.assert_array_equal(worked[row], np.array(RATES)[final < 0.01 * found.losses[0, 0, 0]])
    bar = [line for line in axes.lines if line.get_linewidth() == 4]
    assert [list(line.get_ydata()) for line in bar] == [[3, 3]]  # Newton reaches the minimum in a step


def test_losses_above_the_scale_are_marked_and_not_clipped_away(sweep):
    sgd = family(sweep, "sgd")
    losses = sgd.losses.copy()
    losses[2, 0, 1:] = 1e30
    axes = panels(viz.rate_sensitivity(replace(sweep, families=(replace(sgd, losses=losses),))))["SGD"]
    np.testing.assert_array_equal(line(axes, "above").get_xdata(), [0.1])
    np.testing.assert_array_equal(line(axes, "diverged").get_xdata(), [1.0])


def test_the_map_crosses_what_diverged_outlines_the_lowest_and_names_what_it_leaves_out(sweep):
    figure = viz.rate_momentum_map(sweep)
    shown = panels(figure)
    assert [name for name in shown if name] == ["Heavy ball", "Adadelta", "Adam"]
    axes, ball = shown["Heavy ball"], family(sweep, "heavyball")
    cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    crossed = {(round(p.get_x() + 0.5), round(p.get_y() + 0.5)) for p in cells if p.get_hatch()}
    assert crossed == set(map(tuple, np.argwhere(ball.diverged).tolist()))
    assert crossed
    outline = {(round(p.get_x() + 0.5), round(p.get_y() + 0.5)) for p in cells if not p.get_hatch()}
    assert outline == {ball.best}
    image = axes.images[0].get_array()
    np.testing.assert_allclose(image[~ball.diverged.T], ball.ends.T[~ball.diverged.T])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "0.9"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "diverged" in words
    assert "no map, for want of a setting: SGD, Newton" in words


def test_the_order_of_the_grid_does_not_matter():
    def lowest(rates, momenta):
        small = surfaces.sweep(surfaces.quadratic(10), "heavyball", steps=20, rates=rates, momenta=momenta)
        axes = viz.rate_momentum_map(small).axes[0]
        labels = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        return axes.patches[-1].get_xy(), axes.images[0].get_array().tolist(), labels

    assert lowest((0.01, 0.1, 0.03), (0.9, 0.0)) == lowest((0.01, 0.03, 0.1), (0.0, 0.9))


@pytest.mark.parametrize("picture", [viz.rate_sensitivity, viz.rate_momentum_map])
def test_titles_fit_and_bad_input_is_named(sweep, picture):
    assert header_fits(picture(sweep))
    adam = replace(sweep.families[3], losses=np.maximum(sweep.families[3].losses - 1, 0))  # the note on the floor too
    assert header_fits(picture(replace(sweep, families=(adam,))))
    with pytest.raises(TypeError, match=f"{picture.__name__}: sweep is list, expected a Sweep"):
        picture([])
    with pytest.raises(ValueError, match=f"{picture.__name__}: sweep has newton, expected"):
        picture(replace(sweep, families=sweep.families[4:]))
    with pytest.raises(ValueError, match="sgd has the rate 0, expected positive"):
        picture(replace(sweep, families=(replace(sweep.families[0], values=(0.0, 0.1, 0.2, 0.3)),)))
