"""From the source of CUDA kernels to a library for the CPU: preprocessed and compiled by g++, and kept in a cache."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..files import replacing, writable_folder
from .translating import translated

HERE = Path(__file__).parent
SHIM = sorted(path.name for path in HERE.glob("*.[ch]pp"))

FLAGS = (
    *("-std=c++17", "-O2", "-g1", "-fPIC"),
    "-ffp-contract=fast",  # a * b + c is one operation, as with nvcc
    *("-fno-math-errno", "-fno-trapping-math"),
    "-fno-strict-aliasing",  # kernels read arrays of float as float4
    *("-fvisibility=hidden", "-fno-gnu-unique", "-Wl,-Bsymbolic"),  # libraries do not see each other's names
    "-Werror=frame-larger-than=49152",  # a thread has 64 KB of stack
)
SANITIZERS = {
    "address": ("-fsanitize=address",),
    # The trap becomes a RuntimeError. One for all places would not know its line.
    "bounds": ("-fsanitize=bounds", "-fsanitize-undefined-trap-on-error", "-fno-crossjumping", "-fno-tree-tail-merge"),
}
KEPT = 30 * 24 * 3600  # seconds after its last use that a library is kept in the cache

_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)


class CompileError(RuntimeError):
    """The source does not compile; the message is the compiler's, with the source's lines."""


class _Kernel(ctypes.Structure):
    """The same as in cuda.hpp."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("types", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("largest", ctypes.c_int),
    )


class Library:
    """The compiled kernels of one source, by name; `path` is the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        dll = ctypes.CDLL(str(path))
        self.kernels: dict[str, Any] = {}
        table = ctypes.cast(dll.emulator_kernels, ctypes.POINTER(_Kernel))
        while table[len(self.kernels)].name:
            kernel = table[len(self.kernels)]
            self.kernels[kernel.name.decode()] = kernel
        self.run: Any = dll.emulator_run
        self.run.argtypes, self.run.restype = (ctypes.c_void_p, ctypes.c_void_p), None
        self.guard: Any = dll.emulator_guard
        self.guard.argtypes, self.guard.restype = (ctypes.c_int,), None

    def line(self, address: int) -> str:
        """Return the source line of an instruction, as "kernel.cu:17: ", or "" if it is not known."""
        if not shutil.which("addr2line"):
            return ""
        command = ["addr2line", "-i", "-e", str(self.path), hex(address)]
        for place in _command(command).stdout.splitlines():
            file, _, number = place.split(" ")[0].rpartition(":")
            if Path(file).name not in (*SHIM, "??") and number.isdigit():
                return f"{Path(file).name}:{number}: "
        return ""


_loaded: dict[str, Library] = {}
_loading = threading.RLock()


def library(code: str, options: tuple[str, ...]) -> Library:
    """Return the library for a source, compiled now or before.

    Raises
    ------
    CompileError
        With what the compiler says.
    RuntimeError
        If there is no g++, or the options ask for a sanitizer that the process has not loaded.
    """
    given = _Options(options + tuple(os.environ.get("MINIDL_EMULATOR_FLAGS", "").split()))
    with _loading:
        key = _digest(code, given)
        if key not in _loaded:
            _loaded[key] = Library(_cached(f"{key}.so", lambda path: _compile(code, given, path)))
        return _loaded[key]


class _Options:
    """The options that count: macros to define, folders to include from, the standard, the sanitizers."""

    def __init__(self, options: tuple[str, ...]) -> None:
        self.macros: list[str] = []
        self.folders: list[Path] = []
        self.standard = "-std=c++17"
        self.sanitizers: list[str] = []
        for option in options:
            if re.match(r"-[DU].", option):
                self.macros.append(option)
            elif re.match(r"-I.", option):
                self.folders.append(Path(option[2:]).resolve())
            elif re.match(r"--?std=", option):
                self.standard = "-" + option.lstrip("-")
            elif option.startswith("-fsanitize="):
                self._sanitize(option.partition("=")[2].split(","))

    def _sanitize(self, names: list[str]) -> None:
        for name in names:
            if name not in SANITIZERS:
                raise ValueError(f"emulator: -fsanitize={name} is unknown, there are {', '.join(SANITIZERS)}")
            self.sanitizers.extend(SANITIZERS[name])
        if "address" in names and not hasattr(ctypes.CDLL(None), "__asan_init"):
            raise RuntimeError(
                "emulator: -fsanitize=address works only in a process that was started with the sanitizer's library; "
                "start Python with the variables of minidl.emulator.sanitizer_environment()"
            )

    def texts(self) -> list[str]:
        return ["macros", *self.macros, "flags", self.standard, *self.sanitizers]


def sanitizer_environment() -> dict[str, str]:
    """Return the environment variables of a process in which kernels can be compiled with -fsanitize=address.

    They let all kernels be compiled so, by MINIDL_EMULATOR_FLAGS=-fsanitize=address. A kernel that reads or writes
    outside of its arguments (arrays of NumPy) or of dynamic shared memory then ends the process, with its line on
    stderr.
    """
    path = _command([_compiler(), "-print-file-name=libasan.so"]).stdout.strip()
    if not Path(path).is_file():
        raise RuntimeError("emulator: g++ has no address sanitizer here; install the library libasan")
    return {
        "LD_PRELOAD": path,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",  # Python keeps memory to its end
        "MINIDL_EMULATOR_FLAGS": "-fsanitize=address",
    }


# ---------------------------------------------------------------- the compiler


def _compiler() -> str:
    path = shutil.which("g++")
    if path is None:
        raise RuntimeError(
            "emulator: g++ is not installed, which compiles CUDA kernels for the CPU; "
            "install it with `apt install g++`, `dnf install gcc-c++` or `conda install gxx`"
        )
    return path


@functools.cache
def _version(compiler: str) -> str:
    return _command([compiler, "--version"]).stdout


@functools.cache
def _processor() -> tuple[str, ...]:
    """Return the flags for this processor."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ()
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        known = ""
    fast = re.search(r"\bavx2\b", known) and re.search(r"\bfma\b", known) and re.search(r"\bbmi2\b", known)
    return ("-fcf-protection=none", *(("-march=x86-64-v3",) if fast else ()))


