// CUDA's functions of numbers: bits, integers, and those of <math.h>, which in CUDA are also there for float.

#pragma once

#define _GLIBCXX_INCLUDE_NEXT_C_HEADERS  // C's <math.h>: C++'s takes much longer to compile
#include <math.h>
#undef _GLIBCXX_INCLUDE_NEXT_C_HEADERS
#include <stdint.h>
#include <stdlib.h>  // abs

#include <type_traits>

extern "C" int printf(const char*, ...);

namespace emulator {
template <class To, class From>
static inline To bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    __builtin_memcpy(&result, &value, sizeof result);
    return result;
}
template <class T>  // a value that the compiler does not join with others, as a * b + c into a fused multiply-add
static inline T rounded(T value) {
    volatile T result = value;
    return result;
}
}  // namespace emulator

// Of two numbers of any kind; of a number and a NaN the number.
template <class A, class B>
static constexpr std::common_type_t<A, B> min(A a, B b) {
    std::common_type_t<A, B> x = a, y = b;
    return x < y || y != y ? x : y;
}
template <class A, class B>
static constexpr std::common_type_t<A, B> max(A a, B b) {
    std::common_type_t<A, B> x = a, y = b;
    return x > y || y != y ? x : y;
}

// C's functions for double by the same names for float, and for integers.
#define EMULATOR_FLOAT1(name)                              \
    static inline float name(float x) { return name##f(x); } \
    template <class I> static inline std::enable_if_t<std::is_integral_v<I>, double> name(I x) { return name(double(x)); }
#define EMULATOR_FLOAT2(name) static inline float name(float x, float y) { return name##f(x, y); }
EMULATOR_FLOAT1(acos) EMULATOR_FLOAT1(acosh) EMULATOR_FLOAT1(asin) EMULATOR_FLOAT1(asinh) EMULATOR_FLOAT1(atan)
EMULATOR_FLOAT1(atanh) EMULATOR_FLOAT1(cbrt) EMULATOR_FLOAT1(ceil) EMULATOR_FLOAT1(cos) EMULATOR_FLOAT1(cosh)
EMULATOR_FLOAT1(erf) EMULATOR_FLOAT1(erfc) EMULATOR_FLOAT1(exp) EMULATOR_FLOAT1(exp10) EMULATOR_FLOAT1(exp2)
EMULATOR_FLOAT1(expm1) EMULATOR_FLOAT1(fabs) EMULATOR_FLOAT1(floor) EMULATOR_FLOAT1(lgamma) EMULATOR_FLOAT1(log)
EMULATOR_FLOAT1(log10) EMULATOR_FLOAT1(log1p) EMULATOR_FLOAT1(log2) EMULATOR_FLOAT1(nearbyint) EMULATOR_FLOAT1(rint)
EMULATOR_FLOAT1(round) EMULATOR_FLOAT1(sin) EMULATOR_FLOAT1(sinh) EMULATOR_FLOAT1(sqrt) EMULATOR_FLOAT1(tan)
EMULATOR_FLOAT1(tanh) EMULATOR_FLOAT1(tgamma) EMULATOR_FLOAT1(trunc)
EMULATOR_FLOAT2(atan2) EMULATOR_FLOAT2(copysign) EMULATOR_FLOAT2(fdim) EMULATOR_FLOAT2(fmax) EMULATOR_FLOAT2(fmin)
EMULATOR_FLOAT2(fmod) EMULATOR_FLOAT2(hypot) EMULATOR_FLOAT2(nextafter) EMULATOR_FLOAT2(pow) EMULATOR_FLOAT2(remainder)
static inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
static inline float ldexp(float x, int exponent) { return ldexpf(x, exponent); }
static inline float frexp(float x, int* exponent) { return frexpf(x, exponent); }
static inline unsigned __float_as_uint(float x) { return emulator::bits<unsigned>(x); }
static inline int __float_as_int(float x) { return emulator::bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return emulator::bits<float>(x); }
static inline float __int_as_float(int x) { return emulator::bits<float>(x); }
static inline long long __double_as_longlong(double x) { return emulator::bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return emulator::bits<double>(x); }
static inline int __double2hiint(double x) { return int(emulator::bits<uint64_t>(x) >> 32); }
static inline int __double2loint(double x) { return int(emulator::bits<uint64_t>(x)); }
static inline double __hiloint2double(int high, int low) {
    return emulator::bits<double>(uint64_t(unsigned(high)) << 32 | unsigned(low));
}

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
    unsigned result = 0;
    for (int i = 0; i < 32; i++) result |= (x >> i & 1) << (31 - i);
    return result;
}
static inline unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long)__brev(unsigned(x)) << 32 | __brev(unsigned(x >> 32));
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
static inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
__extension__ static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
__extension__ static inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
static inline int __mul24(int a, int b) { return ((a << 8) >> 8) * ((b << 8) >> 8); }
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}

// The fast functions are as exact here as the others. (Macros, because libm has declarations under these names.)
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
#define __sincosf sincosf
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
static inline float fdividef(float x, float y) { return x / y; }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline float rcbrtf(float x) { return 1 / cbrtf(x); }
static inline double rcbrt(double x) { return 1 / cbrt(x); }
static inline double sinpi(double x) { return sin(M_PI * remainder(x, 2)); }
static inline double cospi(double x) { return cos(M_PI * remainder(x, 2)); }
static inline float sinpif(float x) { return float(sinpi(x)); }
static inline float cospif(float x) { return float(cospi(x)); }
static inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
static inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
static inline double normcdf(double x) { return 0.5 * erfc(-M_SQRT1_2 * x); }
static inline float normcdff(float x) { return float(normcdf(x)); }

// Operations that are rounded as they stand: the compiler fuses no multiplication with an addition.
#define EMULATOR_ROUNDED(T, name, expression)                                               \
    static inline T name(T a, T b) { return emulator::rounded<T>(expression); }
EMULATOR_ROUNDED(float, __fadd_rn, a + b)
EMULATOR_ROUNDED(float, __fsub_rn, a - b)
EMULATOR_ROUNDED(float, __fmul_rn, a * b)
EMULATOR_ROUNDED(float, __fdiv_rn, a / b)
EMULATOR_ROUNDED(double, __dadd_rn, a + b)
EMULATOR_ROUNDED(double, __dsub_rn, a - b)
EMULATOR_ROUNDED(double, __dmul_rn, a * b)
EMULATOR_ROUNDED(double, __ddiv_rn, a / b)
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline double __dsqrt_rn(double x) { return sqrt(x); }
static inline float __frcp_rn(float x) { return 1 / x; }
static inline double __drcp_rn(double x) { return 1 / x; }

static inline int __float2int_rn(float x) { return int(rintf(x)); }
static inline int __float2int_rz(float x) { return int(x); }
static inline int __float2int_rd(float x) { return int(floorf(x)); }
static inline int __float2int_ru(float x) { return int(ceilf(x)); }
static inline unsigned __float2uint_rn(float x) { return unsigned(rintf(x)); }
static inline unsigned __float2uint_rz(float x) { return unsigned(x); }
static inline int __double2int_rn(double x) { return int(rint(x)); }
static inline int __double2int_rz(double x) { return int(x); }
static inline float __int2float_rn(int x) { return float(x); }
static inline float __uint2float_rn(unsigned x) { return float(x); }
static inline double __int2double_rn(int x) { return x; }
static inline double __uint2double_rn(unsigned x) { return x; }
static inline float __double2float_rn(double x) { return float(x); }
