"""Images written out so that a convolution becomes matrix products (Cho and Brand 2017, MEC), channels last.

Writing out all windows (im2col) copies every pixel kh · kw times. But the pixels of a window are already neighbours in
a row of the image; it is enough to lay the kh rows of a window beside each other, pixel by pixel, as an array
(N, oh, width, kh · C): the window at column q of the output is then the run of kw · kh · C numbers that begins at pixel
q · stride. For one column of the output, these runs are the rows of a matrix that lies in the array as it is, only with
a long way from row to row, which BLAS does not mind. So there are kh copies instead of kh · kw, and the products of all
columns write straight to their places in the result. They are also small, which OpenBLAS likes: it leaves out the
packing, its own copy, that costs as much as the product where there are few channels.
"""

from __future__ import annotations

import functools

import numpy as np

from minidl import buffers
from minidl.backend import array_module


def output_size(shape, size, stride, padding):
    """Return (oh, ow) for an input of shape (N, H, W, C) and a window (kh, kw)."""
    return tuple(
        (extent + before + after - window) // step + 1
        for extent, window, step, (before, after) in zip(shape[1:3], size, stride, padding, strict=True)
    )


def windows(x, size, stride, padding, rows):
    """Return the windows of images x at these rows of the output: (ow, N · len(rows), kw · kh · C).

    Negative padding takes rows and columns off.
    """
    (kh, kw), (_, step), channels = size, stride, x.shape[3]
    ow = output_size(x.shape, size, stride, padding)[1]
    lowered = _lowered(x, kh, stride[0], padding, rows, (ow - 1) * step + kw)
    height, width = lowered.shape[0] * lowered.shape[1], lowered.shape[2]
    # The strides are worked out from the shape, because NumPy may report any stride for an axis of size 1.
    pixel = kh * channels * x.dtype.itemsize
    shape, strides = (ow, height, kw * kh * channels), (step * pixel, width * pixel, x.dtype.itemsize)
    if type(lowered) is np.ndarray:
        return np.ndarray(shape, x.dtype, lowered, 0, strides)
    return array_module(x).lib.stride_tricks.as_strided(lowered, shape, strides)


def by_column(y):
    """Return images as (W, N · H, C), a view of contiguous ones: what belongs to the windows, in their order."""
    count, height, width, channels = y.shape
    return y.reshape(count * height, width, channels).swapaxes(0, 1)


def _lowered(x, kh, step, padding, rows, width):
    """Return the kh rows of the image that each row of the output needs, side by side: (N, rows, width, kh · C)."""
    count, height, extent, channels = x.shape
    top, left = padding[0][0], padding[1][0]
    if kh == 1 and step == 1 and top <= 0 and left == 0 and width == extent and rows.stop - top <= height:
        return array_module(x).ascontiguousarray(x[:, rows.start - top : rows.stop - top])
    number = rows.stop - rows.start
    lowered = buffers.empty((count, number, width, kh, channels), x)
    places = _places(height, extent, kh, step, top - rows.start * step, left, number, width)
    gather(x, places, lowered.reshape(count, number * width * kh, channels))
    begin, end = max(left, 0), max(min(left + extent, width), max(left, 0))
    if begin > 0:
        lowered[:, :, :begin] = 0
    if end < width:
        lowered[:, :, end:] = 0
    for i in range(kh):  # row p of the output needs row p · step + i − top of the image, if there is one
        first = min(max(0, -((i - top) // step) - rows.start), number)
        last = max(min(number, (height - 1 - i + top) // step + 1 - rows.start), first)
        if first > 0:
            lowered[:, :first, :, i] = 0
        if last < number:
            lowered[:, last:, :, i] = 0
    return lowered


@functools.lru_cache
def _places(height, extent, kh, step, top, left, number, width):
    """Return which pixel of an image each place of the lowered one holds; outside of the image, its nearest one."""
    rows = np.arange(number)[:, None, None] * step + np.arange(kh) - top
    columns = np.arange(width)[:, None] - left
    return (rows.clip(0, height - 1) * extent + columns.clip(0, extent - 1)).reshape(-1)


def gather(x, places, out):
    """Write the pixels of each image (H, W, C) at these places to `out`, of shape (N, places, C).

    NumPy's `take` copies a pixel at a time, which is several times as fast as a loop over its few channels.
    """
    x = x.reshape(len(x), x.shape[1] * x.shape[2], x.shape[3])
    if type(x) is np.ndarray:
        x.take(places, axis=1, out=out, mode="clip")  # other modes write to a copy of `out` first
    else:
        out[...] = x[:, array_module(x).asarray(places)]


def pixels(x):
    """Return images without their last axis: a pixel is one element, which NumPy moves at once instead of in a loop."""
    if type(x) is not np.ndarray or x.size == 0:
        return x
    if x.strides[-1] != x.dtype.itemsize:
        x = np.ascontiguousarray(x)
    return x.view(np.dtype((np.void, x.shape[-1] * x.dtype.itemsize)))[..., 0] if x.shape[-1] > 1 else x[..., 0]
