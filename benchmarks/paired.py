"""The measuring harness: two functions in turn, in one process, so that a change of the machine's speed meets both."""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# After a call on two threads, OpenBLAS's and OpenMP's workers wait actively for the next one and take a core from
# whoever comes next (up to 20 times slower). So a block begins with a pause, until they sleep, and with untimed calls.
PAUSE = 0.15
SETTLING = 0.02
SLOW = 0.5  # seconds: calls that take longer settle by themselves
LEAST_PAIRS = 3


def compare(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    pairs: int,
    block_seconds: float,
    per_call: int = 1,
    budget: float = math.inf,
) -> dict[str, float | list[float]]:
    """Time blocks of calls of two functions in turn: A B A B …, after a warm-up.

    There are fewer pairs, but at least three, where so many would take longer than a budget of seconds.

    Returns the median seconds of 1 / `per_call` of a call, and the ratios ours / theirs of all pairs with their
    median, least and largest. `others` is the number of cores that other processes kept busy.
    """
    gc.collect()
    gc.freeze()  # a collection would walk all modules' objects for 0.1 to 0.5 s, and meet one of the two by chance
    calls = [(function, SETTLING if _repeat(function, block_seconds) < SLOW else 0) for function in (ours, theirs)]
    began, others = time.perf_counter(), _seconds_of_others()
    blocks: list[list[float]] = []
    while len(blocks) < pairs and (len(blocks) < LEAST_PAIRS or time.perf_counter() - began < budget):
        blocks.append([_block(function, settling, block_seconds) for function, settling in calls])
    others = (_seconds_of_others() - others) / (time.perf_counter() - began)
    ratios = [a / b for a, b in blocks]
    return {
        "ours": statistics.median(a for a, _ in blocks) / per_call,
        "theirs": statistics.median(b for _, b in blocks) / per_call,
        "median": statistics.median(ratios),
        "min": min(ratios),
        "max": max(ratios),
        "others": max(0.0, others),  # the clock of others ticks in hundredths of a second
        "ratios": ratios,
    }


def _block(function: Callable[[], Any], settling: float, seconds: float) -> float:
    """Return the mean seconds of a call."""
    time.sleep(PAUSE)
    if settling:
        _repeat(function, settling)
    return _repeat(function, seconds)


def _repeat(function: Callable[[], Any], seconds: float) -> float:
    """Call the function, at least once, until the time is up; return the mean seconds of a call."""
    began, calls, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds:
        function()
        calls += 1
        elapsed = time.perf_counter() - began
    return elapsed / calls


def _seconds_of_others() -> float:
    """Return the processor time, since the machine started, that did not go to this process."""
    user, nice, system, _idle, _waiting, *rest = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK") - time.process_time()
