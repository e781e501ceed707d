"""What of CUDA C++ the kernels find: shared memory, vectors, atomics, functions of numbers."""

import math

import numpy as np
import pytest

from minidl import emulator

SOURCE = r"""
extern __shared__ __align__(16) double outside[];
template <typename V> __device__ V twice(V x) { return x + x; }
__constant__ float table[3] = {1, 2, 4};
__device__ __noinline__ int noinline(int x) { return x + 1; }

extern "C" __global__ void fresh(double* out) {  // shared memory as a block finds it, then changes it
    __shared__ float one[4][8];
    __shared__ int two, three[3];
    extern __shared__ float inside[];
    float* own = out == nullptr ? nullptr : &one[threadIdx.x / 8][threadIdx.x % 8];
    int i = threadIdx.x;
    out[i] = *own, out[32 + i] = two, out[64 + i] = three[i % 3];
    out[96 + i] = inside[i], out[128 + i] = outside[i / 2];
    __syncthreads();
    *own = two = three[i % 3] = inside[i] = 7;
}
extern "C" __global__ void rows(float* out) {  // the same dynamic memory by three names and types
    extern __shared__ __align__(16) unsigned char raw[];
    float* numbers = reinterpret_cast<float*>(raw);
    float4* vectors = reinterpret_cast<float4*>(outside);
    numbers[threadIdx.x] = threadIdx.x;
    __syncthreads();
    float4 v = vectors[threadIdx.x / 4];
    out[threadIdx.x] = v.x + v.y + v.z + v.w;
}
extern "C" __global__ void vectors(float* out) {
    float4 a = make_float4(1, 2, 3, 4);
    float2 b = make_float2(5, 6);
    uint4 c = make_uint4(7, 8, 9, 10);
    int2 d = {11, 12};
    double2 e = make_double2(13, 14);
    dim3 f(2, 3);
    out[0] = a.x + a.w + b.y + c.z + d.y + e.x + f.z, out[1] = sizeof(float4) + alignof(float2), out[2] = table[2];
    out[3] = twice(noinline(2)), out[4] = warpSize, out[5] = f.x;
    alignas(16) float four[4];
    *reinterpret_cast<float4*>(four) = a;
    out[6] = four[1];
    out[7] = SWITCH;
#ifdef MINIDL_EMULATED
    out[8] = MINIDL_EMULATED;
#endif
}
extern "C" __global__ void atomics(int* i, unsigned* u, unsigned long long* l, float* f, double* d) {
    int t = threadIdx.x + blockIdx.x * blockDim.x;
    atomicAdd(&i[0], 1), atomicSub(&i[1], t), atomicMax(&i[2], t), atomicMin(&i[3], -t), atomicCAS(&i[4], t, t + 1);
    atomicAnd(&u[0], ~(1u << t % 32)), atomicOr(&u[1], 1u << t % 32), atomicXor(&u[2], t), atomicInc(&u[3], 9);
    atomicExch(&u[4], 5), atomicDec(&u[5], 3);
    atomicAdd(&l[0], 1ull << 40), atomicMax(&l[1], (unsigned long long)t);
    atomicAdd(f, 0.5f), atomicAdd(d, 0.25);
    __threadfence();
}
extern "C" __global__ void numbers(double* out, float x, double y, int n, unsigned u) {
    int k = 0;
    double all[] = {
        sqrt(x), rsqrtf(x), rsqrt(y), fmaf(x, x, 1), fma(y, y, 1.0), fminf(x, NAN), fmax(y, double(NAN)), tanhf(x),
        exp(y), min(n, 3u), max(n, 7L), min(x, 2.0), max(2.0f, NAN), abs(-n), abs(-x), fabs(-y), pow(x, 2), pow(y,
        0.5), exp2f(x), __expf(x), __logf(x), __powf(x, 2), __sinf(x), __fdividef(x, 2), __saturatef(x), __ldg(&y),
        erff(x), normcdf(y), sinpi(y), cospif(x), rint(2.5), floorf(-x), copysignf(x, -1.0f), log1p(x), expm1f(x),
        cbrtf(x), hypot(x, 1.0f), isnan(x), isnan(NAN), isinf(1 / 0.0f), isfinite(y), isfinite(-INFINITY),
        signbit(-0.0f) != 0, __umulhi(u, u), __mulhi(n, -(1 << 30)), double(__umul64hi(1ull << 63, 6)), __popc(u),
        __clz(n), __clz(0), __ffs(n), __ffs(0), __brev(1), __popcll(~0ull), __clzll(1), __float_as_int(x),
        __float_as_uint(-x), __int_as_float(0x40000000), double(__double_as_longlong(y)), __longlong_as_double(1ll <<
        62), __hiloint2double(0x3ff00000, 0), __float2int_rn(2.5f), __float2int_rz(-x), __float2int_rd(-x),
        __funnelshift_l(1u << 31, 1, 1), __fadd_rn(x, 1),
    };
    for (double value : all) out[k++] = value;
}
extern "C" __global__ void rounding(float* out, float a, float b, float c) {
    out[0] = __fadd_rn(__fmul_rn(a, b), c);  // a product that was rounded before the sum
    out[1] = fmaf(a, b, c);
}
extern "C" __global__ void speak(int n) {
    if (threadIdx.x == n) printf("I am %d of %s\n", threadIdx.x, "many");
}
extern "C" __global__ void slip(float* out, int by) {
    __shared__ float kept[2][16];
    kept[0][int(threadIdx.x) + by] = 1;
    __syncthreads();
    out[threadIdx.x] = kept[0][threadIdx.x];
}
extern "C" __global__ void slip_further(float* out, int by) {
    extern __shared__ float inside[];
    inside[threadIdx.x + by] = 1;
    __syncthreads();
    out[threadIdx.x] = inside[threadIdx.x];
}
extern "C" __global__ void unrolled(float* out, int by) {
    float local[16];
    #pragma unroll
    for (int i = 0; i < 16; i++) local[i] = i;
    #pragma unroll 4
    for (int i = 0; i < 16; i++) out[i] = local[i + by];
}
"""
MODULE = emulator.RawModule(
    code=SOURCE, options=("-DSWITCH=3", "-USWITCH", "-DSWITCH=1+1", "--use_fast_math", "-arch=sm_90")
)
F32, I32 = np.float32, np.int32


