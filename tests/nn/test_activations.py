"""Activations: GELU against PyTorch, and all of them far out, where a careless form overflows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special

import minidl as ml
from minidl import nn, ops

LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772

# What each is worth and how steep it is at −x and at x, for large x > 0.
FAR_OUT = {
    "relu": (ops.relu, lambda x: (0, x), (0, 1)),
    "leaky_relu": (ops.leaky_relu, lambda x: (-0.01 * x, x), (0.01, 1)),
    "elu": (ops.elu, lambda x: (-1, x), (0, 1)),
    "selu": (ops.selu, lambda x: (-LAMBDA * ALPHA, LAMBDA * x), (0, LAMBDA)),
    "gelu": (ops.gelu, lambda x: (0, x), (0, 1)),
    "gelu, tanh": (lambda x: ops.gelu(x, "tanh"), lambda x: (0, x), (0, 1)),
    "sigmoid": (ops.sigmoid, lambda x: (0, 1), (0, 0)),
    "tanh": (ops.tanh, lambda x: (-1, 1), (0, 0)),
    "softplus": (ops.softplus, lambda x: (0, x), (0, 1)),
    "softmax": (ops.softmax, lambda x: (0, 1), (0, 0)),
    "log_softmax": (ops.log_softmax, lambda x: (-2 * x, 0), (1, -1)),  # of the sum: −x moves it, x takes both away
}


@pytest.mark.parametrize("name", FAR_OUT)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [200.0, 1e4, 1e30])
def test_values_and_derivatives_far_out(name, dtype, size):
    op, values, slopes = FAR_OUT[name]
    x = ml.Tensor(np.array([-size, size], dtype), requires_grad=True)
    y = op(x)
    y.backward(np.ones(2, dtype))
    assert y.dtype == x.grad.dtype == dtype
    np.testing.assert_allclose(y.data, values(float(dtype(size))), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(x.grad, slopes, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", FAR_OUT)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_is_finite_from_tiny_to_huge_also_in_forward_mode_and_twice_derived(name, dtype):
    op = FAR_OUT[name][0]
    sizes = np.array([1e-30, 1e-4, 1, 9, 12, 20, 39, 41, 90, 710, 1e4, 1e10, 1e30])
    for values in (sizes, -sizes, np.concatenate([-sizes, [0], sizes])):
        x = ml.Tensor(values.astype(dtype), requires_grad=True)
        y = op(x)
        y.backward(np.linspace(-1, 1, x.size).astype(dtype))
        assert np.isfinite(y.data).all()
        assert np.isfinite(x.grad).all()
        assert np.isfinite(ml.hessian(lambda x=x: (op(x) * np.linspace(-1, 1, x.size).astype(dtype)).sum(), x)).all()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_equals_pytorchs(torch, rng, approximate):
    values = np.concatenate([3 * rng.standard_normal(50), np.linspace(-8, 8, 33)])
    x, twin = ml.Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, z = nn.GELU(approximate)(x), torch.nn.functional.gelu(twin, approximate=approximate)
    g = rng.standard_normal(values.size)
    y.backward(g)
    z.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(x.grad, twin.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_gelu_is_x_times_the_normal_distribution_precise_in_its_tail():
    values = np.array([-12.0, -8, -5, -1, 0, 1, 5])
    expected = values * 0.5 * scipy.special.erfc(-values / math.sqrt(2))
    np.testing.assert_allclose(ops.gelu(ml.Tensor(values)).data, expected, rtol=1e-13)
    single = ops.gelu(ml.Tensor(values.astype(np.float32))).data
    np.testing.assert_allclose(single, expected, rtol=1e-5)


def test_the_two_forms_of_gelu_differ_by_what_is_said():
    x = ml.Tensor(np.linspace(-10, 10, 20001))
    difference = np.abs(ops.gelu(x).data - ops.gelu(x, "tanh").data).max()
    assert 0.0004 < difference < 0.0005


@pytest.mark.parametrize("call", [lambda: nn.GELU("erf"), lambda: ops.gelu(ml.Tensor([1.0]), "erf")])
def test_an_unknown_approximation_is_a_clear_error(call):
    with pytest.raises(ValueError, match="(?i)gelu: approximate is 'erf', expected 'none' or 'tanh'"):
        call()
