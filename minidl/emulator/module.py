"""CuPy's RawModule and RawKernel for the CPU."""

from __future__ import annotations

import ctypes
import math
import mmap
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import settings
from .arguments import Parameter, packed
from .compiling import Library, library

LARGEST_BLOCK = 1024
LARGEST_SIDES = (1024, 1024, 64)
LARGEST_GRID = (2**31 - 1, 65535, 65535)
SHARED, LARGEST_SHARED = 48 * 1024, 227 * 1024  # bytes: what a block gets unasked, and what an H100 has
STACKS = LARGEST_BLOCK * (65536 + 17 * 64)  # as in machine.cpp
ALONE = 4096  # CUDA threads: a launch of fewer runs on one thread of the CPU


class RawModule:
    """The kernels of one CUDA source.

    Parameters
    ----------
    code : str
        CUDA C++. Kernels are declared `extern "C" __global__ void name(…)`.
    options : tuple of str
        Of the compiler: -D, -I, -U and -std count, and -fsanitize=bounds or =address; others of nvcc's have no meaning
        here. The macro MINIDL_EMULATED is defined.
    """

    def __init__(self, *, code: str, options: Sequence[str] = ()) -> None:
        if not isinstance(code, str):
            raise TypeError(f"RawModule: code is {type(code).__name__}, expected str")
        if isinstance(options, str) or not all(isinstance(option, str) for option in options):
            raise TypeError(f"RawModule: options is {options!r}, expected a tuple of str")
        self.code = code
        self.options = tuple(options)

    def get_function(self, name: str) -> RawKernel:
        """Return a kernel. All those of the source are compiled when the first one is asked for."""
        return RawKernel(self.code, name, self.options)


