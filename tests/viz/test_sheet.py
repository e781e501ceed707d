"""The sheet of a race: what is drawn is what the sweep found, and nothing leaves the picture unnoticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from minidl import surfaces, viz
from minidl.viz.surface import Ground, best_runs, budget, exits

BOX = (0.0, 2.0), (0.0, 1.0)


@pytest.fixture(scope="module")
def sweep():
    """κ = 100: SGD diverges with the only rate above 2/100, Adam does not."""
    return surfaces.sweep(surfaces.quadratic(100), "sgd,adam,newton", steps=30, rates=(0.5,), momenta=(0.9, 0.0))


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def words(axes):
    return [text.get_text() for text in axes.texts]


def drawn_path(axes):
    return next(line for line in axes.lines if line.get_color() == viz.ACCENT and line.get_linewidth() == 1.3)


def family(sweep, name):
    return next(family for family in sweep.families if family.method.name == name)


# ---------------------------------------------------------------- the runs


def test_best_runs_come_by_how_low_they_end_and_diverged_ones_last(sweep):
    assert [run.name for run in best_runs(sweep)] == ["Newton", "Adam", "SGD"]
    finals = [run.end for run in best_runs(sweep)[:2]]
    assert finals == sorted(finals)


def test_a_low_loss_before_diverging_does_not_count(sweep):
    newton, adam = family(sweep, "newton"), family(sweep, "adam")
    losses = np.full_like(adam.losses, 1e-9)
    losses[..., 25:] = np.nan
    low, high = replace(adam, losses=losses), replace(newton, losses=np.ones_like(newton.losses))
    runs = best_runs(replace(sweep, families=(family(sweep, "sgd"), low, high)))
    assert [(run.name, run.stopped) for run in runs] == [("Newton", None), ("Adam", 25), ("SGD", 4)]


def test_a_run_knows_when_it_diverged_and_when_it_met_a_minimum(sweep):
    newton, _, sgd = best_runs(sweep)
    # |1 − 0.5 · 100| = 49 is the factor of y: it leaves 1e6 heights of the domain, 2 each, in this many steps
    steps = int(np.ceil(np.log(2e6 / 0.6) / np.log(49)))
    assert (sgd.stopped, sgd.last, sgd.diverged, sgd.fate) == (steps, steps - 1, True, f"diverged at step {steps}")
    assert (newton.met, newton.stopped, sgd.met) == (1, None, None)


def test_a_second_order_method_that_cannot_go_on_has_not_diverged(sweep):
    newton = family(sweep, "newton")
    losses, paths = newton.losses.copy(), newton.paths.copy()
    losses[..., 5:], paths[..., 5:, :] = np.nan, np.nan
    run = best_runs(replace(sweep, families=(replace(newton, losses=losses, paths=paths),)))[0]
    assert (run.diverged, run.stopped, run.fate) == (False, 5, "ends at step 4")


def test_equal_ends_are_ordered_by_who_came_there_first(sweep):
    newton = family(sweep, "newton")
    losses = np.ones_like(newton.losses)
    losses[..., 20:] = 0.0
    late = replace(newton, losses=losses, method=replace(newton.method, label="late"))
    runs = best_runs(replace(sweep, families=(late, newton)))
    assert [run.name for run in runs] == ["Newton", "late"]


def test_a_start_where_the_loss_is_not_finite_is_refused():
    far = surfaces.sweep(surfaces.quadratic(), "sgd", start=(1e300, 0), steps=2, rates=(0.1,))
    with pytest.raises(ValueError, match="quadratic is not finite at the start"):
        viz.race_sheet(far)


def test_the_budget_in_words(sweep):
    assert budget(sweep) == "1 rate × 2 values of β, γ or β₁"
    assert budget(replace(sweep, families=(family(sweep, "newton"),))) == ""
    grids = {"rates": (0.1, 0.2), "epsilons": (1e-3,), "momenta": (0.9,)}
    small = surfaces.sweep(surfaces.quadratic(), "sgd,adadelta", steps=1, **grids)
    assert budget(small) == "2 rates or 1 value of ε (Adadelta) × 1 value of β, γ or β₁"


# ---------------------------------------------------------------- leaving the picture


def test_exits_are_where_segments_cross_the_frame():
    path = np.array([[0.5, 0.5], [2.5, 0.5], [2.5, 3.0], [1.0, 0.9], [1.0, -1.1]])
    (first, at_first, angle), (last, at_last, down) = exits(path, BOX)
    assert (first, last, angle, down) == (1, 4, 0.0, -90.0)
    np.testing.assert_allclose([at_first, at_last], [[2, 0.5], [1, 0]])


def test_a_segment_that_only_passes_through_the_picture_leaves_it_too():
    (step, point, angle), *others = exits(np.array([[-1.0, 0.0], [3.0, 1.0]]), BOX)
    assert (step, others) == (1, [])
    np.testing.assert_allclose([*point, angle], [2, 0.75, np.degrees(np.arctan2(1, 4))])


def test_no_exits_without_leaving():
    inside = np.array([[0.5, 0.5], [1.5, 0.9], [1.5, 0.9], [np.nan, np.nan]])
    assert exits(inside, BOX) == []
    assert exits(np.array([[3.0, 0.5], [4.0, 0.5], [4.0, 3.0]]), BOX) == []  # always outside


def test_the_picture_holds_a_start_outside_the_domain():
    far = surfaces.sweep(surfaces.quadratic(), "sgd", start=(-9, 0.5), steps=1, rates=(0.1,))
    ground = Ground(far)
    assert ground.holds(np.array([[-9, 0.5], [0, 0]])).all()
    assert 0.5 <= ground.ratio <= 1.25 + 1e-12
    assert not ground.holds(np.array([np.nan, 0]))


# ---------------------------------------------------------------- the sheet


def test_the_sheet_has_all_panels_best_first(sweep):
    assert list(panels(viz.race_sheet(sweep))) == ["all paths", "all losses", "Newton", "Adam", "SGD"]


def test_the_header_tells_problem_start_steps_and_budget(sweep):
    title, subtitle = (text.get_text() for text in viz.race_sheet(sweep).texts)
    assert title == "A quadratic with condition number 100"
    first, *others = subtitle.split("\n")
    assert first == "f = ½ (x² + 100 y²),  from (-1.8, 0.6),  30 steps, a dot every 2 steps"
    assert "best of the same grid: 1 rate × 2 values of β, γ or β₁." in " ".join(others)


def test_a_panel_shows_the_best_path_its_setting_and_its_loss(sweep):
    axes, adam = panels(viz.race_sheet(sweep))["Adam"], family(sweep, "adam")
    assert adam.best == (0, 1)
    np.testing.assert_array_equal(drawn_path(axes).get_xydata(), adam.paths[adam.best])
    dots = next(line for line in axes.lines if line.get_markersize() == 3.2)
    np.testing.assert_array_equal(dots.get_xydata(), adam.paths[adam.best][::2])
    assert axes.get_title(loc="right") == adam.setting()
    assert f"ends at loss {adam.ends[adam.best]:.2g}" in words(axes)


def test_a_panel_shows_start_minima_and_end(sweep):
    axes = panels(viz.race_sheet(sweep))["Newton"]
    marks = {line.get_marker(): line.get_xydata()[0] for line in axes.lines if len(line.get_xydata()) == 1}
    np.testing.assert_array_equal(marks["*"], [0, 0])
    end = next(line for line in axes.lines if line.get_color() == viz.ACCENT and line.get_markersize() == 7)
    np.testing.assert_allclose(end.get_xydata()[0], [0, 0], atol=1e-12)
    start = next(line for line in axes.lines if line.get_markerfacecolor() == "white")
    np.testing.assert_array_equal(start.get_xydata()[0], sweep.start)
    assert "minimum met at step 1" in words(axes)


def test_a_diverging_run_is_named_and_an_arrowhead_stands_where_it_leaves(sweep):
    axes = panels(viz.race_sheet(sweep))["SGD"]
    assert "leaves the picture at step 1\ndiverged at step 4" in words(axes)
    assert any(text.startswith("last loss ") for text in words(axes))
    arrows = [line for line in axes.lines if isinstance(line.get_marker(), tuple)]
    places = np.array([line.get_xydata()[0] for line in arrows])
    frame = np.array(Ground(sweep).box)
    assert len(arrows) == len(exits(family(sweep, "sgd").paths[0, 0], Ground(sweep).box)) >= 1
    assert (np.abs(places[:, :, None] - frame).min(axis=2).min(axis=1) < 1e-9).all()  # on the frame
    assert not any(line.get_clip_on() for line in arrows)


def test_a_run_that_comes_back_is_told_from_one_that_does_not(sweep):
    adam = family(sweep, "adam")
    paths = np.full_like(adam.paths, 0.5)
    paths[..., 3:5, :] = 7.0
    back = replace(sweep, families=(replace(adam, paths=paths),))
    assert "leaves the picture at step 3\nback at step 5" in words(panels(viz.race_sheet(back))["Adam"])
    paths[..., 10, :] = -7.0
    assert "leaves the picture at step 3\nback for good at step 11" in words(panels(viz.race_sheet(back))["Adam"])
    paths[..., -1, :] = 7.0
    assert "leaves the picture at step 3" in words(panels(viz.race_sheet(back))["Adam"])


def test_the_words_do_not_leave_their_panel_and_nothing_leaves_the_sheet(sweep):
    figure = viz.race_sheet(sweep)
    figure.canvas.draw()
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert box.x0 > axes.bbox.x0 - 1, text
            assert box.x1 < axes.bbox.x1 + 1, text
    for text in [*figure.texts, *figure.legends]:
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text


def test_all_losses_are_drawn_and_what_leaves_the_scale_is_marked(sweep):
    axes = panels(viz.race_sheet(sweep))["all losses"]
    assert axes.get_yscale() == "log"
    curves = [line for line in axes.lines if len(line.get_xydata()) == 31]
    assert len(curves) == 3
    assert all((curve.get_ydata()[~np.isnan(curve.get_ydata())] >= 1e-16).all() for curve in curves)
    sgd = family(sweep, "sgd").losses[0, 0]
    assert sgd[1] > axes.get_ylim()[1]
    assert [line.get_marker() for line in axes.lines if isinstance(line.get_marker(), tuple)] == [(3, 0, 0.0)]
    assert axes.get_title(loc="right") == "1e-16 stands for all below"


def test_the_legend_names_all_methods_and_tells_them_apart(sweep):
    figure = viz.race_sheet(sweep)
    legend = next(axes.get_legend() for axes in figure.axes if axes.get_legend())
    assert [text.get_text() for text in legend.get_texts()] == ["Newton", "Adam", "SGD"]
    assert len({(line.get_color(), line.get_marker()) for line in legend.get_lines()}) == 3


def test_a_sheet_of_one_method_and_one_step():
    tiny = surfaces.sweep(surfaces.himmelblau(), "newton", steps=1)
    figure = viz.race_sheet(tiny)
    assert list(panels(figure)) == ["all paths", "all losses", "Newton"]
    assert "1 step, a dot every step" in figure.texts[1].get_text()
    assert "No method here has anything to tune." in figure.texts[1].get_text()


def test_the_sheet_refuses_what_is_no_sweep():
    with pytest.raises(TypeError, match="sweep is of type int, expected a Sweep"):
        viz.race_sheet(3)
