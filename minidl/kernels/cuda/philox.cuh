// Random numbers without a state: the generator Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers:
// as easy as 1, 2, 3" (2011). It scrambles a counter with a key, so any of the numbers can be computed at any time.
#pragma once
#include "common.cuh"

struct Words {
    unsigned word[4];
};

// Return four random words of 32 bits for a counter of four words. In each of ten rounds, two of the words are
// multiplied by constants; the upper halves of the products, with the other words and the key, and the lower halves
// change places.
__device__ inline Words philox(Words counter, unsigned long long key) {
    unsigned *c = counter.word, low_key = unsigned(key), high_key = unsigned(key >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned long long a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
        unsigned mixed0 = unsigned(b >> 32) ^ c[1] ^ low_key, mixed2 = unsigned(a >> 32) ^ c[3] ^ high_key;
        c[0] = mixed0, c[1] = unsigned(b), c[2] = mixed2, c[3] = unsigned(a);
        low_key += 0x9E3779B9u;
        high_key += 0xBB67AE85u;
    }
    return counter;
}

// Return two independent normal numbers, made of two random words by the method of Box and Muller: a point in the plane
// whose two coordinates are normal has an even distribution of angles, and of exp(−radius²/2).
__device__ inline void normal_pair(unsigned x, unsigned y, float& first, float& second) {
    float even = fmaf(float(x), 0x1p-32f, 0x1p-33f);  // in (0, 1]
    float radius = sqrtf(-2 * logf(even)), half_turns = float(y) * 0x1p-31f;
    first = radius * cospif(half_turns);
    second = radius * sinpif(half_turns);
}
