// CUDA's names for C++ on a CPU: with this file included first, g++ compiles the CUDA kernels of a .cu as they are.
//
// Some words are not here, because translating.py replaces them in the preprocessed text: `__global__`, by which it finds
// the kernels, `__launch_bounds__`, and `__shared__`. That becomes `static __thread`, for a block runs on one thread of the
// CPU; but `extern __shared__ T name[];` becomes a pointer to the dynamic shared memory.
//
// Not there: inline PTX, wmma, cp.async, cooperative groups, __half. A kernel that has them needs another way for
// `#ifdef MINIDL_EMULATED`.

#pragma once

#define MINIDL_EMULATED 1

#include <type_traits>

#include "machine.hpp"

// ------------------------------------------------------------------ words

#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __builtin_assume(condition) ((void)0)
#define __trap() emulator::fail("%s:%d: __trap()", emulator::short_name(__FILE__), __LINE__)
#define assert(condition) \
    ((condition) ? (void)0 \
                 : emulator::fail("%s:%d: assert(%s) does not hold", emulator::short_name(__FILE__), __LINE__, #condition))

// ------------------------------------------------------------------ vectors of two, three, four

#define EMULATOR_VECTORS(T, name, alignment2, alignment4)                                         \
    struct name##1 { T x; };                                                                      \
    struct alignas(alignment2) name##2 { T x, y; };                                               \
    struct name##3 { T x, y, z; };                                                                \
    struct alignas(alignment4) name##4 { T x, y, z, w; };                                         \
    static inline name##1 make_##name##1(T x) { return {x}; }                                     \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                             \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                     \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATOR_VECTORS(float, float, 8, 16)
EMULATOR_VECTORS(double, double, 16, 16)
EMULATOR_VECTORS(int, int, 8, 16)
EMULATOR_VECTORS(unsigned, uint, 8, 16)
EMULATOR_VECTORS(signed char, char, 2, 4)
EMULATOR_VECTORS(unsigned char, uchar, 2, 4)
EMULATOR_VECTORS(short, short, 4, 8)
EMULATOR_VECTORS(unsigned short, ushort, 4, 8)
EMULATOR_VECTORS(long long, longlong, 16, 16)
EMULATOR_VECTORS(unsigned long long, ulonglong, 16, 16)

struct dim3 : uint3 {
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : uint3{x, y, z} {}
};

// ------------------------------------------------------------------ where a thread is

namespace emulator {
static inline uint3 triple(Index i) { return {i.x, i.y, i.z}; }
}  // namespace emulator

#define threadIdx emulator::triple(emulator::thread_index())
#define blockIdx emulator::triple(emulator::block_index())
#define blockDim emulator::triple(emulator::block_size())
#define gridDim emulator::triple(emulator::grid_size())
constexpr int warpSize = 32;

// ------------------------------------------------------------------ waiting for the others of the block

static inline void __syncthreads(emulator::Place at = EMULATOR_HERE) { emulator::meet({"__syncthreads", 0, at}); }

static inline int __syncthreads_count(int predicate, emulator::Place at = EMULATOR_HERE) {
    return emulator::meet({"__syncthreads_count", 0, at}, predicate != 0).votes;
}
static inline int __syncthreads_or(int predicate, emulator::Place at = EMULATOR_HERE) {
    return emulator::meet({"__syncthreads_or", 0, at}, predicate != 0).votes != 0;
}
static inline int __syncthreads_and(int predicate, emulator::Place at = EMULATOR_HERE) {
    return emulator::meet({"__syncthreads_and", 0, at}, predicate == 0).votes == 0;
}
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __threadfence(); }
static inline void __threadfence_system() { __threadfence(); }

// ------------------------------------------------------------------ waiting for others of the warp

namespace emulator {

static Met meet_lanes(const char* name, unsigned mask, Place at, uint64_t gives = 0, int wants = 0) {
    if (!(mask >> lane() & 1))
        fail("%s:%d: %s with the mask 0x%08x is called by lane %d, which is not in it", short_name(at.file), at.line,
             name, mask, lane());
    return meet({name, mask, at}, gives, wants);
}

template <class T>
static T shuffle(const char* name, unsigned mask, T value, int from, Place at) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    bits = meet_lanes(name, mask, at, bits, from).value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T, class Join>  // join the values of all lanes of the mask, in their order
static T reduce(const char* name, unsigned mask, T value, Join join, Place at) {
    T result = shuffle(name, mask, value, __builtin_ctz(mask), at);
    for (unsigned rest = mask & (mask - 1); rest; rest &= rest - 1)
        result = join(result, shuffle(name, mask, value, __builtin_ctz(rest), at));
    return result;
}

}  // namespace emulator

static inline void __syncwarp(unsigned mask = ~0u, emulator::Place at = EMULATOR_HERE) {
    emulator::meet_lanes("__syncwarp", mask, at);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, emulator::Place at = EMULATOR_HERE) {
    return emulator::meet_lanes("__ballot_sync", mask, at, predicate != 0).votes;
}
static inline int __any_sync(unsigned mask, int predicate, emulator::Place at = EMULATOR_HERE) {
    return emulator::meet_lanes("__any_sync", mask, at, predicate != 0).votes != 0;
}
static inline int __all_sync(unsigned mask, int predicate, emulator::Place at = EMULATOR_HERE) {
    return emulator::meet_lanes("__all_sync", mask, at, predicate == 0).votes == 0;
}

// In segments of `width` lanes: from a given lane, one further up or down, or the one whose number differs in some bits.
// Who would read beyond its segment keeps its own value.
template <class T>
static T __shfl_sync(unsigned mask, T value, int from, int width = 32, emulator::Place at = EMULATOR_HERE) {
    int begin = emulator::lane() & ~(width - 1);
    return emulator::shuffle("__shfl_sync", mask, value, begin + (from & (width - 1)), at);
}
template <class T>
static T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, emulator::Place at = EMULATOR_HERE) {
    int own = emulator::lane(), begin = own & ~(width - 1);
    return emulator::shuffle("__shfl_up_sync", mask, value, own - int(delta) < begin ? own : own - int(delta), at);
}
template <class T>
static T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, emulator::Place at = EMULATOR_HERE) {
    int own = emulator::lane(), end = (own & ~(width - 1)) + width;
    return emulator::shuffle("__shfl_down_sync", mask, value, own + int(delta) >= end ? own : own + int(delta), at);
}
template <class T>
static T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, emulator::Place at = EMULATOR_HERE) {
    int own = emulator::lane(), end = (own & ~(width - 1)) + width;
    return emulator::shuffle("__shfl_xor_sync", mask, value, (own ^ bits) >= end ? own : own ^ bits, at);
}

