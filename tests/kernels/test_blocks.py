"""Formulas block by block against the same formulas on whole arrays: bit for bit, for any number of threads."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import ops
from minidl.kernels.numpy import blocks
from minidl.threads import get_threads, set_threads


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks so small that test arrays have many, and a remainder."""
    monkeypatch.setattr(blocks, "BLOCK", 20)
    monkeypatch.setattr(blocks, "SHARE", 30)
    monkeypatch.setattr(blocks, "ROW", 16)


def with_threads(function):
    """Return what the function returns, after a check that it is the same with 1, 2 and 3 threads."""
    before = get_threads()
    results = []
    try:
        for count in (1, 2, 3):
            set_threads(count)
            results.append(function())
    finally:
        set_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
        assert other.dtype == results[0].dtype
    return results[0]


def laid_out(x, layout):
    """Return x in memory order, in Fortran's, or with gaps."""
    if layout == "gaps":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return np.array(x, order=layout)


shapes = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple) | st.sampled_from(
    [(0, 3), (211,), (1, 97), (64, 3)]
)
layouts = st.sampled_from(["C", "F", "gaps"])
dtypes = st.sampled_from([np.float32, np.float64, np.int64, np.bool_])


@given(shape=shapes, layout=layouts, other=layouts, dtype=dtypes, seed=st.integers(0, 100))
def test_formulas_of_elements(shape, layout, other, dtype, seed):
    rng = np.random.default_rng(seed)
    x = laid_out(rng.standard_normal(shape).astype(np.float32), layout)
    y = laid_out((3 * rng.standard_normal(shape)).astype(dtype), other)
    formula = lambda x, y: x * (y > 0) + 2 * y
    for run, expected in (
        (lambda: blocks.elementwise(formula, x, y), formula(x, y)),
        (lambda: blocks.apply(np.multiply, x, y), x * y),
        (lambda: blocks.apply(np.greater, x, y), x > y),
        (lambda: blocks.combine(np.add, x, y), x + y),
        (lambda: blocks.combine(np.subtract, x, 3), x - 3),
        (lambda: blocks.copy(x), x),
    ):
        result = with_threads(run)
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == expected.dtype
        assert not np.shares_memory(result, x)


@given(shape=shapes, layout=layouts, seed=st.integers(0, 100))
def test_formulas_of_rows(shape, layout, seed):
    x = laid_out(np.random.default_rng(seed).standard_normal((*shape, 5)), layout)
    formula = lambda x: x / np.abs(x).sum(-1, keepdims=True)
    np.testing.assert_array_equal(with_threads(lambda: blocks.samples(formula, x)), formula(x))


@given(shape=shapes, channels=st.integers(1, 9), layout=layouts, trailing=st.integers(0, 2), seed=st.integers(0, 100))
def test_one_value_for_each_channel(shape, channels, layout, trailing, seed):
    rng = np.random.default_rng(seed)
    x = laid_out(rng.standard_normal((*shape, 2, channels)), layout)
    y = rng.standard_normal(x.shape[x.ndim - trailing :])
    np.testing.assert_array_equal(with_threads(lambda: blocks.combine(np.subtract, x, y)), x - y)
    column = rng.standard_normal((2, 1))
    np.testing.assert_array_equal(with_threads(lambda: blocks.combine(np.divide, x, column)), x / column)


@given(shape=shapes, axis=st.integers(-4, 3), layout=layouts, value=st.sampled_from([0.0, -1.5]), data=st.data())
def test_concatenate_and_pad(shape, axis, layout, value, data):
    if not -len(shape) <= axis < len(shape):
        return
    arrays = []
    for dtype in (np.float32, np.float64, np.float32):
        size = list(shape)
        size[axis] = data.draw(st.integers(0, 3))
        x = np.random.default_rng(len(arrays)).standard_normal(size).astype(dtype)
        arrays.append(laid_out(x, layout))
    result = with_threads(lambda: blocks.concatenate(arrays, axis))
    np.testing.assert_array_equal(result, np.concatenate(arrays, axis))
    assert result.dtype == np.float64
    widths = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape]
    expected = np.pad(arrays[0], widths, constant_values=value)
    result = blocks.pad(arrays[0], widths, value)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == expected.dtype


def test_a_result_is_nobodys_but_its_own():
    """What was computed before is not touched by what is computed after."""
    x = np.arange(10_000.0)
    first = blocks.elementwise(np.square, x)
    kept = first.copy()
    second = blocks.apply(np.square, x + 1)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)


# ---------------------------------------------------------------- the activations, in their textbook form

X = np.array([-np.inf, -200.0, -30.0, -3.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 3.0, 30.0, 200.0, np.inf, np.nan])
TEXTBOOK = {
    "relu": (lambda x: np.where(x < 0, 0, x), lambda x: np.where(x > 0, 1, 0)),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: np.where(x > 0, 1, np.exp(x))),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    "softplus": (lambda x: np.logaddexp(x, 0), lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 500])
@pytest.mark.parametrize("name", TEXTBOOK)
def test_activations_at_the_ends_of_the_line(name, size, dtype):
    """Small arrays and large ones take other ways."""
    x = ml.Tensor(np.tile(X, size).astype(dtype), requires_grad=True)
    y = getattr(ops, name)(x)
    y.backward(np.ones_like(x.data))
    function, derivative = TEXTBOOK[name]
    with np.errstate(all="ignore"):
        wide = X.astype(np.longdouble)
        expected, slope = np.tile(function(wide), size), np.tile(derivative(wide), size)
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(y.data, expected.astype(dtype), rtol=tolerance, atol=np.finfo(dtype).tiny)
    finite = np.isfinite(x.data)
    np.testing.assert_allclose(x.grad[finite], slope.astype(dtype)[finite], rtol=tolerance, atol=tolerance)
