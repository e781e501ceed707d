"""The sweep runs the real optimizers: each of its paths equals a run of one optimizer alone."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

import minidl as ml
from minidl import surfaces
from minidl.optim import catalogue

RATES = (1e-4, 3e-3)
GRID = {"rates": RATES, "epsilons": (1e-6, 1e-2), "momenta": (0.5, 0.9), "steps": 25}


def alone(problem, method, value, momentum, steps):
    x = ml.Tensor(np.array(problem.start), requires_grad=True)
    optimizer = method.make([x], value, momentum)

    def loss():
        total = problem(x)
        total.backward()
        return total

    path = [x.data.copy()]
    for _ in range(steps):
        optimizer.step((lambda: problem.residuals(x)) if method.closure == "residuals" else loss)
        path.append(optimizer.weights)
    return np.array(path)


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_every_path_of_a_family_equals_a_run_alone(name):
    problem = surfaces.himmelblau()
    (family,) = surfaces.sweep(problem, [name], **GRID).families
    method = family.method
    assert family.paths.shape == (len(family.values), len(family.momenta), 26, 2)
    for i, value in enumerate(family.values):
        for j, momentum in enumerate(family.momenta):
            expected = alone(problem, method, value, momentum, 25)
            np.testing.assert_allclose(family.paths[i, j], expected, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(family.losses[i, j], problem(expected).data, rtol=1e-6, atol=1e-20)


def test_the_grid_that_a_method_has():
    families = {f.method.name: f for f in surfaces.sweep(surfaces.quadratic(), catalogue.RACE, **GRID).families}
    assert list(families) == list(catalogue.RACE)
    assert families["sgd"].paths.shape[:2] == (2, 1)
    assert families["adam"].paths.shape[:2] == (2, 2)
    assert families["adadelta"].values == (1e-6, 1e-2)
    assert families["newton"].paths.shape[:2] == (1, 1)
    assert families["newton"].setting() == "nothing to tune"
    assert families["adam"].setting((1, 0)) == "η 0.003, β₁ 0.5"
    assert families["adadelta"].setting((0, 1)) == "ε 1e-06, γ 0.9"


def test_divergence_is_nan_from_there_on_and_never_the_best():
    problem = surfaces.quadratic(100)
    (family,) = surfaces.sweep(problem, ["sgd"], rates=(0.015, 0.03, 1.0), momenta=(), steps=60).families
    assert family.diverged[:, 0].tolist() == [False, True, True], "the rate must stay below 2 / 100"
    assert family.best == (0, 0)
    bad = np.isnan(family.losses[2, 0])
    first = int(bad.argmax())
    assert 1 < first < 60
    assert bad[first:].all()
    assert np.isfinite(family.paths[2, 0, :first]).all()


def test_the_best_ends_lowest_by_the_median_of_its_last_quarter():
    (family,) = surfaces.sweep(surfaces.quadratic(), ["heavyball"], rates=(1e-4, 1e-2), momenta=(0, 0.9)).families
    ends = np.sort(family.losses[:, :, -50:], axis=-1)[:, :, 24:26].mean(axis=-1)
    np.testing.assert_allclose(family.ends, ends, rtol=1e-10)
    assert family.best == np.unravel_index(ends.argmin(), ends.shape)

    # below 1e-16 all are equal, and the one that fell faster is the best; a run that diverged never is
    falls = np.array([[1, 1, 1e-30], [1, 1e-9, 1e-20], [1, 1e-19, 1e-15], [1, 1e-25, np.nan]])[:, None]
    assert replace(family, losses=falls).best == (1, 0)
    lucky = np.array([[9.0] * 8 + [1e-9], [5.0] * 9])[:, None]
    assert replace(family, losses=np.repeat(lucky, 3, axis=-1)[:, :, :-2]).best == (1, 0), "one step is no end"


def test_a_run_arrives_when_it_stays_and_the_edge_of_the_grid_is_known():
    (family,) = surfaces.sweep(surfaces.quadratic(), ["sgd"], rates=(1e-3, 1e-2), momenta=(), steps=5).families
    away, here = [1.0, 1.0], [0.001, 0.0]
    paths = np.array([[away, here, away, here, here, here], [away, here, here, here, here, away]])[:, None]
    assert replace(family, paths=paths).arrivals([(0.0, 0.0), (9.0, 9.0)]).tolist() == [[3], [-1]]
    assert replace(family, paths=np.zeros_like(paths)).arrivals([(0.0, 0.0)]).tolist() == [[0], [0]]
    assert replace(family, paths=np.full_like(paths, np.nan)).arrivals([(0.0, 0.0)]).tolist() == [[-1], [-1]]
    assert family.at_edge
    (middle,) = surfaces.sweep(surfaces.quadratic(), ["sgd"], rates=(1e-3, 1e-2, 1), momenta=(), steps=50).families
    assert not middle.at_edge
    (newton,) = surfaces.sweep(surfaces.quadratic(), ["newton"], steps=3).families
    assert not newton.at_edge


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": "sgdd"}, "optimizers: unknown 'sgdd'; expected some of sgd, heavyball"),
        ({"steps": 0}, "sweep: steps is 0"),
        ({"start": (1, 2, 3)}, r"sweep: start is \(1, 2, 3\), expected two finite numbers"),
        ({"start": (1, np.nan)}, "sweep: start is"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        surfaces.sweep(surfaces.beale(), **{"methods": "sgd", **settings})
    with pytest.raises(ValueError, match="sweep: rosenbrock has 3 dimensions, expected 2"):
        surfaces.sweep(surfaces.rosenbrock(3), "sgd")


def test_two_runs_are_judged_each_by_itself():
    class Wanderers:
        places = iter([[[1.0, 1.0], [1e9, 0.0]], [[2.0, 2.0], [0.5, 0.5]]])

        def step(self, closure):
            self.weights = np.array(next(self.places)).ravel()

    points = ml.Tensor(np.zeros((2, 2)), requires_grad=True)
    path = importlib.import_module("minidl.surfaces.sweep")._path(surfaces.beale(), points, Wanderers(), 2, False)
    np.testing.assert_array_equal(path[0], [[0, 0], [1, 1], [2, 2]])
    assert np.isnan(path[1, 1:]).all(), "left at the first step, it stays away"
