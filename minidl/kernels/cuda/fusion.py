"""Formulas of elements as one kernel each, written from the formula itself; see `tracing` for how."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.kernels.cuda import launch
from minidl.kernels.cuda.tracing import FUNCTIONS, Line, Symbol, Trace

THREADS = 256  # of a block
BLOCKS = 1024  # at most; with more elements than threads, each thread takes several

PLAIN = (bool, int, float, str, type(None), np.generic, np.dtype)  # values that are part of a formula as they are

RESERVED = """T REAL i size infinity larger nan setting sign_of smaller
    alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype
    default delete do double else enum explicit export extern false float for friend goto if inline int long mutable
    namespace new noexcept not nullptr operator or private protected public register return short signed sizeof static
    struct switch template this throw true try typedef typeid typename union unsigned using virtual void volatile while
    xor"""  # names in every kernel, and words of C++


@dataclass(frozen=True)
class Array:
    """An array that a kernel reads, writes, or reads and then writes in place.

    Attributes
    ----------
    name : str
        In the kernel, `name_at` is the pointer, and `name` the element that is read.
    dtype : dtype
    read : Symbol or None
        The element, or the value of an array of shape (); None if nothing is read.
    written : Symbol, number or None
        What is written; None if nothing is.
    """

    name: str
    dtype: Any
    read: Symbol | None = None
    written: Any = None


@dataclass(frozen=True)
class Fused:
    """A kernel that computes a formula.

    Attributes
    ----------
    source : str
        In CUDA C++.
    name : str
        Of the kernel in it.
    dtype : dtype
        What `T` is in it.
    numbers : tuple of str
        The numbers that it takes after the arrays, by name.
    """

    source: str
    name: str
    dtype: Any
    numbers: tuple[str, ...]

    def __call__(self, arrays: Iterable[Any], numbers: Iterable[Any], size: int) -> None:
        """Launch it.

        Parameters
        ----------
        arrays : C-contiguous arrays of CuPy, in the order in which `fuse` was given them
        numbers : values of `numbers`: Python's, or arrays of shape () on the GPU that are read there
        size : int
            How many elements the arrays have.
        """
        if size:
            settings = [each for value in numbers for each in launch.setting(value, np.float64)]
            grid = min(launch.blocks(size, THREADS), BLOCKS)
            self._kernel((grid,), (THREADS,), *arrays, *settings, size)

    @property
    def _kernel(self) -> launch.Kernel:
        return compiled(self.source, self.name, self.dtype)


def compiled(source: str, name: str, dtype: Any) -> launch.Kernel:
    """Return a kernel of a generated source; the same text is compiled once."""
    return _compiled(importlib.import_module("cupy"), source, name, np.dtype(dtype).char)


@functools.cache
def _compiled(library: Any, source: str, name: str, char: str) -> launch.Kernel:
    options = (*launch.OPTIONS, f"-DREAL={launch.C_TYPES[char]}")
    return launch.Kernel(library.RawModule(code=source, options=options).get_function(name), name, np.dtype(char))


# ---------------------------------------------------------------- the source


def fuse(name: str, title: str, trace: Trace, arrays: Sequence[Array], numbers: Sequence[str] = ()) -> Fused:
    """Return the kernel of what a trace has written down.

    Parameters
    ----------
    name : str
        What the formula is called.
    title : str
        A sentence for the head of the source.
    trace : Trace
    arrays : sequence of Array
        The arguments of the kernel, in this order.
    numbers : sequence of str
        The numbers that the formula may use; the kernel takes those that it does.
    """
    stores = [(array, *trace.operand(array.written, array.dtype)) for array in arrays if array.written is not None]
    lines, used = _needed(trace, {name for *_, name in stores})
    numbers = tuple(number for number in numbers if number in used)
    name = name if _fits(name) else "formula"
    arguments = [f"{'const ' * (x.written is None)}{trace.c_type(x.dtype)}* {x.name}_at" for x in arrays]
    arguments += [f"double {number}, const double* {number}_at" for number in numbers]
    source = [
        f"// {title}",
        "",
        '#include "common.cuh"',
        '#include "fusion.cuh"',
        "",
        f'extern "C" __global__ void {name}(',
        *(f"    {argument}," for argument in arguments),
        "    int size)",
        "{",
        *_of_all(trace, arrays, numbers, lines, used),
        "    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {",
        *_reads(trace, arrays, used, uniform=False),
        *_texts(line for line in lines if not line.uniform),
        *(f"        {array.name}_at[i] = {text};" for array, text, _ in stores),
        "    }",
        "}",
        "",
    ]
    return Fused("\n".join(source), name, trace.dtype, numbers)


def names(wanted: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return names for the arrays of a kernel: those that are wanted where they can be had, and x1, x2, … elsewhere."""
    return [name if _fits(name) and name not in taken else f"x{k}" for k, name in enumerate(wanted, start=1)]


def _fits(name: str) -> bool:
    """Say whether something in a kernel may have this name."""
    plain = re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) and not re.fullmatch(r"[ansx]\d+|\w+_at", name)
    return bool(plain) and name not in {*RESERVED.split(), *FUNCTIONS.values()}


def _needed(trace: Trace, names: set[str]) -> tuple[list[Line], set[str]]:
    """Return the lines that lead to these names, and all names in them."""
    own = {shared: name for (name, _), shared in trace.shared.items()}
    used = names | {own[name] for name in names if name in own}
    lines = []
    for line in reversed(trace.lines):
        if line.name in used:
            lines.append(line)
            used |= {*line.uses} | {own[name] for name in line.uses if name in own}
    return lines[::-1], used


def _of_all(
    trace: Trace, arrays: Sequence[Array], numbers: Sequence[str], lines: list[Line], used: set[str]
) -> list[str]:
    """Return the part of a kernel that computes what is the same for all elements."""
    shared = {key: name for key, name in trace.shared.items() if name in used}
    if not shared:
        return []
    return [
        "    // What is the same for all elements: one thread computes it, with Python's numbers in double precision.",
        *(f"    __shared__ {c_type} {name};" for (_, c_type), name in shared.items()),
        "    if (threadIdx.x == 0) {",
        *(f"        {number} = setting({number}, {number}_at);" for number in numbers),
        *_reads(trace, arrays, used, uniform=True),
        *_texts(line for line in lines if line.uniform),
        *(f"        {name} = {c_type}({own});" for (own, c_type), name in shared.items()),
        "    }",
        "    __syncthreads();",
        "",
    ]


def _reads(trace: Trace, arrays: Sequence[Array], used: set[str], uniform: bool) -> list[str]:
    """Return the lines that read from arrays: their element i, or the only one of those of shape ()."""
    index = "0" if uniform else "i"
    return [
        f"        const {trace.c_type(array.dtype)} {array.read.name} = {array.name}_at[{index}];"
        for array in arrays
        if array.read is not None and array.read.name in used and array.read.uniform == uniform
    ]


def _texts(lines: Iterable[Line]) -> list[str]:
    """Return lines as they stand in the kernel, each group under the line of Python that it comes from."""
    texts, origin = [], ""
    for line in lines:
        if line.origin != origin and line.origin:
            texts.append(f"        // {line.origin}")
        origin = line.origin
        texts.append(f"        const {line.type} {line.name} = {line.text};")
    return texts
