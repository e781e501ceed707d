"""Formulas on the elements of large arrays: block by block, each block small enough for the processor's cache.

NumPy computes a formula one operation after the other, each over the whole array: g * (y > 0) writes the truth values
to memory and reads them back. Over a block, what lies between the operations stays in the cache, and the blocks are
shared among the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import buffers
from minidl.threads import parts, share

BLOCK = 2**14  # elements: a handful of such blocks fit into a core's second-level cache
SHARE = 2**15  # elements that are worth waking another thread


def elementwise(formula: Callable[..., Any], *arrays: Any) -> Any:
    """Return formula(*arrays), an array of the shape and dtype of the first, for a formula of corresponding elements.

    Parameters
    ----------
    formula : callable
        Takes arrays of one shape, or parts of them, and returns an array of that shape.
    *arrays : arrays of one shape
        Small ones, and others than NumPy's, are handed to the formula as they are.
    """
    first = arrays[0]
    if first.size < 2 * BLOCK or any(type(x) is not np.ndarray or not x.flags.c_contiguous for x in arrays):
        return formula(*arrays)
    result = buffers.empty(first.shape, first)
    flat = [x.reshape(-1) for x in (*arrays, result)]

    def compute(piece: slice) -> None:
        for start in range(piece.start, piece.stop, BLOCK):
            *blocks, out = [x[start : min(start + BLOCK, piece.stop)] for x in flat]
            out[...] = formula(*blocks)

    share(compute, parts(first.size, SHARE))
    return result
