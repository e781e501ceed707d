// Copies from memory into shared memory that run beside the arithmetic.
//
// On sm_80 and later a copy needs no registers and nobody waits for it: a thread starts copies, closes them into a
// group, and later waits until all but its last few groups are there. On older GPUs a copy is a load and a store.
#pragma once

#include "common.cuh"

// COUNT numbers that lie side by side and are moved as one.
template <int COUNT> struct alignas(COUNT * sizeof(T)) Piece {
    T values[COUNT];
};

#if !defined(MINIDL_EMULATED) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define ASYNCHRONOUS 1
#else
#define ASYNCHRONOUS 0
#endif

// Copy COUNT numbers from memory to shared memory, both aligned to their size; write zeros if `there` is false.
template <int COUNT> __device__ __forceinline__ void start_copy(T* to, const T* from, bool there) {
    constexpr int BYTES = COUNT * sizeof(T);
#if ASYNCHRONOUS
    const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"  // bytes to write; of these so many are read
                 ::"r"(target), "l"(from), "n"(BYTES), "r"(there ? BYTES : 0) : "memory");
#else
    static_assert(BYTES <= 16, "at most 16 bytes are moved at once");
    Piece<COUNT> piece = {};
    if (there) piece = *reinterpret_cast<const Piece<COUNT>*>(from);
    *reinterpret_cast<Piece<COUNT>*>(to) = piece;
#endif
}

// Close the copies that this thread started since the last call into a group, which may be empty.
__device__ __forceinline__ void close_group() {
#if ASYNCHRONOUS
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Wait until this thread's groups are there, all but the last OPEN of them.
template <int OPEN> __device__ __forceinline__ void wait_for_groups() {
#if ASYNCHRONOUS
    asm volatile("cp.async.wait_group %0;" ::"n"(OPEN) : "memory");
#endif
}
