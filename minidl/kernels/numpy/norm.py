"""Batch norm's passes over x (…, C): sums over all rows of C numbers, and formulas of an element and of its channel.

Each pass reads the memory once: block by block, what lies between its operations stays in the processor's cache, and
the blocks are shared among the threads. In a block, neighbouring rows are joined to rows of about a thousand numbers,
with the channels' numbers repeated, because NumPy's loops run along rows and take their time between them.

A mean is two numbers, `center + rest`. The center is None (zero) where the mean is small against the deviation. Where
it is not, x·s − mean·s would lose digits, and (x − center)·s does not: then the center is the mean in the dtype of x,
and the rest is what rounding took from it. Whatever belongs to a channel is float64.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from minidl import buffers
from minidl.forward import value
from minidl.threads import share

BLOCK = 2**18  # elements; see pool.BLOCK. Sums depend on it, so it does not depend on the number of threads
JOINED = 2**10  # elements of joined rows
NEAR = 4  # deviations
SMALL = 2**13  # elements; below, the plain forms are faster


class Saved(NamedTuple):
    """What `gradients` needs of the forward pass."""

    x: Any
    passed: Any  # the output, where a ReLU follows: gradients pass where it is positive
    center: Any
    rest: Any
    inverse_deviation: Any
    scale: Any
    constant: bool  # whether mean and variance do not depend on x


def forward(x, gamma, beta, eps, running, relu):
    """Return γ(x − μ)/√(σ² + ε) + β for each channel, and of that max(0, …) with `relu`.

    Parameters
    ----------
    x : (…, C)
    gamma, beta : (C,)
    eps : float
    running : (mean, variance) or None
        Constants to be used for μ and σ², which are otherwise the mean and the biased variance of x.
    relu : bool

    Returns
    -------
    y : array like x
    mean, variance : (C,) in the dtype of x; None with `running`
    saved
        What `gradients` needs.
    """
    if running is None:
        center, rest, variance = _moments(x)
        mean = rest if center is None else center + rest
        seen = mean.astype(x.dtype), variance.astype(x.dtype)
    else:
        mean, variance = running
        center, rest = _split(mean, variance, x.dtype)
        seen = None, None
    inverse_deviation = 1 / np.sqrt(variance + eps)
    scale = gamma * inverse_deviation
    y = _affine(x, center, rest, scale, beta, relu)
    passed = value(y) if relu else None
    return y, *seen, Saved(x, passed, center, rest, inverse_deviation, scale, running is not None)


def gradients(g, saved, needed):
    """Return the gradients with respect to x, γ and β, those of the three that are needed, from that of the output."""
    x, passed, center, rest, inverse_deviation, scale, constant = saved
    by_x = by_gamma = by_beta = None
    if not constant or needed[1] or needed[2]:
        g, by_beta, sum_gd = _gradient_sums(g, passed, x, center, rest)
        passed = None  # the new g is 0 where it does not pass
        by_gamma = sum_gd * inverse_deviation
    if needed[0] and constant:
        by_x = _scaled(g, passed, scale)
    elif needed[0]:
        count = x.size // x.shape[-1]
        slope = by_gamma / count * inverse_deviation
        by_x = _centered_gradient(g, x, center, rest, scale, by_beta / count, slope)
    return by_x, by_gamma, by_beta


def by_samples(function, first, *others):
    """Return function(first, *others), where the first result is like `first`, computed for some samples at a time."""
    arrays = (first, *others)
    blocks = _blocks(len(first), first.size)
    if len(blocks) == 1 or not _fast(*arrays):
        return function(*arrays)
    result = buffers.empty(first.shape, first)

    def compute(samples):
        result[samples], *rest = function(*(array[samples] for array in arrays))
        return rest

    return result, *map(np.concatenate, zip(*share(compute, blocks), strict=True))


# ---------------------------------------------------------------- the passes


def _moments(x):
    """Return center, rest and the biased variance of each channel."""
    if not _fast(x):
        mean = _rows(x).mean(axis=0)
        rest = _rows(x - mean).mean(axis=0)
        d = _deviations(x, mean, rest)
        return mean, rest, _rows(d * d).mean(axis=0)
    mean, variance = _moments_about(None, x)  # E[x²] − E[x]² is good enough where the mean is near zero
    center, rest = _split(mean, variance, x.dtype)
    if center is not None:
        lost, variance = _moments_about(center, x)
        mean = center + lost
        center = mean.astype(x.dtype)
        rest = mean - center
    return center, rest, variance


def _split(mean, variance, dtype):
    """Return a mean as center and rest."""
    if (mean * mean <= NEAR**2 * variance).all():
        return None, mean
    center = mean.astype(dtype)
    return center, mean - center


def _moments_about(center, x):
    """Return the mean of x − center, and the variance."""
    first, second = _sums(x, center) * (x.shape[-1] / x.size)
    return first, np.maximum(second - first * first, 0)


def _affine(x, center, rest, scale, beta, relu):
    """Return (x − center − rest)·scale + beta, and of that max(0, …) with `relu`."""
    if not _fast(x, scale, beta):
        y = _deviations(x, center, rest) * scale + beta
        return np.maximum(0, y) if relu else y

    def formula(x, out, center, scale, shift):
        np.multiply(_minus(x, center, out), scale, out=out)
        np.add(out, shift, out=out)
        if relu:
            np.clip(out, 0, np.inf, out=out)  # faster than np.maximum

    return _elementwise(formula, [x], [center, scale, beta - rest * scale])


def _gradient_sums(g, passed, x, center, rest):
    """Return g where `passed` is positive, and for each channel the sums Σ g and Σ g·(x − center − rest) of it."""
    if not _fast(x, g):
        g = _passing(g, passed)
        return g, _rows(g).sum(axis=0), _rows(g * _deviations(x, center, rest)).sum(axis=0)
    if passed is None:
        sum_g, sum_gx = _sums(x, center, g)
    else:
        out = buffers.empty(g.shape, g)
        sum_g, sum_gx = _sums(x, center, g, passed, out)
        g = out
    return g, sum_g, sum_gx - rest * sum_g


def _centered_gradient(g, x, center, rest, scale, mean_g, slope):
    """Return scale·(g − mean_g − (x − center − rest)·slope)."""
    if not _fast(x, g, scale, slope):
        return scale * (g - mean_g - _deviations(x, center, rest) * slope)

    def formula(x, g, out, center, slope, shift, scale):
        np.multiply(_minus(x, center, out), slope, out=out)
        np.add(out, shift, out=out)
        np.subtract(g, out, out=out)
        np.multiply(out, scale, out=out)

    return _elementwise(formula, [x, g], [center, slope, mean_g - rest * slope, scale])


def _scaled(g, passed, scale):
    """Return g·scale where `passed` is positive."""
    if not _fast(g, scale):
        return _passing(g, passed) * scale

    if passed is None:
        return _elementwise(lambda g, out, scale: np.multiply(g, scale, out=out), [g], [scale])
    return _elementwise(
        lambda g, passed, out, scale: np.multiply(_passing(g, passed, out), scale, out=out), [g, passed], [scale]
    )


def _passing(g, passed=None, out=None):
    """Return g where `passed` is positive, or everywhere if it is None, and 0 elsewhere."""
    return g if passed is None else np.multiply(g, passed > 0, out=out)


def _fast(x, *others):
    """Return whether all are NumPy's arrays of floats, and x is large. Duals, … take the plain form."""
    return x.size >= SMALL and all(type(a) is np.ndarray and a.dtype.char in "fd" for a in (x, *others))


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _deviations(x, center, rest):
    return x - rest if center is None else x - center - rest


