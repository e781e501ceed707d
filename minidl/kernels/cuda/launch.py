"""Launching CUDA kernels: sources are compiled once for each type and choice of constants, arguments are checked."""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import array_module

FOLDER = Path(__file__).parent
HEADERS = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.cuh")))).hexdigest()[:16]
OPTIONS = ("-std=c++17", f"-I{FOLDER}", f"-DHEADERS_{HEADERS}")  # CuPy's cache goes by source and options alone
C_TYPES = {"f": "float", "d": "double"}
LARGEST = 2**31 - 1  # the kernels count elements in 32-bit integers
SHARED = 48 * 2**10  # bytes of shared memory that a block may have unasked


class Kernel:
    """A `__global__` function of a `.cu` file, for one floating-point type and one choice of constants."""

    def __init__(self, function: Any, name: str, dtype: np.dtype[Any]) -> None:
        self.name, self.dtype = name, dtype
        self._function = function
        self._shared = SHARED

    def __call__(self, grid: Sequence[int], block: Sequence[int], *args: Any, shared: int = 0) -> None:
        """Launch it on the current stream.

        Parameters
        ----------
        grid, block : up to three ints
            How many blocks, and how many threads in each.
        *args
            Arrays of CuPy, C-contiguous; ints, which become 32-bit; floats, which become numbers of the kernel's type;
            None for a null pointer; or NumPy scalars, which stay what they are.
        shared : int, default 0
            Bytes of dynamic shared memory of a block.
        """
        if shared > self._shared:  # more than a block may have unasked
            self._function.max_dynamic_shared_size_bytes = self._shared = shared
        self._function(tuple(grid), tuple(block), tuple(map(self._argument, args)), shared_mem=shared)

    def _argument(self, arg: Any) -> Any:
        if arg is None:
            return np.uintp(0)
        if isinstance(arg, np.generic):  # np.float64 is a float too
            return arg
        if isinstance(arg, (bool, int)):
            if not -LARGEST <= arg <= LARGEST:
                raise ValueError(f"{self.name}: {arg} does not fit into the kernel's 32-bit integers")
            return np.int32(arg)
        if isinstance(arg, float):
            return self.dtype.type(arg)
        if array_module(arg) is np:
            raise TypeError(f"{self.name}: an argument is of type {type(arg).__name__}, expected an array on the GPU")
        if not arg.flags.c_contiguous:
            raise ValueError(f"{self.name}: an array of shape {arg.shape} is not contiguous")
        return arg


@functools.cache
def _module(library: Any, source: str, options: tuple[str, ...]) -> Any:
    """Return a source compiled by this library."""
    return library.RawModule(code=(FOLDER / source).read_text(encoding="utf-8"), options=options)


@functools.cache
def _kernel(library: Any, source: str, name: str, char: str, defines: tuple[tuple[str, Any], ...]) -> Kernel:
    options = (*OPTIONS, f"-DREAL={C_TYPES[char]}", *(f"-D{key}={value}" for key, value in defines))
    return Kernel(_module(library, source, options).get_function(name), f"{source}: {name}", np.dtype(char))


def kernel(source: str, name: str, dtype: Any, **defines: Any) -> Kernel:
    """Return a kernel, compiled when it is first asked for.

    Parameters
    ----------
    source : str
        A file in this folder, such as "conv.cu".
    name : str
        The `__global__` function in it.
    dtype : dtype
        float32 or float64: what `T` is in the source.
    **defines
        Constants of the source by name: tile sizes and switches.
    """
    return _kernel(importlib.import_module("cupy"), source, name, np.dtype(dtype).char, tuple(sorted(defines.items())))


def setting(value: Any, dtype: Any) -> tuple[Any, Any]:
    """Return (value, pointer) for a number that is Python's, or an array of shape () that is read at the launch."""
    scalar = np.dtype(dtype).type
    if isinstance(value, (bool, int, float, np.generic)):
        return scalar(value), None
    return scalar(0), value.astype(dtype, copy=False)


def check_size(who: str, **arrays: Any) -> None:
    """Raise ValueError, naming the argument, if an array has more elements than a kernel can count."""
    for name, array in arrays.items():
        if array is not None and array.size > LARGEST:
            raise ValueError(
                f"{who}: {name} has shape {array.shape}, {array.size:,} elements; on the GPU an array may have "
                f"{LARGEST:,}: split the batch"
            )


def blocks(count: int, size: int) -> int:
    """Return how many blocks of `size` cover `count`."""
    return -(-count // size)
