"""The convolution kernels against the textbook form, a loop over the pixels of the kernel."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import ops
from minidl.kernels.numpy import conv
from minidl.threads import set_threads

EXACT = {np.float32: 2e-5, np.float64: 1e-12}  # of the largest number


def textbook(x, w, g, stride, padding):
    """Return y, and for a gradient g of it those with respect to x and w."""
    (sh, sw), (kh, kw) = stride, w.shape[:2]
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    oh, ow = ((padded.shape[i + 1] - w.shape[i]) // stride[i] + 1 for i in (0, 1))
    y = np.zeros((len(x), oh, ow, w.shape[3]), x.dtype)
    gx, gw = np.zeros_like(padded), np.zeros_like(w)
    g = g(y.shape) if callable(g) else g
    for i, j in np.ndindex(kh, kw):
        seen = np.s_[:, i : i + (oh - 1) * sh + 1 : sh, j : j + (ow - 1) * sw + 1 : sw]
        y += padded[seen] @ w[i, j]
        gx[seen] += g @ w[i, j].T
        gw[i, j] = np.einsum("nhwc,nhwk->ck", padded[seen], g)
    inside = tuple(slice(before, before + extent) for (before, _), extent in zip(padding, x.shape[1:3], strict=True))
    return y, gx[:, inside[0], inside[1]], gw, g


def computed(x, w, g, stride, padding):
    """Return what the kernels make of it, one function after the other."""
    return (
        conv.forward(x, w, stride, padding),
        conv.input_gradient(g, w, x.shape, stride, padding),
        conv.weight_gradient(x, g, w.shape[:2], stride, padding),
        *conv.gradients(x, w, g, stride, padding),
    )


def layouts(data, array):
    """Return the array with the same values in another layout: reversed axes in memory, or every second element."""
    layout = data.draw(st.sampled_from(["C", "F", "sparse"]))
    if layout == "sparse":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return np.asarray(array, order=layout)


def close(result, expected, dtype):
    assert result.dtype == dtype
    bound = EXACT[dtype] * max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(result, expected, rtol=0, atol=bound)


@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**32 - 1))
def test_convolutions_equal_the_textbook_form(data, dtype, seed):
    few = st.integers(1, 4)
    size, stride = data.draw(st.tuples(few, few)), data.draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = data.draw(st.tuples(*[st.tuples(*[st.integers(0, 5)] * 2)] * 2))  # also beyond the window
    least = [max(1, k - sum(pair)) for k, pair in zip(size, padding, strict=True)]
    extents = [data.draw(st.integers(extent, extent + 6)) for extent in least]
    count, channels, filters = data.draw(st.tuples(st.integers(0, 3), few, few))
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.standard_normal(shape).astype(dtype)
    x, w = normal(count, *extents, channels), normal(*size, channels, filters)
    y, gx, gw, g = textbook(x, w, lambda shape: normal(*shape), stride, padding)
    x, w, g = (layouts(data, array) for array in (x, w, g))
    for array in (x, w, g):
        array.setflags(write=False)

    chunk = conv.CHUNK_BYTES
    try:
        for conv.CHUNK_BYTES in (chunk, 2**9, 1):  # whole, some images, single rows
            for result, expected in zip(computed(x, w, g, stride, padding), (y, gx, gw, gx, gw), strict=True):
                close(result, expected, dtype)
            b = normal(filters)
            close(conv.affine(x, w, b, stride, padding), y + b, dtype)
        close(conv.bias_gradient(g), g.sum(axis=(0, 1, 2)), dtype)
    finally:
        conv.CHUNK_BYTES = chunk


LAYERS = {  # x, kernel, stride, padding: large enough for several pieces and threads
    "3×3": ((40, 16, 16, 16), (3, 3, 16, 16), 1, 1),
    "in groups": ((40, 16, 16, 32), (3, 3, 32, 32), 1, 1),
    "one channel": ((40, 28, 28, 1), (5, 5, 1, 6), 1, 0),
    "stride 2": ((40, 16, 16, 16), (3, 3, 16, 32), 2, 1),
    "1×1": ((40, 16, 16, 96), (1, 1, 96, 16), 1, 0),
    "1×1, stride 2": ((40, 16, 16, 32), (1, 1, 32, 48), 2, 0),
    "large images": ((2, 150, 151, 16), (3, 3, 16, 8), 1, 1),
    "large kernel": ((5, 6, 6, 128), (3, 3, 128, 128), 1, 1),
}


def sample(name, rng):
    shape, kernel, stride, padding = LAYERS[name]
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    return normal(*shape), normal(*kernel), (stride,) * 2, ((padding,) * 2,) * 2


@pytest.mark.parametrize("name", LAYERS)
def test_large_layers_do_not_depend_on_threads_and_memory_used_again(name, rng):
    x, w, stride, padding = sample(name, rng)
    normal = lambda shape: rng.standard_normal(shape, dtype=np.float32)
    *expected, g = textbook(x, w, normal, stride, padding)
    b = normal(w.shape[3:])
    runs = []
    try:
        for count in (1, 2, 3, 2):
            set_threads(count)
            runs.append(
                (*computed(x, w, g, stride, padding), conv.bias_gradient(g), conv.affine(x, w, b, stride, padding))
            )
            conv.forward(np.full_like(x, np.nan), w, stride, ((3, 3), (3, 3)))  # leaves NaN in the buffers
    finally:
        set_threads(None)
    for result, value in zip(runs[0], (*expected, *expected[1:], g.sum(axis=(0, 1, 2)), expected[0] + b), strict=True):
        np.testing.assert_allclose(result, value, rtol=0, atol=1e-5 * np.abs(value).max())
    for run in runs[1:]:
        for first, again in zip(runs[0], run, strict=True):
            np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("needed", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 0, 1)])
def test_only_needed_gradients_are_computed(needed, rng, monkeypatch):
    arrays = rng.standard_normal((2, 5, 5, 3)), rng.standard_normal((3, 3, 3, 4)), rng.standard_normal(4)
    everything = [ml.Tensor(array, requires_grad=True) for array in arrays]
    y = ops.conv2d(*everything, padding=1)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    called = []
    for name in ("input_gradient", "weight_gradient", "gradients", "bias_gradient"):
        function = getattr(conv, name)
        monkeypatch.setattr(conv, name, lambda *a, f=function, name=name: (called.append(name), f(*a))[1])
    tensors = [ml.Tensor(array, requires_grad=bool(need)) for array, need in zip(arrays, needed, strict=True)]
    ops.conv2d(*tensors, padding=1).backward(g)
    of_x, of_w, of_b = needed
    images = ["gradients"] if of_x and of_w else ["input_gradient"] * of_x + ["weight_gradient"] * of_w
    assert called == images + ["bias_gradient"] * of_b
    for tensor, whole, need in zip(tensors, everything, needed, strict=True):
        assert (tensor.grad is not None) == bool(need)
        if need:
            np.testing.assert_allclose(tensor.grad, whole.grad, rtol=1e-12, atol=1e-12)


def test_nan_reaches_the_windows_that_see_them_and_no_others(rng):
    x, w = rng.standard_normal((2, 8, 8, 3)), rng.standard_normal((3, 3, 3, 4))
    x[1, 4, 5, 0] = np.nan
    seen = np.zeros((2, 8, 8), bool)
    seen[1, 3:6, 4:7] = True
    y = conv.forward(x, w, (1, 1), ((1, 1), (1, 1)))
    np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(seen[..., None], y.shape))


def test_axes_of_size_1_may_report_any_stride(rng):
    x, w = rng.standard_normal((1, 4, 1, 1)), rng.standard_normal((2, 1, 1, 3))
    strange = np.lib.stride_tricks.as_strided(x, x.shape, (8 * 10**6, 8, 8 * 10**5, 8 * 10**4))
    np.testing.assert_array_equal(
        conv.forward(strange, w, (1, 1), ((0, 0), (0, 0))), conv.forward(x, w, (1, 1), ((0, 0), (0, 0)))
    )


def test_integers_and_no_channels():
    x, w = np.arange(32).reshape(1, 4, 4, 2), np.ones((2, 2, 2, 3), int)
    y = conv.forward(x, w, (1, 1), ((0, 0), (0, 0)))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y[0, 0, 0], x[0, :2, :2].sum())
    nothing = conv.forward(np.zeros((2, 4, 4, 0)), np.zeros((2, 2, 0, 3)), (1, 1), ((0, 0), (0, 0)))
    np.testing.assert_array_equal(nothing, np.zeros((2, 3, 3, 3)))
