"""Two-dimensional convolution as matrix products (im2col), channels last.

A window of the image, written out as a row of kh·kw·C numbers, times the kernel as a matrix (kh·kw·C, K) gives the K
outputs at that place. Writing out all windows at once would cost kh·kw times the memory of the image and stream it
through the memory bus; so the batch is cut into chunks whose columns fit into the processor's cache.

Padding is ((top, bottom), (left, right)), stride a pair. The functions use only what CuPy has too.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import array_module
from minidl.forward import multilinear

CHUNK_BYTES = 2**19  # well inside one core's L2 cache, beside the kernel and the output


@multilinear(0, 1)
def forward(x, w, stride, padding):
    """Return the convolution of x (N, H, W, C) with w (kh, kw, C, K): shape (N, oh, ow, K)."""
    size, filters = w.shape[:2], w.shape[-1]
    matrix = w.reshape(-1, filters)
    xp = array_module(x)
    y = xp.empty(
        (len(x), *output_size(x.shape, size, stride, padding), filters), dtype=np.result_type(x.dtype, w.dtype)
    )
    for chunk in _chunks(y.shape, len(matrix), y.dtype):
        xp.matmul(_columns(x[chunk], size, stride, padding), matrix, out=y[chunk].reshape(-1, filters))
    return y


@multilinear(0, 1)
def weight_gradient(x, g, size, stride, padding):
    """Return the gradient with respect to the kernel: the columns of x, transposed, times the output's gradient g."""
    channels, filters = x.shape[-1], g.shape[-1]
    gradient = array_module(x).zeros((size[0] * size[1] * channels, filters), dtype=g.dtype)
    for chunk in _chunks(g.shape, len(gradient), g.dtype):
        gradient += _columns(x[chunk], size, stride, padding).T @ g[chunk].reshape(-1, filters)
    return gradient.reshape(*size, channels, filters)


@multilinear(0, 1)
def input_gradient(g, w, shape, stride, padding):
    """Return the gradient with respect to the input of this shape.

    It is itself a convolution: of g, with the gaps of the stride filled with zeros, and the kernel turned by 180° with
    its inputs and outputs exchanged. The padding is what is left of a full window on each side.
    """
    spread = _spread(g, stride)
    turned = w[::-1, ::-1].swapaxes(2, 3)
    full = tuple(
        (window - 1 - before, extent - covered + before)
        for extent, covered, window, (before, _) in zip(
            shape[1:3], spread.shape[1:3], w.shape[:2], padding, strict=True
        )
    )
    return forward(spread, array_module(w).ascontiguousarray(turned), (1, 1), full)


def output_size(shape, size, stride, padding):
    """Return (oh, ow) for an input of shape (N, H, W, C) and a window (kh, kw)."""
    return tuple(
        (extent + before + after - window) // step + 1
        for extent, window, step, (before, after) in zip(shape[1:3], size, stride, padding, strict=True)
    )


def _chunks(output_shape, row_length, dtype):
    """Yield slices of the batch whose columns take about CHUNK_BYTES."""
    count, height, width, _ = output_shape
    samples = max(1, CHUNK_BYTES // max(1, height * width * row_length * dtype.itemsize))
    return (slice(start, min(start + samples, count)) for start in range(0, count, samples))


def _columns(x, size, stride, padding):
    """Return the windows of x as rows: (N·oh·ow, kh·kw·C)."""
    oh, ow = output_size(x.shape, size, stride, padding)
    x = _pad(x, padding)
    count, height, width, channels = x.shape
    (kh, kw), (sh, sw) = size, stride
    xp = array_module(x)
    # A row of the window is kw·C neighbours in memory: one strided copy moves all of them in runs of that length. The
    # strides are worked out from the shape, because NumPy may report any stride for an axis of size 1.
    c = x.dtype.itemsize * channels
    windows = xp.lib.stride_tricks.as_strided(
        x, (count, oh, ow, kh, kw * channels), (height * width * c, sh * width * c, sw * c, width * c, x.dtype.itemsize)
    )
    return xp.ascontiguousarray(windows).reshape(-1, kh * kw * channels)


def _pad(x, padding):
    """Return x contiguous, with zeros added on each side, or rows and columns taken off where padding is negative."""
    if padding != ((0, 0), (0, 0)):
        height, width = (extent + sum(pair) for extent, pair in zip(x.shape[1:3], padding, strict=True))
        padded = array_module(x).zeros((len(x), height, width, x.shape[3]), dtype=x.dtype)
        (top, bottom), (left, right) = padding
        padded[:, _inside(top, bottom), _inside(left, right)] = x[:, _inside(-top, -bottom), _inside(-left, -right)]
        x = padded
    return array_module(x).ascontiguousarray(x)


def _inside(before, after):
    """Return the slice that leaves out so many elements at each end; negative numbers leave out none."""
    return slice(max(before, 0), -after if after > 0 else None)


def _spread(g, stride):
    """Return g with stride − 1 zeros between its rows and columns."""
    if stride == (1, 1):
        return g
    count, oh, ow, filters = g.shape
    spread = array_module(g).zeros((count, (oh - 1) * stride[0] + 1, (ow - 1) * stride[1] + 1, filters), dtype=g.dtype)
    spread[:, :: stride[0], :: stride[1]] = g
    return spread
