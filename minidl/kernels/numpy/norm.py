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

import numpy as np

from minidl import buffers
from minidl.threads import share

BLOCK = 2**18  # elements; see pool.BLOCK. Sums depend on it, so it does not depend on the number of threads
JOINED = 2**10  # elements of joined rows
NEAR = 4  # deviations
SMALL = 2**13  # elements; below, the plain forms are faster


def moments(x):
    """Return center, rest and the biased variance of each channel."""
    if not _fast(x):
        mean = _rows(x).mean(axis=0)
        rest = _rows(x - mean).mean(axis=0)
        d = _deviations(x, mean, rest)
        return mean, rest, _rows(d * d).mean(axis=0)
    mean, variance = _moments_about(None, x)  # E[x²] − E[x]² is good enough where the mean is near zero
    center, rest = split(mean, variance, x.dtype)
    if center is not None:
        lost, variance = _moments_about(center, x)
        mean = center + lost
        center = mean.astype(x.dtype)
        rest = mean - center
    return center, rest, variance


def split(mean, variance, dtype):
    """Return a mean as center and rest."""
    if (mean * mean <= NEAR**2 * variance).all():
        return None, mean
    center = mean.astype(dtype)
    return center, mean - center


def _moments_about(center, x):
    """Return the mean of x − center, and the variance."""
    first, second = _sums(x, center) * (x.shape[-1] / x.size)
    return first, np.maximum(second - first * first, 0)


def affine(x, center, rest, scale, beta):
    """Return (x − center − rest)·scale + beta."""
    if not _fast(x, scale, beta):
        return _deviations(x, center, rest) * scale + beta

    def formula(x, out, center, scale, shift):
        np.multiply(_minus(x, center, out), scale, out=out)
        np.add(out, shift, out=out)

    return _elementwise(formula, [x], [center, scale, beta - rest * scale])


def gradient_sums(g, x, center, rest):
    """Return Σ g and Σ g·(x − center − rest) for each channel."""
    if not _fast(x, g):
        return _rows(g).sum(axis=0), _rows(g * _deviations(x, center, rest)).sum(axis=0)

    sum_g, sum_gx = _sums(x, center, g)
    return sum_g, sum_gx - rest * sum_g


def centered_gradient(g, x, center, rest, scale, mean_g, slope):
    """Return scale·(g − mean_g − (x − center − rest)·slope)."""
    if not _fast(x, g, scale, slope):
        return scale * (g - mean_g - _deviations(x, center, rest) * slope)

    def formula(x, g, out, center, slope, shift, scale):
        np.multiply(_minus(x, center, out), slope, out=out)
        np.add(out, shift, out=out)
        np.subtract(g, out, out=out)
        np.multiply(out, scale, out=out)

    return _elementwise(formula, [x, g], [center, slope, mean_g - rest * slope, scale])


def scaled(g, scale):
    """Return g·scale."""
    if not _fast(g, scale):
        return g * scale
    return _elementwise(lambda g, out, scale: np.multiply(g, scale, out=out), [g], [scale])


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


def _sums(x, center, g=None):
    """Return Σ w and Σ w·d over all rows, where d = x − center, and w is g or else d."""
    channels = x.shape[-1]
    (x, *weights), (center,), blocks = _joined([x] if g is None else [x, g], [center])

    def add(rows):
        d = _minus(x[rows], center, None if center is None else buffers.empty(x[rows].shape, x))
        w = weights[0][rows] if weights else d
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
