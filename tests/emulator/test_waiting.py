"""Barriers and warp functions: what the threads exchange, and what is said about those that nobody can wait for."""

import numpy as np
import pytest

from minidl import emulator

SOURCE = r"""
__device__ void wait_here() { __syncthreads(); }

extern "C" __global__ void votes(int* out) {
    int i = threadIdx.x, k = 0;
    out[k++ * 64 + i] = __syncthreads_count(i % 3 == 0);
    out[k++ * 64 + i] = __syncthreads_or(i == 63);
    out[k++ * 64 + i] = __syncthreads_or(0);
    out[k++ * 64 + i] = __syncthreads_and(i < 63);
    out[k++ * 64 + i] = __syncthreads_and(7);
    out[k++ * 64 + i] = __ballot_sync(0xffffffff, i % 2);
    out[k++ * 64 + i] = __any_sync(0xffffffff, i == 40);
    out[k++ * 64 + i] = __all_sync(0xffffffff, i < 32);
    out[k++ * 64 + i] = __reduce_add_sync(0xffffffff, i);
    out[k++ * 64 + i] = __reduce_max_sync(0xffffffff, i);
    out[k++ * 64 + i] = __reduce_min_sync(0xffffffff, -i);
    out[k++ * 64 + i] = __reduce_or_sync(0xffffffff, 1u << i / 8);
    out[k++ * 64 + i] = __match_any_sync(0xffffffff, i / 8);
    out[k++ * 64 + i] = __activemask() >> i % 32 & 1;
}

extern "C" __global__ void shuffles(const double* x, double* out, int width) {
    int i = threadIdx.x;
    out[i] = __shfl_sync(0xffffffff, x[i], i * 5, width);
    out[64 + i] = __shfl_up_sync(0xffffffff, x[i], 3, width);
    out[128 + i] = __shfl_down_sync(0xffffffff, x[i], 3, width);
    out[192 + i] = __shfl_xor_sync(0xffffffff, x[i], 5, width);
    out[256 + i] = __shfl_sync(0xffffffff, float(x[i]), 1);
    out[320 + i] = __shfl_sync(0xffffffff, (long long)x[i], 2);
}

extern "C" __global__ void two_groups(int* out) {  // each half of the warp goes its own way
    int i = threadIdx.x, value = i;
    if (i < 16) {
        for (int k = 0; k < 3; k++) value = __shfl_sync(0x0000ffff, value, (i + 1) % 16);
        __syncwarp(0x0000ffff);
    } else
        value = __shfl_sync(0xffff0000, value, 16 + (i + 1) % 16);
    __syncwarp();
    out[i] = value;
}

extern "C" __global__ void outside(float* out) {  // reads a lane that is not in the mask
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0x0000ffff, 1.0f, 8);
}

extern "C" __global__ void small_warp(float* out) {
    __syncwarp();
    out[threadIdx.x] = __shfl_down_sync(0xffffffff, 1.0f, 4);
}

extern "C" __global__ void loop(float* out) {  // everybody waits as often, in a function
    for (int k = 0; k < 5; k++) wait_here();
    out[threadIdx.x] = 1;
}

extern "C" __global__ void faults(int which) {
    int i = threadIdx.x + threadIdx.y * blockDim.x;
    if (which == 0 && i < 40)
        __syncthreads();
    if (which == 1 && i < 40) {
        __syncthreads();
    } else if (which == 1)
        __syncthreads();
    if (which == 2 && i != 3)
        __shfl_sync(0xffffffff, i, 0);
    if (which == 3)
        __shfl_sync(0x7fffffff, i, 0);
    if (which == 4) {
        if (i == 5) __syncthreads();
        __syncwarp();
    }
    if (which == 5) {
        if (i % 2) __shfl_sync(0xffffffff, i, 0);
        else __shfl_sync(0xffffffff, i, 1);
    }
    if (which == 6) __shfl_sync(i % 32 < 16 ? 0xffffffff : 0xffff0000, i, 0);
    if (which == 7 && blockIdx.x == 3) assert(i < 33);
}
"""


def kernel(name):
    return emulator.RawModule(code=SOURCE).get_function(name)


def line(text):
    """Return the number of the last line of the source that contains a text."""
    return max(i for i, found in enumerate(SOURCE.splitlines(), 1) if text in found)


