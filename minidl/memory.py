"""Asking for memory before an allocation that would not fit."""

from __future__ import annotations

import os
import re
from pathlib import Path


def available() -> int:
    """Return how many bytes a program can still take: what the system has free, and what a container's limit leaves."""
    limits = [_of_the_system(), *_of_the_container()]
    return min(limits)


def require(count: int, who: str, what: str) -> None:
    """Raise if this many bytes are not there.

    Raises
    ------
    MemoryError
        In the name of the function `who`, saying what they are for.
    """
    free = available()
    if count > free:
        raise MemoryError(f"{who}: {what} would take {readable(count)}, but only {readable(free)} are available")


def readable(count: float) -> str:
    """Return a number of bytes in words: "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.4g} TiB"


def _of_the_system() -> int:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_the_container() -> list[int]:
    """Return what control groups leave, version 2 or 1; nothing where there is no limit."""
    left = []
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            texts = [Path(folder, name).read_text(encoding="ascii").strip() for name in (limit, used, "memory.stat")]
        except OSError:
            continue
        if texts[0].isdigit() and texts[1].isdigit():
            cache = re.search(r"^inactive_file (\d+)", texts[2], re.MULTILINE)  # given back when it is needed
            left.append(max(0, int(texts[0]) - int(texts[1]) + int(cache[1] if cache else 0)))
    return left
