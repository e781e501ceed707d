"""Pooling over windows, channels last: the launches of `pool.cu`."""

from __future__ import annotations

import math

import numpy as np

from minidl import buffers
from minidl.forward import multilinear
from minidl.kernels.cuda import channels, launch

BYTE = 2**8 - 1  # places that a byte can number, besides "nowhere"

VARIANTS = [
    {"source": "pool.cu", "dtype": dtype, "defines": {"PACK": pack, "WIDE": wide}, "registers": 64, "shared": 0}
    for dtype, packs in (("float32", (1, 4)), ("float64", (1, 2)))
    for pack in packs
    for wide in (0, 1)
]


def max_forward(x, size, stride):
    """Return the largest value of each window and, for `max_gradient`, its place in the window, numbered row by row.

    Of several equal places it is the first. In a window with a NaN the largest value is NaN, and the place is −1, or
    255 where places are bytes.
    """
    launch.check_size("max_pool2d", x=x)
    x = channels.contiguous(x)
    y = buffers.empty(_output_shape(x.shape, size, stride), x)
    places = buffers.empty(y.shape, x, np.uint8 if math.prod(size) <= BYTE else np.int32)
    _launch("max_forward", x, y, x.shape, size, stride, places)
    return y, places


@multilinear(0)
def max_gradient(g, places, shape, size, stride):
    """Send each gradient to the place of its window that held the maximum."""
    g = channels.contiguous(g)
    gradient = buffers.empty(shape, g)
    _launch("max_gradient", g, gradient, shape, size, stride, places)
    return gradient


def average_forward(x, size, stride):
    """Return the mean of each window."""
    launch.check_size("avg_pool2d", x=x)
    x = channels.contiguous(x)
    y = buffers.empty(_output_shape(x.shape, size, stride), x)
    _launch("average_forward", x, y, x.shape, size, stride)
    return y


@multilinear(0)
def average_gradient(g, shape, size, stride):
    """Give each place of a window an equal share of its gradient."""
    g = channels.contiguous(g)
    gradient = buffers.empty(shape, g)
    _launch("average_gradient", g, gradient, shape, size, stride)
    return gradient


def windows_forward(x, size, stride):
    """Return the elements of each window, row by row: (N, oh, ow, kh·kw, C)."""
    x = channels.contiguous(x)
    y = buffers.empty((*_output_shape(x.shape, size, stride)[:3], math.prod(size), x.shape[3]), x)
    launch.check_size("windows2d", x=x, **{"the result": y})
    _launch("windows_forward", x, y, x.shape, size, stride)
    return y


@multilinear(0)
def windows_gradient(g, shape, size, stride):
    """Add up, for each pixel, the gradients of all windows that it lies in."""
    g = channels.contiguous(g)
    gradient = buffers.empty(shape, g)
    _launch("windows_gradient", g, gradient, shape, size, stride)
    return gradient


def _launch(name, source, result, shape, size, stride, *places):
    """Launch a kernel in which each thread makes a pixel of the result; `shape` is that of the images."""
    if result.size == 0:
        return
    pack = channels.pack(shape[-1], source, result, *places)
    kernel = launch.kernel("pool.cu", name, source.dtype, PACK=pack, WIDE=int(math.prod(size) > BYTE))
    count, packs = result.size // shape[-1], shape[-1] // pack
    windows = _output_shape(shape, size, stride)[1:3]
    grid, block = channels.cover(count, packs)
    kernel(grid, block, source, result, *places, count, packs, *shape[1:3], *windows, *size, *stride)


def _output_shape(shape, size, stride):
    (count, height, width, depth), (kh, kw), (sh, sw) = shape, size, stride
    return count, (height - kh) // sh + 1, (width - kw) // sw + 1, depth
