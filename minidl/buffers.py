"""Memory for large arrays, used again: a training step makes the same arrays as the step before.

Fresh memory is slow: the system clears every page of it when it is first touched, which can take longer than the
arithmetic. So the buffer of a large array is kept when the array dies, and becomes the next array of about its size. It
is free when nobody but the list here refers to it, which Python counts anyway: every array holds on to the buffer that
it lies in, and every view to its array.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

LARGE = 2**14  # bytes; below, asking NumPy is faster
IDLE = 2**30  # bytes that may lie unused when the system is asked for another buffer
ALIGNMENT = 64  # a cache line and the widest vector of a processor: loops over arrays that cross them take up to twice


class _Buffer(np.ndarray):
    """Bytes. As a class of its own it is not what NumPy takes for the base of a view: that is the array in it."""

    start: int  # where the first aligned byte lies


class Buffers:
    """Buffers by their size; the sizes that were asked for last are at the end, and so are the buffers of a size."""

    def __init__(self, idle: int = IDLE) -> None:
        self.idle = idle
        self.restart()

    def restart(self) -> None:
        """Begin without buffers, whoever holds the lock."""
        self._lock = threading.RLock()  # a signal's handler or a finalizer may come back here
        self._of_size: dict[int, list[_Buffer]] = {}

    def forget(self) -> None:
        """Let go of all buffers; those in use live as long as their arrays."""
        with self._lock:
            self._of_size.clear()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return an array of this shape and dtype with arbitrary values."""
        dtype = np.dtype(dtype)
        count = math.prod(map(int, shape)) * dtype.itemsize
        if count < LARGE or dtype.hasobject:
            return np.empty(shape, dtype)
        size = _rounded(count)
        with self._lock:  # until the array holds on to its buffer
            buffers = self._of_size.pop(size, [])
            unused = _unused(buffers)
            buffer = buffers.pop(unused[-1]) if unused else self._new(size)  # the last one may still be in the cache
            buffer.setflags(write=True)
            array: Any = np.ndarray(shape, dtype, buffer, buffer.start)
            buffer.setflags(write=False)  # so that who locks the array has locked its memory
            buffers.append(buffer)
            self._of_size[size] = buffers
        return array

    def unused(self) -> int:
        """Return how many bytes lie in buffers that nobody uses."""
        return sum(size * len(_unused(buffers)) for size, buffers in list(self._of_size.items()))

    def _new(self, size: int) -> _Buffer:
        self._release(self.idle)
        try:
            buffer = _Buffer(size + ALIGNMENT, np.uint8)
        except MemoryError:
            self._release(0)
            buffer = _Buffer(size + ALIGNMENT, np.uint8)
        buffer.start = -buffer.__array_interface__["data"][0] % ALIGNMENT  # .ctypes would make a reference cycle
        return buffer

    def _release(self, idle: int) -> None:
        """Let go of unused buffers, of the sizes not asked for longest first, until they take at most `idle` bytes."""
        excess = self.unused() - idle
        for size, buffers in list(self._of_size.items()):
            if excess <= 0:
                return
            for i in reversed(_unused(buffers)[: -(-excess // size)]):
                del buffers[i]
                excess -= size
            if not buffers:
                del self._of_size[size]


def _rounded(count: int) -> int:
    """Return a size that other arrays of about this size have too: at most an eighth more."""
    step = 1 << max(0, (count - 1).bit_length() - 4)
    return -(-count // step) * step


def _references(buffers: list[_Buffer]) -> Iterable[int]:
    return map(sys.getrefcount, buffers)


(NOT_USED,) = _references([_Buffer(1)])


def _unused(buffers: list[_Buffer]) -> list[int]:
    """Return the places of the buffers that no array lies in."""
    return [i for i, count in enumerate(_references(buffers)) if count == NOT_USED]


_buffers = Buffers()
os.register_at_fork(after_in_child=_buffers.restart)  # another thread of the parent may have held the lock


def empty(shape: tuple[int, ...], like: Any, dtype: Any = None) -> Any:
    """Return an array of this shape with arbitrary values, of the dtype and the kind of `like`, CuPy's or NumPy's.

    Parameters
    ----------
    shape : tuple of int
    like : array
    dtype : dtype, optional
        Default: that of `like`.
    """
    dtype = like.dtype if dtype is None else dtype
    if type(like) is np.ndarray:
        return _buffers.empty(shape, dtype)
    return np.empty_like(like, dtype=dtype, order="C", shape=shape)  # CuPy has a pool of its own


def whole(array: Any) -> bool:
    """Say whether an array has its memory for itself, as one from `empty` has, and is no view of another."""
    return array.base is None or type(array.base) is _Buffer


def forget() -> None:
    """Give all unused memory back to the system."""
    _buffers.forget()
