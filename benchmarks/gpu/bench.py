"""A case, how it is checked and timed, and what all cases share: the device, PyTorch, and the floors."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import minidl as ml
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.timing import CACHES, MEMORY, Call, Stopwatch, Times, poisoned
from minidl import backend

L2 = 2**26  # bytes, where the card does not say


@dataclass(frozen=True)
class Target:
    """What is to be reached: `least` times PyTorch's speed ("speed"), or such a part of the copy bandwidth ("copy")."""

    kind: str
    least: float


@dataclass
class Case:
    """A piece of work, here and in PyTorch.

    Attributes
    ----------
    ours : Call
    error : callable
        Returns how far the result of ours is from a reference in float64, relative to its norm.
    limit : float
        From this error on, ours is wrong and is not timed.
    bytes, operations : int
        The fewest that must be moved through the device's memory, and done.
    theirs : mapping
        The same work by the way in which it is done there; the fastest counts.
    target : Target, optional
    sets : int
        How many sets of inputs there are to rotate among.
    tf32 : bool
        Whether factors may be rounded to TF32, on both sides.
    """

    ours: Call
    error: Callable[[], float]
    limit: float
    bytes: int = 0
    operations: int = 0
    theirs: Mapping[str, Call] = field(default_factory=dict)
    target: Target | None = None
    sets: int = 1
    tf32: bool = False


@dataclass
class Floors:
    """What the card does at best, in bytes and operations a second; 0 where it was not measured."""

    copy: float = 0.0
    float32: float = 0.0
    tf32: float = 0.0

    def seconds(self, case: Case) -> float:
        """Return the least time for a case; nan if it is not known."""
        rate = self.tf32 if case.tf32 else self.float32
        moved = case.bytes / self.copy if self.copy else math.nan
        done = case.operations / rate if case.operations and rate else 0.0
        return max(moved, done)


class Bench:
    """What the sections share.

    Parameters
    ----------
    plan : Plan
    peer : Peer or None
        PyTorch, if it is there.
    """

    def __init__(self, plan: Plan, peer: Any) -> None:
        self.plan, self.peer = plan, peer
        self.cupy = backend.current_module()
        self.stopwatch = Stopwatch()
        self.floors = Floors()
        self.began = time.perf_counter()
        properties = self.cupy.cuda.runtime.getDeviceProperties(0)
        self.l2 = int(properties.get("l2CacheSize", 0)) or L2
        self._drawn = 0

    # -- inputs

    def random(self, *shape: int) -> Any:
        """Return fresh random numbers on the device, uniform with mean 0 and variance 1, by a hash of their places.

        They need no library for random numbers, which not every installation of CuPy has.
        """
        cupy, count = self.cupy, math.prod(shape)
        bits = cupy.arange(count, dtype=cupy.uint32)
        bits += cupy.uint32((self._drawn * 2654435761 + 12345) % 2**32)
        self._drawn += count
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            bits ^= bits >> cupy.uint32(shift)
            bits *= cupy.uint32(factor)
        values = bits.astype(cupy.float32)
        values *= cupy.float32(2 * math.sqrt(3) / 2**32)
        values -= cupy.float32(math.sqrt(3))
        return values.reshape(shape)

    def sets(self, bytes_of_one: int) -> int:
        """Return how many sets of inputs, of so many bytes each, are several times as large as the L2 cache."""
        enough = -(-CACHES * self.l2 // max(1, bytes_of_one))
        return max(1, min(enough, self.plan.sets, MEMORY // max(1, bytes_of_one)))

    # -- measuring

    def measure(self, case: Case) -> dict[str, Any]:
        """Check a case and time it; return its row."""
        with precision(self.peer, case.tf32):
            error = self.checked(case)
            calls = {"minidl": case.ours} | dict(case.theirs)
            calls = {name: call for name, call in calls.items() if name == "minidl" or self._works(call)}
            times = self.stopwatch.compare(calls, self.plan.rounds, self.plan.seconds, case.sets)
        floor = self.floors.seconds(case)
        row = {
            **compared(times, case.target),
            "error": error,
            "bytes": case.bytes,
            "operations": case.operations,
            "floor": floor,
            "bandwidth": case.bytes / times["minidl"].median,
        }
        if case.target is not None and case.target.kind == "copy":
            row["reached"] = row["bandwidth"] / self.floors.copy if self.floors.copy else math.nan
        return row

    def checked(self, case: Case) -> float:
        """Return the error of a case; raise if it is wrong."""
        with poisoned():
            error = case.error()
        if not error <= case.limit:
            raise ArithmeticError(f"wrong: the error is {error:.2g}, expected at most {case.limit:.2g}; not timed")
        return error

    def _works(self, call: Call) -> bool:
        """Say whether PyTorch can do it this way."""
        try:
            call(0)
            self.stopwatch.synchronize()
        except (RuntimeError, ValueError, TypeError, NotImplementedError):
            return False
        return True

    def release(self) -> None:
        """Give memory that nobody uses back to the device, so that the other library can have it."""
        gc.collect()
        self.cupy.get_default_memory_pool().free_all_blocks()
        if self.peer is not None:
            self.peer.release()

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() - self.began > 60 * self.plan.minutes


def compared(times: Mapping[str, Times], target: Target | None = None) -> dict[str, Any]:
    """Return the part of a row that says how fast "minidl" is, and how fast beside the fastest of the others."""
    ours = times["minidl"]
    others = {name: own for name, own in times.items() if name != "minidl"}
    row: dict[str, Any] = {
        "ours": ours.median,
        "ours_range": [min(ours.blocks), max(ours.blocks)],
        "starved": ours.starved,
        "blocks": {name: own.blocks for name, own in times.items()},
        "target": None if target is None else target.least,
        "target_kind": None if target is None else target.kind,
        "reached": None,
    }
    if others:
        name, best = min(others.items(), key=lambda item: item[1].median)
        ratios = sorted(theirs / own for theirs, own in zip(best.blocks, ours.blocks, strict=True))
        row |= {
            "theirs": best.median,
            "theirs_range": [min(best.blocks), max(best.blocks)],
            "how": name,
            "theirs_starved": best.starved,
            "speed": ratios[len(ratios) // 2],
            "speed_range": [ratios[0], ratios[-1]],
        }
        if target is not None and target.kind == "speed":
            row["reached"] = row["speed"]
    return row


@contextlib.contextmanager
def precision(peer: Any, tf32: bool) -> Iterator[None]:
    """Let both libraries round the factors of products of float32 to TF32 in this context, or neither."""
    before = backend.tf32()
    ml.use_device("gpu", tf32=tf32)
    if peer is not None:
        peer.set_tf32(tf32)
    try:
        yield
    finally:
        ml.use_device("gpu", tf32=before)


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Let new arrays be made on the CPU in this context."""
    before = backend.device(), backend.tf32()
    ml.use_device("cpu")
    try:
        yield
    finally:
        ml.use_device(before[0], tf32=before[1])


# ---------------------------------------------------------------- errors


def apart(result: Any, reference: Any) -> float:
    """Return ‖result − reference‖ / ‖reference‖, computed in float64 on the device of the reference."""
    xp = backend.array_module(reference)
    difference = backend.asarray_like(result, reference).astype(xp.float64)
    difference -= reference
    size = float(xp.sqrt((reference * reference).sum()))
    return float(xp.sqrt((difference * difference).sum())) / size


def worst(pairs: Sequence[tuple[Any, Any]]) -> float:
    """Return the largest error of several results; NaN if one is."""
    errors = [apart(result, reference) for result, reference in pairs]
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def reason_of(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