class RawKernel:
    """A kernel; call it with (grid, block, arguments).

    Parameters
    ----------
    code, options
        As RawModule's.
    name : str
        The kernel's.

    Attributes
    ----------
    max_dynamic_shared_size_bytes : int
        How much dynamic shared memory a launch may ask for. 48 KB unless it is set, to 227 KB at most.
    """

    def __init__(self, code: str, name: str, options: Sequence[str] = ()) -> None:
        self.name = name
        self.options = tuple(options)
        self._library = library(code, self.options)
        if name not in self._library.kernels:
            known = ", ".join(self._library.kernels) or "none"
            raise ValueError(f'there is no kernel {name!r}: of those with extern "C" __global__ there are {known}')
        kernel = self._library.kernels[name]
        self._parameters = [Parameter(code) for code in kernel.types.decode().split()]
        self._call = kernel.call
        self._largest_block = kernel.largest or LARGEST_BLOCK
        self._shared = SHARED

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value: int) -> None:
        if not 0 <= value <= LARGEST_SHARED:
            raise ValueError(f"{self.name}: max_dynamic_shared_size_bytes is {value}, expected 0 to {LARGEST_SHARED}")
        self._shared = value

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        """Run the kernel and wait for its end.

        Parameters
        ----------
        grid, block : tuple of 1 to 3 int
            The number of blocks, and of threads in a block, along x, y, z.
        args : sequence
            A C-contiguous NumPy array of the parameter's type for a pointer, or np.uintp(0) for a null pointer;
            a NumPy scalar of the parameter's type for a number. Python's int, float and bool count as int64, float64
            and bool, as in CuPy.
        shared_mem : int
            Bytes of dynamic shared memory.

        Raises
        ------
        TypeError, ValueError
            If the arguments do not fit the kernel's parameters; if sizes are beyond what a GPU can launch.
        RuntimeError
            If the kernel fails: with its line, thread and block.
        """
        grid, block = self._sizes(grid, block)
        if not 0 <= shared_mem <= self._shared:
            raise ValueError(
                f"{self.name}: shared_mem is {shared_mem}, expected at most {self._shared} bytes "
                "(max_dynamic_shared_size_bytes)"
            )
        pointers, keep = packed(self.name, self._parameters, args)
        launch = _Launch()
        launch.kernel, launch.arguments = self._call, ctypes.cast(pointers, ctypes.c_void_p)
        launch.grid[:], launch.block[:] = grid, block
        launch.dynamic_bytes = shared_mem
        launch.first, launch.stride = settings.block_order(math.prod(grid))
        launch.order = settings.ORDERS.index(settings.current.order[0])
        launch.seed = settings.current.order[1] % 2**64
        _run(self._library, launch)
        del keep
        if launch.failed:
            line = self._library.line(launch.address) if launch.address else ""
            raise RuntimeError(f"{self.name}: {line}{launch.message.decode(errors='replace')}")

    def _sizes(self, grid: Any, block: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return grid and block with three numbers each, or raise for what a GPU would not launch."""
        for what, sizes in (("grid", grid), ("block", block)):
            if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= 3:
                raise TypeError(f"{self.name}: {what} is {sizes!r}, expected a tuple of 1 to 3 integers")
            if not all(isinstance(size, (int, np.integer)) for size in sizes):
                raise TypeError(f"{self.name}: {what} is {sizes!r}, expected integers")
            if min(sizes) < 1:
                raise ValueError(f"{self.name}: {what} is {sizes!r}, expected at least 1 everywhere")
        for what, sizes, limits in (("grid", grid, LARGEST_GRID), ("block", block, LARGEST_SIDES)):
            for axis, size, limit in zip("xyz", sizes, limits, strict=False):
                if size > limit:
                    raise ValueError(f"{self.name}: {what} is {sizes!r}, expected at most {limit} along {axis}")
        if math.prod(block) > self._largest_block:
            why = "" if self._largest_block == LARGEST_BLOCK else " (its __launch_bounds__)"
            raise ValueError(
                f"{self.name}: block is {block!r}, that is {math.prod(block)} threads, "
                f"expected at most {self._largest_block}{why}"
            )
        return (*map(int, grid), 1, 1)[:3], (*map(int, block), 1, 1)[:3]


# ---------------------------------------------------------------- running


class _Launch(ctypes.Structure):
    """The same as in machine.cpp."""

    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_bytes", ctypes.c_uint64),
        ("first", ctypes.c_uint64),
        ("stride", ctypes.c_uint64),
        ("order", ctypes.c_int),
        ("failed", ctypes.c_int),
        ("seed", ctypes.c_uint64),
        ("next", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("message", ctypes.c_char * 1000),
    )


_one_at_a_time = threading.Lock()  # as on a stream; signal handlers are the process's
_stacks: list[Any] = []  # memory for the stacks of 1,024 CUDA threads, for each thread of the CPU


def _run(library: Library, launch: _Launch) -> None:
    """Run all blocks of a launch, on several threads of the CPU if there is enough to do."""
    blocks = math.prod(launch.grid)
    workers = min(settings.current.threads, blocks) if blocks * math.prod(launch.block) >= ALONE else 1
    with _one_at_a_time:
        while len(_stacks) < workers:
            _stacks.append(mmap.mmap(-1, STACKS))
        at = [ctypes.addressof(ctypes.c_char.from_buffer(stack)) for stack in _stacks[:workers]]
        others = [
            threading.Thread(target=library.run, args=(ctypes.byref(launch), stacks), daemon=True) for stacks in at[1:]
        ]
        library.guard(1)
        try:
            for other in others:
                other.start()
            library.run(ctypes.byref(launch), at[0])
        finally:
            _wait(others, launch)
            library.guard(0)


def _wait(others: list[threading.Thread], launch: _Launch) -> None:
    """Wait for threads, which use our memory; after an interrupt with only the blocks that they are at."""
    while others:
        try:
            if others[-1].ident is not None:
                others[-1].join()
            others.pop()
        except BaseException:
            launch.failed = 1
            _wait(others, launch)
            raise
