"""From source to library: messages of the compiler, the cache, the sanitizers, other processors."""

import os
import re
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from minidl import emulator
from minidl.emulator import compiling

SOURCE = r"""
extern "C" __global__ void copy(const float* x, float* y, int n) {
    extern __shared__ float kept[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    kept[threadIdx.x] = x[i];
    __syncthreads();
    y[i] = kept[threadIdx.x + n];
}
"""
F32, I32 = np.float32, np.int32


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, on the disk and in memory, and what is compiled meanwhile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_loaded", {})
    compiled = []
    compile = compiling._compile

    def count(code, options, target):
        compiled.append(code)
        if code == SOURCE:
            return compile(code, options, target)
        return target.write_bytes(b"")

    monkeypatch.setattr(compiling, "_compile", count)
    monkeypatch.setattr(compiling, "Library", lambda path: path)
    return compiled


def test_a_library_is_compiled_once(cache, monkeypatch, tmp_path):
    first = compiling.library("// a", ())
    assert first.parent == tmp_path / "cache" / "minidl" / "emulator"
    assert compiling.library("// a", ()) == first
    monkeypatch.setattr(compiling, "_loaded", {})
    assert compiling.library("// a", ("--use_fast_math", "-arch=sm_90")) == first
    assert len(cache) == 1
    assert compiling.library("// b", ()) != first
    assert compiling.library("// a", ("-DN=1",)) != first
    assert compiling.library("// a", ("-std=c++20",)) != first
    assert compiling.library("// a", ("-fsanitize=bounds",)) != first
    monkeypatch.setattr(compiling, "_version", lambda compiler: "another")
    assert compiling.library("// a", ()) != first
    assert len(cache) == 6


def test_headers_count(cache, tmp_path, monkeypatch):
    code, option = '#include "one.cuh"\n', f"-I{tmp_path}"
    (tmp_path / "one.cuh").write_text('  #  include "two.cuh"\n#include "one.cuh"\n')
    (tmp_path / "two.cuh").write_text("// 2")
    first = compiling.library(code, (option,))
    assert compiling.library(code, (option,)) == first
    monkeypatch.chdir(tmp_path)
    assert compiling.library(code, ("-I.",)) == first
    (tmp_path / "two.cuh").write_text("// 3")
    assert compiling.library(code, (option,)) != first
    assert len(cache) == 2


def test_old_libraries_are_removed(cache):
    first, second = compiling.library("// a", ()), compiling.library("// b", ())
    past = time.time() - compiling.KEPT - 1
    os.utime(first, (past, past))
    os.utime(second, (past, past))
    compiling._loaded.clear()
    compiling.library("// b", ())  # is used again
    compiling.library("// c", ())
    assert not first.exists()
    assert second.exists()


def test_the_compilers_errors_have_the_sources_lines(tmp_path):
    (tmp_path / "wrong.cuh").write_text("\n\nint f() { return y; }\n")
    code = 'extern "C" __global__ void k(float* x) {\n    __syncthreads();\n    x[0] = z;\n}\n#include "wrong.cuh"\n'
    with pytest.raises(
        emulator.CompileError, match="(?s)kernel.cu:3:.*'z' was not declared.*wrong.cuh:3:.*'y' was not"
    ):
        emulator.RawKernel(code, "k", (f"-I{tmp_path}",))
    with pytest.raises(emulator.CompileError, match="nowhere.cuh: No such file"):
        emulator.RawKernel('#include "nowhere.cuh"', "k")
    with pytest.raises(emulator.CompileError, match="frame size .* is larger"):
        emulator.RawKernel(
            'extern "C" __global__ void k(char* x, int i) { char y[60000]; y[i] = 1; *x = y[i + *x]; }', "k"
        )
    with pytest.raises(ValueError, match="there are none"):
        emulator.RawKernel("", "k")
    with pytest.raises(ValueError, match="-fsanitize=memory is unknown, there are address, bounds"):
        emulator.RawKernel("", "k", ("-fsanitize=memory",))


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match=r"g\+\+ is not installed.*apt install g\+\+"):
        emulator.RawKernel(SOURCE, "copy")


def run(source, *, env=None, check=True):
    """Return the result of another Python process."""
    script = f"import numpy as np\nfrom minidl import emulator\nSOURCE = r'''{SOURCE}'''\n{textwrap.dedent(source)}"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def test_several_processes_compile_the_same(tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    script = f"from minidl import emulator\nemulator.RawKernel(r'''{SOURCE}''', 'copy')"
    running = [subprocess.Popen([sys.executable, "-c", script], env=env) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert sorted(path.suffix for path in (tmp_path / "minidl" / "emulator").iterdir()) == [".o", ".so"]


def test_the_switch_for_other_processors():
    code = SOURCE.replace("kept[threadIdx.x + n]", "__shfl_xor_sync(0xffffffff, kept[(threadIdx.x + n) % 64], 1)")
    x, y = np.arange(640, dtype=F32), np.zeros(640, F32)
    kernel = emulator.RawKernel(code, "copy", ("-DEMULATOR_UCONTEXT",))
    for order in emulator.settings.ORDERS:
        with emulator.order(order), emulator.threads(2):
            kernel((10,), (64,), (x, y, I32(4)), shared_mem=256)
        np.testing.assert_array_equal(y.reshape(10, 64), np.roll(x.reshape(10, 64), -4, axis=1)[:, np.arange(64) ^ 1])
    with pytest.raises(RuntimeError, match="a null pointer"):
        kernel((1,), (64,), (np.uintp(0), y, I32(4)), shared_mem=256)


def test_the_address_sanitizer_needs_its_own_process():
    with pytest.raises(RuntimeError, match="works only in a process that was started"):
        emulator.RawKernel(SOURCE, "copy", ("-fsanitize=address",))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("(2,), (32,), (x, y, I32(0)), shared_mem=128", None),
        ("(2,), (33,), (x, y, I32(0)), shared_mem=132", (5, "READ of size 4")),
        ("(2,), (32,), (x, y, I32(1)), shared_mem=128", (7, "READ of size 4")),
        ("(2,), (32,), (z, y[4:], I32(0)), shared_mem=128", (7, "WRITE of size 4")),
    ],
)
def test_the_address_sanitizer_finds_what_is_outside(arguments, found):
    script = f"""
    kernel = emulator.RawKernel(SOURCE, "copy")
    I32, x, y, z = np.int32, np.ones(64, "f4"), np.ones(64, "f4"), np.ones(1000, "f4")
    for order in ("forward", "reverse"):
        with emulator.order(order):
            kernel((30,), (1000,), (np.ones(30000, "f4"), np.ones(30000, "f4"), I32(0)), shared_mem=4000)
            try:
                kernel((1,), (1000,), (z, z, 0), shared_mem=4000)
            except TypeError:
                pass
            kernel({arguments})
    """
    done = run(script, env=emulator.sanitizer_environment(), check=found is None)
    if found:
        line, what = found
        assert what in done.stderr
        assert re.search(rf"in copy \S*kernel.cu:{line}\b", done.stderr)
