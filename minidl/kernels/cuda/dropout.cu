// Dropout: y = x · b with independent coins b, and y = x · n with normal noise n. Neither is kept anywhere: the forward
// pass and the derivative compute them from the same key, which takes less time than to write and to read them.
//
// Thread t turns the counter t into four random words. The 32 threads of a warp have 128 neighbouring elements, and so
// that they read neighbouring ones at a time, word k of a thread is for the k-th 32 of them: element 128 w + 32 k + l for
// lane l of warp w. Which word decides an element does not depend on how the threads make up blocks.
#include "philox.cuh"

#ifndef THREADS
#define THREADS 256
#endif

__device__ Words random_words(unsigned long long key) {
    return philox({{blockIdx.x * blockDim.x + threadIdx.x, 0, 0, 0}}, key);
}

// Call f(i, k) for the thread's elements i, of which number k belongs to its word k.
template <typename F> __device__ __forceinline__ void for_elements(int size, F f) {
    unsigned thread = blockIdx.x * blockDim.x + threadIdx.x, first = thread / 32 * 128 + thread % 32;
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (unsigned i = first + 32 * k; i < unsigned(size)) f(i, k);
}

// An element is dropped if its word, one of 2³², is below p · 2³²: with p = 0 none is, and with p = 1 all are.
__device__ bool is_kept(unsigned word, unsigned long long threshold) { return word >= threshold; }

// y = scale · (x · b + saturation · (1 − b)) + shift
extern "C" __global__ void __launch_bounds__(THREADS)
drop(const T* __restrict__ x, unsigned long long threshold, unsigned long long key, const unsigned long long* key_at,
     T scale, T saturation, T shift, int size, T* __restrict__ y) {
    Words random = random_words(setting(key, key_at));
    for_elements(size, [&](unsigned i, int k) {
        T b = is_kept(random.word[k], threshold);
        y[i] = scale * (x[i] * b + saturation * (1 - b)) + shift;
    });
}

// The coins b themselves.
extern "C" __global__ void __launch_bounds__(THREADS)
coins(unsigned long long threshold, unsigned long long key, const unsigned long long* key_at, int size, bool* b) {
    Words random = random_words(setting(key, key_at));
    for_elements(size, [&](unsigned i, int k) { b[i] = is_kept(random.word[k], threshold); });
}

// y = x · (mu + sigma · n). The noise has the digits of float, also where T is double.
extern "C" __global__ void __launch_bounds__(THREADS)
multiply(const T* __restrict__ x, T mu, T sigma, unsigned long long key, const unsigned long long* key_at, int size,
         T* __restrict__ y) {
    Words random = random_words(setting(key, key_at));
    float n[4];
    normal_pair(random.word[0], random.word[1], n[0], n[1]);
    normal_pair(random.word[2], random.word[3], n[2], n[3]);
    for_elements(size, [&](unsigned i, int k) { y[i] = x[i] * (mu + sigma * T(n[k])); });
}
