"""Memory for large arrays, used again: a training step makes the same arrays as the step before.

Fresh memory is slow: the system clears every page of it when it is first touched, which can take longer than the
arithmetic. So the buffer of a large array is kept when the array dies, and becomes the next array of about its size. It
is free when nobody but the list here refers to it, which Python counts anyway: every array, and every view of it, holds
on to the buffer that it lies in.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

LARGE = 2**14  # bytes; below, asking NumPy is faster
IDLE = 2**30  # bytes that may lie unused when the system is asked for another buffer
ALIGNMENT = 64  # a cache line and the widest vector of a processor: loops over arrays that cross them take up to twice

Buffer = tuple[Any, int]  # bytes, and where among them the first aligned one lies


class Buffers:
    """Buffers by their size; the sizes that were asked for last are at the end."""

    def __init__(self, idle: int = IDLE) -> None:
        self.idle = idle
        self.forget()

    def forget(self) -> None:
        """Let go of all buffers; those in use live as long as their arrays."""
        self._lock = threading.Lock()
        self._of_size: dict[int, list[Buffer]] = {}

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return an array of this shape and dtype with arbitrary values."""
        dtype = np.dtype(dtype)
        count = math.prod(shape) * dtype.itemsize
        if count < LARGE:
            return np.empty(shape, dtype)
        size = _rounded(count)
        with self._lock:  # until the array holds on to its buffer
            buffers = self._of_size.pop(size, [])
            i = next(_unused(buffers), None)
            memory, offset = buffers.pop(i) if i is not None else self._new(size)
            memory.setflags(write=True)
            array: Any = np.ndarray(shape, dtype, memory, offset)
            memory.setflags(write=False)  # so that who locks the array has locked its memory
            buffers.append((memory, offset))
            self._of_size[size] = buffers
        return array

    def unused(self) -> int:
        """Return how many bytes lie in buffers that nobody uses."""
        return sum(size * len(list(_unused(buffers))) for size, buffers in list(self._of_size.items()))

    def _new(self, size: int) -> Buffer:
        self._release(self.idle)
        try:
            memory: Any = np.empty(size + ALIGNMENT, np.uint8)
        except MemoryError:
            self._release(0)
            memory = np.empty(size + ALIGNMENT, np.uint8)
        return memory, -memory.ctypes.data % ALIGNMENT

    def _release(self, idle: int) -> None:
        """Let go of unused buffers, of the sizes not asked for longest first, until they take at most `idle` bytes."""
        excess = self.unused() - idle
        for size in list(self._of_size):
            if excess <= 0:
                return
            buffers = self._of_size[size]
            for i in reversed(list(_unused(buffers))[: -(-excess // size)]):
                del buffers[i]
                excess -= size
            if not buffers:
                del self._of_size[size]


def _rounded(count: int) -> int:
    """Return a size that other arrays of about this size have too: at most an eighth more."""
    step = 1 << max(0, (count - 1).bit_length() - 4)
    return -(-count // step) * step


def _references(buffer: Buffer) -> int:
    return sys.getrefcount(buffer[0])


NOT_USED = _references((np.empty(1, np.uint8), 0))


def _unused(buffers: list[Buffer]) -> Iterator[int]:
    """Yield the places of the buffers that no array lies in."""
    return (i for i, buffer in enumerate(buffers) if _references(buffer) == NOT_USED)


_buffers = Buffers()
os.register_at_fork(after_in_child=_buffers.forget)  # another thread of the parent may have held the lock


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
    return np.empty_like(like, dtype=dtype, shape=shape)  # CuPy has a pool of its own


def forget() -> None:
    """Give all unused memory back to the system."""
    _buffers.forget()
