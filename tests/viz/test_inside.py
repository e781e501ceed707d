"""The parts of a step add up to it, and the rates that coordinates have are the ones of the equations."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, Rectangle

from minidl import surfaces, viz
from minidl.viz import inside

HIMMELBLAU = surfaces.himmelblau()
QUADRATIC = surfaces.quadratic(100)


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def header_fits(figure):
    figure.canvas.get_renderer()
    return all(text.get_window_extent().x1 < figure.bbox.x1 for text in figure.texts)


@pytest.mark.parametrize("method", inside.NAMES)
def test_the_parts_make_the_step(method):
    step = inside.dissect(HIMMELBLAU, method, 7)
    assert step.path.shape == (7, 2)
    assert tuple(step.path[0]) == HIMMELBLAU.start
    np.testing.assert_allclose(step.update, step.carried - step.lr * step.mean / step.root, rtol=1e-9)
    at = step.path[-1] + (step.carried if method == "nesterov" else 0)
    np.testing.assert_allclose(step.g, HIMMELBLAU.gradient(at), rtol=1e-9)
    np.testing.assert_array_equal(inside.dissect(HIMMELBLAU, method, 8).path[-1], step.path[-1] + step.update)


@pytest.mark.parametrize("method", ["heavyball", "nesterov"])
def test_momentum_carries_the_last_displacement(method):
    step = inside.dissect(HIMMELBLAU, method, 7)
    np.testing.assert_allclose(step.carried, 0.9 * (step.path[-1] - step.path[-2]), rtol=1e-9)


def test_the_roots_and_means_are_those_of_the_gradients_on_the_way():
    m, v, largest, total = 0.0, 0.0, 0.0, 0.0
    for t in range(1, 13):
        adagrad, adam, amsgrad = (inside.dissect(HIMMELBLAU, name, t) for name in ("adagrad", "adam", "amsgrad"))
        total += HIMMELBLAU.gradient(adagrad.path[-1]) ** 2
        np.testing.assert_allclose(adagrad.root, np.sqrt(total + 1e-8), rtol=1e-9)
        g = HIMMELBLAU.gradient(amsgrad.path[-1])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        largest = np.maximum(largest, v)
        np.testing.assert_allclose(amsgrad.mean, m, rtol=1e-9)
        np.testing.assert_allclose(amsgrad.root, np.sqrt(largest) + 1e-8, rtol=1e-9)
    weights = 0.9 ** np.arange(11, -1, -1)[:, None]
    g = HIMMELBLAU.gradient(adam.path)
    np.testing.assert_allclose(adam.mean, (weights * g).sum(axis=0) / weights.sum(), rtol=1e-9)
    weights = 0.999 ** np.arange(11, -1, -1)[:, None]
    np.testing.assert_allclose(adam.root, np.sqrt((weights * g**2).sum(axis=0) / weights.sum()) + 1e-8, rtol=1e-9)


def test_adams_first_step_is_the_sign_of_the_gradient_and_amsgrads_is_longer():
    step = inside.dissect(QUADRATIC, "adam", 1, lr=0.1)
    np.testing.assert_allclose(step.update, [0.1, -0.1], rtol=1e-6)
    step = inside.dissect(QUADRATIC, "amsgrad", 1, lr=0.1)
    np.testing.assert_allclose(step.update, np.array([0.1, -0.1]) * 0.1 / np.sqrt(0.001), rtol=1e-6)


def test_the_effective_rates_are_those_of_the_equations():
    moved, slope = inside.effective_rates(QUADRATIC, "sgd", 20, 0.004)
    np.testing.assert_allclose(moved / slope, 0.004, rtol=1e-9)
    np.testing.assert_allclose(slope[0], [1.8, 60])
    moved, slope = inside.effective_rates(QUADRATIC, "adagrad", 3, 0.1)
    np.testing.assert_allclose(moved / slope, 0.1 / np.sqrt(np.cumsum(slope**2, axis=0) + 1e-8), rtol=1e-9)
    moved, slope = inside.effective_rates(QUADRATIC, "rmsprop", 1, 0.1)
    np.testing.assert_allclose((moved / slope)[0], 0.1 / np.sqrt(0.1 * slope[0] ** 2 + 1e-8))


def test_the_default_rates_follow_curvature_or_width():
    assert inside.default_rate(QUADRATIC, "sgd") == 0.005
    assert inside.default_rate(surfaces.quadratic(25), "heavyball") == 0.02
    assert inside.default_rate(HIMMELBLAU, "adam") == 0.1
    assert inside.default_rate(HIMMELBLAU, "adagrad") == 0.3


def test_inside_one_step_draws_the_arrows_and_boxes_of_each_method():
    figure = viz.inside_one_step(HIMMELBLAU, step=6)
    shown = panels(figure)
    assert list(shown) == ["SGD", "Heavy ball", "Nesterov", "AdaGrad", "RMSProp", "Adam", "AMSGrad", "How to read it"]
    assert "step 6" in figure.texts[0].get_text()
    counts = {name: sum(isinstance(p, FancyArrowPatch) for p in axes.patches) for name, axes in shown.items()}
    assert counts == dict(zip(shown, [2, 3, 3, 2, 2, 3, 3, 0], strict=True))
    boxes = {name: [p for p in axes.patches if isinstance(p, Rectangle)] for name, axes in shown.items()}
    assert [len(found) for found in boxes.values()] == [0, 0, 0, 2, 2, 2, 2, 0]
    step = inside.dissect(HIMMELBLAU, "adam", 6)
    square, box = boxes["Adam"]
    assert square.get_width() == square.get_height() == pytest.approx(2 * np.abs(step.update).max())
    assert box.get_height() / box.get_width() == pytest.approx(step.root[1] / step.root[0])
    assert max(box.get_height(), box.get_width()) == pytest.approx(square.get_width())
    assert shown["Adam"].get_title(loc="right") == "η 0.1"
    assert len(shown["How to read it"].get_legend().get_texts()) == 6
    assert header_fits(figure)
    assert header_fits(viz.inside_one_step(HIMMELBLAU, "adam"))


def test_a_method_that_has_converged_is_drawn_as_such():
    shown = panels(viz.inside_one_step(HIMMELBLAU, "sgd,adagrad", 200))
    assert shown["SGD"].get_title() == "converged"
    assert shown["AdaGrad"].get_title() == ""
    low, high = shown["SGD"].get_xlim()
    assert high - low == pytest.approx(1)  # a tenth of the domain


def test_effective_steps_draws_both_coordinates_and_their_quotient():
    figure = viz.effective_steps(QUADRATIC, ("sgd", "adagrad"), 40, rates={"sgd": 0.004})
    shown = panels(figure)
    assert list(shown) == ["SGD", "AdaGrad", "x's rate over y's"]
    bold = {line.get_label(): line.get_ydata() for line in shown["SGD"].lines if line.get_linewidth() > 1}
    np.testing.assert_allclose([bold["x"], bold["y"]], 0.004, rtol=1e-9)
    assert shown["SGD"].get_title(loc="right") == "η 0.004"
    assert shown["SGD"].get_yscale() == "log"
    thin = [line.get_ydata() for line in shown["AdaGrad"].lines if line.get_linewidth() < 1]
    moved, slope = inside.effective_rates(QUADRATIC, "adagrad", 40)
    np.testing.assert_allclose(thin, (moved / slope).T)
    moved, slope = moved.sum(axis=0), slope.sum(axis=0)
    quotient = next(line for line in shown["x's rate over y's"].lines if line.get_marker() == "o").get_xdata()
    np.testing.assert_allclose(quotient, [1, moved[0] / slope[0] / (moved[1] / slope[1])], rtol=1e-9)
    assert header_fits(figure)


def test_adaptive_methods_give_the_flat_direction_more():
    figure = viz.effective_steps(QUADRATIC)
    axes = panels(figure)["x's rate over y's"]
    quotient = dict(zip(inside.METHODS, axes.lines[1].get_xdata(), strict=True))
    assert all(quotient[name] > 10 for name in ("adagrad", "rmsprop", "adam", "amsgrad"))


def test_where_a_coordinate_converges_without_rounding_nothing_is_left_out():
    moved, slope = inside.effective_rates(QUADRATIC, "sgd", 300, 0.005)
    assert slope[-1, 1] < 1e-80
    np.testing.assert_allclose(moved / slope, 0.005, rtol=1e-9)


def test_a_coordinate_that_has_converged_to_rounding_is_left_out():
    figure = viz.effective_steps(HIMMELBLAU, ("sgd",), 100)
    line = panels(figure)["SGD"].lines[0].get_ydata()
    assert np.isnan(line[-1])
    np.testing.assert_allclose(line[~np.isnan(line)], 0.01, rtol=1e-2)


@pytest.mark.parametrize("picture", [viz.inside_one_step, viz.effective_steps])
def test_bad_input_is_named(picture):
    who = picture.__name__
    with pytest.raises(TypeError, match=f"{who}: problem is str, expected a Problem"):
        picture("himmelblau")
    with pytest.raises(ValueError, match=f"{who}: rosenbrock has 3 dimensions, expected 2"):
        picture(surfaces.rosenbrock(3))
    with pytest.raises(ValueError, match="unknown 'adadelta'; expected some of sgd"):
        picture(HIMMELBLAU, "sgd,adadelta")
    with pytest.raises(ValueError, match=f"{who}: rates has adam, expected some of the methods"):
        picture(HIMMELBLAU, "sgd", rates={"adam": 0.1})
    with pytest.raises(ValueError, match="is 0, expected a positive integer"):
        picture(HIMMELBLAU, "sgd", 0)
    with pytest.raises(ValueError, match="diverges on himmelblau, expected a smaller rate"):
        picture(HIMMELBLAU, "sgd", 20, rates={"sgd": 5.0})
