# %% [markdown]
# # 18 · Writing a CUDA kernel: solutions
#
# All kernels run in the emulator here, so that the order of the threads can be chosen.

# %%
import shutil
import sys

import numpy as np

from minidl import course, emulator, ops

this = course.lesson("18 · Writing a CUDA kernel: solutions")
rng = np.random.default_rng(0)

if sys.platform != "linux" or shutil.which("g++") is None:
    print("The solutions need minidl's emulator, which needs Linux and g++ (`apt install g++`). They end here.")
    raise SystemExit


def in_orders(run):
    """What `run` returns with the threads in each order."""
    results = {}
    for order in ("forward", "reverse", "random"):
        with emulator.order(order):
            results[order] = run()
    return results


# %% [markdown]
# ## 1 · Any grid
#
# SAXPY with the loop that works for any grid, on 10,000 elements with 1, 4 and 100 blocks.
#
# A thread begins at its number in the whole grid and goes on by the number of all threads, `gridDim.x * blockDim.x`.
# With 100 blocks there are 25,600 threads: most find that `i < n` does not hold and do nothing.

# %%
SAXPY = r"""
extern "C" __global__ void saxpy(float a, const float* x, float* y, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = a * x[i] + y[i];
}
"""

n = 10_000
x, y = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
for blocks in (1, 4, 100):
    result = y.copy()
    emulator.RawKernel(SAXPY, "saxpy")((blocks,), (256,), (np.float32(2.5), x, result, np.int32(n)))
    np.testing.assert_allclose(result, np.float32(2.5) * x + y, rtol=1e-6, atol=1e-6)
    print(f"{blocks:3} blocks: right, each thread has up to {-(-n // (blocks * 256))} elements")

# %% [markdown]
# ## 2 · The largest value
#
# The sum as a maximum, the same in all orders.
#
# A thread begins with the neutral element of its operation: 0 for a sum, −∞ for a maximum. With 0, the maximum of
# negative numbers would be 0. (A NaN among the elements is passed over here: `fmaxf` returns the other number.)

# %%
LARGEST = r"""
extern "C" __global__ void largest(const float* x, float* found, int n) {
    __shared__ float p[256];
    int t = threadIdx.x;
    float own = -__int_as_float(0x7f800000);  // minus infinity
    for (int i = blockIdx.x * blockDim.x + t; i < n; i += gridDim.x * blockDim.x) own = fmaxf(own, x[i]);
    p[t] = own;
    __syncthreads();
    for (int h = 128; h > 0; h /= 2) {
        if (t < h) p[t] = fmaxf(p[t], p[t + h]);
        __syncthreads();
    }
    if (t == 0) found[blockIdx.x] = p[0];
}
"""
kernel = emulator.RawKernel(LARGEST, "largest")


def largest(x, blocks=16):
    found, result = np.zeros(blocks, np.float32), np.zeros(1, np.float32)
    kernel((blocks,), (256,), (x, found, np.int32(x.size)))
    kernel((1,), (256,), (found, result, np.int32(blocks)))
    return float(result[0])


for x in (rng.standard_normal(100_000).astype(np.float32), -1 - rng.random(3, dtype=np.float32)):
    found = set(in_orders(lambda x=x: largest(x)).values())
    assert found == {float(x.max())}
    print(f"{x.size:7,} elements: the largest is {x.max():.4f}, in all orders")

# %% [markdown]
# ## 3 · Transposing
#
# A matrix by tiles of 16 × 16 in shared memory; and what happens without the barrier.
#
# A block reads a tile row by row, so that neighboring threads read neighbors, and writes it as rows of the result. The
# turn happens in shared memory: a thread writes `tile[threadIdx.y][threadIdx.x]` and reads
# `tile[threadIdx.x][threadIdx.y]`, which another thread has written. Between the two stands the barrier. (The tile has
# 17 columns, since the 32 banks of shared memory serve one number each at a time.)

# %%
TRANSPOSE = r"""
extern "C" __global__ void transpose(const float* x, float* y, int rows, int columns) {
    __shared__ float tile[16][17];
    int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
    if (row < rows && column < columns) tile[threadIdx.y][threadIdx.x] = x[row * columns + column];
    __syncthreads();
    row = blockIdx.x * 16 + threadIdx.y, column = blockIdx.y * 16 + threadIdx.x;  // of the result
    if (row < columns && column < rows) y[row * rows + column] = tile[threadIdx.x][threadIdx.y];
}
"""
x = rng.standard_normal((50, 70)).astype(np.float32)


def transposed(kernel):
    rows, columns = x.shape
    y = np.zeros((columns, rows), np.float32)
    kernel((-(-columns // 16), -(-rows // 16)), (16, 16), (x, y, np.int32(rows), np.int32(columns)))
    return y


correct = emulator.RawKernel(TRANSPOSE, "transpose")
careless = emulator.RawKernel(TRANSPOSE.replace("__syncthreads();", ""), "transpose")
for y in in_orders(lambda: transposed(correct)).values():
    np.testing.assert_array_equal(y, x.T)
for order, y in in_orders(lambda: transposed(careless)).items():
    right = np.mean(y == x.T)
    assert right < 0.99
    print(f"without the barrier, {order} order: {right:.0%} of the elements are right")

# %% [markdown]
# All orders show it: in each, about half of the elements are read before they are written, as NaN.
#
# ## 4 · Residual smoothing
#
# $r_j = (1-\kappa) d_j + \frac{\kappa}{M-1} \sum_{k \ne j} d_k$, a block for each sample.
#
# $\sum_{k \ne j} d_k$ is the sum of all minus $d_j$: one sum for a sample, which its block makes in shared memory.
# After the last barrier every thread reads it, and finishes its own elements.

# %%
SMOOTHING = r"""
extern "C" __global__ void smoothing(const float* d, float* r, float kappa, int m) {
    __shared__ float p[128];
    int t = threadIdx.x;
    d += blockIdx.x * m;
    r += blockIdx.x * m;
    p[t] = 0;
    for (int j = t; j < m; j += blockDim.x) p[t] += d[j];
    __syncthreads();
    for (int h = 64; h > 0; h /= 2) {
        if (t < h) p[t] += p[t + h];
        __syncthreads();
    }
    for (int j = t; j < m; j += blockDim.x) r[j] = (1 - kappa) * d[j] + kappa / (m - 1) * (p[0] - d[j]);
}
"""
kernel = emulator.RawKernel(SMOOTHING, "smoothing")
for m in (10, 100, 1000):
    d = rng.random((20, m), dtype=np.float32)
    library = ops.residual_smoothing(d, 0.6, steepness=0).numpy()

    def smoothed(d=d):
        r = np.zeros_like(d)
        kernel((len(d),), (128,), (d, r, np.float32(0.6 / 2), np.int32(d.shape[1])))
        return r

    for r in in_orders(smoothed).values():
        np.testing.assert_allclose(r, library, rtol=1e-5, atol=1e-6)
    print(f"M = {m:4}: kernel and ops.residual_smoothing, largest difference {np.abs(r - library).max():.1e}")
