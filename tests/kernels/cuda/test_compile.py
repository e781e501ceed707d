"""Every kernel compiles for every architecture that we serve, without a warning, and fits into registers.

By default some variants of each source, for float and one architecture; with `-m slow` all others.
"""

from __future__ import annotations

import re

import pytest

from minidl.kernels.cuda import launch

import nvrtc

FIRST = nvrtc.ARCHITECTURES[-1]
MOST = 2  # variants of a source by default: to compile one takes up to two seconds

needs_nvrtc = pytest.mark.skipif(
    nvrtc.library() is None, reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc"
)


def representative():
    """Return the variants that are compiled by default: some of each source, for float."""
    chosen = set()
    for source in {variant.source for variant in nvrtc.table()}:
        own = [each for each in nvrtc.table() if each.source == source and each.dtype == "float32"]
        chosen.update(own[len(own) * i // MOST] for i in range(MOST))
    return chosen


def every_variant():
    default = representative()
    for variant in nvrtc.table():
        for architecture in variant.archs:
            marks = () if variant in default and architecture == FIRST else pytest.mark.slow
            yield pytest.param(variant, architecture, id=f"{variant} sm_{architecture}", marks=marks)


@needs_nvrtc
@pytest.mark.parametrize(("variant", "architecture"), list(every_variant()))
def test_every_variant_compiles_and_stays_in_its_limits(variant, architecture):
    code = (launch.FOLDER / variant.source).read_text(encoding="utf-8")
    found = nvrtc.problems(code, variant, architecture)
    assert not found, "\n".join(found)


def test_every_source_is_in_a_list_of_variants():
    sources = {path.name for path in launch.FOLDER.glob("*.cu")}
    assert sources == {variant.source for variant in nvrtc.table()}


# ---------------------------------------------------------------- the test tests


def problems(code, **limits):
    [variant] = nvrtc.variants_of([{"source": "", "dtype": "float32"} | limits])
    return nvrtc.problems(f'#include "common.cuh"\n{code}', variant, FIRST)


HEAD = 'extern "C" __global__ void __launch_bounds__({}) k(T* x) {{ '
SPILLS = (  # 96 numbers at once, where a thread has 32 registers
    HEAD.format("1024, 2")
    + """T t[96];
#pragma unroll
for (int i = 0; i < 96; ++i) t[i] = x[i * 1000 + threadIdx.x];
__syncthreads();
#pragma unroll
for (int i = 0; i < 96; ++i) x[i * 1000 + threadIdx.x] = t[95 - i] * t[i]; }"""
)
PLANTED = {
    "a spill": (SPILLS, {}, r"k takes \d+ bytes of spilled registers, expected at most 0"),
    "an array in local memory": (
        HEAD.format(32) + "T t[9]; for (int i = 0; i < 9; ++i) t[int(x[i])] = x[i]; x[0] = t[int(x[9])]; }",
        {},
        r"k takes \d+ bytes of local memory, expected at most 0",
    ),
    "too many registers": (
        HEAD.format(32) + "x[threadIdx.x] += 1; }",
        {"registers": 2},
        r"k takes \d+ registers, expected at most 2",
    ),
    "too much shared memory": (
        HEAD.format(32) + "__shared__ T t[32]; t[31 - threadIdx.x] = 1; __syncthreads(); x[0] = t[threadIdx.x]; }",
        {"shared": 64},
        "k takes 128 bytes of shared memory, expected at most 64",
    ),
    "a syntax error": (HEAD.format(32) + "x[0] = ; }", {}, "error: expected an expression"),
    "a warning": (HEAD.format(32) + "int unused; x[0] = 1; }", {}, 'variable "unused" was declared but never'),
    "more shared memory than there is": (
        HEAD.format(32) + "__shared__ T t[99999]; t[int(x[0])] = 1; __syncthreads(); x[1] = t[threadIdx.x]; }",
        {},
        "399996 bytes smem",
    ),
    "no kernel": ("__device__ T f(T x) { return x; }", {}, "there is no kernel in it"),
}


@needs_nvrtc
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found(name):
    code, limits, message = PLANTED[name]
    found = problems(code, **limits)
    assert found
    assert re.search(message, "\n".join(found))


@needs_nvrtc
def test_what_is_right_is_not_reported():
    code = HEAD.format(32) + "__shared__ T t[32]; t[threadIdx.x] = 1; __syncthreads(); x[0] = t[31 - threadIdx.x]; }"
    assert not problems(code, registers=32, shared=128)
    assert not problems(PLANTED["an array in local memory"][0], stack=64)


def test_a_list_with_an_unknown_entry_is_an_error():
    for entry in {"source": "x.cu", "register": 3}, {"source": "x.cu", "dtype": "float"}:
        with pytest.raises(ValueError, match="not of the form"):
            list(nvrtc.variants_of([entry]))
