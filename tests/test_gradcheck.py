"""The gradient check itself: it must find what is wrong, and say where."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import ops
from minidl.operators import OPS
from minidl.tensor import differentiable


def wrong_op(derivative):
    """Make an op that squares, with the given derivative, outside the registry."""

    @differentiable
    def square(x):
        return x * x, lambda g: derivative(g, x)

    del OPS["square"]
    return square


def test_a_right_derivative_passes(rng):
    ml.check_gradients(wrong_op(lambda g, x: 2 * g * x), rng.standard_normal((3, 4)))


@pytest.mark.parametrize(
    "derivative",
    [
        lambda g, x: g * x,
        lambda g, x: -2 * g * x,
        lambda g, x: 2 * g * x + 1e-3,
        lambda g, x: 2 * g.sum() * x,
        lambda g, x: 2 * g * x * np.nan,
    ],
    ids=["factor", "sign", "offset", "mixing outputs", "nan"],
)
def test_a_wrong_derivative_is_found(derivative, rng):
    with pytest.raises(ml.GradientError):
        ml.check_gradients(wrong_op(derivative), rng.standard_normal((3, 4)))


def test_the_message_names_op_input_element_and_both_values():
    def derivative(g, x):
        gradient = 2 * g * x
        gradient[1, 2] *= 3
        return gradient

    x = np.ones((2, 3))
    with pytest.raises(ml.GradientError) as caught:
        ml.check_gradients(wrong_op(derivative), x, generator=np.random.default_rng(0))
    v = np.random.default_rng(0).standard_normal((2, 3))[1, 2]
    message = str(caught.value)
    assert message.startswith("square: the gradient with respect to input 0 (x), of shape (2, 3), is wrong in 1 of 6")
    assert "worst at [1, 2]" in message
    assert f"analytic {6 * v:.6g}"[:14] in message
    assert f"numeric {2 * v:.6g}"[:13] in message


def test_a_derivative_that_vanishes_under_sum_is_found(rng):
    """The sum of a softmax is constant, so a check through `.sum()` accepts a zero gradient; this one must not."""

    @differentiable
    def softmax_without_derivative(x):
        y = np.exp(x - x.max(axis=-1, keepdims=True))
        return y / y.sum(axis=-1, keepdims=True), lambda g: np.zeros_like(x)

    del OPS["softmax_without_derivative"]
    with pytest.raises(ml.GradientError, match="softmax_without_derivative"):
        ml.check_gradients(softmax_without_derivative, rng.standard_normal((2, 3)))


def test_many_small_errors_are_described_as_such():
    def derivative(g, x):
        return 2 * g * x + 0.9e-6

    with pytest.raises(ml.GradientError, match="is wrong along a random direction, in many elements a little"):
        ml.check_gradients(wrong_op(derivative), np.zeros(4000), generator=np.random.default_rng(0))


def test_a_missing_contribution_is_found(rng):
    with pytest.raises(ml.GradientError, match="input 1"):
        ml.check_gradients(lambda x, y: x * y.detach(), rng.standard_normal(3), rng.standard_normal(3))


def test_inputs_that_are_not_floating_point_are_passed_on(rng):
    ml.check_gradients(lambda x, labels: ops.cross_entropy(x, labels), rng.standard_normal((2, 3)), np.array([0, 2]))
    with pytest.raises(ValueError, match="none of the inputs is floating-point"):
        ml.check_gradients(lambda labels: labels, np.array([0, 2]))


def test_fn_must_return_a_tensor():
    with pytest.raises(TypeError, match="fn returned float"):
        ml.check_gradients(lambda x: 1.0, np.ones(2))


def test_float32_inputs_are_checked_in_float64():
    ml.check_gradients(ops.exp, ml.Tensor([1.0, 2.0]))
