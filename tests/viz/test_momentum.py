"""The heavy ball's rate of convergence: against eigenvalues, the real optimizer, and Polyak's closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import optim, surfaces, viz
from minidl.tensor import Tensor
from minidl.viz import momentum


def test_the_rate_is_the_spectral_radius_over_all_eigenvalues(rng):
    alpha, beta = rng.uniform(0.01, 4, 200), rng.uniform(0, 1, 200)
    spectrum = np.concatenate([[0.05, 1.0], rng.uniform(0.05, 1.0, 30)])  # the ends alone must do
    radius = np.zeros(200)
    for i in range(200):
        matrices = [[[1 + beta[i] - alpha[i] * each, -beta[i]], [1, 0]] for each in spectrum]
        radius[i] = np.abs(np.linalg.eigvals(np.array(matrices))).max()
    np.testing.assert_allclose(viz.heavy_ball_rate(alpha, beta, spectrum), radius, rtol=1e-7)
    assert viz.heavy_ball_rate(alpha[:, None], beta[:5], 1.0).shape == (200, 5)


@pytest.mark.parametrize(
    ("condition", "alpha", "beta", "steps"),
    [
        (10, 0.15, 0.5, 1000),  # every direction oscillates: √0.5
        (10, 0.02, 0.3, 2000),  # the flat direction creeps
        (10, 0.2599, 0.3, 2000),  # the steep direction is close to diverging
        (10, 0.27, 0.3, 1000),  # and diverges
        (100, 0.019, 0.0, 2000),  # gradient descent
        (100, 0.03, 0.9, 2000),
    ],
)
def test_the_rate_is_what_the_optimizer_shows_in_the_long_run(condition, alpha, beta, steps):
    problem = surfaces.quadratic(condition)
    W = Tensor(np.array([1.0, 1.0]), requires_grad=True)
    optimizer = optim.HeavyBall([W], lr=alpha, beta=beta)

    def loss():
        value = problem(W)
        value.backward()
        return value

    errors = [W.data.copy()]
    for _ in range(steps):
        optimizer.step(loss)
        errors.append(W.data.copy())
    size = [np.linalg.norm(errors[t : t + 2]) for t in (steps // 2, steps - 1)]
    measured = (size[1] / size[0]) ** (1 / (steps - 1 - steps // 2))
    assert measured == pytest.approx(float(viz.heavy_ball_rate(alpha, beta, (1, condition))), rel=2e-3)


@pytest.mark.parametrize("condition", [1.0, 4.0, 10.0, 100.0, 1e4])
def test_polyaks_setting_has_his_rate_and_no_other_is_better(condition):
    M, mu, root = condition, 1.0, np.sqrt(condition)
    rate = (root - 1) / (root + 1)
    alpha, beta, found = momentum.best_setting(condition)
    assert (alpha / M, beta, found) == pytest.approx(((2 / (root + np.sqrt(mu))) ** 2, rate**2, rate))
    # both roots meet there, so rounding of 1e-16 under the square root shows as 1e-8
    assert viz.heavy_ball_rate(alpha / M, beta, (mu, M)) == pytest.approx(rate, abs=1e-7)
    alphas, betas = np.linspace(1e-3, 4, 300) / M, np.linspace(0, 0.999, 300)
    assert viz.heavy_ball_rate(alphas, betas[:, None], (mu, M)).min() >= rate - 1e-12


def test_gradient_descent_has_its_known_optimum():
    M, mu = 100.0, 1.0
    assert viz.heavy_ball_rate(2 / (M + mu), 0, (mu, M)) == pytest.approx((M - mu) / (M + mu))
    assert viz.heavy_ball_rate(np.linspace(1e-3, 0.03, 999), 0, (mu, M)).min() >= (M - mu) / (M + mu) - 1e-12


def test_it_diverges_from_twice_one_plus_beta_over_the_largest_eigenvalue_on(rng):
    beta = rng.uniform(0, 0.99, 50)
    edge = 2 * (1 + beta) / 7.0
    assert (viz.heavy_ball_rate(edge * 1.0001, beta, (0.5, 7.0)) > 1).all()
    assert (viz.heavy_ball_rate(edge * 0.9999, beta, (0.5, 7.0)) < 1).all()


def test_the_map_marks_both_optima_and_the_region_of_divergence():
    figure = viz.momentum_map((10, 100))
    maps = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in maps] == ["κ = 10", "κ = 100"]
    marks = {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0]) for line in maps[1].lines}
    assert marks["*"] == pytest.approx((400 / 121, 81 / 121))
    assert marks["o"] == pytest.approx((200 / 101, 0))
    words = maps[1].texts[-1].get_text()
    assert "α = 3.31/M, β = 0.669" in words
    assert "rate 0.818" in words
    assert "rate 0.980" in words
    hatched = [patch for patch in maps[1].patches if patch.get_hatch()]
    assert hatched[0].get_xy()[:3].tolist() == [[2, 0], [4, 1], [4, 0]]
    words = " ".join(text.get_text() for text in figure.legends[0].get_texts())
    assert "diverges: α > 2 (1 + β) / M" in words
    figure.canvas.get_renderer()
    assert all(text.get_window_extent().x1 < figure.bbox.x1 for text in viz.momentum_map((10,)).texts)


def test_the_colours_are_steps_for_one_digit():
    axes = viz.momentum_map((10,)).axes[0]
    steps = axes.collections[0].get_array()
    rate = viz.heavy_ball_rate(np.linspace(0, 4, 401)[1:], np.linspace(0, 1, 400, endpoint=False)[:, None], (0.1, 1))
    inside = (rate > 0.01) & (rate < 0.999)
    np.testing.assert_allclose(rate[inside] ** steps[inside], 0.1, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 0.5, ()), "eigenvalues"),
        ((0.1, 0.5, (1, -1)), "eigenvalues is .1, -1., expected positive numbers"),
        ((0.0, 0.5, 1), "alpha has values that are not positive"),
        ((0.1, 1.0, 1), "beta has values outside"),
        ((0.1, float("nan"), 1), "beta has values outside"),
    ],
)
def test_bad_numbers_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"heavy_ball_rate: {message}"):
        viz.heavy_ball_rate(*arguments)


@pytest.mark.parametrize("conditions", [(), (0.5,), (float("inf"),)])
def test_bad_conditions_are_named(conditions):
    with pytest.raises(ValueError, match="momentum_map: conditions is .*expected numbers of at least 1"):
        viz.momentum_map(conditions)