@pytest.mark.parametrize("threads", [1, 2])
def test_shared_memory_begins_as_nan(threads):
    out = np.zeros((5, 32))
    with emulator.threads(threads):
        MODULE.get_function("fresh")((300,), (32,), (out,), shared_mem=128)
    assert np.isnan(out[[0, 3, 4]]).all()
    assert (out[[1, 2]] == -1).all()


def test_dynamic_shared_memory_has_many_names():
    out = np.zeros(32, F32)
    MODULE.get_function("rows")((2,), (32,), (out,), shared_mem=128)
    np.testing.assert_array_equal(out, np.arange(32).reshape(8, 4).sum(1).repeat(4))


def test_vectors_and_words():
    out = np.zeros(9, F32)
    MODULE.get_function("vectors")((1,), (1,), (out,))
    assert out.tolist() == [1 + 4 + 6 + 9 + 12 + 13 + 1, 24, 4, 6, 32, 2, 2, 2, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_atomics(threads):
    i, u = np.zeros(5, I32), np.array([2**32 - 1, 0, 0, 0, 0, 2], np.uint32)
    long, f, d = np.zeros(2, np.uint64), np.zeros(1, F32), np.zeros(1)
    with emulator.threads(threads):
        MODULE.get_function("atomics")((64,), (128,), (i, u, long, f, d))
    n = 64 * 128
    assert i.tolist() == [n, -n * (n - 1) // 2, n - 1, 1 - n, i[4]]
    assert i[4] > 0
    assert u.tolist() == [0, 2**32 - 1, 0, n % 10, 5, (2 - n) % 4]
    assert long.tolist() == [n << 40, n - 1]
    assert (f[0], d[0]) == (n / 2, n / 4)


def test_functions_of_numbers():
    x, y, n, u = 1.25, 2.75, 5, 0x80000001
    out = np.full(80, np.nan)
    MODULE.get_function("numbers")((1,), (1,), (out, F32(x), y, I32(n), np.uint32(u)))
    bits = int(np.array([x], F32).view(I32)[0])
    expected = [
        *(x**0.5, x**-0.5, y**-0.5, x * x + 1, y * y + 1, x, y, math.tanh(x), math.exp(y)),
        *(3, 7, x, 2, n, x, y, x * x, y**0.5, 2**x),
        *(math.exp(x), math.log(x), x * x, math.sin(x), x / 2, 1, y, math.erf(x), 0.5 * (1 + math.erf(y / 2**0.5))),
        *(math.sin(math.pi * y), math.cos(math.pi * x), 2, -2, -x, math.log1p(x), math.expm1(x), x ** (1 / 3)),
        *(math.hypot(x, 1), 0, 1, 1, 1, 0, 1),
        *(u * u >> 32, n * -(1 << 30) >> 32, 3, 2, 29, 32, 1, 0, 2**31, 64, 63, bits, bits + 2**31, 2),
        *(int(np.array([y]).view(np.int64)[0]), 2, 1, 2, -1, -2, 3, x + 1),
    ]
    np.testing.assert_allclose(out[: len(expected)], expected, rtol=1e-6)
    assert np.isnan(out[len(expected) :]).all()


def test_products_that_are_rounded_by_themselves():
    a = F32(1 + 2**-12)
    out = np.zeros(2, F32)
    MODULE.get_function("rounding")((1,), (1,), (out, a, a, F32(-1 - 2**-11)))
    assert out.tolist() == [0, 2**-24]


def test_printf(capfd):
    MODULE.get_function("speak")((1,), (64,), (I32(40),))
    assert capfd.readouterr().out == "I am 40 of many\n"


def test_who_writes_outside_of_shared_memory_is_told():
    out = np.zeros(16, F32)
    MODULE.get_function("slip")((1,), (16,), (out, I32(0)))
    MODULE.get_function("slip_further")((1,), (16,), (out, I32(0)), shared_mem=64)
    assert (out == 1).all()
    for by in (-150, 150):
        with pytest.raises(RuntimeError, match=r"slip: a thread has written outside of the __shared__ arrays \[block"):
            MODULE.get_function("slip")((1,), (16,), (out, I32(by)))
    with pytest.raises(RuntimeError, match=r"slip_further: a thread has written beyond the dynamic shared memory"):
        MODULE.get_function("slip_further")((1,), (16,), (out, I32(1)), shared_mem=64)


def test_the_bounds_of_arrays():
    module = emulator.RawModule(code=SOURCE, options=("-DSWITCH=1", "-fsanitize=bounds"))
    out = np.zeros(16, F32)
    module.get_function("slip")((1,), (16,), (out, I32(0)))
    line = next(i for i, text in enumerate(SOURCE.splitlines(), 1) if "kept[0][int(threadIdx.x) + by]" in text)
    with pytest.raises(RuntimeError, match=rf"slip: kernel.cu:{line}: an index is out of the bounds .*\(15, 0, 0\)"):
        module.get_function("slip")((1,), (16,), (out, I32(1)))
    module.get_function("unrolled")((1,), (1,), (out, I32(0)))
    assert out.tolist() == list(range(16))
    for by in (-1, 1):
        with pytest.raises(RuntimeError, match="unrolled: .* an index is out of the bounds"):
            module.get_function("unrolled")((1,), (1,), (out, I32(by)))
