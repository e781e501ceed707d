// Arrays (…, C) as rows of C channels, and how the threads lie over them.
//
// A block is blockDim.x threads wide and blockDim.y high: threads along x take neighbouring channels, threads along y
// take rows. The width is made to fit C (see channels.py), so what the threads of a warp read lies together in memory,
// for C = 3 as well as for C = 64. Where C allows it, a thread takes PACK neighbouring channels, 16 bytes, at once.
#pragma once
#include "common.cuh"

#ifndef PACK
#define PACK 1
#endif

constexpr int THREADS = 256;  // the most that a block has

// PACK neighbouring numbers, which one instruction loads or stores.
template <typename S> struct alignas(PACK * sizeof(S)) Pack {
    S at[PACK];
};

// The i-th pack of an array.
template <typename S> __device__ __forceinline__ Pack<S> load(const S* array, int i) {
    return reinterpret_cast<const Pack<S>*>(array)[i];
}
template <typename S> __device__ __forceinline__ void store(S* array, int i, const Pack<S>& pack) {
    reinterpret_cast<Pack<S>*>(array)[i] = pack;
}

// Which pack of its row a thread takes.
__device__ __forceinline__ int pack_of_thread() { return blockIdx.y * blockDim.x + threadIdx.x; }
