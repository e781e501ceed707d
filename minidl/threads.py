"""How many threads the BLAS libraries use."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import threadpoolctl

_lock = threading.Lock()
_inside = 0  # how many contexts are open, over all threads
_limits: Any = None


@contextlib.contextmanager
def single_blas_thread() -> Iterator[None]:
    """Let the BLAS libraries of NumPy and SciPy use one thread in this context.

    Each of the two has threads of its own, which wait actively for their next call: on two cores, calls to one and the
    other in turn take up to 200 times as long as with one thread each. The setting is the process's: the first context
    that opens makes it, and the last that closes takes it back.
    """
    global _inside, _limits
    with _lock:
        if _inside == 0:
            _limits = _controller().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limits.restore_original_limits()


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    import scipy.linalg  # noqa: F401  so that its library is found too

    return threadpoolctl.ThreadpoolController()
