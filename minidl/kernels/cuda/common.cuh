// What all kernels share.
#pragma once

#ifndef REAL
#define REAL float
#endif
typedef REAL T;  // the type of the numbers: every kernel is compiled for float and for double

// A number that the host may change from launch to launch: it comes by value, or lies in memory of the device where a
// captured graph, in which values are frozen, reads it anew at each replay.
template <typename V> __device__ __forceinline__ V setting(V value, const V* at) { return at ? *at : value; }

// How many blocks of `size` cover `count`.
__host__ __device__ constexpr int blocks_of(int count, int size) { return (count + size - 1) / size; }
