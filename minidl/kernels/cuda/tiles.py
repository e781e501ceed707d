"""How a product of matrices is laid out in tiles: the host's side of `tile.cuh`."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import backend
from minidl.backend import array_module
from minidl.kernels.cuda import launch

DEPTH = 16  # of a slice
VECTOR = 4  # numbers of float32 that a thread copies at once, 16 bytes, where rows and pixels are multiples of them
PROCESSORS = 132  # of an H100 or H200. A constant, because sums depend on how the work is cut
LEAST_DEPTH = 256  # of a part that is summed on its own
TF32_CAPABILITY = 80


@dataclass(frozen=True)
class Tile:
    """A block's tile of the result, and a thread's share of it.

    `pace` is how fast a block works, relative to the largest tile: numbers in shared memory are used `thread_rows` or
    `thread_columns` times, and small tiles copy more.
    """

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int
    registers: int
    pace: float

    @property
    def threads(self) -> int:
        return self.rows * self.columns // (self.thread_rows * self.thread_columns)

    @property
    def resident(self) -> int:
        """How many blocks a multiprocessor has at once: as many as its 65,536 registers suffice for."""
        return 65536 // self.registers // self.threads

    def blocks(self, rows: int, columns: int) -> int:
        """Return how many tiles cover a matrix of this size."""
        return launch.blocks(rows, self.rows) * launch.blocks(columns, self.columns)

    def defines(self, vector: int, tf32: bool) -> dict[str, int]:
        """Return the constants of the source for this tile."""
        return {
            "ROWS": self.rows,
            "COLUMNS": self.columns,
            "DEPTH": DEPTH,
            "THREAD_ROWS": self.thread_rows,
            "THREAD_COLUMNS": self.thread_columns,
            "REGISTERS": self.registers,
            "VECTOR": vector,
            "TF32": int(tf32),
            "STAGES": 3 if tf32 else 2,  # tensor cores are done with a slice before the next could be there
        }


TILES = (
    Tile(128, 64, 8, 8, registers=168, pace=1.0),  # the default
    Tile(64, 32, 8, 4, registers=128, pace=0.75),  # few rows, or few columns
    Tile(128, 16, 8, 4, registers=128, pace=0.65),  # very few columns, as the first layers of small networks have
)
SINGLE = Tile(64, 32, 8, 4, registers=168, pace=1.0)  # where numbers are copied one by one


@dataclass(frozen=True)
class Plan:
    """How a product is computed: in which tiles, and the depth in `parts` of `length`."""

    tile: Tile
    vectors: bool  # whether 16 bytes are copied at once
    parts: int
    length: int
    defines: dict[str, int]

    def launch(self, source: str, name: str, dtype: Any, blocks: int, *args: Any, **defines: int) -> None:
        """Launch a kernel for so many tiles of the result."""
        kernel = launch.kernel(source, name, dtype, **self.defines, **defines)
        kernel((blocks,), (self.tile.threads,), *args)


def plan(
    dtype: Any,
    vectors: bool,
    rows: int,
    columns: int,
    depth: int,
    groups: int = 1,
    cut: bool = False,
    choice: tuple[Tile, ...] = TILES,
) -> Plan:
    """Return how to compute so many products of matrices (rows, depth) and (depth, columns).

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    vectors : bool
        Whether 16 bytes can be copied at once. It is done for float32.
    rows, columns, depth : int
    groups : int, default 1
        The number of products.
    cut : bool, default False
        Whether the depth may be cut into parts, so that there is work for all multiprocessors.
    choice : tuple of Tile
    """
    vectors = vectors and dtype == np.float32
    tf32 = vectors and backend.tf32() and has_tf32()
    return _plan(vectors, tf32, rows, columns, depth, groups, cut, choice if vectors else (SINGLE,))


@functools.lru_cache(maxsize=4096)
def _plan(
    vectors: bool, tf32: bool, rows: int, columns: int, depth: int, groups: int, cut: bool, choice: tuple[Tile, ...]
) -> Plan:
    def parts(tile: Tile) -> int:
        """Return into how many parts the depth is cut: into so many that all blocks run at once."""
        room = PROCESSORS * tile.resident // (groups * tile.blocks(rows, columns))
        return max(min(room, launch.blocks(depth, LEAST_DEPTH)), 1) if cut else 1

    def time(tile: Tile) -> float:
        """Return how long the multiprocessor with the most blocks takes, up to a factor."""
        share = launch.blocks(groups * tile.blocks(rows, columns) * parts(tile), PROCESSORS)
        return share / parts(tile) * tile.rows * tile.columns / tile.pace

    tile = min(choice, key=time)
    length = launch.blocks(launch.blocks(depth, parts(tile)), DEPTH) * DEPTH
    return Plan(tile, vectors, launch.blocks(depth, length), length, tile.defines(VECTOR if vectors else 1, tf32))


@functools.cache
def has_tf32() -> bool:
    """Say whether the GPU's tensor cores know TF32."""
    return int(importlib.import_module("cupy").cuda.Device().compute_capability) >= TF32_CAPABILITY


def contiguous(dtype: Any, *arrays: Any) -> list[Any]:
    """Return arrays as kernels take them: contiguous, of this dtype, from a multiple of 16 bytes on."""
    return [aligned(array_module(array).ascontiguousarray(array.astype(dtype, copy=False))) for array in arrays]


def aligned(array: Any) -> Any:
    """Return an array that begins at a multiple of 16 bytes, a copy if this one does not.

    The weights of a layer may lie askew in the vector of all weights.
    """
    return array if array.data.ptr % 16 == 0 else array.copy()


def variants(source: str, choice: tuple[Tile, ...] = TILES, **defines: int) -> list[dict[str, Any]]:
    """Return what can be asked for of a source with these constants of its own, as the tests want to know it."""
    return [
        {
            "source": source,
            "dtype": "float32",
            "defines": tile.defines(VECTOR, tf32) | defines,
            "registers": tile.registers,
            "shared": launch.SHARED,
            "archs": (80, 89, 90) if tf32 else (75, 80, 89, 90),
        }
        for tile in choice
        for tf32 in (False, True)
    ]


def single_variants(source: str, **defines: int) -> list[dict[str, Any]]:
    """Return the same for numbers that are copied one by one."""
    constants = SINGLE.defines(1, False) | defines
    return [{"source": source, "defines": constants, "registers": SINGLE.registers, "shared": 2**15}]
