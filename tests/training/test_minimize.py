"""The loop without a data set, against closed forms."""

from __future__ import annotations

import math
import os
import signal

import numpy as np
import pytest

from minidl import optim, surfaces, training
from minidl.tensor import Tensor


def point(*W):
    return Tensor(np.array(W, dtype=float), requires_grad=True)


def loss_of(function, W):
    """The closure of a first-order method."""

    def closure():
        loss = function(W)
        loss.backward()
        return loss

    return closure


def halving(rules=(), start=1.0, lr=0.25, **settings):
    """Minimize w² by SGD with η = 1/4, so that W^t = 2^-t, exactly."""
    W = point(start)
    return training.minimize(optim.SGD([W], lr=lr), loss_of(lambda W: (W * W).sum(), W), rules, **settings)


# ---------------------------------------------------------------- the rules


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([training.SmallStep(2.0**-10)], "SmallStep: ‖ΔW‖ = 0.00049 < 0.000976562 at step 11"),  # 2^-t < 2^-10
        ([training.SmallChange(3 * 4.0**-6)], "SmallChange: |Δe| = 0.00018 < 0.000732422 at step 8"),  # 3 · 4^-(t-1)
        ([training.StepLimit(5)], "StepLimit: t = 5 ≥ 5"),
        ([], "StepLimit: t = 60 ≥ 60"),
        ([training.SmallStep(1e-6), training.SmallChange(1e-2), training.StepLimit(9)], "SmallChange: |Δe| = 0.0029 <"),
        ([training.SmallStep(0.2), training.StepLimit(3)], "SmallStep: ‖ΔW‖ = 0.12 < 0.2 at step 3"),  # both hold at 3
        ([training.StepLimit(3), training.SmallStep(0.2)], "StepLimit: t = 3 ≥ 3"),
        (training.StepLimit(2), "StepLimit: t = 2 ≥ 2"),
    ],
)
def test_each_rule_ends_the_run_where_it_holds_first(rules, reason):
    result = halving(rules, max_steps=60)
    assert result.stopped.startswith(reason)
    assert result.steps == len(result.losses)
    assert result.stopped.endswith(str(result.steps)) or "≥" in reason
    assert result.weights == 2.0**-result.steps
    assert result.losses == [4.0**-t for t in range(result.steps)]


def test_a_rule_that_holds_at_the_last_step_is_named_before_the_limit():
    assert halving([training.SmallStep(0.2)], max_steps=3).stopped == "SmallStep: ‖ΔW‖ = 0.12 < 0.2 at step 3"


def test_a_rule_can_serve_several_runs():
    rules = [training.SmallStep(2.0**-10), training.SmallChange(1e-12)]
    assert [halving(rules, start).steps for start in (1.0, 2.0**-5, 1.0)] == [11, 6, 11]


