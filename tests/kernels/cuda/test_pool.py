"""Pooling in CUDA against the NumPy twin, on the emulator."""

from __future__ import annotations

import importlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import emulator, ops
from minidl.forward import Dual
from minidl.kernels.cuda import channels, launch, pool
from minidl.kernels.numpy import pool as twin

from standin import transfers

pytestmark = pytest.mark.usefixtures("standin")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
windows = st.tuples(st.integers(1, 4), st.integers(1, 4))


def device(x):
    return importlib.import_module("cupy").asarray(x)


def maximum(pool, x, g, size, stride):
    y, places = pool.max_forward(x, size, stride)
    return y, pool.max_gradient(g, places, x.shape, size, stride)


def average(pool, x, g, size, stride):
    return pool.average_forward(x, size, stride), pool.average_gradient(g, x.shape, size, stride)


def elements(pool, x, g, size, stride):
    y = pool.windows_forward(x, size, stride)
    return y, pool.windows_gradient((y * y)[..., ::-1], x.shape, size, stride)


every_kind = pytest.mark.parametrize("kind", [maximum, average, elements])


def compare(kind, x, g, size, stride):
    """Return what the kernels compute, which must be the twin's, and the same in whatever order the threads run."""
    expected = kind(twin, x, g, size, stride)
    first = None
    for order in emulator.settings.ORDERS:
        with emulator.order(order):
            results = [result.get() for result in kind(pool, device(x), device(g), size, stride)]
        first = first or results
        for result, other, wanted in zip(results, first, expected, strict=True):
            np.testing.assert_array_equal(result, other)
            assert (result.dtype, result.shape) == (x.dtype, wanted.shape)
            tolerance = 16 * np.finfo(x.dtype).eps
            np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance)
    return first


