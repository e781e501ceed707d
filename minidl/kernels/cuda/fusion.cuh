// What the generated kernels use: integers by NumPy's names, and functions with NumPy's meaning where CUDA's differs.
#pragma once

typedef signed char int8;
typedef unsigned char uint8;
typedef short int16;
typedef unsigned short uint16;
typedef int int32;
typedef unsigned uint32;
typedef long long int64;
typedef unsigned long long uint64;

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

// The larger and the smaller of two numbers; NaN if one of them is (fmax and fmin would return the other).
template <typename V> __device__ __forceinline__ V larger(V x, V y) { return x > y || x != x ? x : y; }
template <typename V> __device__ __forceinline__ V smaller(V x, V y) { return x < y || x != x ? x : y; }

// -1, 0 or 1; NaN stays NaN.
template <typename V> __device__ __forceinline__ V sign_of(V x) { return x > 0 ? V(1) : x < 0 ? V(-1) : x == 0 ? V(0) : x; }