def test_sgd_on_a_quadratic_is_its_closed_form():
    bowl = surfaces.quadratic(condition=10)
    W, lr, eigenvalues, start = point(*bowl.start), 0.15, np.array([1.0, 10.0]), np.array(bowl.start)
    eps = 1e-7
    result = training.minimize(
        optim.SGD([W], lr=lr), loss_of(bowl, W), [training.SmallStep(eps)], max_steps=10_000, keep_path=True
    )
    factor = 1 - lr * eigenvalues  # W^t = (1 − ηλ)^t W^0
    sizes = [np.linalg.norm(lr * eigenvalues * factor ** (t - 1) * start) for t in range(1, 1000)]
    expected = next(t for t, size in enumerate(sizes, start=1) if size < eps)
    assert 50 < result.steps == expected
    path = factor ** np.arange(expected + 1)[:, None] * start
    np.testing.assert_allclose(result.path, path, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(result.path[-1], result.weights)
    np.testing.assert_allclose(result.losses, 0.5 * (eigenvalues * path[:-1] ** 2).sum(axis=1), rtol=1e-12)


def test_the_losses_are_those_where_the_steps_began():
    W = point(1.0)
    result = training.minimize(optim.Nesterov([W], lr=0.25), loss_of(lambda W: (W * W).sum(), W), max_steps=2)
    # v₁ = −1/2, W¹ = 1/2; the second step looks ahead to 1/2 − 0.9/2 = 1/20
    assert result.losses == pytest.approx([1, 1 / 400], rel=1e-12)
    assert result.path is None


# ---------------------------------------------------------------- methods that try several places in a step


def test_newton_needs_one_step_for_a_quadratic_and_then_stands_still():
    bowl = surfaces.quadratic(condition=1000)
    W = point(*bowl.start)
    result = training.minimize(optim.Newton([W]), loss_of(bowl, W), [training.SmallStep(1e-12)])
    assert result.steps == 2
    assert result.stopped.startswith("SmallStep: ")
    np.testing.assert_allclose(result.weights, 0, atol=1e-12)


@pytest.mark.parametrize("method", [optim.GaussNewton, optim.LevenbergMarquardt])
def test_least_squares_by_its_residuals(method):
    valley = surfaces.rosenbrock()
    W = point(*valley.start)
    rules = [training.SmallStep(1e-9)]
    result = training.minimize(method([W]), lambda: valley.residuals(W), rules, max_steps=50, keep_path=True)
    assert result.stopped.startswith("SmallStep: ")
    np.testing.assert_allclose(result.weights, 1, rtol=1e-9)
    for before, loss in zip(result.path, result.losses, strict=False):
        x, y = before
        assert loss == pytest.approx(100 * (y - x * x) ** 2 + (1 - x) ** 2, rel=1e-9, abs=1e-25)


def test_a_second_order_method_that_cannot_move_is_a_small_step():
    W = point(0.0)  # the gradient of 1 + w² is 0 here
    closure = loss_of(lambda W: (W * W).sum() + 1, W)
    result = training.minimize(optim.SteepestDescent([W]), closure, [training.SmallStep(1e-30)])
    assert result.stopped == "SmallStep: ‖ΔW‖ = 0 < 1e-30 at step 1"


# ---------------------------------------------------------------- what the closure returns


def test_the_loss_may_be_a_number():
    W = point(1.0)

    def closure():
        loss = (W * W).sum()
        loss.backward()
        return np.float64(loss.item())

    result = training.minimize(optim.SGD([W], lr=0.25), closure, max_steps=3)
    assert result.losses == [1, 0.25, 0.0625]
    assert all(type(loss) is float for loss in result.losses)


@pytest.mark.parametrize("method", [optim.SGD, optim.Newton])
def test_a_closure_without_a_result_is_a_clear_error(method):
    W = point(1.0)
    with pytest.raises(TypeError, match="the closure returned None, expected the loss"):
        training.minimize(method([W]), lambda: (W * W).sum().backward())
    assert W.data == 1.0


def test_a_loss_that_is_a_vector_is_a_clear_error():
    W = point(1.0, 2.0)

    def closure():
        (W * W).sum().backward()
        return W * W

    with pytest.raises(TypeError, match="minimize: step 1 returned Tensor.*, expected the loss, a number"):
        training.minimize(optim.SGD([W]), closure)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("method", [optim.Adam, optim.Nesterov])
def test_a_loss_that_is_not_finite_names_the_step_and_changes_nothing(bad, method):
    W = point(1.0, -2.0)
    optimizer = method([W], lr=0.1)
    losses, kept = [], []

    def closure():
        kept.append((optimizer.weights, optimizer.state_dict()))
        loss = (W * W).sum() * (bad if len(losses) == 3 else 1)
        losses.append(loss)
        loss.backward()
        return loss

    message = r"minimize: the loss is -?(nan|inf) at step 4, which was not made\. A smaller"
    with pytest.raises(ArithmeticError, match=message):
        training.minimize(optimizer, closure)
    weights, state = kept[3]
    np.testing.assert_array_equal(optimizer.weights, weights)
    np.testing.assert_array_equal(W.data, weights)
    after = optimizer.state_dict()
    for name in state:
        np.testing.assert_array_equal(after[name], state[name])


def test_a_method_whose_step_ends_at_a_loss_that_is_not_finite_is_brought_back():
    class Own(optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            return 1.0 if self.t < 3 else math.inf

    W = point(1.0)
    with pytest.raises(ArithmeticError, match="the loss is inf at step 3"):
        training.minimize(Own([W], lr=0.25), loss_of(lambda W: (W * W).sum(), W))
    assert W.data == 0.25


def test_a_trial_that_is_not_finite_is_the_methods_own_business():
    W, tried = point(3.0), []  # w + 1/w where w > 0; the search along −g doubles its steps and comes below 0

    def closure():
        tried.append(W.data[0])
        loss = (W + 1 / W if W.data[0] > 0 else W * math.nan).sum()
        loss.backward()
        return loss

    result = training.minimize(optim.SteepestDescent([W]), closure, max_steps=1)
    assert min(tried) < 0
    assert result.losses == [3 + 1 / 3]
    assert result.weights == pytest.approx(1, rel=1e-6)


# ---------------------------------------------------------------- Ctrl-C and bad input


def test_ctrl_c_ends_after_the_step():
    W = point(1.0)
    calls = []

    def closure():
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        loss = (W * W).sum()
        loss.backward()
        return loss

    handler = signal.getsignal(signal.SIGINT)
    result = training.minimize(optim.SGD([W], lr=0.25), closure)
    assert result.stopped == "interrupted"
    assert result.steps == 3
    assert result.weights == 2.0**-3
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizer": "sgd"}, TypeError, "minimize: optimizer is str, expected Optimizer"),
        ({"closure": 3}, TypeError, "minimize: closure is int, expected a callable"),
        ({"max_steps": 0}, ValueError, "minimize: max_steps is 0, expected a positive integer"),
        ({"max_steps": 1e3}, ValueError, "minimize: max_steps is 1000.0"),
        ({"rules": [1e-8]}, TypeError, r"minimize: rules\[0\] is 1e-08, expected a StoppingRule"),
        (
            {"rules": [training.StepLimit(3), training.EarlyStopping()]},
            ValueError,
            r"minimize: rules\[1\], EarlyStopping, looks at every epoch, but here are only steps",
        ),
        ({"rules": training.SmallChange(1, every="epoch")}, ValueError, r"rules\[0\], SmallChange, looks at every epo"),
    ],
)
def test_bad_input_is_a_clear_error(arguments, error, message):
    W = point(1.0)
    calls = []
    with pytest.raises(error, match=message):
        training.minimize(**{"optimizer": optim.SGD([W]), "closure": lambda: calls.append(1)} | arguments)
    assert not calls
