"""Formulas on the elements of large arrays: block by block, each block small enough for the processor's cache.

NumPy computes a formula one operation after the other, each over the whole array: g * (y > 0) writes the truth values
to memory and reads them back. Over a block, what lies between the operations stays in the cache, and the blocks are
shared among the threads. Small arrays are handed to the formulas as they are, and those of CuPy's to `cuda/blocks.py`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl import buffers
from minidl.backend import array_module
from minidl.forward import Dual
from minidl.threads import parts, share

BLOCK = 2**16  # elements: in smaller blocks the threads wait for the interpreter's lock more than they compute
SHARE = 2**17  # elements that are worth waking another thread, for a single operation
ROW = 2**12  # elements: the length of NumPy's inner loops where it is ours to choose


def elementwise(formula: Callable[..., Any], *arrays: Any) -> Any:
    """Return formula(*arrays) for a formula of corresponding elements.

    Parameters
    ----------
    formula : callable
        Takes arrays of one shape, or corresponding parts of them, and returns an array of that shape.
    *arrays : arrays of one shape
    """
    if type(arrays[0]) is not np.ndarray:
        return _elsewhere("elementwise", formula, *arrays)
    if arrays[0].size < 2 * BLOCK or not _alike(arrays):
        return formula(*arrays)
    return _block_by_block(formula, _lines(arrays), arrays[0].shape)


def samples(formula: Callable[..., Any], *arrays: Any) -> Any:
    """Return formula(*arrays) for a formula of corresponding entries along the first axis, such as softmax of rows."""
    if arrays[0].size < 2 * BLOCK or not _alike(arrays):
        return formula(*arrays)
    return _block_by_block(formula, arrays, arrays[0].shape)


def apply(function: Callable[..., Any], *arrays: Any) -> Any:
    """Return function(*arrays) for one of NumPy's functions of elements, written where it belongs.

    Parameters
    ----------
    function : callable
        A ufunc, or what can be called like one: it takes arrays of one shape, or corresponding parts of them, and
        `out`, an array for the result or None.
    *arrays : arrays of one shape
    """
    if type(arrays[0]) is not np.ndarray:
        return _elsewhere("apply", function, *arrays)
    if arrays[0].size < BLOCK // 4 or not _alike(arrays):
        return function(*arrays)
    return _part_by_part(function, _lines(arrays), arrays[0].shape)


def combine(function: Callable[..., Any], x: Any, y: Any) -> Any:
    """Return function(x, y) for a ufunc of two arguments that broadcast."""
    if type(x) is not np.ndarray or x.size < BLOCK // 4:
        return function(x, y)
    if type(y) is not np.ndarray:
        if isinstance(y, (float, int)):
            return apply(lambda x, out=None: function(x, y, out=out), x)
        return function(x, y)
    if x.shape == y.shape:
        return apply(function, x, y)
    if 0 < y.size <= ROW // 2 and x.shape[x.ndim - y.ndim :] == y.shape and x.flags.c_contiguous:
        # One value for each channel. NumPy would begin its inner loop anew at each pixel; several pixels make a row.
        pixels = x.size // y.size
        pixels = math.gcd(pixels, 1 << (ROW // y.size).bit_length() - 1)
        row = np.tile(y.reshape(-1), pixels)
        rows = (x.reshape(-1, row.size),)
        return _part_by_part(lambda x, out=None: function(x, row, out=out), rows, x.shape)
    return function(x, y)


def concatenate(arrays: Sequence[Any], axis: int) -> Any:
    """Return the arrays joined along an axis."""
    if any(type(x) is not np.ndarray for x in arrays):
        if Dual in map(type, arrays):
            return np.concatenate(arrays, axis=axis)
        return (_twin(arrays[0]) or array_module(arrays[0])).concatenate(arrays, axis=axis)
    if sum(x.size for x in arrays) < BLOCK // 4:
        return np.concatenate(arrays, axis=axis)
    axis %= arrays[0].ndim
    shape = list(arrays[0].shape)
    shape[axis] = sum(x.shape[axis] for x in arrays)
    joined = buffers.empty(tuple(shape), arrays[0], np.result_type(*arrays))
    if axis == 0:
        np.concatenate(arrays, out=joined)
    else:
        pieces = parts(shape[0], max(1, SHARE * shape[0] // joined.size))
        share(lambda piece: np.concatenate([x[piece] for x in arrays], axis, out=joined[piece]), pieces)
    return joined


def pad(x: Any, widths: Sequence[tuple[int, int]], value: float) -> Any:
    """Return x surrounded by a constant, with so many elements before and after it along each axis."""
    shape = tuple(before + size + after for (before, after), size in zip(widths, x.shape, strict=True))
    if type(x) is not np.ndarray and (twin := _twin(x)):
        return twin.pad(x, widths, value)
    if type(x) is not np.ndarray or x.size < BLOCK // 4:
        return array_module(x).pad(x, widths, constant_values=value)
    padded = buffers.empty(shape, x)
    padded[...] = value
    padded[tuple(slice(before, before + size) for (before, _), size in zip(widths, x.shape, strict=True))] = x
    return padded


def copy(x: Any) -> Any:
    """Return a copy of an array, contiguous if it is large."""
    return apply(np.positive, x) if type(x) is np.ndarray and x.dtype.kind in "fiu" else x.copy()


def gather(parts: Sequence[Any], sizes: Sequence[int], like: Any) -> Any:
    """Return arrays of these sizes joined into one vector like `like`; None stands for zeros."""
    vector, start = array_module(like).empty_like(like), 0
    for part, size in zip(parts, sizes, strict=True):
        own = vector[start : start + size]
        if part is None:
            own[...] = 0
        else:
            own.reshape(part.shape)[...] = part
        start += size
    return vector


def add_at(x: Any, index: Any, values: Any) -> None:
    """Add values to the elements that an index names, to each as often as it is named."""
    if type(x) is not np.ndarray and (twin := _twin(x)):
        twin.add_at(x, index, values)
    else:
        np.add.at(x, index, values)


def _twin(x: Any) -> Any:
    """Return the module for arrays on the GPU if it serves this one, else None."""
    module = importlib.import_module("minidl.kernels").of(x).blocks
    return None if module.__name__ == __name__ else module


def _elsewhere(name: str, formula: Callable[..., Any], *arrays: Any) -> Any:
    """Return what a function's twin makes of arrays on the GPU; others are handed to the formula as they are."""
    twin = _twin(arrays[0])
    return getattr(twin, name)(formula, *arrays) if twin else formula(*arrays)