def problem(rng, shape, size, stride, dtype):
    """Return images with many equal values, and a gradient."""
    x = rng.integers(-2, 2, shape).astype(dtype)
    (n, h, w, c), (kh, kw), (sh, sw) = shape, size, stride
    return x, rng.standard_normal((n, (h - kh) // sh + 1, (w - kw) // sw + 1, c)).astype(dtype)


@every_kind
@dtypes
@given(data=st.data())
def test_equals_the_twin(kind, dtype, data):
    size, stride = data.draw(windows), data.draw(windows)
    shape = tuple(data.draw(st.integers(*ends)) for ends in ((1, 4), (size[0], 9), (size[1], 9), (1, 9)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    compare(kind, *problem(rng, shape, size, stride, dtype), size, stride)


@every_kind
@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [
        ((3, 32, 31, 16), (2, 2), (2, 2)),  # the usual one; the last column lies in no window
        ((2, 17, 19, 12), (3, 3), (2, 2)),  # windows overlap
        ((2, 17, 19, 3), (2, 2), (3, 5)),  # there are gaps
        ((1, 5, 6, 300), (3, 2), (1, 1)),  # wider than a block
        ((1, 3, 3, 2060), (2, 2), (1, 1)),  # wider than two, four numbers at once
        ((2, 4, 5, 7), (4, 5), (1, 1)),  # a single window
    ],
)
def test_large_images(kind, shape, size, stride, rng):
    compare(kind, *problem(rng, shape, size, stride, np.float32), size, stride)


@pytest.mark.parametrize("size", [(15, 17), (16, 16), (16, 17)])
def test_windows_with_more_places_than_a_byte_can_number(size, rng):
    x, g = problem(rng, (2, 18, 17, 3), size, (1, 1), np.float64)
    compare(maximum, rng.permutation(x.size).reshape(x.shape).astype(np.float64), g, size, (1, 1))
    compare(maximum, np.pad(x[:, -1:, -1:] + 9, ((0, 0), (17, 0), (16, 0), (0, 0))), g, size, (1, 1))  # the last place
    x[:, 5, 5] = np.nan
    compare(maximum, x, g, size, (1, 1))


def test_of_equal_values_the_first_counts():
    x = np.array([[7, 7, 1], [7, 7, 7]], np.float64).reshape(1, 2, 3, 1)
    _, gradient = compare(maximum, x, np.array([1.0, 10]).reshape(1, 1, 2, 1), (2, 2), (1, 1))
    np.testing.assert_array_equal(gradient.reshape(2, 3), [[1, 10, 0], [0, 0, 0]])
    for value in -np.inf, np.inf:
        _, gradient = compare(maximum, np.full((1, 2, 2, 1), value), np.ones((1, 1, 1, 1)), (2, 2), (2, 2))
        np.testing.assert_array_equal(gradient.reshape(-1), [1, 0, 0, 0])


@dtypes
def test_a_window_with_a_nan_is_nan_and_passes_no_gradient(dtype):
    for i in range(4):  # wherever the NaN stands
        x = np.array([1, 2, 3, 9, 5, 4, 5, 6], dtype).reshape(1, 2, 4, 1)
        x[0, i // 2, i % 2] = np.nan
        y, gradient = compare(maximum, x, np.ones((1, 1, 2, 1), dtype), (2, 2), (2, 2))
        np.testing.assert_array_equal(y.reshape(-1), [np.nan, 9])
        np.testing.assert_array_equal(gradient.reshape(2, 4), [[0, 0, 0, 1], [0, 0, 0, 0]])


@every_kind
def test_arrays_may_lie_in_memory_as_they_like(kind, rng):
    size, stride = (2, 2), (2, 1)
    x, g = problem(rng, (2, 6, 5, 8), size, stride, np.float32)
    expected = [result.get() for result in kind(pool, device(x), device(g), size, stride)]
    turned = [device(np.moveaxis(array, -1, 0).copy()).transpose(1, 2, 3, 0) for array in (x, g)]
    shifted = [device(np.append(0, array).astype(np.float32))[1:].reshape(array.shape) for array in (x, g)]
    for layout in turned, shifted:
        for result, other in zip(kind(pool, *layout, size, stride), expected, strict=True):
            np.testing.assert_array_equal(result.get(), other)


def test_sixteen_bytes_are_read_at_once_where_the_array_allows_it(rng):
    x = device(rng.standard_normal((4, 8)).astype(np.float32))
    assert [channels.pack(8, x), channels.pack(6, x), channels.pack(8, x.astype(np.float64))] == [4, 1, 2]
    assert channels.pack(8, x.reshape(-1)[1:]) == 1


@pytest.mark.parametrize("name", ["average_gradient", "windows_gradient"])
def test_the_gradient_of_a_gradient_with_tangents(name, rng):
    """As of a Hessian with respect to later layers: the forward pass was plain, and the gradient that comes is not."""
    places = () if name == "average_gradient" else (4,)
    g, tangents = rng.standard_normal((2, 3, 2, *places, 5)), rng.standard_normal((3, 2, 3, 2, *places, 5))
    result = getattr(pool, name)(Dual(device(g), device(tangents)), (2, 4, 3, 5), (2, 2), (1, 1))
    expected = getattr(twin, name)(Dual(g, tangents), (2, 4, 3, 5), (2, 2), (1, 1))
    np.testing.assert_allclose(result.value.get(), expected.value, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(result.tangents.get(), expected.tangents, rtol=1e-14, atol=1e-14)


@every_kind
def test_an_empty_batch(kind):
    x, g = np.zeros((0, 4, 4, 3), np.float32), np.zeros((0, 2, 2, 3), np.float32)
    y, gradient = compare(kind, x, g, (2, 2), (2, 2))
    assert y.size == 0
    assert gradient.shape == x.shape


def test_an_array_that_is_too_large_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(launch, "LARGEST", 100)
    x = device(np.zeros((2, 5, 5, 2), np.float32))
    assert pool.max_forward(x, (2, 2), (2, 2))[0].shape == (2, 2, 2, 2)
    with pytest.raises(ValueError, match=r"windows2d: the result has shape \(2, 4, 4, 4, 2\)"):
        pool.windows_forward(x, (2, 2), (1, 1))
    x = device(np.zeros((3, 5, 5, 2), np.float32))
    for op, name in (pool.max_forward, "max_pool2d"), (pool.average_forward, "avg_pool2d"):
        with pytest.raises(ValueError, match=rf"{name}: x has shape \(3, 5, 5, 2\)"):
            op(x, (2, 2), (2, 2))


@pytest.mark.parametrize("op", [ops.max_pool2d, ops.avg_pool2d, ops.windows2d])
def test_ops_take_the_kernels_and_copy_nothing_to_the_host(op, rng):
    values = rng.standard_normal((2, 6, 7, 4)).astype(np.float32)
    x = ml.Tensor(device(values), requires_grad=True)
    copied = transfers["to host"]
    y = op(x, 3, 2)
    y.backward(y.data)
    assert transfers["to host"] == copied
    ml.use_device("cpu")
    twin_x = ml.Tensor(values, requires_grad=True)
    twin_y = op(twin_x, 3, 2)
    twin_y.backward(twin_y.data)
    np.testing.assert_allclose(y.numpy(), twin_y.data, rtol=1e-6)
    np.testing.assert_allclose(x.grad.get(), twin_x.grad, rtol=1e-6, atol=1e-6)