@pytest.fixture(params=emulator.settings.ORDERS)
def order(request):
    with emulator.order(request.param, seed=3):
        yield request.param


def test_votes(order):
    out = np.full((14, 64), -1, np.int32)
    kernel("votes")((1,), (64,), (out,))
    i = np.arange(64)
    first = i < 32
    expected = [22, 1, 0, 0, 1, -0x55555556, ~first, first, np.where(first, 496, 1520), i | 31, -(i | 31)]
    expected += [np.where(first, 0xF, 0xF0), np.int32(np.uint32(0xFF) << (i % 32 // 8 * 8).astype(np.uint32)), 1]
    for row, value in zip(out, expected, strict=True):
        np.testing.assert_array_equal(row, value)


@pytest.mark.parametrize("width", [32, 8, 1])
def test_shuffles(order, width, rng):
    x = rng.standard_normal(64) * 100
    out = np.full((6, 64), np.nan)
    kernel("shuffles")((1,), (64,), (x, out, np.int32(width)))
    i = np.arange(64)
    begin, end = i - i % width, i - i % width + width
    sources = [begin + i * 5 % width, np.where(i - 3 < begin, i, i - 3), np.where(i + 3 >= end, i, i + 3)]
    sources.append(np.where(i ^ 5 >= end, i, i ^ 5))
    for row, source in zip(out, sources, strict=False):
        np.testing.assert_array_equal(row, x[source])
    np.testing.assert_array_equal(out[4], x[i - i % 32 + 1].astype(np.float32))
    np.testing.assert_array_equal(out[5], np.trunc(x[i - i % 32 + 2]))


def test_groups_of_a_warp_are_apart(order):
    out = np.full(32, -1, np.int32)
    kernel("two_groups")((1,), (32,), (out,))
    i = np.arange(16)
    np.testing.assert_array_equal(out, np.concatenate([(i + 3) % 16, 16 + (i + 1) % 16]))


def test_a_lane_outside_of_the_mask_has_no_value(order):
    out = np.zeros(16, np.float32)
    kernel("outside")((1,), (32,), (out,))
    np.testing.assert_array_equal(out, [1] * 8 + [np.nan] * 8)


def test_a_block_may_end_within_a_warp(order):
    out = np.zeros(40, np.float32)
    kernel("small_warp")((1,), (40,), (out,))
    np.testing.assert_array_equal(out[:32], 1)
    np.testing.assert_array_equal(out[32:], [1] * 4 + [np.nan] * 4)


def test_barriers_in_a_loop(order):
    out = np.zeros(1024, np.float32)
    kernel("loop")((1,), (1024,), (out,))
    assert out.all()


@pytest.mark.parametrize(
    ("which", "waits", "missing"),
    [
        (0, f"kernel.cu:{line('which == 0') + 1}: __syncthreads waits for thread (8, 1, 0)", "which has ended"),
        (1, f"kernel.cu:{line('which == 1 && i') + 1}: __syncthreads", f"at kernel.cu:{line('which == 1)') + 1}: __sy"),
        (2, "__shfl_sync with the mask 0xffffffff waits for thread (3, 0, 0)", "which has ended"),
        (3, "__shfl_sync with the mask 0x7fffffff is called by lane 31, which is not in it", "thread (31, 0, 0)"),
        (4, f"kernel.cu:{line('__syncwarp();')}: __syncwarp", f"(5, 0, 0), which waits at kernel.cu:{line('i == 5')}"),
        (
            5,
            f"kernel.cu:{line('i % 2) __shfl') + 1}: __shfl_sync",
            f"waits at kernel.cu:{line('i % 2) __shfl')}: __shfl",
        ),
        (6, "with the mask 0xffffffff waits for thread (16, 0, 0)", "which has ended"),
        (7, f"kernel.cu:{line('assert')}: assert(i < 33) does not hold", "of block (3, 0, 0)"),
    ],
)
def test_faults_are_explained(order, which, waits, missing):
    with pytest.raises(RuntimeError) as error:
        kernel("faults")((4,), (32, 2), (np.int32(which),))
    text = str(error.value)
    if order == "forward":
        assert text.startswith("faults: ")
        assert waits in text
        assert missing in text
    assert "block (" in text


def test_after_a_fault_all_is_well():
    for _ in range(20):
        with pytest.raises(RuntimeError):
            kernel("faults")((100,), (32, 32), (np.int32(0),))
    test_barriers_in_a_loop(None)
