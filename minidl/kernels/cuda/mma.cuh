// A product of small matrices on the tensor cores: C += A · B, A of 16 × 8 and B of 8 × 8, by the 32 threads of a warp.
//
// The factors are of TF32: of a float's 23 bits behind the point, 10. Their products are exact, the sums in float32.
//
// Who holds what, with lane = 4 · g + t, g in 0…7, t in 0…3:
//
//     A (16 × 8)   a[0] at (g, t)    a[1] at (g + 8, t)   a[2] at (g, t + 4)   a[3] at (g + 8, t + 4)
//     B (8 × 8)    b[0] at (t, g)    b[1] at (t + 4, g)
//     C (16 × 8)   c[0] at (g, 2t)   c[1] at (g, 2t + 1)  c[2] at (g + 8, 2t)  c[3] at (g + 8, 2t + 1)
#pragma once

// Return the nearest number of TF32, of two the one farther from zero, as the bits of a float.
__device__ __forceinline__ unsigned round_to_tf32(float x) {
#ifdef MINIDL_EMULATED
    const unsigned bits = __float_as_uint(x), magnitude = bits & 0x7fffffff;
    return magnitude >= 0x7f800000 ? bits : (bits + 0x1000) & ~0x1fffu;  // infinity and NaN stay
#else
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
#endif
}

// Add the product of A and B to C.
__device__ __forceinline__ void add_on_tensor_cores(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef MINIDL_EMULATED
    __shared__ float all_a[32][16][8], all_b[32][8][8];  // of each warp
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int i = 0; i < 4; ++i) all_a[warp][g + i % 2 * 8][t + i / 2 * 4] = __uint_as_float(a[i]);
    for (int i = 0; i < 2; ++i) all_b[warp][t + i * 4][g] = __uint_as_float(b[i]);
    __syncwarp();
    for (int i = 0; i < 4; ++i)
        for (int depth = 0; depth < 8; ++depth)
            c[i] += all_a[warp][g + i / 2 * 8][depth] * all_b[warp][depth][2 * t + i % 2];
    __syncwarp();
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
