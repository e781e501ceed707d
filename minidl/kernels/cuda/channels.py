"""Blocks of threads for arrays (…, C) seen as rows of C channels: the host's side of `channels.cuh`."""

from __future__ import annotations

from typing import Any

from minidl.backend import array_module
from minidl.kernels.cuda import launch

THREADS = 256
BYTES = 16  # that a thread loads or stores at once


def contiguous(array: Any, dtype: Any = None) -> Any:
    """Return an array as a kernel takes it, of this dtype or its own."""
    return array_module(array).ascontiguousarray(array if dtype is None else array.astype(dtype, copy=False))


def pack(channels: int, *arrays: Any) -> int:
    """Return how many neighbouring channels a thread takes: as many as 16 bytes hold, if C and the arrays allow it."""
    count = BYTES // arrays[0].dtype.itemsize
    aligned = all(array.data.ptr % BYTES == 0 for array in arrays)
    return count if channels % count == 0 and aligned else 1


def block(width: int) -> tuple[int, tuple[int, int]]:
    """Return how many blocks stand beside each other to cover a row of this width, and their (width, height)."""
    beside = launch.blocks(width, THREADS)
    width = launch.blocks(width, beside)
    return beside, (width, THREADS // width)


def cover(rows: int, width: int, each: int = 1) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return a grid and its block in which every thread takes one column of so many rows."""
    beside, shape = block(width)
    return (launch.blocks(rows, each * shape[1]), beside), shape
