"""Products of matrices, shared among our threads instead of those of BLAS.

A thread of BLAS waits actively for the next product, for a tenth of a second, and takes a core from whatever comes in
between. So products large enough for BLAS to wake its threads run with one, and the largest are cut into parts. Where
is decided by the sizes alone: the order of the sums, and with it the last digit, is the same for any number of threads.
"""

from __future__ import annotations

import numpy as np

from minidl import buffers
from minidl.threads import share, single_blas_thread

SMALL = 2**18  # multiplications; up to here OpenBLAS uses one thread anyway
LARGE = 2**23  # multiplications that are worth cutting into parts
LONG = 2**8  # rows or columns of the smallest result that is cut: short parts keep BLAS from its pace


def product(x, y):
    """Return x @ y, for matrices or batches of them."""
    if type(x) is not np.ndarray or type(y) is not np.ndarray or x.dtype != y.dtype or x.dtype.kind != "f":
        return x @ y
    if x.ndim == y.ndim == 2 and x.shape[1] == 1:
        return x * y  # of a column and a row: several times as fast as a product of matrices
    work = x.size * y.shape[-1]
    if work <= SMALL:
        return x @ y
    with single_blas_thread():
        if x.ndim != 2 or y.ndim != 2:
            return x @ y
        (n, k), m = x.shape, y.shape[1]
        if work < LARGE:
            return np.matmul(x, y, out=buffers.empty((n, m), x))
        if k >= 8 * max(n, m):  # long and skinny: parts of the inner axis, added up
            return sum(share(lambda part: x[:, part] @ y[part], _halves(k)))
        out = buffers.empty((n, m), x)
        if n >= m:
            share(lambda part: np.matmul(x[part], y, out=out[part]), _halves(n))
        else:
            share(lambda part: np.matmul(x, y[:, part], out=out[:, part]), _halves(m))
        return out


def _halves(count):
    """Cut range(count) into two parts, the first a multiple of the widest tile of BLAS."""
    middle = -(-count // 2 // 64) * 64 if count >= LONG else count // 2
    return [slice(0, middle), slice(middle, count)]
