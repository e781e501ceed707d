"""Pooling over windows, channels last.

The values at one place of all windows lie apart in memory, in runs of only C numbers, and NumPy's loops would spend
their time between such runs. So `take`, which moves a pixel at once, first gathers them as one array (kh·kw, oh·ow, C)
for each image; whatever follows are long loops. The gradients come back by `take` too, one write for each pixel. All of
it for some images at a time, which stay in the processor's cache.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from minidl import buffers
from minidl.backend import array_module
from minidl.forward import Dual, multilinear
from minidl.threads import get_threads, share

# Elements of all windows that are pooled at a time. A larger block leaves the cache; in a smaller one NumPy's calls are
# so short that the threads wait for each other, because a call begins and ends with Python's lock.
BLOCK = 2**18


def max_forward(x, size, stride):
    """Return the largest value of each window and, for `max_gradient`, which place of the window holds it.

    These are truth values of shape (N, kh·kw, oh·ow, C). Of several equal places it is the first, row by row; in a
    window with a NaN it is none.
    """
    if isinstance(x, Dual):
        y, chosen = max_forward(x.value, size, stride)
        return Dual(y, np.stack([_at(chosen, tangent, size, stride) for tangent in x.tangents])), chosen
    index = _pixels(x.shape, size, stride)
    count, channels = len(x), x.shape[-1]
    y = buffers.empty((count, index.shape[1], channels), x)
    chosen = buffers.empty((count, *index.shape, channels), x, np.bool_)

    def pool(images):
        values, first = _gathered(x[images], index), chosen[images]
        values.max(axis=1, out=y[images])
        np.equal(values, y[images, None], out=first)
        found = first[:, 0].copy()
        for place in range(1, len(index)):
            here = first[:, place]
            np.greater(here, found, out=here)  # equal to the maximum, and no place before was
            np.logical_or(found, here, out=found)

    share(pool, _blocks(x, index.size))
    return y.reshape(_output_shape(x.shape, size, stride)), chosen


@multilinear(0)
def max_gradient(g, chosen, shape, size, stride):
    """Send each gradient to the place of its window that held the maximum."""
    g = g.reshape(len(g), 1, *chosen.shape[2:])

    def parts(images, out):
        out = out.reshape(chosen[images].shape)
        out[...] = chosen[images]  # a product of numbers and truth values would convert these in small steps
        np.multiply(out, g[images], out=out)

    return _collected(parts, g, shape, *_origins(shape, size, stride))


def _at(chosen, values, size, stride):
    """Return, for each window, the value at the chosen place, or 0 if there is none."""
    windows = _gathered(values, _pixels(values.shape, size, stride))
    return (windows * chosen).sum(axis=1).reshape(_output_shape(values.shape, size, stride))


@multilinear(0)
def average_forward(x, size, stride):
    """Return the mean of each window."""
    x = x.astype(np.result_type(x.dtype, np.float32), copy=False)
    index = _pixels(x.shape, size, stride)
    y = buffers.empty((len(x), index.shape[1], x.shape[-1]), x)

    def pool(images):
        mean = y[images]
        _gathered(x[images], index).sum(axis=1, out=mean)
        np.divide(mean, len(index), out=mean)

    share(pool, _blocks(x, index.size))
    return y.reshape(_output_shape(x.shape, size, stride))


@multilinear(0)
def average_gradient(g, shape, size, stride):
    """Give each place of a window an equal share of its gradient."""
    g = g.reshape(len(g), g.shape[1] * g.shape[2], g.shape[-1])

    def parts(images, out):
        np.divide(g[images], size[0] * size[1], out=out)

    return _collected(parts, g, shape, *_origins(shape, size, stride, shared=True))


@multilinear(0)
def windows_forward(x, size, stride):
    """Return the elements of each window, row by row: (N, oh, ow, kh·kw, C)."""
    windows = _gathered(x, _pixels(x.shape, size, stride).T)
    return windows.reshape(*_output_shape(x.shape, size, stride)[:3], *windows.shape[2:])


@multilinear(0)
def windows_gradient(g, shape, size, stride):
    """Add up, for each pixel, the gradients of all windows that it lies in."""
    g = g.reshape(len(g), g.shape[1] * g.shape[2], *g.shape[3:]).swapaxes(1, 2)

    def parts(images, out):
        out.reshape(g[images].shape)[...] = g[images]

    return _collected(parts, g, shape, *_origins(shape, size, stride))


# ---------------------------------------------------------------- from pixels to windows and back


def _output_shape(shape, size, stride):
    (count, height, width, channels), (kh, kw), (sh, sw) = shape, size, stride
    return count, (height - kh) // sh + 1, (width - kw) // sw + 1, channels


def _gathered(x, index):
    """Return the pixels of each image (H, W, C) at these places, in an array of shape (*index.shape, C) each."""
    windows = buffers.empty((len(x), index.size, x.shape[-1]), x)
    _take(x.reshape(len(x), x.shape[1] * x.shape[2], x.shape[-1]), index, windows)
    return windows.reshape(len(x), *index.shape, x.shape[-1])


def _collected(parts, g, shape, origins, rows):
    """Return an array of this shape in which each pixel is the sum of those parts that come from it.

    parts(images, out) writes the parts of some images to `out`, of shape (n, rows, C).
    """
    gradient = buffers.empty((shape[0], origins.shape[1], shape[3]), g)

    def collect(images):
        block = gradient[images]
        values = buffers.empty((len(block), rows + 1, shape[3]), g)
        values[:, rows] = 0
        parts(images, values[:, :rows])
        _take(values, origins[0], block)
        for others in origins[1:]:
            block += _take(values, others, buffers.empty(block.shape, g))

    share(collect, _blocks(gradient, max(rows, origins.shape[1])))
    return gradient.reshape(shape)


def _take(x, index, out):
    """Write x[:, index] to `out` and return it."""
    if type(x) is np.ndarray:
        return x.take(index.reshape(-1), axis=1, out=out, mode="clip")  # other modes write to a copy of `out` first
    out[...] = x[:, array_module(x).asarray(index.reshape(-1))]
    return out


def _blocks(x, pixels):
    """Return slices of the batch, work for the threads, given how many pixels of an image are worked on."""
    if type(x) is not np.ndarray:
        return [slice(0, len(x))]
    elements, threads = len(x) * pixels * x.shape[-1], get_threads()
    number = -(-elements // (BLOCK * threads)) * threads if elements >= BLOCK else 1
    ends = [len(x) * i // number for i in range(number + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _pixels(shape, size, stride):
    """Return where in an image each place of each window is, as an array (kh·kw, oh·ow) of numbers of pixels."""
    return _pixels_of_image(shape[1:3], size, stride)


@functools.lru_cache
def _pixels_of_image(extent, size, stride):
    numbers = np.arange(extent[0] * extent[1]).reshape(extent)
    windows = np.lib.stride_tricks.sliding_window_view(numbers, size)[:: stride[0], :: stride[1]]
    return np.ascontiguousarray(windows.reshape(-1, size[0] * size[1]).T)


def _origins(shape, size, stride, shared=False):
    """Return, for each pixel, which parts come from it, as an array (most, H·W), and how many parts there are.

    Parts are numbered as in `_pixels`, or by their windows if all places of a window share one. The number of parts
    itself stands for none.
    """
    return _origins_in_image(shape[1:3], size, stride, shared)


@functools.lru_cache
def _origins_in_image(extent, size, stride, shared):
    pixels = _pixels_of_image(extent, size, stride)
    places, windows = pixels.shape
    rows = windows if shared else pixels.size
    found = np.zeros(extent[0] * extent[1], int)
    origins = np.full((places, found.size), rows)
    for place, at in enumerate(pixels):
        origins[found[at], at] = np.arange(windows) + (0 if shared else place * windows)
        found[at] += 1
    return origins[: found.max()].copy(), rows