#define EMULATOR_REDUCE(name, expression)                                                     \
    template <class T>                                                                        \
    static T name(unsigned mask, T value, emulator::Place at = EMULATOR_HERE) {               \
        return emulator::reduce(#name, mask, value, [](T a, T b) { return expression; }, at); \
    }
EMULATOR_REDUCE(__reduce_add_sync, a + b)
EMULATOR_REDUCE(__reduce_min_sync, b < a ? b : a)
EMULATOR_REDUCE(__reduce_max_sync, a < b ? b : a)
EMULATOR_REDUCE(__reduce_and_sync, a & b)
EMULATOR_REDUCE(__reduce_or_sync, a | b)
EMULATOR_REDUCE(__reduce_xor_sync, a ^ b)

template <class T>
static unsigned __match_any_sync(unsigned mask, T value, emulator::Place at = EMULATOR_HERE) {
    unsigned equal = 0;
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        int from = __builtin_ctz(rest);
        T other = emulator::shuffle("__match_any_sync", mask, value, from, at);
        equal |= unsigned(!__builtin_memcmp(&other, &value, sizeof value)) << from;
    }
    return equal;
}

// On a GPU the lanes that happen to run together. Nothing is promised about them, so here every lane runs alone.
static inline unsigned __activemask() { return 1u << emulator::lane(); }

// ------------------------------------------------------------------ atomics

namespace emulator {

template <class T, class Change>
static T update(T* at, Change change) {
    T old, next;
    __atomic_load(at, &old, __ATOMIC_RELAXED);
    do next = change(old);
    while (!__atomic_compare_exchange(at, &old, &next, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return old;
}

template <class T>
struct same_type {
    using type = T;
};
template <class T>
using same_as = typename same_type<T>::type;  // T follows from the other argument

}  // namespace emulator

#define EMULATOR_ATOMIC(name, expression)                                                              \
    template <class T>                                                                                 \
    static T name(T* at, emulator::same_as<T> x) {                                                     \
        return emulator::update(at, [x](T old) -> T { return expression; });                           \
    }                                                                                                  \
    template <class T>                                                                                 \
    static T name##_block(T* at, emulator::same_as<T> x) { return name(at, x); }
EMULATOR_ATOMIC(atomicAdd, old + x)
EMULATOR_ATOMIC(atomicSub, old - x)
EMULATOR_ATOMIC(atomicExch, x)
EMULATOR_ATOMIC(atomicMin, x < old ? x : old)
EMULATOR_ATOMIC(atomicMax, old < x ? x : old)
EMULATOR_ATOMIC(atomicAnd, old & x)
EMULATOR_ATOMIC(atomicOr, old | x)
EMULATOR_ATOMIC(atomicXor, old ^ x)
EMULATOR_ATOMIC(atomicInc, old >= x ? 0 : old + 1)
EMULATOR_ATOMIC(atomicDec, old == 0 || old > x ? x : old - 1)

template <class T>
static T atomicCAS(T* at, emulator::same_as<T> compare, emulator::same_as<T> x) {
    __atomic_compare_exchange(at, &compare, &x, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    return compare;
}

// ------------------------------------------------------------------ reading and writing past the caches

template <class T> static inline T __ldg(const T* at) { return *at; }
template <class T> static inline T __ldca(const T* at) { return *at; }
template <class T> static inline T __ldcg(const T* at) { return *at; }
template <class T> static inline T __ldcs(const T* at) { return *at; }
template <class T> static inline void __stcg(T* at, emulator::same_as<T> value) { *at = value; }
template <class T> static inline void __stcs(T* at, emulator::same_as<T> value) { *at = value; }
template <class T> static inline void __stwb(T* at, emulator::same_as<T> value) { *at = value; }

#include "numbers.hpp"
#include "table.hpp"
