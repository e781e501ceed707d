"""Formulas on the elements of arrays on the GPU: one kernel each, written from the formula in Python.

What the twin has beyond that calls one function of CuPy's, which is one kernel already, or its formula with arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from minidl import buffers
from minidl.backend import array_module
from minidl.kernels.cuda import fusion, launch
from minidl.kernels.cuda.fusion import Array
from minidl.kernels.cuda.tracing import NoRuleError, Number, Symbol, Trace
from minidl.kernels.numpy.blocks import combine, copy, samples

__all__ = ["add_at", "apply", "combine", "concatenate", "copy", "elementwise", "gather", "pad", "samples"]

VARIANTS = [{"source": "scatter.cu", "registers": 64}]
MANY = 1024  # formulas that are remembered
POINTERS = 256  # arguments of a kernel at most: together they may take 4 KB


def elementwise(formula: Callable[..., Any], *arrays: Any) -> Any:
    """Return formula(*arrays) for a formula of corresponding elements.

    Parameters
    ----------
    formula : callable
        Takes arrays of one shape and returns an array of that shape. If it can be written down (`tracing` says what
        can), it is one kernel; otherwise it is called with the arrays.
    *arrays : arrays of one shape
        Those after the first may also be of shape ().
    """
    shape = arrays[0].shape
    if any(type(x) is not type(arrays[0]) or x.shape not in (shape, ()) for x in arrays):
        return formula(*arrays)
    kernel, dtype = _kernel_of(formula, tuple((x.dtype.char, x.shape != shape) for x in arrays))
    if kernel is None:
        return formula(*arrays)
    launch.check_size("elementwise", x=arrays[0])
    result = buffers.empty(shape, arrays[0], dtype)
    kernel([result, *map(_contiguous, arrays)], (), result.size)
    return result


def apply(function: Callable[..., Any], *arrays: Any) -> Any:
    """Return function(*arrays) for one of NumPy's functions of elements, or what can be called like one."""
    return function(*arrays) if isinstance(function, np.ufunc) else elementwise(function, *arrays)


def concatenate(arrays: Sequence[Any], axis: int) -> Any:
    """Return the arrays joined along an axis. CuPy's own function copies from the host, which a graph cannot hold."""
    axis %= arrays[0].ndim
    ends = np.cumsum([x.shape[axis] for x in arrays]).tolist()
    shape = (*arrays[0].shape[:axis], ends[-1], *arrays[0].shape[axis + 1 :])
    joined = buffers.empty(shape, arrays[0], np.result_type(*(x.dtype for x in arrays)))
    for x, end in zip(arrays, ends, strict=True):
        joined[(slice(None),) * axis + (slice(end - x.shape[axis], end),)] = x
    return joined


def pad(x: Any, widths: Sequence[tuple[int, int]], value: float) -> Any:
    """Return x surrounded by a constant, with so many elements before and after it along each axis."""
    padded = buffers.empty(tuple(sum(width) + size for width, size in zip(widths, x.shape, strict=True)), x)
    padded[...] = value
    padded[tuple(slice(before, before + size) for (before, _), size in zip(widths, x.shape, strict=True))] = x
    return padded


def gather(parts: Sequence[Any], sizes: Sequence[int], like: Any) -> Any:
    """Return arrays of these sizes joined into one vector like `like`; None stands for zeros."""
    launch.check_size("gather", vector=like)
    vector, start = buffers.empty(like.shape, like), 0
    for first in range(0, len(parts), POINTERS):
        some = tuple(sizes[first : first + POINTERS])
        pointers = [None if part is None else _contiguous(part) for part in parts[first : first + POINTERS]]
        count = sum(some)
        if count:
            grid = min(launch.blocks(max(some), fusion.THREADS), fusion.BLOCKS)
            kernel = fusion.compiled(gathering(some), "gather", like.dtype)
            kernel((grid, len(some)), (fusion.THREADS,), vector[start : start + count], *pointers)
        start += count
    return vector


