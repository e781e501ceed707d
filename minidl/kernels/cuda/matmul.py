"""Products of matrices: the launches of `gemm.cu`.

cuBLAS is faster with large matrices, but a graph cannot hold its work. So small products are always computed here, with
the same bits in a graph and outside of it; large ones are where a graph is recorded, or where TF32 is asked for.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minidl import backend, buffers
from minidl.backend import array_module
from minidl.kernels.cuda import launch, sums, tiles

SMALL = 2**28  # multiplications: a cube of 645

TILES = tiles.TILES[:2]  # 16 columns are seldom, and such products small
LAYOUTS = (1, 0), (1, 1), (0, 0)  # whether x and y lie along the inner axis: x @ y, x @ y.T, x.T @ y

VARIANTS = tiles.single_variants("gemm.cu", A_ALONG=0, B_ALONG=0)
for x_along, y_along in LAYOUTS:
    VARIANTS += tiles.variants("gemm.cu", TILES, A_ALONG=x_along, B_ALONG=y_along)


class _Operand(NamedTuple):
    """Matrices as they lie in memory, and how far it is to the next matrix, row and column."""

    array: Any
    batch: int
    row: int
    column: int


def product(x, y):
    """Return x @ y, for matrices or batches of them."""
    if x.dtype.char not in "fd" or array_module(y) is np or y.dtype.char not in "fd":
        return x @ y
    dtype = np.result_type(x.dtype, y.dtype)
    if not _is_ours(x.size * (y.shape[-1] if y.ndim > 1 else 1), dtype):
        return x @ y
    rows = x[None, :] if x.ndim == 1 else x
    columns = y[:, None] if y.ndim == 1 else y
    result = _product(rows.astype(dtype, copy=False), columns.astype(dtype, copy=False))
    kept = result.shape[-2:-1] * (x.ndim > 1) + result.shape[-1:] * (y.ndim > 1)  # a vector has no axis there
    return result.reshape(result.shape[:-2] + kept)


def _is_ours(work, dtype):
    """Say whether a product of so many multiplications is computed here."""
    return work <= SMALL or backend.capturing() or (dtype == np.float32 and backend.tf32() and tiles.has_tf32())


def _product(x, y):
    (rows, depth), columns = x.shape[-2:], y.shape[-1]
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    result = buffers.empty((*batch, rows, columns), x)
    launch.check_size("matmul", x=x, y=y, **{"the result": result})
    if result.size == 0:
        return result
    if depth == 0:
        result[...] = 0
        return result
    if _transposed(x) and _transposed(y):
        y = array_module(y).ascontiguousarray(y)
    number, vectors = math.prod(batch), _vectors(x) and _vectors(y) and columns % tiles.VECTOR == 0
    a, b = _operand(x, batch), _operand(y, batch)
    plan = tiles.plan(x.dtype, vectors, rows, columns, depth, number, cut=number == 1, choice=TILES)
    along = {"A_ALONG": int(plan.vectors and a.column == 1), "B_ALONG": int(plan.vectors and b.row == 1)}
    out = result if plan.parts == 1 else buffers.empty((plan.parts, rows, columns), x)
    launch.check_size("matmul", **{"sums for the result": out})
    blocks = number * plan.parts * plan.tile.blocks(rows, columns)
    sizes = rows, columns, depth, plan.length
    plan.launch("gemm.cu", "product", x.dtype, blocks, a.array, b.array, out, *sizes, *a[1:], *b[1:], **along)
    return result if plan.parts == 1 else sums.add_parts(out).reshape(result.shape)


def _transposed(x):
    """Say whether matrices lie in memory column by column."""
    return not x.flags.c_contiguous and x.swapaxes(-1, -2).flags.c_contiguous


def _vectors(x):
    """Say whether numbers of matrices can be copied by fours: whether rows, or columns, are multiples of that."""
    return x.shape[-2 if _transposed(x) else -1] % tiles.VECTOR == 0


def _operand(x, batch):
    """Return matrices as they lie in memory, row by row or column by column; copied if they lie in another way."""
    xp, (rows, columns) = array_module(x), x.shape[-2:]
    if math.prod(x.shape[:-2]) > 1 and x.shape[:-2] != batch:
        x = xp.broadcast_to(x, (*batch, rows, columns))
    step = rows * columns if math.prod(x.shape[:-2]) > 1 else 0
    transposed = _transposed(x)
    x = tiles.aligned(xp.ascontiguousarray(x.swapaxes(-1, -2) if transposed else x))
    return _Operand(x, step, 1, rows) if transposed else _Operand(x, step, columns, 1)
