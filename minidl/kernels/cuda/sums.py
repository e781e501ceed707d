"""Sums over many numbers in a fixed order: the launches of `sums.cu`."""

from __future__ import annotations

from typing import Any

from minidl import buffers
from minidl.kernels.cuda import launch

THREADS = 256
MOST_SHARING = 32  # threads that add up one sum; the others beside them then still read 32 bytes
PARTS = 512  # of the rows whose columns are summed: enough blocks to keep a GPU busy, and few sums to add up
LEAST = 64  # rows of a part

VARIANTS = [{"source": "sums.cu", "registers": 64, "shared": 2048}]


def add_parts(parts: Any) -> Any:
    """Return the sum of an array (parts, …) over its first axis; one part is returned as it is, without a copy."""
    if len(parts) == 1:
        return parts[0]
    total = buffers.empty(parts.shape[1:], parts)
    sharing = min(1 << (len(parts) // 4).bit_length() >> 1 or 1, MOST_SHARING)
    width = THREADS // sharing
    kernel = launch.kernel("sums.cu", "add_parts", parts.dtype)
    kernel((launch.blocks(total.size, width),), (width, sharing), parts, total, len(parts), total.size)
    return total


def column_sums(matrix: Any) -> Any:
    """Return the sums of the columns of a contiguous matrix that is not empty."""
    rows, columns = matrix.shape
    height = max(launch.blocks(rows, PARTS), LEAST)
    parts = buffers.empty((launch.blocks(rows, height), columns), matrix)
    kernel = launch.kernel("sums.cu", "column_sums", matrix.dtype)
    kernel((len(parts), launch.blocks(columns, THREADS)), (THREADS,), matrix, parts, rows, columns, height)
    return add_parts(parts)
