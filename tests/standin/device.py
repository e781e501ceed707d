"""Kernels, streams, graphs and memory."""

from __future__ import annotations

import contextlib
import functools

import numpy as np

from standin.arrays import host
from standin.recording import CaptureError, graph, launch


class _Function:
    """A kernel that takes the stand-in's arrays only, and that graphs may hold."""

    def __init__(self, function, name):
        self._function, self._name = function, name

    def __call__(self, grid, block, args, *, shared_mem=0):
        for arg in args:
            if isinstance(arg, np.ndarray):
                raise TypeError(f"Unsupported type {type(arg)}")
        arrays = tuple(map(host, args))
        launch(functools.partial(self._function, grid, block, arrays, shared_mem=shared_mem), self._name)

    def __setattr__(self, name, value):
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._function, name, value)


class RawModule:
    def __init__(self, *, code, options=(), **settings):
        from minidl import emulator

        self._module = emulator.RawModule(code=code, options=options)

    def get_function(self, name):
        return _Function(self._module.get_function(name), name)


class RawKernel(_Function):
    def __init__(self, code, name, options=(), **settings):
        from minidl import emulator

        super().__init__(emulator.RawKernel(code, name, options), name)


# ---------------------------------------------------------------- streams, graphs, memory


class Graph:
    def __init__(self, work):
        self._work = work

    def launch(self, stream=None):
        with np.errstate(all="ignore"):
            for work in self._work:
                work()

    def upload(self, stream=None):
        pass


class Stream:
    ptr = 1

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self._null = null

    def __enter__(self):
        _streams.append(self)
        return self

    def __exit__(self, *exception):
        _streams.remove(self)

    def use(self):
        _streams[-1] = self
        return self

    def synchronize(self):
        if graph.work is not None:
            raise CaptureError("operation not permitted when stream is capturing: synchronize")

    def wait_event(self, event):
        pass

    def record(self, event=None):
        return event

    def begin_capture(self, mode=None):
        if self._null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        graph.work = []

    def end_capture(self):
        work, graph.work = graph.work, None
        return Graph(work)

    def is_capturing(self):
        return graph.work is not None


_null = Stream.null = Stream(null=True)
_streams = [_null]


def current_stream():
    return _streams[-1]


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        pass

    def record(self, stream=None):
        pass

    def synchronize(self):
        pass


class Device:
    id = 0
    compute_capability = "90"
    mem_info = (2**30, 2**34)

    def __init__(self, device=None):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def synchronize(self):
        _null.synchronize()


class OutOfMemoryError(MemoryError):
    pass


class MemoryPool:
    def __init__(self, allocator=None):
        pass

    def malloc(self, size):
        raise NotImplementedError

    def free_all_blocks(self):
        pass

    def used_bytes(self):
        return 0

    def total_bytes(self):
        return 0


@contextlib.contextmanager
def using_allocator(allocator=None):
    yield
