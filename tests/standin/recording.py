"""What is counted and what is kept: transfers, launches, and the work of a graph that is being captured."""

from __future__ import annotations

from collections import Counter

import numpy as np

transfers: Counter[str] = Counter()  # "to host" and "to device"
launches: Counter[str] = Counter()  # kernels by name, and "array function"


class _Graph:
    work: list | None = None  # since `begin_capture`


graph = _Graph()


class CaptureError(RuntimeError):
    """What CUDA says of work that a graph cannot hold."""


def transfer(direction):
    """Count a copy, which no graph can hold."""
    if graph.work is not None:
        raise CaptureError(f"operation not permitted when stream is capturing: a copy {direction}")
    transfers[direction] += 1


def refuse_cublas(name):
    if graph.work is not None:
        raise NotImplementedError(f"calling cuBLAS API during stream capture is currently unsupported: {name}")


def launch(work, name="array function"):
    """Do some work, or keep it for the graph that is being captured: nothing is computed then."""
    launches[name] += 1
    if graph.work is not None:
        graph.work.append(work)
        return
    with np.errstate(all="ignore"):  # a GPU warns of nothing
        work()
