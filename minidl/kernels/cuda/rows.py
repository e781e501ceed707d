"""Work on the rows of a matrix: how many threads share a row, and where they keep it; the host's side of `rows.cuh`."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from minidl.kernels.cuda import launch

# Rows of up to so many values: their threads, and where these keep the values. A thread that has several of them in
# registers loads them all at once, and adds them up without the others.
IN_REGISTERS = {8 * lanes: {"LANES": lanes, "ITEMS": 8} for lanes in (2, 8, 16, 32)}
IN_SHARED_MEMORY = {
    1024: {"LANES": 64, "ITEMS": 0, "KEEP": 1},
    8192: {"LANES": 256, "ITEMS": 0, "KEEP": 1},
    launch.LARGEST: {"LANES": 512, "ITEMS": 0, "KEEP": 1},
}
IN_MEMORY = {"LANES": 512, "ITEMS": 0, "KEEP": 0}  # read anew each time

LAYOUTS = [*IN_REGISTERS.values(), *IN_SHARED_MEMORY.values(), IN_MEMORY]


def variants(source: str) -> list[dict[str, Any]]:
    """Return all variants of a source that `run` may ask for."""
    return [{"source": source, "defines": layout, "registers": 96, "shared": 12 * 2**10} for layout in LAYOUTS]


def run(source: str, name: str, like: Any, *args: Any, kept: int = 1) -> None:
    """Launch a kernel that works on the rows of matrices of the shape and dtype of `like`, and keeps so many of them.

    Nothing is launched if they are empty.
    """
    n, m = like.shape
    if n == 0:
        return
    layout, shared = layout_of(m, kept * m * like.dtype.itemsize)
    lanes = layout["LANES"]
    threads = 128 if lanes < 64 else lanes  # as in rows.cuh
    kernel = launch.kernel(source, name, like.dtype, **layout)
    kernel((launch.blocks(n, threads // lanes),), (threads,), *args, shared=shared)


def layout_of(m: int, size: int) -> tuple[dict[str, int], int]:
    """Return the constants for rows of m values, of which `size` bytes are to be kept, and how much shared memory."""
    for most, layout in IN_REGISTERS.items():
        if m <= most:
            return layout, 0
    if size > _shared_memory():
        return IN_MEMORY, 0
    return next(layout for most, layout in IN_SHARED_MEMORY.items() if m <= most), size


@functools.cache
def _shared_memory() -> int:
    """Return how many bytes of shared memory a block may take here."""
    capability = int(importlib.import_module("cupy").cuda.Device().compute_capability)
    return 96 * 2**10 if capability >= 80 else launch.SHARED
