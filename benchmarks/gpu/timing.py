"""How long the device works: events around many launches, several functions in turn.

Python takes longer to launch a small kernel than the GPU to run it. So a block of launches begins with a kernel that
only waits, until Python has launched all of them: the device then works through them without a pause, and the events
around them give its own time. Whole training steps are timed by the host's clock: there Python's time counts.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import backend

MOST_CALLS = 200  # in a block: what the driver's queue holds is a few times as much
LONGEST_WAIT = 0.3  # seconds
WARM_UP = 3  # calls
CACHES = 4  # inputs are rotated among sets that are together this many times as large as the L2 cache
MEMORY = 2**30  # bytes that the sets may take

WAIT = r"""
#ifdef MINIDL_EMULATED
extern "C" __global__ void wait(unsigned long long nanoseconds) {}
#else
__device__ unsigned long long now() {
    unsigned long long t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
    return t;
}
extern "C" __global__ void wait(unsigned long long nanoseconds) {
    const unsigned long long began = now();
    while (now() - began < nanoseconds) {}
}
#endif
"""

Call = Callable[[int], Any]  # of the number of the set of inputs; returns what it computes


@dataclass(frozen=True)
class Times:
    """The seconds of a call, in each of several blocks."""

    blocks: list[float]
    starved: bool = False  # whether the device had to wait for Python in spite of all

    @property
    def median(self) -> float:
        return statistics.median(self.blocks)


class Stopwatch:
    """Times what is launched on the default stream, by CuPy and by PyTorch alike."""

    def __init__(self) -> None:
        self.cupy = backend.current_module()
        self._wait = self.cupy.RawKernel(WAIT, "wait")

    def block(self, call: Call, count: int, host: float, kept: deque[Any]) -> tuple[float, bool]:
        """Return the seconds of a call, of so many that take `host` seconds each to launch; and whether it starved."""
        cuda = self.cupy.cuda
        began, ended = cuda.Event(), cuda.Event()
        self.synchronize()
        wait = min(LONGEST_WAIT, 1.5 * host * count + 2e-4)
        self._wait((1,), (1,), (np.uint64(1e9 * wait),))
        began.record()
        for i in range(count):
            kept.append(call(i))  # the results of the last calls, so that the next ones get other memory
        ended.record()
        starved = bool(began.done)
        ended.synchronize()
        return cuda.get_elapsed_time(began, ended) / 1e3 / count, starved

    def synchronize(self) -> None:
        self.cupy.cuda.Device().synchronize()

    def compare(self, calls: Mapping[str, Call], rounds: int, seconds: float, sets: int) -> dict[str, Times]:
        """Time blocks of calls of several functions in turn: A B C A B C …, after a warm-up."""
        kept: deque[Any] = deque(maxlen=sets)
        counts, hosts = {}, {}
        for name, call in calls.items():
            counts[name], hosts[name] = self._count(call, seconds, kept)
        blocks: dict[str, list[tuple[float, bool]]] = {name: [] for name in calls}
        with _no_collection():
            for _ in range(rounds):
                for name, call in calls.items():
                    blocks[name].append(self.block(call, counts[name], hosts[name], kept))
        return {
            name: Times([time for time, _ in own], starved=any(starved for _, starved in own))
            for name, own in blocks.items()
        }

    def _count(self, call: Call, seconds: float, kept: deque[Any]) -> tuple[int, float]:
        """Return how many calls make a block of so many seconds, and the time that it takes to launch one."""
        for i in range(max(WARM_UP, 1 + (kept.maxlen or 0))):  # until the pools have all the memory for results
            kept.append(call(i))
        self.synchronize()
        began = time.perf_counter()
        for i in range(WARM_UP):
            kept.append(call(i))
        host = (time.perf_counter() - began) / WARM_UP
        device, _ = self.block(call, WARM_UP, host, kept)
        most = max(1, min(MOST_CALLS, int(LONGEST_WAIT / (2 * host + 1e-9))))
        return max(1, min(most, round(seconds / max(device, 1e-9)))), host

    def steps(self, runs: Mapping[str, Callable[[int], Any]], rounds: int, seconds: float) -> dict[str, Times]:
        """Time run(count), which makes so many steps, by the host's clock; several in turn."""
        counts = {}
        for name, run in runs.items():
            self._elapsed(run, WARM_UP)
            counts[name] = max(1, round(seconds / self._elapsed(run, WARM_UP)))
            self._elapsed(run, counts[name])  # until the pools have what they need
        blocks: dict[str, list[float]] = {name: [] for name in runs}
        with _no_collection():
            for _ in range(rounds):
                for name, run in runs.items():
                    blocks[name].append(self._elapsed(run, counts[name]))
        return {name: Times(own) for name, own in blocks.items()}

    def _elapsed(self, run: Callable[[int], Any], count: int) -> float:
        """Return the seconds of a step."""
        self.synchronize()
        began = time.perf_counter()
        run(count)
        self.synchronize()
        return (time.perf_counter() - began) / count


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Let no collection of garbage, which walks all modules' objects, meet one of the functions by chance."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Let all memory that CuPy gives out in this context hold NaN, so that what a kernel does not write shows."""
    cuda = backend.current_module().cuda
    pool = cuda.MemoryPool()

    def malloc(size: int) -> Any:
        memory = pool.malloc(size)
        if size:
            memory.memset(255, size)  # all bits set are a NaN
        return memory

    with cuda.using_allocator(malloc):
        yield