def add_at(x: Any, index: Any, values: Any) -> None:
    """Add values to the elements that an index names, to each as often as it is named, always in the same order."""
    launch.check_size("add_at", x=x, values=values)
    xp = array_module(x)
    places = xp.arange(x.size, dtype=np.int64).reshape(x.shape)[index]
    values = _contiguous(xp.broadcast_to(values, places.shape).astype(x.dtype, copy=False))
    places = places.reshape(-1)
    order = xp.argsort(places, kind="stable")
    count = places.size
    if count:
        kernel = launch.kernel("scatter.cu", "scatter", x.dtype)
        grid = launch.blocks(count, fusion.THREADS)
        kernel((grid,), (fusion.THREADS,), x, places[order], order, values, count)


@functools.cache
def gathering(sizes: tuple[int, ...]) -> str:
    """Return the kernel that gathers arrays of these sizes, in CUDA C++."""
    lines = [
        f"// Joins {len(sizes)} arrays into one vector. Blocks (…, k) copy array k; a null pointer stands for zeros.",
        "// The addresses come as arguments: a table of them would have to be copied to the GPU first.",
        "",
        '#include "common.cuh"',
        "",
        'extern "C" __global__ void gather(',
        "    T* vector,",
        *(f"    const T* x{k}{',' * (k < len(sizes) - 1)}" for k in range(len(sizes))),
        ")",
        "{",
        "    const T* x = nullptr;",
        "    int start = 0, size = 0;  // where it begins in the vector",
        "    switch (blockIdx.y) {",
    ]
    start = 0
    for k, size in enumerate(sizes):
        lines.append(f"        case {k}: x = x{k}; start = {start}; size = {size}; break;")
        start += size
    lines += [
        "    }",
        "    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x)",
        "        vector[start + i] = x ? x[i] : T(0);",
        "}",
        "",
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------- formulas and their kernels

_kernels: dict[Any, tuple[Any, Any, Any]] = {}


def _kernel_of(formula: Any, kinds: tuple[tuple[str, bool], ...]) -> tuple[Any, Any]:
    """Return the kernel of a formula of such arrays and the dtype of its result; two Nones if it has none."""
    key = _identity(formula), kinds
    if key[0] is None:
        return None, None
    if key not in _kernels:
        if len(_kernels) == MANY:
            _kernels.clear()
        try:
            _kernels[key] = *write(formula, kinds), formula  # which must live: others could have its code's address
        except Exception:  # a formula may do anything; if it is wrong, it says so when it is called on the arrays
            _kernels[key] = None, None, formula
    return _kernels[key][:2]


def write(formula: Any, kinds: tuple[tuple[str, bool], ...]) -> tuple[fusion.Fused, Any]:
    """Return the kernel of a formula and the dtype of its result.

    Parameters
    ----------
    formula : function
    kinds : tuple of (str, bool)
        For each array the character of its dtype, and whether it is of shape () among others that are not.

    Raises
    ------
    NoRuleError
        If the formula does what has no form in a kernel.
    """
    trace = Trace(next(char for char, _ in kinds if char in "fd"))
    names = fusion.names(formula.__code__.co_varnames[: len(kinds)], taken=("result",))
    symbols = [trace.array(name, char, one) for name, (char, one) in zip(names, kinds, strict=True)]
    result = formula(*(symbol.copy() for symbol in symbols))
    if not isinstance(result, Symbol) or isinstance(result, Number):
        raise NoRuleError(f"the formula returns {type(result).__name__}, expected an array")
    arrays = [Array("result", result.dtype, written=result)]
    arrays += [Array(symbol.name, symbol.dtype, symbol) for symbol in symbols]
    title = "A formula of elements; each thread computes some elements of the result."
    return fusion.fuse(formula.__name__, title, trace, arrays), result.dtype


def _identity(formula: Any) -> Any:
    """Return what a formula's result depends on beside its arguments; None if that is more than numbers and words."""
    if type(formula) is not FunctionType or formula.__kwdefaults__:
        return None
    parts: list[Any] = [id(formula.__code__), id(formula.__globals__)]
    cells = [cell.cell_contents for cell in formula.__closure__ or ()]
    for value in (*(formula.__defaults__ or ()), *cells):
        if isinstance(value, fusion.PLAIN):
            parts.append((type(value), value))
        elif value is not formula and (part := _identity(value)) is not None:
            parts.append(part)
        else:
            return None
    return tuple(parts)


def _contiguous(x: Any) -> Any:
    return x if x.flags.c_contiguous else array_module(x).ascontiguousarray(x)
