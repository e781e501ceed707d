"""What must hold for every registered op, on shapes and settings that Hypothesis draws."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import ops
from minidl.operators import OPS

from op_cases import CASES

every_op = pytest.mark.parametrize("name", sorted(CASES))
seeds = st.integers(0, 2**31)


def test_every_registered_op_has_a_case_and_is_public():
    assert set(OPS) == set(CASES)
    assert set(OPS) <= set(ops.__all__)


def draw(name, data):
    rng = np.random.default_rng(data.draw(seeds))
    return CASES[name].draw(data, rng), rng


def run(sample, inputs, g):
    """Return the result and the gradients with respect to the inputs."""
    tensors = [ml.Tensor(x, requires_grad=True) for x in inputs]
    y = sample.call(*tensors)
    y.backward(g(y) if callable(g) else g)
    return y, [tensor.grad for tensor in tensors]


@every_op
@given(data=st.data())
def test_derivatives_agree_with_central_differences(name, data):
    sample, rng = draw(name, data)
    ml.check_gradients(sample.call, *sample.inputs, generator=rng)


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.analytic))
@given(data=st.data())
def test_derivatives_of_analytic_ops_agree_with_the_complex_step(name, data):
    """∂f/∂u = Im f(x + ihu) / h without cancellation, so that h = 1e-20 gives full precision."""
    sample, rng = draw(name, data)
    v = {}
    _, gradients = run(sample, sample.inputs, lambda y: v.setdefault("v", rng.standard_normal(y.shape)))
    for i, gradient in enumerate(gradients):
        u = rng.standard_normal(gradient.shape)
        at = [ml.Tensor(x + 1e-20j * u if i == j else x.astype(complex)) for j, x in enumerate(sample.inputs)]
        numeric = (sample.call(*at).data.imag * v["v"]).sum() / 1e-20
        np.testing.assert_allclose((gradient * u).sum(), numeric, rtol=1e-9, atol=1e-9)


@every_op
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_dtype_is_kept_and_inputs_are_neither_changed_nor_shared(name, dtype, data):
    sample, rng = draw(name, data)
    inputs = [x.astype(dtype) for x in sample.inputs]
    tensors = [ml.Tensor(x, requires_grad=True) for x in inputs]
    y = sample.call(*tensors)
    g = rng.standard_normal(y.shape).astype(dtype)
    kept = g.copy()
    y.backward(g)
    assert y.dtype == dtype
    np.testing.assert_array_equal(g, kept)
    for tensor, x in zip(tensors, inputs, strict=True):
        np.testing.assert_array_equal(tensor.data, x)
        assert tensor.grad.dtype == dtype
        assert tensor.grad.shape == x.shape
        assert not np.shares_memory(tensor.grad, g)
        assert tensor.grad.flags.writeable
        others = [other.grad for other in tensors if other is not tensor]
        assert not any(np.shares_memory(tensor.grad, other) for other in others)


@every_op
@given(data=st.data())
def test_float32_agrees_with_float64(name, data):
    sample, rng = draw(name, data)
    v = {}
    exact, exact_gradients = run(sample, sample.inputs, lambda y: v.setdefault("v", rng.standard_normal(y.shape)))
    single, gradients = run(sample, [x.astype(np.float32) for x in sample.inputs], v["v"])
    scale = 1 + np.abs(exact.data).max(initial=0)
    np.testing.assert_allclose(single.data, exact.data, rtol=1e-4, atol=1e-5 * scale)
    for gradient, expected in zip(gradients, exact_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * (1 + np.abs(expected).max(initial=0)))


@every_op
@given(data=st.data())
def test_memory_layout_makes_no_difference(name, data):
    sample, _ = draw(name, data)
    spread = []
    for x in sample.inputs:
        wide = np.zeros(tuple(2 * n for n in x.shape))
        view = wide[tuple(slice(None, None, 2) for _ in x.shape)] if x.ndim else x
        if x.ndim:
            view[...] = x
        spread.append(view)
    ones = lambda y: np.ones(y.shape)
    for layout in (spread, [np.array(x, order="F") for x in sample.inputs]):
        expected, expected_gradients = run(sample, sample.inputs, ones)
        y, gradients = run(sample, layout, ones)
        np.testing.assert_allclose(y.data, expected.data, rtol=1e-12, atol=1e-12)
        for gradient, other in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(gradient, other, rtol=1e-12, atol=1e-12)


@every_op
@given(data=st.data())
def test_an_input_used_twice_receives_both_contributions(name, data):
    sample, rng = draw(name, data)
    tensors = [ml.Tensor(x, requires_grad=True) for x in sample.inputs]
    y = sample.call(*tensors)
    g = rng.standard_normal(y.shape)
    (y * g + sample.call(*tensors) * g).backward(np.ones(y.shape))
    _, gradients = run(sample, sample.inputs, g)
    for tensor, gradient in zip(tensors, gradients, strict=True):
        np.testing.assert_allclose(tensor.grad, 2 * gradient, rtol=1e-10, atol=1e-10)


@every_op
@given(data=st.data())
def test_forward_mode_agrees_with_reverse_mode(name, data):
    """Along a direction u and weighted with v, both give v · J u."""
    sample, rng = draw(name, data)
    tensors = [ml.Tensor(x, requires_grad=True) for x in sample.inputs]
    tall = np.zeros(sum(x.size for x in sample.inputs))  # many rows, so that forward mode is chosen
    J = ml.jacobian(lambda: ops.concatenate([sample.call(*tensors).reshape(-1), tall]), tensors)
    v = {}
    y, gradients = run(sample, sample.inputs, lambda y: v.setdefault("v", rng.standard_normal(y.shape)))
    expected = np.concatenate([gradient.reshape(-1) for gradient in gradients])
    np.testing.assert_allclose(v["v"].reshape(-1) @ J[: y.size], expected, rtol=1e-10, atol=1e-10)


@every_op
@given(data=st.data())
def test_second_derivatives_agree_with_central_differences_of_gradients(name, data):
    sample, rng = draw(name, data)
    v = {}

    def weighted(*tensors):
        y = sample.call(*tensors)
        return (y * y * v.setdefault("v", rng.standard_normal(y.shape))).sum()

    def gradient(inputs):
        tensors = [ml.Tensor(x, requires_grad=True) for x in inputs]
        weighted(*tensors).backward()
        return np.concatenate([tensor.grad.reshape(-1) for tensor in tensors])

    tensors = [ml.Tensor(x, requires_grad=True) for x in sample.inputs]
    H = ml.hessian(lambda: weighted(*tensors), tensors)
    u = [rng.standard_normal(x.shape) for x in sample.inputs]
    ahead, behind = (gradient([x + h * d for x, d in zip(sample.inputs, u, strict=True)]) for h in (1e-5, -1e-5))
    along = np.concatenate([d.reshape(-1) for d in u])
    expected = (ahead - behind) / 2e-5
    scale = 1 + np.abs(expected).max(initial=0)
    np.testing.assert_allclose(H @ along, expected, rtol=1e-5, atol=1e-6 * scale)
