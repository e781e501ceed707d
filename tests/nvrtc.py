"""What NVIDIA's run-time compiler says of the kernels. It needs no GPU: only the package nvidia-cuda-nvrtc.

Every module of `minidl.kernels.cuda` that launches kernels has a list `VARIANTS` of all that it may ask for:

    {"source": "pool.cu", "defines": {"PACK": 4}, "registers": 128, "shared": 49152}

with the most registers that a thread, and bytes of shared memory that a block may take. Each is compiled for float and
for double, unless "dtype" names one ("float32" or "float64"), and for `ARCHITECTURES`, unless "archs" lists some.
"stack" allows so many bytes of local memory, which is otherwise a mistake: it is as slow as the GPU's main memory.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minidl.kernels.cuda as cuda_kernels
from minidl.kernels.cuda import launch

ARCHITECTURES = (75, 80, 89, 90)
REGISTERS = 255  # the most that a thread can have
OPTIONS = ("--ptxas-options=-v", "-ftz=true", "--device-as-default-execution-space")  # the last two are CuPy's own
TYPES = {"float32": "float", "float64": "double"}

_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>.*?)$",
    re.DOTALL | re.MULTILINE,
)


# ---------------------------------------------------------------- what is asked for


@dataclass(frozen=True)
class Variant:
    """A source with its constants, for a type; and what its kernels may take."""

    source: str
    defines: tuple[tuple[str, str], ...]
    dtype: str
    archs: tuple[int, ...] = ARCHITECTURES
    registers: int = REGISTERS
    shared: int = launch.SHARED
    stack: int = 0

    def __str__(self) -> str:
        return " ".join([self.source, *(f"{key}={value}" for key, value in self.defines), self.dtype])

    @property
    def options(self) -> tuple[str, ...]:
        return (*launch.OPTIONS, f"-DREAL={TYPES[self.dtype]}", *(f"-D{key}={value}" for key, value in self.defines))


def variants_of(entries: Iterable[Mapping[str, Any]]) -> Iterator[Variant]:
    """Yield the variants that a module's list `VARIANTS` means."""
    for entry in entries:
        optional = {key: entry[key] for key in ("registers", "shared", "stack") if key in entry}
        archs = tuple(entry.get("archs", ARCHITECTURES))
        dtypes = [entry["dtype"]] if "dtype" in entry else list(TYPES)
        if entry.keys() - {"source", "defines", "dtype", "archs", *optional} or not set(dtypes) <= set(TYPES):
            raise ValueError(f"VARIANTS: {entry} is not of the form that tests/nvrtc.py describes")
        for dtype in dtypes:
            yield Variant(entry["source"], sorted_defines(entry.get("defines", {})), dtype, archs, **optional)


def sorted_defines(defines: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, f"{value}") for key, value in dict(defines).items()))


@functools.cache
def table() -> tuple[Variant, ...]:
    """Return the variants of all modules, each once."""
    found: dict[Variant, None] = {}
    for module in pkgutil.iter_modules(cuda_kernels.__path__):
        listed = getattr(importlib.import_module(f"{cuda_kernels.__name__}.{module.name}"), "VARIANTS", ())
        found.update(dict.fromkeys(variants_of(listed)))
    return tuple(found)


def is_listed(source: str, dtype: Any, defines: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> bool:
    """Say whether launch code may ask for this."""
    asked = source, sorted_defines(defines), np.dtype(dtype).name
    return any((each.source, each.defines, each.dtype) == asked for each in table())


# ---------------------------------------------------------------- what the compiler says


@dataclass(frozen=True)
class Resources:
    """What a kernel takes, a thread of it or a block."""

    registers: int
    shared: int  # bytes, static
    stack: int  # bytes of local memory: of arrays that are indexed by variables, and of registers that were spilled
    spilled: int


@functools.cache
def library() -> Any:
    """Return NVRTC; None where it is not installed."""
    for folder in map(Path, sys.path):
        for path in sorted(folder.glob("nvidia/*/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    return None


def compiled(code: str, options: Iterable[str]) -> tuple[bool, str]:
    """Compile a source; return whether that succeeded, and what the compiler says."""
    nvrtc, program = library(), ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"source.cu", 0, None, None)
    encoded = [option.encode() for option in options]
    failed = nvrtc.nvrtcCompileProgram(program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, text)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return not failed, text.value.decode()


def resources(log: str) -> dict[str, Resources]:
    """Return what each kernel takes, from what the compiler says."""
    found = {}
    for entry in _ENTRY.finditer(log):
        shared = re.search(r"(\d+) bytes smem", entry["rest"])
        spilled = max(int(entry["stores"]), int(entry["loads"]))
        found[entry["name"]] = Resources(
            int(entry["registers"]), int(shared[1]) if shared else 0, int(entry["stack"]), spilled
        )
    return found


def problems(code: str, variant: Variant, architecture: int) -> list[str]:
    """Return all that is wrong with a source in one variant; nothing if it compiles, in silence, and takes no more."""
    succeeded, log = compiled(code, [f"-arch=sm_{architecture}", *variant.options, *OPTIONS])
    if not succeeded:
        return [f"it does not compile: {log}"]
    own = "\n".join(line for line in log.splitlines() if line.strip() and not line.startswith("ptxas "))
    wrong = [own] if own else []
    found = resources(log)
    if not found:
        wrong.append('there is no kernel in it: extern "C" __global__ …')
    for name, taken in found.items():
        for what, amount, most in (
            ("registers", taken.registers, variant.registers),
            ("bytes of shared memory", taken.shared, variant.shared),
            ("bytes of local memory", taken.stack, variant.stack),
            ("bytes of spilled registers", taken.spilled, 0),
        ):
            if amount > most:
                wrong.append(f"{name} takes {amount} {what}, expected at most {most}")
    return wrong
