// Sums over many numbers in a fixed order: the same bits in every run.
#include "common.cuh"

constexpr int THREADS = 256;

// sums[i] = Σ_p parts[p, i], for parts of `count` numbers.
//
// A block makes blockDim.x sums, one for each thread along x; the threads along y share the parts. Thread y adds up
// parts y, y + blockDim.y, … and at last the first of them adds up what they have.
extern "C" __global__ void __launch_bounds__(THREADS)
add_parts(const T* parts, T* sums, int number, int count) {
    __shared__ T of_threads[THREADS];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    T sum = 0;
    if (i < count) {
#pragma unroll 8
        for (int p = threadIdx.y; p < number; p += blockDim.y) sum += parts[p * count + i];
    }
    of_threads[threadIdx.y * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || i >= count) return;
    for (int k = 1; k < blockDim.y; ++k) sum += of_threads[k * blockDim.x + threadIdx.x];
    sums[i] = sum;
}

// parts[p, column] = Σ_row g[row, column] over part p of the rows, `height` of them.
//
// A block takes as many columns as it has threads, or all. If they are few, it lays its threads over several rows, one
// beside the other, so that neighbouring threads read neighbouring numbers; at last the threads of a column add up what
// they have. Nobody asks for what threads find that are left over from whole rows.
extern "C" __global__ void __launch_bounds__(THREADS)
column_sums(const T* g, T* parts, int rows, int columns, int height) {
    __shared__ T of_threads[THREADS];
    const int first = blockIdx.y * THREADS, width = min(columns - first, THREADS);
    const int abreast = THREADS / width;  // rows that are read at once
    const int line = threadIdx.x / width, column = first + threadIdx.x % width;
    const int begin = blockIdx.x * height, end = min(begin + height, rows);
    T sum = 0;
#pragma unroll 8
    for (int row = begin + line; row < end; row += abreast) sum += g[row * columns + column];
    of_threads[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x >= width) return;
    for (int k = 1; k < abreast; ++k) sum += of_threads[k * width + threadIdx.x];
    parts[blockIdx.x * columns + column] = sum;
}
