// Work on the rows of a matrix (n, m), such as the m values of each of n samples: each row is read from memory once.
//
// LANES threads share a row. Thread `lane` of them has the values lane, lane + LANES, lane + 2 LANES, … It keeps them
//
//     in registers       if they are at most ITEMS, as in short rows;
//     in shared memory   with ITEMS = 0 and KEEP = 1;
//     not at all         with both 0: then it reads them anew whenever they are needed, however many there are.
//
// A block has THREADS threads: THREADS / LANES short rows or one long row.
#pragma once
#include "common.cuh"

#ifndef LANES
#define LANES 32  // a power of two
#endif
#ifndef ITEMS
#define ITEMS 8
#endif
#ifndef KEEP
#define KEEP 0
#endif

constexpr int THREADS = LANES < 64 ? 128 : LANES;  // of a block
constexpr int ROWS = THREADS / LANES;              // of a block
constexpr int BLOCKS = 512 / THREADS;              // on a multiprocessor at least: a thread may have 128 registers
constexpr int UNROLL = sizeof(T) == 4 ? 4 : 1;     // loops that are not as short as ITEMS

#if LANES < 32
// A warp writes at full speed only where its threads write neighbouring values. Where several rows share a warp, the
// results of the block's rows, which lie one after the other in memory, are therefore collected here and then copied as
// one piece. Shared memory has 32 banks that serve one value each at a time: after every 32 values LANES places are left
// free, so that rows of 16, 32 or 64 values do not all begin in the same bank.
__device__ constexpr unsigned skewed(unsigned k) { return k + k / 32 * LANES; }
__shared__ T tile[skewed(THREADS * ITEMS)];
#endif

__device__ inline T infinity() { return __int_as_float(0x7f800000); }

// The values of a row that a thread has: number i of its own, which is number j of the row.
struct Values {
#if ITEMS
    T own[ITEMS];
    __device__ T operator()(int i, int) const { return own[i]; }
#else
    const T* row;
    __device__ T operator()(int, int j) const { return row[j]; }
#endif
};

// The row that this thread works on, together with the others of its group. All threads of a block must take part in
// all of this, also those behind the last row, whose rows are empty.
struct Row {
    int n, m, lane, index, size;

    __device__ Row(int n, int m) : n(n), m(m) {
        lane = threadIdx.x % LANES;
        index = blockIdx.x * ROWS + threadIdx.x / LANES;
        size = index < n ? m : 0;
    }

    // Say whether this thread writes down what there is once for a row.
    __device__ bool leads() const { return index < n && lane == 0; }

    // Return where the row begins in a matrix.
    template <typename V> __device__ V* of(V* matrix) const { return matrix + size_t(index) * m; }

    // Call f(i, j) for each value of this thread: number i of its own is number j of the row.
    //
    // (j < size would be the same condition; but it would be kept for later uses, in registers that there are not.)
    template <typename F> __device__ __forceinline__ void each(F f) const {
#if ITEMS
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
            if (i * LANES < size - lane) f(i, lane + i * LANES);
#else
#pragma unroll UNROLL
        for (int j = lane; j < size; j += LANES) f(0, j);
#endif
    }

    // Return the values of this thread. To keep those of several matrices, number them: 0, 1, …
    __device__ __forceinline__ Values read(const T* matrix, int number = 0) const {
        const T* row = of(matrix);
        Values values;
#if ITEMS
        each([&](int i, int j) { values.own[i] = row[j]; });
#elif KEEP
        extern __shared__ T kept[];
        T* copied = kept + number * m;
        each([&](int, int j) { copied[j] = row[j]; });  // each thread reads only what it has written
        values.row = copied;
#else
        values.row = row;
#endif
        return values;
    }

    // Write f(i, j) for each value of the row: the last that a kernel does.
    template <typename F> __device__ __forceinline__ void write(T* matrix, F f) const {
#if LANES < 32
        unsigned first = threadIdx.x / LANES * m;
        each([&](int i, int j) { tile[skewed(first + j)] = f(i, j); });
        __syncthreads();
        T* rows = matrix + size_t(blockIdx.x) * ROWS * m;
        unsigned count = min(ROWS, n - int(blockIdx.x) * ROWS) * m;
#pragma unroll UNROLL
        for (unsigned k = threadIdx.x; k < count; k += THREADS) rows[k] = tile[skewed(k)];
#else
        T* row = of(matrix);
        each([&](int i, int j) { row[j] = f(i, j); });
#endif
    }

    // Return the sum of f(i, j) over the row, to all its threads the same.
    template <typename F> __device__ __forceinline__ T sum(F f) const {
        T own = 0;
        each([&](int i, int j) { own += f(i, j); });
        return total(own);
    }

    // Return the largest f(i, j) of the row, to all its threads the same; −∞ of an empty one.
    template <typename F> __device__ __forceinline__ T max(F f) const {
        T own = -infinity();
        each([&](int i, int j) { own = fmax(own, f(i, j)); });
        return together(own, [](T x, T y) { return fmax(x, y); });
    }

    // Return the sum of a number of each thread of the row.
    __device__ __forceinline__ T total(T own) const {
        return together(own, [](T x, T y) { return x + y; });
    }

   private:
    // Combine a number of each thread of the row. In each step, threads whose lanes differ in one bit alone exchange
    // what they have: after five steps all of a warp have the same.
    template <typename F> __device__ __forceinline__ static T together(T x, F combine) {
#pragma unroll
        for (int distance = 1; distance < LANES && distance < 32; distance *= 2)
            x = combine(x, __shfl_xor_sync(0xffffffffu, x, distance));
#if LANES > 32
        __shared__ T of_warps[LANES / 32];
        __syncthreads();  // those of the last time may still be read
        if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
        __syncthreads();
        x = of_warps[0];
        for (int warp = 1; warp < LANES / 32; warp++) x = combine(x, of_warps[warp]);
#endif
        return x;
    }
};