def _compile(code: str, options: _Options, target: Path) -> None:
    """Write the library of a source to a file."""
    source = "\n".join(
        [f'#include "{HERE / "cuda.hpp"}"', *map(_defined, options.macros), '#line 1 "kernel.cu"', code, ""]
    )
    flags = [options.standard, *options.sanitizers]
    folders = [f"-I{folder}" for folder in options.folders]
    text = _gxx(["-E", "-x", "c++", *flags, *folders, "-"], source)
    given = ["-x", "c++-cpp-output", "-", "-x", "none", str(_machine(options))]  # the machine is linked last
    _gxx([*FLAGS, *_processor(), *flags, "-shared", *given, "-o", str(target)], translated(text))


def _machine(options: _Options) -> Path:
    """Return the compiled machine.cpp, which every library contains."""
    own = [option for option in options.macros if option.startswith("-DEMULATOR_")]
    own += [option for option in options.sanitizers if option == "-fsanitize=address"]
    flags = [*FLAGS, *_processor(), *own, f"-I{HERE}"]
    key = _digest("", _Options(tuple(own)))
    source = (HERE / "machine.cpp").read_text(encoding="utf-8")
    return _cached(f"{key}.o", lambda path: _gxx(["-x", "c++", *flags, "-c", "-", "-o", str(path)], source))


def _defined(option: str) -> str:
    """Return the directive for -D or -U: a source's macros begin below cuda.hpp, whose names they must not change."""
    if option.startswith("-U"):
        return f"#undef {option[2:]}"
    name, _, value = option[2:].partition("=")
    return f"#define {name} {value if '=' in option else 1}"


def _gxx(arguments: list[str], source: str) -> str:
    """Return the output of the compiler."""
    with tempfile.TemporaryDirectory(prefix="minidl-emulator-") as folder:  # an empty one: -I says where headers are
        done = _command([_compiler(), "-fmax-errors=20", *arguments], input=source, cwd=folder)
    if done.returncode:
        raise CompileError(f"the kernels do not compile:\n{done.stderr.rstrip()}")
    return done.stdout


def _command(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    environment.pop("LD_PRELOAD", None)  # the sanitizer is for our process only
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **settings)


# ---------------------------------------------------------------- the cache


def _cache() -> Path:
    """Return the folder of the libraries: minidl/emulator in the user's cache (`XDG_CACHE_HOME`, or ~/.cache)."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return writable_folder(root / "minidl" / "emulator", "emulator")


def _cached(name: str, make: Callable[[Path], object]) -> Path:
    """Return the path of a file in the cache, made if it is not there."""
    path = _cache() / name
    if not path.is_file():
        _remove_old(path.parent)
        with replacing(path) as temporary:
            make(temporary)
    with contextlib.suppress(OSError):  # somebody else's file, in a cache that many use
        os.utime(path)
    return path


def _digest(code: str, options: _Options) -> str:
    """Return a name for all that a library depends on."""
    digest = hashlib.sha256()
    texts = [_version(_compiler()), *FLAGS, *_processor(), *options.texts()]
    contents = [*_shim(), code.encode(), *_headers(code.encode(), options.folders, {})]
    for part in [text.encode() for text in texts] + contents:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


@functools.cache
def _shim() -> list[bytes]:
    return [(HERE / name).read_bytes() for name in (*SHIM, "compiling.py", "translating.py")]


def _headers(code: bytes, folders: list[Path], seen: dict[Path, bytes]) -> list[bytes]:
    """Return the contents of the headers that a source includes by "…", and of those that they include."""
    for name in _INCLUDE.findall(code):
        for folder in folders:
            path = folder / os.fsdecode(name)
            if path.is_file():
                if path not in seen:
                    seen[path] = path.read_bytes()
                    _headers(seen[path], [path.parent, *folders], seen)
                break
    return list(seen.values())


def _remove_old(folder: Path) -> None:
    """Remove the libraries that nobody has used for long."""
    for path in folder.glob("*.*o"):
        with contextlib.suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > KEPT:
                path.unlink()
