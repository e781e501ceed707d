"""Batch norm and `standardize` against their plain forms, which compute with whole arrays."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import ops
from minidl.kernels.numpy import norm

EPS = 1e-5


def plain_batch_norm(x, gamma, beta, g, running=None):
    """Return the output, the gradients by x, γ and β, the mean and the variance, all in float64."""
    x, gamma, beta, g = (array.astype(np.float64) for array in (x, gamma, beta, g))
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    mean += (x - mean).mean(axes)
    variance = ((x - mean) ** 2).mean(axes)
    if running is not None:
        mean, variance = (array.astype(np.float64) for array in running)
    inverse = 1 / np.sqrt(variance + EPS)
    x_hat = (x - mean) * inverse
    by_gamma, by_beta = (g * x_hat).sum(axes), g.sum(axes)
    if running is None:
        by_x = gamma * inverse * (g - g.mean(axes) - x_hat * (g * x_hat).mean(axes))
    else:
        by_x = gamma * inverse * g
    return gamma * x_hat + beta, by_x, by_gamma, by_beta, mean, variance


def our_batch_norm(x, gamma, beta, g, running=None):
    tensors = [ml.Tensor(array, requires_grad=True) for array in (x, gamma, beta)]
    seen = [] if running is None else list(running)
    y = ops.batch_norm(*tensors, eps=EPS, running=running, observe=lambda *moments: seen.extend(moments))
    y.backward(g)
    return y.numpy(), *(tensor.grad for tensor in tensors), *seen


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(norm, "BLOCK", 32)
    monkeypatch.setattr(norm, "JOINED", 8)
    monkeypatch.setattr(norm, "SMALL", 0)


@pytest.fixture(autouse=True)
def _threads():
    yield
    ml.set_threads(None)


def problem(rng, shape, dtype, mean=1.0):
    x = rng.standard_normal(shape) + mean * rng.standard_normal(shape[-1])
    arrays = x, rng.standard_normal(shape[-1]) + 2, rng.standard_normal(shape[-1]), rng.standard_normal(shape)
    return [array.astype(dtype) for array in arrays]


def agree(results, expected, rtol):
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, other, rtol=rtol, atol=rtol * (1 + np.abs(other).max()))


shapes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 20)),
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9)),
)


@pytest.mark.usefixtures("small_blocks")
@given(shape=shapes, far=st.booleans(), evaluation=st.booleans(), spread=st.booleans(), seed=st.integers(0, 2**31))
def test_batch_norm_equals_the_plain_form_block_by_block(shape, far, evaluation, spread, seed):
    rng = np.random.default_rng(seed)
    x, gamma, beta, g = problem(rng, shape, np.float64, 100.0 if far else 1.0)
    running = (x.reshape(-1, shape[-1])[0].copy(), rng.uniform(0.5, 2, shape[-1])) if evaluation else None
    if spread:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0, -1)
    expected = plain_batch_norm(x, gamma, beta, g, running)
    reference = None
    for threads in 1, 2, 3:
        ml.set_threads(threads)
        results = our_batch_norm(x, gamma, beta, g, running)
        agree(results, expected, 1e-8 if x.size == shape[-1] else 1e-10)  # alone, x̂ is 0 and 1 / √ε enlarges rounding
        reference = reference or results
        for result, other in zip(results, reference, strict=True):
            np.testing.assert_array_equal(result, other)


LARGE = [(64, 32, 32, 16), (50, 13, 11, 40), (4096, 150), (30011, 20), (64, 8, 8, 300), (40, 9000)]


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_large_batches_agree_and_give_the_same_bits_for_any_threads_and_in_used_memory(shape, dtype, rtol, rng):
    arrays = problem(rng, shape, dtype)
    first = our_batch_norm(*arrays)
    agree(first, plain_batch_norm(*arrays), rtol)
    assert {result.dtype for result in first} == {np.dtype(dtype)}
    for threads in 1, 2, 3:
        ml.set_threads(threads)
        our_batch_norm(*(array + 1 for array in arrays))  # leaves other values in the memory that is used again
        for again, result in zip(our_batch_norm(*arrays), first, strict=True):
            np.testing.assert_array_equal(again, result)


@pytest.mark.parametrize("shape", [(64, 32, 32, 16), (512, 8)])
@pytest.mark.parametrize("evaluation", [False, True])
def test_a_mean_far_from_zero_costs_no_digits(shape, evaluation, rng):
    arrays = problem(rng, shape, np.float32, 1e4)
    running = None
    if evaluation:
        *_, mean, variance = plain_batch_norm(*arrays)
        running = mean.astype(np.float32), variance.astype(np.float32)
    agree(our_batch_norm(*arrays, running=running), plain_batch_norm(*arrays, running=running), 5e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(64, 32, 32, 16), (7, 3), (333, 7, 5, 30)])
def test_a_constant_becomes_exactly_beta(dtype, shape, rng):
    values = rng.standard_normal(shape[-1]).astype(dtype)
    beta = rng.standard_normal(shape[-1]).astype(dtype)
    x = np.broadcast_to(values, shape)
    y, *_, mean, variance = our_batch_norm(x, np.ones_like(values), beta, np.ones(shape, dtype))
    np.testing.assert_array_equal(y, np.broadcast_to(beta, shape))
    np.testing.assert_array_equal(mean, values)
    assert (variance >= 0).all()
    np.testing.assert_allclose(variance, 0, atol=1e-12)


def test_a_nan_stays_in_its_channel(rng):
    x, gamma, beta, g = problem(rng, (8, 16, 16, 3), np.float32)
    expected = our_batch_norm(x, gamma, beta, g)
    x[3, 5, 7, 1] = np.nan
    for result, other in zip(our_batch_norm(x, gamma, beta, g), expected, strict=True):
        if other is not expected[3]:  # β's gradient does not depend on x
            assert np.isnan(result[..., 1]).all()
        np.testing.assert_allclose(result[..., [0, 2]], other[..., [0, 2]], rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- with a ReLU


def with_relu(fused, x, gamma, beta, g, running):
    """Return the output and all gradients of batch norm and ReLU."""
    tensors = [ml.Tensor(array, requires_grad=True) for array in (x, gamma, beta)]
    if fused:
        y = ops.batch_norm(*tensors, eps=EPS, running=running, relu=True)
    else:
        y = ops.relu(ops.batch_norm(*tensors, eps=EPS, running=running))
    y.backward(g)
    return y.numpy(), *(tensor.grad for tensor in tensors)


def compare_relu(arrays, running):
    fused, composed = (with_relu(fused, *arrays, running) for fused in (True, False))
    for result, other in zip(fused, composed, strict=True):
        assert result.dtype == other.dtype
        np.testing.assert_array_equal(result, other)
    return fused


@pytest.mark.usefixtures("small_blocks")
@given(shape=shapes, far=st.booleans(), evaluation=st.booleans(), spread=st.booleans(), seed=st.integers(0, 2**31))
def test_a_fused_relu_is_the_same_as_one_behind_block_by_block(shape, far, evaluation, spread, seed):
    rng = np.random.default_rng(seed)
    arrays = problem(rng, shape, np.float64, 100.0 if far else 1.0)
    running = (arrays[0].reshape(-1, shape[-1])[0].copy(), rng.uniform(0.5, 2, shape[-1])) if evaluation else None
    if spread:
        arrays = [np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 0)), 0, -1) for array in arrays]
    compare_relu(arrays, running)


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("shape", [(64, 32, 32, 16), (7, 3), (4096, 150)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fused_relu_is_the_same_as_one_behind(shape, dtype, evaluation, rng):
    arrays = problem(rng, shape, dtype)
    running = (arrays[1], arrays[1] ** 2 + 1) if evaluation else None
    y, by_x, *_ = compare_relu(arrays, running)
    assert 0 < (y == 0).mean() < 1
    assert by_x.any()


@pytest.mark.parametrize("shape", [(64, 8, 8, 4), (6, 4)])
@pytest.mark.parametrize("needed", [(True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("evaluation", [False, True])
def test_with_a_relu_each_gradient_is_the_same_alone(shape, needed, evaluation, rng):
    x, gamma, beta, g = problem(rng, shape, np.float32)
    running = (gamma, gamma**2 + 1) if evaluation else None
    expected = with_relu(True, x, gamma, beta, g, running)[1:]
    tensors = [ml.Tensor(array, requires_grad=need) for array, need in zip((x, gamma, beta), needed, strict=True)]
    ops.batch_norm(*tensors, eps=EPS, running=running, relu=True).backward(g)
    for tensor, need, other in zip(tensors, needed, expected, strict=True):
        if need:
            np.testing.assert_allclose(tensor.grad, other, rtol=1e-6)
        else:
            assert tensor.grad is None


def test_a_nan_stays_one_behind_the_relu(rng):
    for shape in (8, 3), (64, 16, 16, 3):
        x, gamma, beta, g = problem(rng, shape, np.float32)
        x[3, ..., 1] = np.nan
        y, by_x, *_ = with_relu(True, x, gamma, beta, g, None)
        assert np.isnan(y[..., 1]).all()
        assert np.isfinite(by_x[..., [0, 2]]).all()


# ---------------------------------------------------------------- standardize


def plain_standardize(x, g, axes, eps_inside):
    x, g = x.astype(np.float64), g.astype(np.float64)
    mean = lambda values: values.mean(axes, keepdims=True)
    centered = x - mean(x)
    centered -= mean(centered)
    deviation = np.sqrt(mean(centered**2) + (EPS if eps_inside else 0))
    s = deviation if eps_inside else deviation + EPS
    x_hat = centered / s
    return x_hat, (g - mean(g) - centered / deviation * mean(g * x_hat)) / s


AXES = [((70, 16, 16, 8), (1, 2, 3)), ((70, 16, 16, 8), (1, 2)), ((70, 16, 16, 2, 4), (1, 2, -1)), ((700, 120), (1,))]
AXES += [((40, 30, 12), (2,)), ((3, 3, 40, 50), (0, 1, 2))]


@pytest.mark.parametrize("eps_inside", [True, False])
@pytest.mark.parametrize(("shape", "axes"), AXES)
@pytest.mark.parametrize(
    ("dtype", "mean", "rtol"), [(np.float32, 1, 2e-5), (np.float32, 1e3, 1e-4), (np.float64, 1, 1e-12)]
)
def test_standardize_equals_the_plain_form_sample_by_sample(
    shape, axes, dtype, mean, rtol, eps_inside, rng, monkeypatch
):
    monkeypatch.setattr(norm, "BLOCK", 2**13)
    x, g = ((rng.standard_normal(shape) + shift).astype(dtype) for shift in (mean, 0))
    expected = plain_standardize(x, g, axes, eps_inside)
    reference = None
    for threads in 1, 2, 3:
        ml.set_threads(threads)
        tensor = ml.Tensor(x, requires_grad=True)
        y = ops.standardize(tensor, axes, eps=EPS, eps_inside=eps_inside)
        y.backward(g)
        agree((y.numpy(), tensor.grad), expected, rtol)
        reference = reference or (y.numpy(), tensor.grad)
        np.testing.assert_array_equal(reference[0], y.numpy())
        np.testing.assert_array_equal(reference[1], tensor.grad)


@pytest.mark.parametrize("eps_inside", [True, False])
def test_equal_values_become_zero_and_get_finite_gradients(eps_inside):
    x = ml.Tensor(np.full((5, 3, 7, 2), 0.1, np.float32), requires_grad=True)
    y = ops.standardize(x, (1, 2), eps_inside=eps_inside)
    y.backward(np.ones(x.shape, np.float32))
    np.testing.assert_array_equal(y.data, 0)
    assert np.isfinite(x.grad).all()
