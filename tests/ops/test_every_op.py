"""What must hold for every op: the table in `op_cases`, gone through on shapes and settings that Hypothesis draws."""

from __future__ import annotations

import contextlib
import copy

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import ops
from minidl.operators import OPS

from op_cases import CASES

every_op = pytest.mark.parametrize("name", sorted(CASES))
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
seeds = st.integers(0, 2**31)


def test_the_table_holds_every_op():
    assert set(CASES) == set(ops.__all__)
    assert {name for name, op in OPS.items() if op.__module__.startswith("minidl.")} <= set(CASES)


def draw(name, data):
    rng = np.random.default_rng(data.draw(seeds))
    return CASES[name].draw(data, rng), rng


def run(sample, inputs, g):
    """Return the result and the gradients with respect to the inputs."""
    tensors = [ml.Tensor(x, requires_grad=True) for x in inputs]
    y = sample.call(*tensors)
    y.backward(g(y) if callable(g) else g)
    return y, [tensor.grad for tensor in tensors]


def assert_close(got, expected, dtype=np.float64):
    """Compare values to the precision of their dtype; where they cancel, to that of the largest."""
    rtol = 1e-12 if dtype == np.float64 else 2e-5
    finite = np.abs(expected)[np.isfinite(expected)]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * (1 + finite.max(initial=0)))


# ---------------------------------------------------------------- values


@every_op
@every_dtype
@given(data=st.data())
def test_values_agree_with_the_oracle(name, dtype, data):
    sample, _ = draw(name, data)
    inputs = [x.astype(dtype) for x in sample.inputs]
    y = sample.call(*map(ml.Tensor, inputs))
    assert y.dtype == dtype
    assert_close(y.data, sample.expected(*(x.astype(np.float64) for x in inputs)), dtype)


@pytest.mark.parametrize(("name", "at"), [(name, i) for name in sorted(CASES) for i in range(len(CASES[name].edges))])
@every_dtype
def test_sizes_of_0_and_1_are_taken_or_refused(name, at, dtype, rng):
    edge = CASES[name].edges[at]
    sample = CASES[name].at_edge(edge, rng)
    tensors = [ml.Tensor(x.astype(dtype), requires_grad=True) for x in sample.inputs]
    if edge.refused:
        with pytest.raises(ValueError, match=rf"^\w+: .*{edge.refused}"):
            sample.call(*tensors)
        return
    y = sample.call(*tensors)
    assert y.dtype == dtype
    assert_close(y.data, sample.expected(*(x.data.astype(np.float64) for x in tensors)), dtype)
    y.backward(np.ones(y.shape))
    for tensor in tensors:
        assert (tensor.grad.shape, tensor.grad.dtype) == (tensor.shape, dtype)
        assert np.isfinite(tensor.grad).all()
        assert y.size or not tensor.grad.any()  # of nothing, the derivative is 0


@pytest.mark.parametrize(("name", "at"), [(name, i) for name in sorted(CASES) for i in range(len(CASES[name].kinks))])
@every_dtype
def test_the_conventions_at_kinks(name, at, dtype):
    kink = CASES[name].kinks[at]
    inputs = [ml.Tensor(np.array(x, dtype), requires_grad=True) if isinstance(x, list) else x for x in kink.inputs]
    with pytest.warns(RuntimeWarning, match=kink.warning) if kink.warning else contextlib.nullcontext():
        y = CASES[name].op(*inputs, **kink.settings)
        y.backward(np.ones(y.shape))
    np.testing.assert_allclose(y.data, np.array(kink.value, dtype), rtol=1e-6, atol=1e-7)
    for x, gradient in zip(inputs, kink.gradients, strict=True):
        if gradient is not None:
            np.testing.assert_allclose(x.grad, np.array(gradient, dtype), rtol=1e-6, atol=1e-7)


@every_op
@given(data=st.data())
def test_what_is_not_a_number_is_not_swallowed(name, data):
    sample, _ = draw(name, data)
    domains = map(CASES[name].domain, range(len(sample.inputs)))
    spoilt = [
        x if domain.bounded else np.full(x.shape, np.nan) for x, domain in zip(sample.inputs, domains, strict=True)
    ]
    y = sample.call(*map(ml.Tensor, spoilt))
    assert np.isnan(y.data).any() or y.size == 0


# ---------------------------------------------------------------- derivatives


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


# ---------------------------------------------------------------- dtypes and memory


@every_op
@every_dtype
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
def test_arrays_that_are_written_to_after_the_call_change_nothing(name, data):
    """Each input alone needs a gradient; the others, and settings that are arrays, are the caller's own."""
    sample, _ = draw(name, data)
    ones = lambda y: np.ones(y.shape)
    expected, expected_gradients = run(sample, sample.inputs, ones)
    for i, gradient in enumerate(expected_gradients):
        own = [x.copy() for x in sample.inputs]
        settings = {key: copy.deepcopy(setting) for key, setting in sample.settings.items()}
        leaf = ml.Tensor(own[i], requires_grad=True)
        y = sample.op(*(leaf if i == j else x for j, x in enumerate(own)), **settings)
        without_gradient = sample.op(*own, **settings)
        for array in (*own, *(setting for setting in settings.values() if isinstance(setting, np.ndarray))):
            array[...] = 0
        y.backward(np.ones(y.shape))
        np.testing.assert_array_equal(without_gradient.data, expected.data)
        np.testing.assert_array_equal(y.data, expected.data)
        np.testing.assert_array_equal(leaf.grad, gradient)


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
