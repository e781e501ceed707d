"""Pooling against its plain form: one strided pass over the images for each place in the window."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl.kernels.numpy import pool

# ---------------------------------------------------------------- the plain form


def taps(x, size, stride):
    """Yield, for each place (i, j) in the window, the view of x that holds it, one element for each window."""
    (kh, kw), (sh, sw) = size, stride
    oh, ow = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    for i in range(kh):
        for j in range(kw):
            yield x[:, i : i + oh * sh : sh, j : j + ow * sw : sw]


def plain_max(x, g, size, stride):
    y = np.max(list(taps(x, size, stride)), axis=0)
    gradient, waiting = np.zeros_like(x), np.ones(y.shape, bool)
    for tap, out in zip(taps(x, size, stride), taps(gradient, size, stride), strict=True):
        here = (tap == y) & waiting
        waiting &= ~here
        out += g * here
    return y, gradient


def plain_average(x, g, size, stride):
    y = np.sum(list(taps(x, size, stride)), axis=0) / (size[0] * size[1])
    gradient = np.zeros_like(x)
    for out in taps(gradient, size, stride):
        out += g / (size[0] * size[1])
    return y, gradient


# ---------------------------------------------------------------- ours


def our_max(x, g, size, stride):
    y, chosen = pool.max_forward(x, size, stride)
    return y, pool.max_gradient(g, chosen, x.shape, size, stride)


def our_average(x, g, size, stride):
    return pool.average_forward(x, size, stride), pool.average_gradient(g, x.shape, size, stride)


both = pytest.mark.parametrize(("ours", "plain"), [(our_max, plain_max), (our_average, plain_average)])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
windows = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks, of one image or a few."""
    monkeypatch.setattr(pool, "BLOCK", 64)


@pytest.fixture(autouse=True)
def _threads():
    yield
    ml.set_threads(None)


def draw(data, dtype):
    """Return images with many equal values and an output gradient, both in a memory layout that is drawn."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    size, stride = data.draw(windows), data.draw(windows)
    n, h, w, c = (data.draw(st.integers(least, most)) for least, most in ((0, 5), (size[0], 7), (size[1], 7), (1, 4)))
    oh, ow = (h - size[0]) // stride[0] + 1, (w - size[1]) // stride[1] + 1
    x = rng.integers(-2, 2, (n, 2 * h, w, 2 * c)).astype(dtype)
    g = rng.standard_normal((c, n, oh, ow)).astype(dtype)
    if data.draw(st.booleans()):
        return np.ascontiguousarray(x[:, ::2, :, ::2]), np.ascontiguousarray(np.moveaxis(g, 0, -1)), size, stride
    return x[:, ::-2, :, ::2], np.moveaxis(g, 0, -1), size, stride


@both
@dtypes
@given(data=st.data())
def test_equals_the_plain_form(ours, plain, dtype, data):
    x, g, size, stride = draw(data, dtype)
    for result, expected in zip(ours(x, g, size, stride), plain(x, g, size, stride), strict=True):
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


@both
@pytest.mark.usefixtures("small_blocks")
@given(data=st.data())
def test_equals_the_plain_form_block_by_block(ours, plain, data):
    x, g, size, stride = draw(data, np.float64)
    for threads in 1, 2, 3:
        ml.set_threads(threads)
        for result, expected in zip(ours(x, g, size, stride), plain(x, g, size, stride), strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-15, atol=1e-15)


@both
@pytest.mark.parametrize(("size", "stride"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((2, 2), (3, 3)), ((17, 16), (5, 4))])
def test_large_batches_give_the_same_bits_for_any_threads_and_in_used_memory(ours, plain, size, stride, rng):
    x = rng.integers(0, 3, (40, 33, 32, 16)).astype(np.float32)
    g = rng.standard_normal(pool.average_forward(x[:, :, :], size, stride).shape).astype(np.float32)
    if size == (17, 16):  # more places than a byte can number
        x, g = x[:2], g[:2]
    expected = plain(x, g, size, stride)
    first = ours(x, g, size, stride)
    np.testing.assert_allclose(first[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first[1], expected[1], rtol=1e-5, atol=1e-5)
    for threads in 1, 2, 3:
        ml.set_threads(threads)
        for waste in ours(np.full_like(x, np.nan), np.full_like(g, np.nan), size, stride):
            del waste  # its memory, full of NaN, is used again
        for again, result in zip(ours(x, g, size, stride), first, strict=True):
            np.testing.assert_array_equal(again, result)


def test_a_window_with_a_nan_is_nan_and_passes_no_gradient():
    x = np.array([[1, 2, 3, 9], [np.nan, 4, 5, 6]]).reshape(1, 2, 4, 1)
    y, gradient = our_max(x, np.ones((1, 1, 2, 1)), (2, 2), (2, 2))
    np.testing.assert_array_equal(y.reshape(-1), [np.nan, 9])
    np.testing.assert_array_equal(gradient.reshape(2, 4), [[0, 0, 0, 1], [0, 0, 0, 0]])


def test_integers_keep_their_dtype_as_maxima_and_are_averaged_as_numbers():
    x = np.array([[250, 255], [253, 254]], np.uint8).reshape(1, 2, 2, 1)
    y, _ = pool.max_forward(x, (2, 2), (2, 2))
    assert (y.dtype, y.item()) == (np.uint8, 255)
    assert pool.average_forward(x, (2, 2), (2, 2)).item() == 253


@given(data=st.data())
def test_windows_and_their_gradient_equal_the_plain_form(data):
    x, _, size, stride = draw(data, np.float64)
    windows = pool.windows_forward(x, size, stride)
    np.testing.assert_array_equal(windows, np.stack(list(taps(x, size, stride)), axis=3))
    expected = np.zeros_like(x)
    for place, out in enumerate(taps(expected, size, stride)):
        out += windows[:, :, :, place]
    np.testing.assert_array_equal(pool.windows_gradient(windows, x.shape, size, stride), expected)
