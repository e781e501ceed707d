"""Threads: the one place that decides how many work, ours and those of the BLAS libraries.

The two do not mix. A BLAS library splits a product among threads of its own, which then wait actively for the next one
and take the processor from whoever comes next. So while ours work, each of them calls a BLAS that uses one thread.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import operator
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import threadpoolctl

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")


def set_threads(count: int | None) -> None:
    """Let minidl compute on so many threads. Results do not depend on it, not even in their last digit.

    Parameters
    ----------
    count : int or None
        At least 1. None, as at the start: as many as the BLAS library of NumPy uses, which is the number of cores
        unless OMP_NUM_THREADS, OPENBLAS_NUM_THREADS or `threadpoolctl` says otherwise.

    Raises
    ------
    TypeError, ValueError
        If `count` is neither None nor an integer of at least 1.
    """
    if count is not None:
        try:
            count = operator.index(count)
        except TypeError:
            raise TypeError(f"set_threads: count is {count!r}, expected an integer or None") from None
        if count < 1:
            raise ValueError(f"set_threads: count is {count}, expected at least 1")
    _pool.count = count


def get_threads() -> int:
    """Return the number of threads that minidl computes on."""
    return _blas.threads() if _pool.count is None else _pool.count


def share(work: Callable[[_Piece], _Result], pieces: Iterable[_Piece]) -> list[_Result]:
    """Call work(piece) for all pieces, several at a time, and return the results in the order of the pieces.

    The calling thread takes part, and takes whatever nobody has begun: it never waits for one who is busy elsewhere.
    The pieces must not depend on the number of threads where a result does, as the rounding of a sum over them. Work
    that multiplies matrices belongs into a `single_blas_thread` context.

    Raises
    ------
    BaseException
        What one of the pieces raised, once no thread works on any of them.
    """
    pieces = list(pieces)
    helpers = min(get_threads(), len(pieces)) - 1 if len(pieces) > 1 else 0
    if helpers == 0:
        return [work(piece) for piece in pieces]
    job = _Job(work, pieces)
    try:
        _pool.ask(job, helpers)
        job.run()
    except BaseException as interrupt:
        job.stop(interrupt)
    return job.finish()


def parts(count: int, least: int) -> list[slice]:
    """Cut range(count) into equal parts for the threads, of at least so many elements where there are so many."""
    number = max(1, min(count // least, get_threads())) if count >= 2 * least else 1
    ends = [count * i // number for i in range(number + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


# ---------------------------------------------------------------- our threads


class _Job:
    """Pieces of work, which several threads take one after the other."""

    def __init__(self, work: Callable[[Any], Any], pieces: list[Any]) -> None:
        self.work: Any = work
        self.waiting = deque(enumerate(pieces))
        self.results: Any = [None] * len(pieces)
        self.error: BaseException | None = None
        self.context = contextvars.copy_context()  # so that np.errstate holds in the other threads too
        self.lock = threading.Lock()
        self.helpers = 0
        self.leaving: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run(self) -> None:
        """Do pieces until none is waiting."""
        while self.waiting:
            try:
                i, piece = self.waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                self.results[i] = self.work(piece)
            except BaseException as error:
                self.stop(error)

    def stop(self, error: BaseException) -> None:
        """Begin no other piece. The first error is the one that is raised."""
        self.error = self.error or error
        self.waiting.clear()

    def help(self) -> None:
        """Do pieces in another thread, if there is still something to do."""
        with self.lock:
            if not self.waiting:
                return
            self.helpers += 1  # before it takes a piece, so that `finish` waits for it
        try:
            self.context.copy().run(self.run)
        finally:
            with self.lock:
                self.helpers -= 1
            self.leaving.put(None)

    def finish(self) -> list[Any]:
        """Wait until no other thread works, then return the results or raise what went wrong."""
        while self.helpers:
            try:
                self.leaving.get(timeout=1)
            except queue.Empty:
                continue
            except BaseException as interrupt:  # the others still write to the caller's arrays
                self.stop(interrupt)
        try:
            if self.error is not None:
                raise self.error
            return self.results
        finally:
            self.work = self.results = self.error = None  # a thread that comes too late keeps no array alive


class _Pool:
    """Our threads. They start when they are first needed and never end."""

    def __init__(self) -> None:
        self.count: int | None = None
        self.restart()

    def restart(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.lock = threading.RLock()  # a signal's handler or a finalizer may come back here
        self.size = 0

    def ask(self, job: _Job, helpers: int) -> None:
        """Ask so many threads to help with a job."""
        with self.lock, contextlib.suppress(RuntimeError):  # no more threads: the limit of the system, or at exit
            for number in range(self.size, helpers):
                threading.Thread(target=_serve, args=(self.jobs,), name=f"minidl-{number}", daemon=True).start()
                self.size += 1
        for _ in range(helpers):
            self.jobs.put(job)


def _serve(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        jobs.get().help()


_pool = _Pool()


# ---------------------------------------------------------------- the threads of BLAS


class _Blas:
    """The BLAS libraries of the process, and how many threads they had before the first of our contexts opened."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open = 0
        self.before: list[tuple[Callable[[int], Any], int]] = []

    def threads(self) -> int:
        """Return how many threads the libraries use outside of our contexts."""
        with self.lock:
            counts = [count for _, count in self.before] or [get() for get, _ in _libraries()]
        return max(counts) if counts else os.cpu_count() or 1

    def limit(self) -> None:
        with self.lock:
            if self.open == 0:  # `before` is empty unless a KeyboardInterrupt came between
                self.before = self.before or [(set_count, get()) for get, set_count in _libraries()]
                for set_count, _ in self.before:
                    set_count(1)
            self.open += 1

    def restore(self) -> None:
        with self.lock:
            self.open = max(0, self.open - 1)  # it may have opened before a fork
            if self.open == 0:
                for set_count, before in self.before:
                    set_count(before)
                self.before = []

    def restart(self) -> None:
        """In a forked process the threads that had opened contexts do not exist."""
        self.lock = threading.RLock()
        self.open = 0
        self.restore()


_blas = _Blas()


class single_blas_thread:
    """Let the BLAS libraries of NumPy and SciPy use one thread in this context.

    On two cores, calls to NumPy's and SciPy's in turn take up to 200 times as long as with one thread each, because
    the threads of one wait actively while the other works. The setting is the process's: the first context that opens
    makes it, in whatever thread, and the last that closes takes it back.
    """

    def __enter__(self) -> None:
        _blas.limit()

    def __exit__(self, *exception: object) -> None:
        _blas.restore()


def _libraries() -> list[tuple[Callable[[], int], Callable[[int], Any]]]:
    """Return the functions that get and set each library's number of threads."""
    return _found("scipy.linalg" in sys.modules)  # SciPy brings a BLAS of its own


@functools.cache
def _found(with_scipy: bool) -> list[Any]:
    return [
        _functions(library) for library in threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    ]


def _functions(library: Any) -> tuple[Any, Any]:
    if library.internal_api != "openblas" or library.threading_layer == "openmp":
        return library.get_num_threads, library.set_num_threads
    # OpenBLAS's own functions, because threadpoolctl obeys one thread and silently does nothing in the others.
    get = next(name for name in library.check_symbols if hasattr(library.dynlib, name))
    return library.dynlib[get], library.dynlib[get.replace("get", "set")]


def _after_fork() -> None:
    _pool.restart()
    _blas.restart()


os.register_at_fork(after_in_child=_after_fork)
