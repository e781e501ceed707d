"""NumPy or CuPy: which library holds an array, which device is used and why not the GPU, and the random generators."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

DEVICES = ("cpu", "gpu", "auto")
PACKAGES = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}  # and the CUDA that each is built for
EXTRAS = {12: "minidl[gpu]", 13: "minidl[gpu13]"}

_device, _tf32 = "cpu", False


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
    """Return `x` as an array on the current device, copied only if it lies elsewhere or has another dtype.

    Raises
    ------
    MemoryError
        If the GPU has no memory for it; the message says how much is needed and how much is free.
    """
    if _device == "cpu":
        return np.asarray(to_numpy(x), dtype=dtype)
    try:
        return current_module().asarray(x, dtype=dtype)
    except MemoryError as error:
        explain_out_of_memory(f"an array of shape {np.shape(x)}", error)
        raise


def asarray_like(x: Any, like: Any, dtype: Any = None) -> Any:
    """Return `x` as an array on the device of the array `like`."""
    return np.asarray(to_numpy(x), dtype) if array_module(like) is np else array_module(like).asarray(x, dtype)


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

    Six checks in order, the cheap ones first and without importing CuPy: the package, the driver library, the number
    of devices, the CUDA version that the driver supports, CUDA's run-time compiler, one real reduction on the device.
    The first that fails is the reason.

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
    if wrong := _other_cuda(driver):
        return GpuStatus(False, wrong)
    try:
        cupy = importlib.import_module("cupy")
        major, minor = importlib.import_module("cupy.cuda.nvrtc").getVersion()
        if int(cupy.arange(4).sum()) != 6:
            return GpuStatus(False, "the GPU summed 0 + 1 + 2 + 3 wrongly")
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except Exception as error:  # CuPy raises a dozen unrelated types here, from ImportError to its own RuntimeErrors
        return GpuStatus(False, f"CuPy cannot use the GPU: {type(error).__name__}: {error}")
    return GpuStatus(True, f"{name}, CuPy {cupy.__version__}, NVRTC {major}.{minor}")


def _other_cuda(driver: Any) -> str:
    """Return what is wrong if the driver is too old for the CUDA that CuPy is built for, or CuPy is there twice."""
    found = {name: major for name, major in PACKAGES.items() if _installed(name)}
    if len(found) > 1:
        return f"{' and '.join(found)} are installed, and only one may be: pip uninstall one of them"
    version = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return ""
    major, minor = version.value // 1000, version.value % 1000 // 10
    for name, needed in found.items():
        if major < needed:
            advice = f"pip install '{EXTRAS[major]}'" if major in EXTRAS else "a newer driver is needed"
            return f"{name} needs CUDA {needed}, the driver supports CUDA {major}.{minor}: {advice}"
    return ""


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def device() -> str:
    """Return the device on which new arrays are made: "cpu" or "gpu"."""
    return _device


def device_of(array: Any) -> str:
    """Return the device that an array lies on: "cpu" or "gpu"."""
    return "cpu" if array_module(array) is np else "gpu"


def tf32() -> bool:
    """Say whether convolutions and matrix products of float32 may round their factors to 11 bits on a GPU."""
    return _tf32


def explain_out_of_memory(what: str, error: MemoryError) -> None:
    """Raise, saying for what the GPU has no memory and how much is free; NumPy's own errors name the array already."""
    if type(error).__module__.startswith("cupy"):
        free, total = importlib.import_module("cupy").cuda.Device().mem_info
        message = f"no memory on the GPU for {what}: {error}; {free:,} of {total:,} bytes are free"
        raise MemoryError(message) from error


def use_device(name: str, *, tf32: bool = False) -> str:
    """Choose the device on which new arrays are made, and return it.

    Parameters
    ----------
    name : {"cpu", "gpu", "auto"}
        "auto" takes the GPU if `gpu_status()` says it is usable, and the CPU otherwise.
    tf32 : bool, default False
        Let convolutions and matrix products of float32 use the GPU's tensor cores: factors are rounded to 11 bits, so
        that errors are near 3e-4 instead of 1e-7, and sums are float32. Without effect on the CPU, on GPUs without such
        units (before compute capability 8.0), and where channels and filters, or rows, are no multiples of 4.

    Raises
    ------
    ValueError
        If `name` is none of the three.
    RuntimeError
        If "gpu" is asked for and cannot be used; the message gives the reason.
    """
    global _device, _tf32
    if name not in DEVICES:
        raise ValueError(f"use_device: name is {name!r}, expected one of {', '.join(map(repr, DEVICES))}")
    if name == "auto":
        name = "gpu" if gpu_status() else "cpu"
    elif name == "gpu":
        gpu_library("use_device")
    _device, _tf32 = name, tf32
    return _device


def gpu_library(who: str) -> Any:
    """Return CuPy if it can use the GPU; otherwise raise RuntimeError in the name of `who`, with the reason."""
    if _device != "gpu" and not (status := gpu_status()):
        raise RuntimeError(f"{who}: the GPU cannot be used: {status.reason}")
    return importlib.import_module("cupy")


# ---------------------------------------------------------------- random numbers


class _DefaultGenerator(threading.local):
    """Each thread has its own, so that two models trained in two threads do not disturb each other."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)


_default = _DefaultGenerator()


def manual_seed(seed: int) -> np.random.Generator:
    """Restart this thread's default random generator from `seed` and return it.

    Initial weights and dropout masks are drawn from it unless a layer was given a generator of its own. On every device
    NumPy draws them, so that a run is the same everywhere up to rounding; but masks on a GPU, of which NumPy draws only
    the key (`device_key`). A thread that was never seeded starts from seed 0.

    Raises
    ------
    ValueError, TypeError
        If `seed` is not a non-negative integer.

    Examples
    --------
    >>> first = ml.manual_seed(0).standard_normal(3)
    >>> np.array_equal(first, ml.manual_seed(0).standard_normal(3))
    True
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


class _Capturing(threading.local):
    on = False  # whether what is launched here shall be such that a graph can hold it
    key: Any = None  # while one is recorded: what gives an array for the next key of a generator


_capturing = _Capturing()


def capturing() -> bool:
    """Say whether work on the GPU must be such that a graph can hold it: kernels of our own or CuPy's, not cuBLAS."""
    return _capturing.on


@contextlib.contextmanager
def capturable(key: Any = None) -> Iterator[None]:
    """Let `capturing` be true in this thread and context; `key(generator)` stands in for `device_key`, if given."""
    before = _capturing.on, _capturing.key
    _capturing.on, _capturing.key = True, key
    try:
        yield
    finally:
        _capturing.on, _capturing.key = before


def device_key(generator: np.random.Generator | None = None) -> Any:
    """Draw the key of a random stream on the GPU from a generator, by default this thread's.

    Returns
    -------
    numpy.uint64
        Or, while a graph is recorded, an array of shape () on the GPU that holds another key at each launch of it.
    """
    generator = generator or default_generator()
    return _draw_key(generator) if _capturing.key is None else _capturing.key(generator)


def _draw_key(generator: np.random.Generator) -> np.uint64:
    return generator.integers(2**64 - 1, dtype=np.uint64, endpoint=True)


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