def _alike(arrays: tuple[Any, ...]) -> bool:
    """Say whether all are arrays of NumPy's and of one shape."""
    return all(type(x) is np.ndarray and x.shape == arrays[0].shape for x in arrays)


def _lines(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arrays that can be cut along their first axis anywhere: as one line each, if all lie in memory so."""
    return tuple(x.reshape(-1) for x in arrays) if all(x.flags.c_contiguous for x in arrays) else arrays


def _result(function: Callable[..., Any], arrays: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return memory for function(*arrays), in this shape and in that of the arrays."""
    dtype = function(*(x[:0] for x in arrays)).dtype  # the function itself knows how the dtypes go together
    result = buffers.empty(shape, arrays[0], dtype)
    return result, result.reshape(arrays[0].shape)


def _part_by_part(function: Callable[..., Any], arrays: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    result, out = _result(function, arrays, shape)
    pieces = parts(len(out), max(1, SHARE * len(out) // out.size))
    share(lambda piece: function(*(x[piece] for x in arrays), out=out[piece]), pieces)
    return result


def _block_by_block(formula: Callable[..., Any], arrays: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    result, out = _result(formula, arrays, shape)
    step = max(1, BLOCK * len(out) // out.size)

    def compute(piece: slice) -> None:
        for start in range(piece.start, piece.stop, step):
            block = slice(start, min(start + step, piece.stop))
            out[block] = formula(*(x[block] for x in arrays))

    share(compute, parts(len(out), step))
    return result
