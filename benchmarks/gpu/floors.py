"""What the card does at best: how fast it copies memory, and multiplies matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.gpu.bench import Bench, precision

NOTE = """The faster of CuPy's and PyTorch's. The bandwidth counts bytes read and bytes written; that of the largest
copy is "the copy bandwidth" of the other tables. The products are cuBLAS's; convolutions cannot be faster."""


def cases(bench: Bench) -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    for count in bench.plan.copies:
        yield f"copy of {4 * count:,} bytes", partial(copy, bench, count)
    n = bench.plan.gemm
    for tf32 in (False, True):
        if not tf32 or bench.peer is not None:  # CuPy rounds to TF32 only where a variable of the environment says so
            yield f"product of {n}×{n} matrices in {'TF32' if tf32 else 'float32'}", partial(product, bench, n, tf32)


def copy(bench: Bench, count: int) -> list[dict[str, Any]]:
    sets = bench.sets(8 * count)
    pairs = [(bench.random(count), bench.cupy.empty(count, bench.cupy.float32)) for _ in range(sets)]

    def in_cupy(i: int) -> None:
        x, y = pairs[i % sets]
        y[...] = x

    calls: dict[str, Callable[[int], Any]] = {"CuPy": in_cupy}
    if bench.peer is not None:
        twins = [tuple(map(bench.peer.tensor, pair)) for pair in pairs]
        calls["PyTorch"] = lambda i: twins[i % sets][1].copy_(twins[i % sets][0])
    name, seconds, row = _fastest(bench, calls)
    bench.floors.copy = 8 * count / seconds
    return [row | {"how": name, "rate": bench.floors.copy, "unit": "B/s"}]


def product(bench: Bench, n: int, tf32: bool) -> list[dict[str, Any]]:
    x, y = bench.random(n, n), bench.random(n, n)
    calls: dict[str, Callable[[int], Any]] = {} if tf32 else {"CuPy": lambda i: x @ y}
    if bench.peer is not None:
        twins = bench.peer.tensor(x), bench.peer.tensor(y)
        calls["PyTorch"] = lambda i: twins[0] @ twins[1]
    with precision(bench.peer, tf32):
        name, seconds, row = _fastest(bench, calls)
    rate = 2 * n**3 / seconds
    setattr(bench.floors, "tf32" if tf32 else "float32", rate)
    return [row | {"how": name, "rate": rate, "unit": "FLOP/s"}]


def _fastest(bench: Bench, calls: dict[str, Callable[[int], Any]]) -> tuple[str, float, dict[str, Any]]:
    """Return the name of the fastest, its seconds, and its row."""
    times = bench.stopwatch.compare(calls, bench.plan.rounds, bench.plan.seconds, 1)
    name, best = min(times.items(), key=lambda item: item[1].median)
    row = {"ours": best.median, "ours_range": [min(best.blocks), max(best.blocks)], "starved": best.starved}
    return name, best.median, row | {"blocks": {name: own.blocks for name, own in times.items()}}