def _minus(x, center, out):
    return x if center is None else np.subtract(x, center, out=out)


# ---------------------------------------------------------------- blocks of rows


def _sums(x, center, g=None, passed=None, out=None):
    """Return Σ w and Σ w·d over all rows, where d = x − center, and w is g or else d.

    With `passed`, w is g where that is positive and 0 elsewhere, and is written to `out`.
    """
    channels = x.shape[-1]
    (x, *weights), (center,), blocks = _joined([a for a in (x, g, passed, out) if a is not None], [center])

    def add(rows):
        d = _minus(x[rows], center, None if center is None else buffers.empty(x[rows].shape, x))
        w = _passing(*(weight[rows] for weight in weights)) if weights else d
        return w.sum(axis=0), np.einsum("ij,ij->j", w, d)  # without an array of the products

    sums = np.sum(share(add, blocks), axis=0, dtype=np.float64).reshape(2, -1, channels)
    return np.ones(sums.shape[1]) @ sums  # NumPy's sum would run along C numbers at a time


def _elementwise(formula, arrays, vectors):
    """Return the array that formula(*arrays, out, *vectors) writes to `out`."""
    result = buffers.empty(arrays[0].shape, arrays[0])
    matrices, vectors, blocks = _joined([*arrays, result], vectors)
    share(lambda rows: formula(*(matrix[rows] for matrix in matrices), *vectors), blocks)
    return result


def _joined(arrays, vectors):
    """Return the arrays as matrices of joined rows, the vectors as such rows in their dtype, and slices of the rows."""
    first, channels = arrays[0], arrays[0].shape[-1]
    count = first.size // channels
    together = math.gcd(count, 1 << (JOINED // channels).bit_length() - 1) if channels <= JOINED else 1
    matrices = [array.reshape(count // together, together * channels) for array in arrays]
    rows = [None if v is None else np.tile(v.astype(first.dtype, copy=False), together) for v in vectors]
    return matrices, rows, _blocks(count // together, first.size)


def _blocks(rows, elements):
    """Cut range(rows) into equal parts, an even number of them for pairs of threads, unless there is little to do."""
    number = 2 * -(-elements // (2 * BLOCK)) if elements >= BLOCK else 1
    ends = [rows * i // number for i in range(number + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends) if start < end]
