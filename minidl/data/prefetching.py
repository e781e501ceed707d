"""Making the next thing while this one is used."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from minidl import backend


def one_ahead(make: Callable[[int], tuple[Any, ...]], places: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Yield make(i) for every place i, of which the next is being made in a thread while the last is used.

    What it raises, is raised when its turn comes, with its own traceback. No thread outlives what it makes: a generator
    that is left does not wait for it, because the garbage collector may close one in any thread, this one included.
    """
    ahead = None
    for n, i in enumerate(places):
        made = make(i) if ahead is None else ahead.result()
        ahead = _Ahead(make, places[n + 1]) if n + 1 < len(places) else None
        yield tuple(map(backend.asarray, made))  # the device may have been changed since


class _Ahead:
    """Something that a thread of its own makes.

    A thread for each, as it takes a tenth of a millisecond to start one: what has no thread that waits for work, has
    none to be left behind when the generator is forgotten, the process forks or the interpreter ends.
    """

    def __init__(self, make: Callable[[int], Any], i: int) -> None:
        self.make, self.i = make, i
        self.made: Any = None
        self.error: BaseException | None = None
        self.done = threading.Event()  # not Thread.join, which Ctrl-C makes believe that the thread has ended
        self.process = os.getpid()  # a fork has no threads but the one that called it
        context, device = contextvars.copy_context(), _chosen_device()
        try:
            threading.Thread(target=context.run, args=(self._run, device), name=f"minidl-batch-{i}").start()
        except RuntimeError:  # no more threads: the limit of the system, or the interpreter is ending
            self.process = 0

    def _run(self, device: Any) -> None:
        try:
            with device:
                self.made = self.make(self.i)
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()

    def result(self) -> Any:
        if self.process != os.getpid():
            return self.make(self.i)
        self.done.wait()
        try:
            if self.error is not None:
                raise self.error
            return self.made
        finally:
            self.error = self.made = None  # the traceback of an error holds on to this frame


def _chosen_device() -> Any:
    """Return a context with the GPU that is this thread's current one: another thread may have another."""
    return contextlib.nullcontext() if backend.device() == "cpu" else backend.current_module().cuda.Device()
