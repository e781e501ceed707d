"""Dropout: masks of independent coins, from random bytes, and normal noise; and what they do to an array.

What is drawn here are arrays. On a GPU it is the key of a random stream, from which each value is computed when it is
needed: see the twin.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import asarray_like
from minidl.forward import value
from minidl.kernels.numpy.blocks import combine, elementwise


def coins(shape, p, generator, like):
    """Draw which elements of an array are kept: what `drop` and `saturate` take."""
    return kept(shape, p, generator, like)


def drop(x, coins, scale):
    """Return x · b · scale, b the coins; linear in x, it is its own derivative."""
    scale = floating(x).type(scale)
    return elementwise(lambda x, b: x * b * scale, x, coins)


def saturate(x, coins, scale, saturation, shift):
    """Return scale · (x · b + saturation · (1 − b)) + shift; its derivative is `drop`."""
    saturation = floating(x).type(saturation)
    return elementwise(lambda x, b: scale * (x * b + saturation * ~b) + shift, x, coins)


def noise(shape, mu, sigma, generator, like):
    """Draw normal noise of mean mu and standard deviation sigma: what `multiply` takes."""
    n = generator.standard_normal(shape, dtype=np.float32).astype(floating(like), copy=False)
    n *= sigma
    n += mu
    return asarray_like(n, value(like))


def multiply(x, noise):
    """Return x · noise; linear in x, it is its own derivative."""
    return combine(np.multiply, x, noise)


def kept(shape, p, generator, like=None):
    """Draw which elements are kept, as booleans: each with probability 1 − p, whatever the others are.

    A random number for each element would take longer than the rest of dropout. A random byte b says as much, except
    once in 256 times: with 256 p = t + f, an element is dropped if b < t, kept if b > t, and at b = t dropped with
    probability f, by a number of its own. So it is dropped with probability (t + f) / 256 = p, up to 2⁻⁶¹.
    """
    if p in (0, 1):
        return asarray_like(np.full(shape, p == 0), value(like))
    threshold, rest = divmod(256 * p, 1)
    byte = _bytes(int(np.prod(shape, dtype=np.int64)), generator)
    mask = byte >= int(threshold)
    if rest:
        ties = np.flatnonzero(byte == int(threshold))
        mask[ties] = generator.random(len(ties)) >= rest
    return asarray_like(mask.reshape(shape), value(like))


def floating(x):
    """Return the dtype of a mask for x: that of x, unless x holds integers."""
    return np.result_type(x.dtype, np.float32)


def _bytes(count, generator):
    """Draw bytes, eight at a time, in the same order on every machine."""
    words = generator.integers(0, 2**64 - 1, size=-(-count // 8), dtype=np.uint64, endpoint=True)
    return words.astype("<u8", copy=False).view(np.uint8)[:count]
