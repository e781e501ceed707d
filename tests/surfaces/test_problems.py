"""The test problems: values, gradients and minima against the formulas of the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize

import minidl as ml
from minidl import ops, surfaces

every_problem = pytest.mark.parametrize("name", surfaces.PROBLEMS)

FORMULAS = {
    "rosenbrock": lambda x, y: 100 * (y - x**2) ** 2 + (1 - x) ** 2,
    "beale": lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
    "himmelblau": lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2,
    "saddle": lambda x, y: x**2 / 2 + (y**2 - 1) ** 2 / 4,
    "quadratic": lambda x, y: (x**2 + 100 * y**2) / 2,
    "rastrigin": lambda x, y: x**2 + y**2 + 10 * (2 - math.cos(2 * math.pi * x) - math.cos(2 * math.pi * y)),
}


@every_problem
def test_values_equal_the_formula_and_the_sum_of_squared_residuals(name, rng):
    problem = surfaces.problem(name)
    points = rng.uniform(-3, 3, (50, 2))
    expected = [FORMULAS[name](x, y) for x, y in points]
    np.testing.assert_allclose(problem(points).data, expected, rtol=1e-12)
    np.testing.assert_allclose((problem.residuals(points).data ** 2).sum(axis=-1), expected, rtol=1e-12)
    assert problem(points[0]).shape == ()
    assert problem.residuals(points[0]).ndim == 1


@every_problem
def test_gradients_agree_with_central_differences(name, rng):
    problem = surfaces.problem(name)
    ml.check_gradients(problem, rng.uniform(-2, 2, (4, 2)), generator=rng)
    points = rng.uniform(-2, 2, (4, 2))
    np.testing.assert_array_equal(problem.gradient(points)[1], problem.gradient(points[1]))


@every_problem
def test_the_minima_are_minima(name):
    problem = surfaces.problem(name)
    for point in problem.minima:
        assert problem(point).item() == pytest.approx(0, abs=1e-20)
        np.testing.assert_allclose(problem.gradient(point), 0, atol=1e-10)
        x = ml.Tensor(np.array(point), requires_grad=True)
        assert np.linalg.eigvalsh(ml.hessian(lambda x=x: problem(x), x)).min() > 0
    assert problem(problem.start).item() > 0.01
    for point in (*problem.minima, problem.start):
        assert all(low < w < high for w, (low, high) in zip(point, problem.domain, strict=True)), "in the picture"


@every_problem
def test_no_minimum_is_missing(name, rng):
    """Minimized by SciPy from many places, the lowest points found are the ones that are listed."""
    problem = surfaces.problem(name)
    found = set()
    for _ in range(40):
        result = scipy.optimize.minimize(lambda w: FORMULAS[name](*w), [rng.uniform(*side) for side in problem.domain])
        if result.fun < 1e-8:
            found.add(tuple(float(w) + 0.0 for w in np.round(result.x, 2)))
    assert found <= {tuple(float(w) + 0.0 for w in np.round(point, 2)) for point in problem.minima}
    if name != "rastrigin":  # of its many minima, few runs end in the lowest
        assert len(found) == len(problem.minima)


def test_the_condition_number_and_the_dimension_are_arguments():
    for condition in (1, 7.5, 1e4):
        problem = surfaces.quadratic(condition, dimension=4)
        x = ml.Tensor(np.ones(4), requires_grad=True)
        assert np.linalg.cond(ml.hessian(lambda p=problem, x=x: p(x), x)) == pytest.approx(condition, rel=1e-9)
    for make in (surfaces.rosenbrock, surfaces.rastrigin):
        problem = make(5)
        assert problem(problem.minima[0]).item() == pytest.approx(0, abs=1e-20)
        assert problem.dimension == 5
    w = np.random.default_rng(0).standard_normal(6)
    assert surfaces.rosenbrock(6)(w).item() == pytest.approx(scipy.optimize.rosen(w), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surfaces.problem("everest"), "surface is 'everest', expected one of rosenbrock, beale"),
        (lambda: surfaces.quadratic(0.5), "quadratic: condition is 0.5"),
        (lambda: surfaces.quadratic(math.inf), "quadratic: condition is inf"),
        (lambda: surfaces.rosenbrock(1), "rosenbrock: dimension is 1, expected an integer of at least 2"),
        (lambda: surfaces.rosenbrock()(np.ones(3)), r"rosenbrock: W has shape \(3,\), expected \(…, 2\)"),
        (lambda: surfaces.beale()(ops.sum(np.ones(2))), r"beale: W has shape \(\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
