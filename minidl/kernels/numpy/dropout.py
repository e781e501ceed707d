"""Masks of independent coins, from random bytes."""

from __future__ import annotations

import numpy as np


def kept(shape, p, generator):
    """Draw which elements are kept, as booleans: each with probability 1 − p, whatever the others are.

    A random number for each element would take longer than the rest of dropout. A random byte b says as much, except
    once in 256 times: with 256 p = t + f, an element is dropped if b < t, kept if b > t, and at b = t dropped with
    probability f, by a number of its own. So it is dropped with probability (t + f) / 256 = p, up to 2⁻⁶¹.
    """
    if p in (0, 1):
        return np.full(shape, p == 0)
    threshold, rest = divmod(256 * p, 1)
    byte = _bytes(int(np.prod(shape, dtype=np.int64)), generator)
    mask = byte >= int(threshold)
    if rest:
        ties = np.flatnonzero(byte == int(threshold))
        mask[ties] = generator.random(len(ties)) >= rest
    return mask.reshape(shape)


def _bytes(count, generator):
    """Draw bytes, eight at a time, in the same order on every machine."""
    words = generator.integers(0, 2**64 - 1, size=-(-count // 8), dtype=np.uint64, endpoint=True)
    return words.astype("<u8", copy=False).view(np.uint8)[:count]
