"""Newton, Gauss–Newton, Levenberg–Marquardt and steepest descent against references written from the equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize

import minidl as ml
from minidl import models, nn, ops, optim, surfaces
from minidl.optim import penalties


def leaf(values, dtype=np.float64):
    return ml.Tensor(np.array(values, dtype), requires_grad=True)


def loss_closure(function, x):
    def closure():
        loss = function(x)
        loss.backward()
        return loss

    return closure


def path(optimizer, closure, steps):
    for _ in range(steps):
        optimizer.step(closure)
        yield optimizer.weights


# Rosenbrock's function in two dimensions, by hand.


def rosenbrock_gradient(w):
    x, y = w
    return np.array([-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)])


def rosenbrock_hessian(w):
    x, y = w
    return np.array([[1200 * x * x - 400 * y + 2, -400 * x], [-400 * x, 200]])


def rosenbrock_residuals(w):
    x, y = w
    return np.array([10 * (y - x * x), 1 - x])


def rosenbrock_jacobian(w):
    return np.array([[-20 * w[0], 10], [-1, 0]])


ROSENBROCK = surfaces.rosenbrock()
FACTOR = np.random.default_rng(5).standard_normal((6, 4))
TARGET = np.random.default_rng(6).standard_normal(6)


def linear_residuals(x):
    return lambda: ml.Tensor(FACTOR) @ x - TARGET


SECOND_ORDER = {
    "SteepestDescent": (optim.SteepestDescent, "loss"),
    "SteepestDescent, Wolfe": (lambda p: optim.SteepestDescent(p, search="wolfe"), "loss"),
    "Newton": (optim.Newton, "loss"),
    "GaussNewton": (optim.GaussNewton, "residuals"),
    "LevenbergMarquardt": (optim.LevenbergMarquardt, "residuals"),
    "LevenbergMarquardt, diagonal": (lambda p: optim.LevenbergMarquardt(p, damping="diagonal"), "residuals"),
}
every_method = pytest.mark.parametrize("name", SECOND_ORDER)


def problem_closure(problem, x, kind):
    return (lambda: problem.residuals(x)) if kind == "residuals" else loss_closure(problem, x)


# ---------------------------------------------------------------- Newton


def test_newton_is_its_equation_where_the_hessian_is_positive_definite():
    x = leaf([1.2, 1.3])
    w = np.array([1.2, 1.3])
    for step, got in enumerate(path(optimizer := optim.Newton([x]), loss_closure(ROSENBROCK, x), 5), start=1):
        if step == 2:  # the full step would climb, as the reference shows; then it is halved
            full = w - np.linalg.solve(rosenbrock_hessian(w), rosenbrock_gradient(w))
            assert (ROSENBROCK(full).item() > ROSENBROCK(w).item()) == (optimizer.eta < 1)
        w = w - optimizer.eta * np.linalg.solve(rosenbrock_hessian(w), rosenbrock_gradient(w))
        np.testing.assert_allclose(got, w, rtol=1e-10)
        assert not optimizer.damped


def test_newton_solves_a_quadratic_in_one_full_step():
    problem = surfaces.quadratic(1e4, dimension=5)
    x = leaf(np.linspace(-2, 3, 5))
    optimizer = optim.Newton([x])
    optimizer.step(loss_closure(problem, x))
    np.testing.assert_allclose(optimizer.weights, 0, atol=1e-12)
    assert (optimizer.eta, optimizer.damped) == (1, False)


def test_newton_takes_absolute_eigenvalues_where_the_hessian_is_indefinite():
    x = leaf([0.2, 0.5])
    H, g = rosenbrock_hessian([0.2, 0.5]), rosenbrock_gradient([0.2, 0.5])
    assert np.linalg.eigvalsh(H)[0] < 0
    eigenvalues, Q = np.linalg.eigh(H)
    expected = x.data - Q @ np.diag(1 / np.abs(eigenvalues)) @ Q.T @ g
    optimizer = optim.Newton([x])
    optimizer.step(loss_closure(ROSENBROCK, x))
    assert optimizer.damped
    assert optimizer.eta == 1
    np.testing.assert_allclose(optimizer.weights, expected, rtol=1e-10)


@pytest.mark.parametrize("name", surfaces.PROBLEMS)
def test_newton_and_steepest_descent_never_climb(name):
    problem = surfaces.problem(name)
    rng = np.random.default_rng(1)
    for method in (optim.Newton, optim.SteepestDescent):
        for _ in range(5):
            x = leaf([rng.uniform(*side) for side in problem.domain])
            losses = [problem(w).item() for w in path(method([x]), loss_closure(problem, x), 25)]
            assert (np.diff(losses) <= 1e-12 * (1 + np.abs(losses[:-1]))).all(), (method, losses)


def test_newton_escapes_a_saddle_and_converges_where_its_full_step_diverges():
    x = leaf([1.5, 0.01])
    *_, last = path(optim.Newton([x]), loss_closure(surfaces.saddle(), x), 30)
    np.testing.assert_allclose(last, [0, 1], atol=1e-8)

    root = lambda x: ops.sqrt(1 + x * x).sum()  # Newton's full step from x is −x³
    x = leaf([3.0])
    *_, last = path(optim.Newton([x]), loss_closure(root, x), 30)
    np.testing.assert_allclose(last, 0, atol=1e-8)


def test_newton_with_a_penalty_solves_the_ridge_problem():
    x = leaf(np.zeros(4))
    optimizer = optim.Newton([x], penalty=penalties.L2(0.6, batch_size=2))
    least_squares = lambda x: ((ml.Tensor(FACTOR) @ x - TARGET) ** 2).sum()
    optimizer.step(loss_closure(least_squares, x))
    expected = np.linalg.solve(2 * FACTOR.T @ FACTOR + 0.3 * np.eye(4), 2 * FACTOR.T @ TARGET)
    np.testing.assert_allclose(optimizer.weights, expected, rtol=1e-10)
    with pytest.raises(ValueError, match="Newton: penalty is .*, expected one that is not decoupled"):
        optim.Newton([leaf([1.0])], penalty=penalties.L2(0.1, decoupled=True))


# ---------------------------------------------------------------- Gauss–Newton and Levenberg–Marquardt


def test_gauss_newton_is_its_equation():
    x = leaf([-1.2, 1.0])
    w = np.array([-1.2, 1.0])
    for got in path(optim.GaussNewton([x]), lambda: ROSENBROCK.residuals(x), 2):
        J = rosenbrock_jacobian(w)
        w = w - np.linalg.inv(J.T @ J) @ J.T @ rosenbrock_residuals(w)
        np.testing.assert_allclose(got, w, rtol=1e-9)
    np.testing.assert_allclose(w, [1, 1], rtol=1e-9)


@pytest.mark.parametrize("method", [optim.GaussNewton, lambda p: optim.LevenbergMarquardt(p, mu=1e-14)])
def test_one_step_solves_a_linear_problem(method):
    x = leaf(np.zeros(4))
    optimizer = method([x])
    loss = optimizer.step(linear_residuals(x))
    np.testing.assert_allclose(optimizer.weights, np.linalg.lstsq(FACTOR, TARGET)[0], rtol=1e-10)
    assert loss == pytest.approx(TARGET @ TARGET, rel=1e-14)


@pytest.mark.parametrize("damping", ["identity", "diagonal"])
def test_a_step_of_levenberg_marquardt_is_its_equation(damping):
    x = leaf(np.ones(4))
    optimizer = optim.LevenbergMarquardt([x], mu=0.7, damping=damping)
    optimizer.step(linear_residuals(x))
    A = FACTOR.T @ FACTOR
    D = np.eye(4) if damping == "identity" else np.diag(np.diag(A))
    expected = np.ones(4) - np.linalg.inv(A + 0.7 * D) @ FACTOR.T @ (FACTOR @ np.ones(4) - TARGET)
    np.testing.assert_allclose(optimizer.weights, expected, rtol=1e-10)


def test_strong_damping_is_a_short_gradient_step():
    x = leaf(np.ones(4))
    optimizer = optim.LevenbergMarquardt([x], mu=1e9)
    optimizer.step(linear_residuals(x))
    gradient = FACTOR.T @ (FACTOR @ np.ones(4) - TARGET)
    np.testing.assert_allclose(optimizer.weights - 1, -gradient / 1e9, rtol=1e-6)


def levenberg_marquardt(w, residuals, jacobian, mu, damping, steps):
    """The method once more, with normal equations in extended precision, one trial after the other."""
    LD = np.longdouble
    w, mu, nu = np.array(w, LD), LD(mu), LD(2)
    for _ in range(steps):
        r, J = residuals(w).astype(LD), jacobian(w).astype(LD)
        A = J.T @ J
        while True:
            D = np.eye(len(w)) if damping == "identity" else np.diag(np.diag(A))
            M, b = A + mu * D, -J.T @ r
            determinant = M[0, 0] * M[1, 1] - M[0, 1] * M[1, 0]
            delta = np.array([M[1, 1] * b[0] - M[0, 1] * b[1], M[0, 0] * b[1] - M[1, 0] * b[0]]) / determinant
            new = residuals(w + delta)
            linear = r + J @ delta
            gain = (r @ r - new @ new) / (r @ r - linear @ linear)
            if gain > 0:
                w, mu, nu = w + delta, mu * max(LD(1) / 3, 1 - (2 * gain - 1) ** 3), LD(2)
                break
            mu, nu = mu * nu, 2 * nu
        yield w.astype(float), float(mu)


@pytest.mark.parametrize("damping", ["identity", "diagonal"])
def test_the_trajectory_with_accepted_and_rejected_steps_equals_the_reference(damping):
    x = leaf([-1.2, 1.0])
    optimizer = optim.LevenbergMarquardt([x], damping=damping)
    reference = levenberg_marquardt([-1.2, 1.0], rosenbrock_residuals, rosenbrock_jacobian, 1e-2, damping, 12)
    assert (optimizer.gain, optimizer.rejected, optimizer.accepted) == (0, 0, False)
    rejected = 0
    for w, mu in reference:
        optimizer.step(lambda: ROSENBROCK.residuals(x))
        rejected += optimizer.rejected
        np.testing.assert_allclose(optimizer.weights, w, rtol=1e-9)
        assert optimizer.mu == pytest.approx(mu, rel=1e-8)
    assert rejected > 0, "the case must contain rejected steps"


def test_levenberg_marquardt_ends_where_minpack_ends():
    t = np.linspace(0, 3, 25)
    data = 2.5 * np.exp(-1.3 * t) + 0.4 + 0.01 * np.random.default_rng(3).standard_normal(25)
    x = leaf([1.0, 0.1, 0.0])
    residuals = lambda: x[0] * ops.exp(-x[1] * t) + x[2] - data
    *_, last = path(optim.LevenbergMarquardt([x]), residuals, 60)
    model = lambda b: b[0] * np.exp(-b[1] * t) + b[2] - data
    expected = scipy.optimize.least_squares(model, [1, 0.1, 0], method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    np.testing.assert_allclose(last, expected, rtol=1e-7)


def test_at_a_minimum_w_stays_to_the_bit():
    x = leaf([4.0])
    optimizer = optim.LevenbergMarquardt([x])
    for _ in range(5):
        optimizer.step(lambda: ops.stack([x[0] - 3, x[0] - 5]))  # the gradient is 0, the loss is 2
    assert (x.data[0], optimizer.accepted) == (4, False)
    x = leaf([1.0, 1.0])
    optimizer = optim.LevenbergMarquardt([x])
    assert optimizer.step(lambda: ROSENBROCK.residuals(x)) == 0
    np.testing.assert_array_equal(x.data, [1, 1])


@pytest.mark.parametrize("scale", [1e-60, 1e-12, 1e-5, 1e5, 1e12, 1e60])
@pytest.mark.parametrize("name", ["SteepestDescent", "SteepestDescent, Wolfe", "Newton", "LevenbergMarquardt"])
def test_the_scale_of_the_loss_makes_no_difference(name, scale):
    method, kind = SECOND_ORDER[name]
    x = leaf([1.0, 1.0])
    optimizer = method([x])
    if kind == "residuals":
        closure = lambda: x * (scale**0.5)
    else:
        closure = loss_closure(lambda x: (x * x).sum() * scale, x)
    for _ in range(400 if kind == "residuals" else 5):  # there the damping must first fall to the scale
        optimizer.step(closure)
    np.testing.assert_allclose(x.data, 0, atol=1e-3)


def test_residuals_whose_squares_overflow_are_said_to_be_so():
    for method in (optim.GaussNewton, optim.LevenbergMarquardt):
        x = leaf([1.0, 1.0])
        with pytest.raises(ArithmeticError, match="the sum of squares is not finite at step 1"):
            method([x]).step(lambda: x * 1e160)


def test_newton_says_that_its_step_is_not_finite():
    x = leaf([1.0])
    with np.errstate(all="ignore"), pytest.raises(ArithmeticError, match="Newton: the step is not finite"):
        optim.Newton([x]).step(loss_closure(lambda x: (x + 5e-311 * x * x).sum(), x))
    assert x.data[0] == 1


def test_parameters_that_were_frozen_meanwhile_stay():
    for name, (method, kind) in SECOND_ORDER.items():
        a, b = leaf([1.0]), leaf([2.0])
        residuals = lambda: ops.concatenate([a * b - 6, a - 1])
        optimizer = method([a, b])
        b.requires_grad = False
        for _ in range(40):
            optimizer.step(residuals if kind == "residuals" else loss_closure(lambda _: (residuals() ** 2).sum(), a))
        assert b.data[0] == 2, name
        assert a.data[0] == pytest.approx(2.6, rel=1e-6), name
    a.requires_grad = False
    with pytest.raises(RuntimeError, match="all parameters are frozen"):
        optimizer.step(residuals)


@every_method
def test_a_step_starts_at_w_even_if_another_optimizer_has_looked_ahead(name):
    method, kind = SECOND_ORDER[name]

    def run(look_ahead):
        x = leaf([1.2, 1.1])
        nesterov, optimizer = optim.Nesterov([x], lr=1e-3), method([x])
        for _ in range(3):
            nesterov.step(loss_closure(ROSENBROCK, x))
        if look_ahead:
            nesterov.zero_grad()
        loss = optimizer.step(problem_closure(ROSENBROCK, x, kind))
        return loss, optimizer.weights

    (loss, w), (other_loss, other_w) = run(True), run(False)
    assert loss == other_loss
    np.testing.assert_array_equal(w, other_w)


def test_a_closure_that_forgets_backward_is_an_error():
    x = leaf([1.0])
    for method in (optim.Newton, optim.SteepestDescent):
        with pytest.raises(RuntimeError, match="the closure must call backward"):
            method([x]).step(lambda: (x * x).sum())


def test_a_state_that_could_never_be_is_refused():
    optimizer = optim.LevenbergMarquardt([leaf([1.0])])
    state = optimizer.state_dict()
    for change in ({"nu": 0.5}, {"mu": 0.0}, {"mu": math.nan}, {"nu": "2"}):
        with pytest.raises((ValueError, TypeError), match="LevenbergMarquardt: [mn]u is"):
            optimizer.load_state_dict({**state, **change, "t": 3})
    assert optimizer.state_dict() == state


def test_a_trial_that_is_not_finite_is_rejected():
    x = leaf([1.0])
    residuals = lambda: ops.log(x) + 0.5 * x  # the full step from 1 leaves the domain of the logarithm for small μ
    optimizer = optim.LevenbergMarquardt([x], mu=1e-12)
    x.data = [8.0]
    *_, last = path(optimizer, residuals, 40)
    assert math.log(last[0]) + 0.5 * last[0] == pytest.approx(0, abs=1e-8)


def test_a_singular_system():
    """Two parameters that only act as a sum, and one that does not act at all."""
    model = {"names": nn.Sequential(fit=nn.Dense(2, 1)).astype(np.float64)}["names"]
    inputs = np.array([[1.0, 1], [2, 2], [3, 3], [4, 4]])
    target = np.array([3.0, 5, 7, 9])
    residuals = lambda: model(inputs).reshape(-1) - target
    gauss_newton = optim.GaussNewton(model)
    before = gauss_newton.weights
    message = r"3 columns but rank 2 at step 1; the columns of fit.weight\[[01], 0\] depend on the others"
    with pytest.raises(np.linalg.LinAlgError, match=message):
        gauss_newton.step(residuals)
    np.testing.assert_array_equal(gauss_newton.weights, before)
    assert gauss_newton.t == 0
    for damping in ("identity", "diagonal"):
        optimizer = optim.LevenbergMarquardt(model, damping=damping)
        for _ in range(30):
            loss = optimizer.step(residuals)
        assert loss < 1e-20
    idle = leaf([1.0, 2.0])
    optimizer = optim.LevenbergMarquardt([idle], damping="diagonal")
    for _ in range(30):
        optimizer.step(lambda: idle[0:1] * np.ones(3) - 4)
    np.testing.assert_allclose(optimizer.weights, [4, 2], rtol=1e-12)
    with pytest.raises(np.linalg.LinAlgError, match=r"the columns of params\[0\]\[1\] depend"):
        optim.GaussNewton([idle]).step(lambda: idle[0:1] * np.ones(3) - 4)


# ---------------------------------------------------------------- steepest descent


def test_exact_search_finds_the_closed_form_rate_on_a_quadratic():
    problem = surfaces.quadratic(50, dimension=3)
    H = np.diag(np.logspace(0, np.log10(50), 3))
    x = leaf([1.0, -2.0, 0.5])
    w = np.array([1.0, -2.0, 0.5])
    optimizer = optim.SteepestDescent([x])
    for got in path(optimizer, loss_closure(problem, x), 20):
        g = H @ w
        assert optimizer.eta == pytest.approx((g @ g) / (g @ H @ g), rel=1e-5)
        np.testing.assert_allclose(got, w - optimizer.eta * g, rtol=1e-9, atol=1e-12)
        w = got


def test_steepest_descent_goes_down_the_sum_of_loss_and_penalty():
    problem, strength = surfaces.quadratic(50, dimension=3), 0.75
    H = np.diag(np.logspace(0, np.log10(50), 3)) + strength * np.eye(3)
    x, w = leaf([1.0, -2.0, 0.5]), np.array([1.0, -2.0, 0.5])
    optimizer = optim.SteepestDescent([x], penalty=optim.penalties.L2(strength))
    for _ in range(10):
        said = optimizer.step(loss_closure(problem, x))
        assert said == pytest.approx(w @ H @ w / 2, rel=1e-12)
        g = H @ w
        assert optimizer.eta == pytest.approx((g @ g) / (g @ H @ g), rel=1e-5)
        w = w - optimizer.eta * g
        np.testing.assert_allclose(optimizer.weights, w, rtol=1e-9, atol=1e-12)


def test_steepest_descent_zigzags_at_the_rate_of_the_theory():
    kappa = 30
    problem = surfaces.quadratic(kappa)
    x = leaf([kappa, 1.0])  # the worst start
    losses = [problem(w).item() for w in path(optim.SteepestDescent([x]), loss_closure(problem, x), 12)]
    ratio = ((kappa - 1) / (kappa + 1)) ** 2
    np.testing.assert_allclose(np.array(losses[1:]) / losses[:-1], ratio, rtol=1e-4)


def test_wolfe_search_satisfies_the_strong_wolfe_conditions():
    x = leaf([-1.2, 1.0])
    optimizer = optim.SteepestDescent([x], search="wolfe")
    w = np.array([-1.2, 1.0])
    value = lambda w: ROSENBROCK(w).item()
    for got in path(optimizer, loss_closure(ROSENBROCK, x), 10):
        g, new = rosenbrock_gradient(w), rosenbrock_gradient(got)
        assert value(got) <= value(w) - 1e-4 * optimizer.eta * (g @ g) + 1e-12
        assert abs(new @ g) <= 0.9 * (g @ g) + 1e-12
        w = got


def test_a_loss_that_falls_without_end_is_an_error():
    x = leaf([1.0])
    with pytest.raises(ArithmeticError, match="SteepestDescent: the loss falls without end"):
        optim.SteepestDescent([x]).step(loss_closure(lambda x: x.sum(), x))
    np.testing.assert_array_equal(x.data, [1])


# ---------------------------------------------------------------- what all of them do


@every_method
@pytest.mark.parametrize("problem", ["rosenbrock", "beale", "himmelblau", "quadratic"])
def test_they_reach_a_minimum(name, problem):
    method, kind = SECOND_ORDER[name]
    if (name.partition(",")[0], problem) == ("SteepestDescent", "rosenbrock"):
        problem, steps = surfaces.quadratic(20), 100  # the valley takes it tens of thousands of steps
    else:
        problem, steps = surfaces.problem(problem), 300 if "Steepest" in name else 60
    x = leaf(problem.start)
    assert any(problem(w).item() < 1e-6 for w in path(method([x]), problem_closure(problem, x, kind), steps))


@every_method
def test_saved_and_resumed_in_the_middle_is_the_same_to_the_bit(name):
    method, kind = SECOND_ORDER[name]

    def run(start, steps, state=None):
        x = leaf(start)
        optimizer = method([x])
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(steps):
            optimizer.step(problem_closure(ROSENBROCK, x, kind))
        return optimizer

    middle = run([-1.2, 1.1], 4)
    whole, resumed = run([-1.2, 1.1], 7), run(middle.weights, 3, middle.state_dict())
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    assert resumed.state_dict() == whole.state_dict()


@every_method
def test_float32_stays_float32_and_gradients_are_left_alone(name):
    method, kind = SECOND_ORDER[name]
    x = leaf([1.2, 1.1], np.float32)
    optimizer = method([x])
    loss, *_ = [optimizer.step(problem_closure(ROSENBROCK, x, kind)) for _ in range(3)]
    assert x.dtype == optimizer.weights.dtype == np.float32
    assert float(loss) == pytest.approx(ROSENBROCK([1.2, 1.1]).item(), rel=1e-5)
    assert type(x.data) is np.ndarray


@every_method
def test_a_failing_closure_changes_nothing(name):
    method, kind = SECOND_ORDER[name]
    x = leaf([1.2, 1.1])
    optimizer = method([x])
    calls = []

    def closure():
        calls.append(1)
        if len(calls) > 3:
            raise KeyError("broken")
        return problem_closure(ROSENBROCK, x, kind)()

    before = x.data
    with pytest.raises(KeyError, match="broken"):  # noqa: PT012  in whichever step the fourth call comes
        for _ in range(4):
            before = x.data.copy()
            optimizer.step(closure)
    np.testing.assert_array_equal(x.data, before)
    assert type(x.data) is np.ndarray


@every_method
def test_a_loss_that_is_not_finite_is_an_error_and_w_stays(name):
    method, kind = SECOND_ORDER[name]
    x = leaf([-1.0, 2.0])
    optimizer = method([x])
    closure = (lambda: ops.log(x)) if kind == "residuals" else loss_closure(lambda x: ops.log(x).sum(), x)
    with np.errstate(all="ignore"), pytest.raises(ArithmeticError, match="is not finite at step 1"):
        optimizer.step(closure)
    np.testing.assert_array_equal(x.data, [-1, 2])
    assert optimizer.t == 0


@every_method
def test_bad_closures(name):
    method, kind = SECOND_ORDER[name]
    x = leaf([1.0, 2.0])
    optimizer = method([x])
    with pytest.raises(TypeError, match="closure is None, expected one to"):
        optimizer.step()
    if kind == "residuals":
        with pytest.raises(TypeError, match=r"returned a Tensor of shape \(\), expected the residuals"):
            optimizer.step(lambda: (x * x).sum())
        with pytest.raises(TypeError, match="returned ndarray, expected the residuals"):
            optimizer.step(lambda: np.ones(3))
        with pytest.raises(TypeError, match="returned NoneType"):
            optimizer.step(lambda: None)
    else:
        with pytest.raises(TypeError, match="the closure returned None, expected the loss"):
            optimizer.step(lambda: (x * x).sum().backward())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.LevenbergMarquardt(p, mu=-1), "LevenbergMarquardt: mu is -1"),
        (lambda p: optim.LevenbergMarquardt(p, mu=math.nan), "LevenbergMarquardt: mu is nan"),
        (lambda p: optim.LevenbergMarquardt(p, mu=0), "LevenbergMarquardt: mu is 0, expected a number"),
        (lambda p: optim.LevenbergMarquardt(p, damping="ridge"), "damping is 'ridge'"),
        (lambda p: optim.SteepestDescent(p, search="golden"), "search is 'golden'"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make([leaf([1.0])])


def test_what_would_not_fit_into_memory_is_refused_before_it_is_allocated():
    model = models.mlp([2000, 2000, 10])
    n = sum(parameter.size for parameter in model.parameters())
    assert 24 * n * n > 1e14
    x = np.ones((n, 1), np.float32)
    with pytest.raises(MemoryError, match=r"Newton.step: a Hessian of 4,022,010 × 4,022,010 .* would take .* TiB"):
        optim.Newton(model).step(lambda: pytest.fail("no work must be done"))
    wide = lambda: ops.concatenate([model[1].bias * x[:2000, 0]] * 2000)
    size = f"{3 * 4_000_000 * 4_022_010 * 4 / 2**40:.4g} TiB"  # J in float32, and its copies
    with pytest.raises(MemoryError, match=rf"GaussNewton.step: a Jacobian of 4,000,000 × 4,022,010 would take {size}"):
        optim.GaussNewton(model).step(wide)
