"""NumPy or CuPy: which library holds an array, which device is used and why not the GPU, and the random generators."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

DEVICES = ("cpu", "gpu", "auto")

_device = "cpu"


def array_module(x: Any) -> Any:
    """Return the library that holds `x`: `cupy` for a CuPy array, `numpy` for everything else.

    CuPy is not imported to find out: an array of CuPy's can only exist where it already is.
    """
    if type(x) is np.ndarray or not type(x).__module__.startswith("cupy"):
        return np
    return importlib.import_module("cupy")


def current_module() -> ModuleType:
    """Return the array library of the current device."""
    return np if _device == "cpu" else importlib.import_module("cupy")


def asarray(x: Any, dtype: Any = None) -> Any:
    """Return `x` as an array on the current device, copied only if it lies elsewhere or has another dtype."""
    if _device == "cpu":
        return np.asarray(to_numpy(x), dtype=dtype)
    return current_module().asarray(x, dtype=dtype)


def to_numpy(x: Any) -> Any:
    """Return `x` as a NumPy array; a CuPy array is copied to the host."""
    return x if array_module(x) is np else x.get()


def lock(array: Any) -> Any:
    """Make an array read-only and return it (CuPy has no such flag: there it stays as it is)."""
    if type(array) is np.ndarray:
        array.setflags(write=False)
    return array


def frozen(array: Any) -> bool:
    """Say whether nobody can write to this memory: neither through the array nor through one that it is a view of."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return False
        array = array.base
    return array is None or isinstance(array, bytes)


def protected(array: Any) -> Any:
    """Return the array itself if it is frozen, and a read-only copy otherwise."""
    return array if frozen(array) else lock(array.copy())


# ---------------------------------------------------------------- device


@dataclass(frozen=True)
class GpuStatus:
    """Whether the GPU can be used; if not, `reason` says why in words. True in a condition when usable."""

    usable: bool
    reason: str

    def __bool__(self) -> bool:
        return self.usable

    def __str__(self) -> str:
        return self.reason


def gpu_status() -> GpuStatus:
    """Say whether the GPU can be used, and if not, why.

    Five checks in order, the cheap ones first and without importing CuPy: the package, the driver library, the number
    of devices, CUDA's run-time compiler, one real reduction on the device. The first that fails is the reason.

    Returns
    -------
    GpuStatus
        `usable`, and `reason` in words.
    """
    if importlib.util.find_spec("cupy") is None:
        return GpuStatus(
            False, "CuPy is not installed: pip install 'minidl[gpu]' (CUDA 12) or 'minidl[gpu13]' (CUDA 13)"
        )
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return GpuStatus(False, "no NVIDIA driver on this machine: libcuda.so.1 cannot be loaded")
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return GpuStatus(False, "the NVIDIA driver is installed but finds no GPU")
    try:
        cupy = importlib.import_module("cupy")
        major, minor = importlib.import_module("cupy.cuda.nvrtc").getVersion()
        if int(cupy.arange(4).sum()) != 6:
            return GpuStatus(False, "the GPU summed 0 + 1 + 2 + 3 wrongly")
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except Exception as error:  # CuPy raises a dozen unrelated types here, from ImportError to its own RuntimeErrors
        return GpuStatus(False, f"CuPy cannot use the GPU: {type(error).__name__}: {error}")
    return GpuStatus(True, f"{name}, CuPy {cupy.__version__}, NVRTC {major}.{minor}")


def device() -> str:
    """Return the device on which new arrays are made: "cpu" or "gpu"."""
    return _device


def use_device(name: str) -> str:
    """Choose the device on which new arrays are made, and return it.

    Parameters
    ----------
    name : {"cpu", "gpu", "auto"}
        "auto" takes the GPU if `gpu_status()` says it is usable, and the CPU otherwise.

    Raises
    ------
    ValueError
        If `name` is none of the three.
    RuntimeError
        If "gpu" is asked for and cannot be used; the message gives the reason.
    """
    global _device
    if name not in DEVICES:
        raise ValueError(f"use_device: name is {name!r}, expected one of {', '.join(map(repr, DEVICES))}")
    if name != "cpu":
        status = gpu_status()
        if name == "gpu" and not status:
            raise RuntimeError(f"use_device: the GPU cannot be used: {status.reason}")
        name = "gpu" if status else "cpu"
    _device = name
    return _device


# ---------------------------------------------------------------- random numbers


class _DefaultGenerator(threading.local):
    """Each thread has its own, so that two models trained in two threads do not disturb each other."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)


_default = _DefaultGenerator()


def manual_seed(seed: int) -> np.random.Generator:
    """Restart this thread's default random generator from `seed` and return it.

    Initial weights and dropout masks are drawn from it unless a layer was given a generator of its own. Random
    numbers are drawn with NumPy on every device, so that a run is the same everywhere up to rounding. A thread that
    was never seeded starts from seed 0.

    Raises
    ------
    ValueError, TypeError
        If `seed` is not a non-negative integer.
    """
    _default.generator = np.random.default_rng(check_seed(seed, "manual_seed"))
    return _default.generator


def default_generator() -> np.random.Generator:
    """Return this thread's default random generator, which `manual_seed` restarts."""
    return _default.generator


@contextlib.contextmanager
def seeded(seed: Sequence[int]) -> Iterator[None]:
    """Let this thread's default generator be a new one, from these numbers, in this context."""
    before = _default.generator
    _default.generator = np.random.default_rng(seed)
    try:
        yield
    finally:
        _default.generator = before


def check_generator(generator: Any, who: str) -> np.random.Generator | None:
    """Return `generator` if it is one of NumPy's, or None; otherwise raise in the name of `who`."""
    if generator is not None and not isinstance(generator, np.random.Generator):
        kind = type(generator).__name__
        raise TypeError(
            f"{who}: generator is of type {kind}, expected a numpy.random.Generator, as of default_rng(seed)"
        )
    return generator


def check_seed(seed: int, who: str) -> int:
    """Return `seed` if it is a non-negative integer; otherwise raise in the name of the function `who`."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise TypeError(f"{who}: seed is {seed!r}, expected a non-negative integer")
    if seed < 0:
        raise ValueError(f"{who}: seed is {seed}, expected a non-negative integer")
    return int(seed)
