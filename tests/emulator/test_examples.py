"""Small kernels of the kind that one learns first, against NumPy, in every order of the threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl import emulator

SOURCE = r"""
#ifndef BARRIER
#define BARRIER __syncthreads()
#endif

extern "C" __global__ void scale(T* x, T factor, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= factor;
}

// Block i adds the i-th part of x.
extern "C" __global__ void __launch_bounds__(256) total(const T* __restrict__ x, T* __restrict__ sums, int n) {
    extern __shared__ T part[];
    T own = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) own += x[i];
    part[threadIdx.x] = own;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        BARRIER;
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = part[0];
}

// A tile of 32 x 32 in each block, 8 rows at a time.
extern "C" __global__ void transpose(const T* x, T* y, int rows, int columns) {
    __shared__ T tile[32][33];
    int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
    #pragma unroll
    for (int i = 0; i < 32; i += 8)
        if (row + i < rows && column < columns) tile[threadIdx.y + i][threadIdx.x] = x[(row + i) * columns + column];
    BARRIER;
    column = blockIdx.y * 32 + threadIdx.x, row = blockIdx.x * 32 + threadIdx.y;
    #pragma unroll
    for (int i = 0; i < 32; i += 8)
        if (row + i < columns && column < rows) y[(row + i) * rows + column] = tile[threadIdx.x][threadIdx.y + i];
}

template <typename V> __device__ __forceinline__ V warp_sum(V value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffff, value, step);
    return value;
}

// One warp for each row.
extern "C" __global__ void row_sums(const T* x, T* sums, int rows, int columns) {
    int row = blockIdx.x * blockDim.y + threadIdx.y;
    T own = 0;
    if (row < rows)
        for (int j = threadIdx.x; j < columns; j += 32) own += x[row * columns + j];
    own = warp_sum(own);
    if (row < rows && threadIdx.x == 0) sums[row] = own;
}
"""
I32 = np.int32


def kernel(name, dtype="float", *options):
    return emulator.RawModule(code=SOURCE, options=(f"-DT={dtype}", *options)).get_function(name)


def in_all_orders(run):
    """Return what `run` gives, and whether it is the same bits in all orders and on one and two threads of the CPU."""
    results = []
    for order in emulator.settings.ORDERS:
        for threads in (1, 2):
            with emulator.order(order), emulator.threads(threads):
                results.append(run())
    return results[0], len({result.tobytes() for result in results}) == 1


@pytest.mark.parametrize(("name", "dtype"), [("float", np.float32), ("double", np.float64)])
def test_elementwise(name, dtype, rng):
    x = rng.standard_normal(20001).astype(dtype)
    expected = x * dtype(3)
    kernel("scale", name)((79,), (256,), (x, dtype(3), I32(x.size)))
    np.testing.assert_array_equal(x, expected)


@given(n=st.integers(1, 3000), blocks=st.integers(1, 20), log=st.integers(0, 8))
def test_a_reduction(n, blocks, log):
    x = np.random.default_rng(n).standard_normal(n)

    def run():
        sums = np.full(blocks, np.nan)
        kernel("total", "double")((blocks,), (2**log,), (x, sums, I32(n)), shared_mem=8 * 2**log)
        return sums

    sums, same = in_all_orders(run)
    assert same
    np.testing.assert_allclose(sums.sum(), x.sum(), rtol=1e-12, atol=1e-12)


@given(rows=st.integers(1, 100), columns=st.integers(1, 100))
def test_a_transposition(rows, columns):
    x = np.random.default_rng(rows).standard_normal((rows, columns), dtype=np.float32)

    def run():
        y = np.full((columns, rows), np.nan, np.float32)
        kernel("transpose")((-(-columns // 32), -(-rows // 32)), (32, 8), (x, y, I32(rows), I32(columns)))
        return y

    y, same = in_all_orders(run)
    assert same
    np.testing.assert_array_equal(y, x.T)


@given(rows=st.integers(1, 50), columns=st.integers(1, 100))
def test_a_reduction_in_warps(rows, columns):
    x = np.random.default_rng(rows).standard_normal((rows, columns))

    def run():
        sums = np.full(rows, np.nan)
        kernel("row_sums", "double")((-(-rows // 4),), (32, 4), (x, sums, I32(rows), I32(columns)))
        return sums

    sums, same = in_all_orders(run)
    assert same
    np.testing.assert_allclose(sums, x.sum(axis=1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["total", "transpose"])
def test_a_missing_barrier_shows(name):
    x = np.arange(10000.0).reshape(100, 100)

    def run():
        y = np.full((100, 100), np.nan)
        if name == "total":
            kernel(name, "double", "-DBARRIER=")((4,), (256,), (x, y, I32(x.size)), shared_mem=2048)
        else:
            kernel(name, "double", "-DBARRIER=")((4, 4), (32, 8), (x, y, I32(100), I32(100)))
        return y

    _, same = in_all_orders(run)
    assert not same
