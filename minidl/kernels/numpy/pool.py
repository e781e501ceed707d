"""Pooling over windows, channels last: one pass for each place in the window instead of one for each window."""

from __future__ import annotations

import numpy as np

from minidl.backend import array_module
from minidl.forward import Dual, multilinear


def max_forward(x, size, stride):
    """Return the largest value of each window."""
    if isinstance(x, Dual):
        y = max_forward(x.value, size, stride)
        return Dual(y, np.stack([_at_maximum(tangent, x.value, y, size, stride) for tangent in x.tangents]))
    taps = _taps(x, size, stride)
    y = next(taps).copy()
    for tap in taps:
        np.maximum(y, tap, out=y)
    return y


@multilinear(0)
def max_gradient(g, x, y, size, stride):
    """Send each gradient to the first place of its window, row by row, that holds the maximum."""
    gradient = array_module(x).zeros(x.shape, dtype=g.dtype)
    for here, share in zip(_firsts(x, y, size, stride), _taps(gradient, size, stride), strict=True):
        share += g * here
    return gradient


def _at_maximum(values, x, y, size, stride):
    """Return, for each window, the value at the place that `max_gradient` sends the gradient to."""
    chosen = array_module(x).zeros(y.shape, dtype=values.dtype)
    for here, tap in zip(_firsts(x, y, size, stride), _taps(values, size, stride), strict=True):
        chosen += tap * here
    return chosen


def _firsts(x, y, size, stride):
    """Yield, for each place in the window, in which windows it is the first that holds the maximum."""
    open_windows = array_module(x).ones(y.shape, dtype=bool)
    for tap in _taps(x, size, stride):
        here = (tap == y) & open_windows
        open_windows ^= here
        yield here


@multilinear(0)
def average_forward(x, size, stride):
    """Return the mean of each window."""
    taps = _taps(x, size, stride)
    y = next(taps).astype(np.result_type(x.dtype, np.float32))
    for tap in taps:
        y += tap
    return y / y.dtype.type(size[0] * size[1])


@multilinear(0)
def average_gradient(g, shape, size, stride):
    """Give each place of a window an equal share of its gradient."""
    gradient = array_module(g).zeros(shape, dtype=g.dtype)
    share = g / g.dtype.type(size[0] * size[1])
    for tap in _taps(gradient, size, stride):
        tap += share
    return gradient


@multilinear(0)
def windows_forward(x, size, stride):
    """Return the elements of each window, row by row: (N, oh, ow, kh·kw, C)."""
    return array_module(x).stack(list(_taps(x, size, stride)), axis=3)


@multilinear(0)
def windows_gradient(g, shape, size, stride):
    """Add up, for each pixel, the gradients of all windows that it lies in."""
    gradient = array_module(g).zeros(shape, dtype=g.dtype)
    for place, tap in enumerate(_taps(gradient, size, stride)):
        tap += g[:, :, :, place]
    return gradient


def _taps(x, size, stride):
    """Yield, for each place (i, j) in the window, the view of x that holds it, one element for each window."""
    (kh, kw), (sh, sw) = size, stride
    oh, ow = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    for i in range(kh):
        for j in range(kw):
            yield x[:, i : i + oh * sh : sh, j : j + ow * sw : sw]
