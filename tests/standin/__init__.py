"""A stand-in for CuPy on machines without a GPU: its arrays lie in host memory, but keep CuPy's rules.

So the code for the GPU runs as it is, kernels included, which the emulator executes. What this holds it to:

- An array of CuPy's and one of NumPy's do not mix; nothing becomes a NumPy array but by `get`, `item`, `float`, …, and
  each of these is counted as a transfer to the host. Copies to the device are counted too.
- Reductions to one value give arrays of shape (), not scalars. There are no other names than those of CuPy.
- Fresh memory holds NaN.
- A captured graph repeats what was launched, on the same memory, with the values that lie there then; while it is
  captured, nothing is computed, and transfers and the products of cuBLAS are refused.

It knows nothing of streams that overlap, of memory that is used again, or of speed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import types

import numpy as np

from minidl import backend

from standin import arrays, device
from standin.recording import graph, launches, transfers

__all__ = ["installed", "launches", "transfers"]


def _cuda():
    cuda = types.ModuleType("cupy.cuda")
    memory = types.ModuleType("cupy.cuda.memory")
    memory.OutOfMemoryError, memory.MemoryPool = device.OutOfMemoryError, device.MemoryPool
    runtime = types.ModuleType("cupy.cuda.runtime")
    runtime.getDeviceProperties = lambda device: {"name": b"stand-in", "multiProcessorCount": 132}
    runtime.getDeviceCount = lambda: 1
    cuda.Event = device.Event
    for kind in (device.Stream, device.Graph, device.Device, device.MemoryPool):
        setattr(cuda, kind.__name__, kind)
    cuda.memory, cuda.runtime, cuda.using_allocator = memory, runtime, device.using_allocator
    cuda.get_current_stream = device.current_stream
    pool = device.MemoryPool()
    return cuda, pool


class _CuPy(types.ModuleType):
    """The module: names that are not made here are NumPy's functions, if CuPy has them."""

    __file__ = None

    def __getattr__(self, name):
        if name.startswith("_") or name not in arrays.NAMES:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        function = getattr(np, name)
        if isinstance(function, type) or not callable(function):
            return function
        if isinstance(function, np.ufunc):
            return functools.partial(_ufunc, function)
        if name in ("zeros", "ones", "full", "eye", "identity", "linspace", "tri"):
            return lambda *args, **kwargs: arrays.computed(lambda: function(*args, **kwargs))
        if name == "arange":
            return lambda *args, **kwargs: arrays.computed(lambda: np.arange(*args, **kwargs))
        if name == "empty":
            return lambda *args, **kwargs: arrays.poisoned(np.empty(*args, **kwargs))
        return functools.partial(arrays.call, function)


def _ufunc(ufunc, *args, **kwargs):
    for x in args:
        arrays.check_operand(x)
    if not any(type(x) is arrays.ndarray for x in args):
        return arrays.computed(lambda: ufunc(*args, **kwargs))
    return ufunc(*args, **kwargs)


def _namespace(name, source):
    """Return a module whose functions are those of another, on the stand-in's arrays."""
    module = types.ModuleType(name)
    module.__file__ = None  # Hypothesis asks all modules for it
    module.__getattr__ = lambda attribute: functools.partial(arrays.call, getattr(source, attribute))
    return module


def _modules():
    cupy = _CuPy("cupy")
    cupy.ndarray, cupy.RawModule, cupy.RawKernel = arrays.ndarray, device.RawModule, device.RawKernel
    cupy.asarray, cupy.array, cupy.__version__ = arrays.asarray, arrays.array, "14.2.0"
    cupy.asnumpy = lambda x: x.get() if type(x) is arrays.ndarray else np.asarray(x)
    cupy.cuda, pool = _cuda()
    cupy.get_default_memory_pool = lambda: pool
    cupy.get_array_module = lambda *args: cupy if any(type(x) is arrays.ndarray for x in args) else np
    cupy.lib = types.ModuleType("cupy.lib")
    cupy.lib.stride_tricks = _namespace("cupy.lib.stride_tricks", np.lib.stride_tricks)
    cupy.linalg = _namespace("cupy.linalg", np.linalg)
    ndimage, special = (importlib.import_module(f"scipy.{name}") for name in ("ndimage", "special"))
    scipy = types.ModuleType("cupyx.scipy")
    scipy.ndimage, scipy.special = _namespace("ndimage", ndimage), _namespace("special", special)
    cupyx = types.ModuleType("cupyx")
    cupyx.scipy = scipy
    cupyx.scatter_add = arrays.scatter_add
    return {
        "cupy": cupy,
        "cupy.cuda": cupy.cuda,
        "cupy.cuda.memory": cupy.cuda.memory,
        "cupy.cuda.runtime": cupy.cuda.runtime,
        "cupy.lib": cupy.lib,
        "cupy.lib.stride_tricks": cupy.lib.stride_tricks,
        "cupy.linalg": cupy.linalg,
        "cupyx": cupyx,
        "cupyx.scipy": scipy,
        "cupyx.scipy.ndimage": scipy.ndimage,
        "cupyx.scipy.special": scipy.special,
    }


MODULES = _modules()  # made once: kernels are cached by the library that compiled them


@contextlib.contextmanager
def installed():
    """Let the stand-in be `cupy` in this context, and the current device the GPU."""
    before = {name: sys.modules.get(name) for name in MODULES}
    sys.modules.update(MODULES)
    before_device = backend._device
    backend._device = "gpu"
    transfers.clear()
    launches.clear()
    try:
        yield MODULES["cupy"]
    finally:
        backend._device, graph.work = before_device, None
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
