"""How many threads the BLAS libraries use."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

import threadpoolctl


def single_blas_thread() -> AbstractContextManager[Any]:
    """Let the BLAS libraries of NumPy and SciPy use one thread in this context.

    Each of the two has threads of its own, which wait actively for their next call: on two cores, calls to one and the
    other in turn take up to 200 times as long as with one thread each.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    import scipy.linalg  # noqa: F401  so that its library is found too

    return threadpoolctl.ThreadpoolController()
