// Residual smoothing: each value of a sample moves towards the mean of the others, by a share of its own.
//
//     r_j = d_j − M/(M−1) κ_j (d_j − μ),    κ_j = s / (1 + exp(−α d̃_j)),    d̃_j = (d_j − μ) / σ
//
// with the mean μ and the standard deviation σ of the M values of a sample. Memory is passed once: the threads of a row
// read a sample, find μ and σ together, and write the result. How many threads have a row, rows.py decides.
#include "rows.cuh"

// What the values of a row are seen against. With the first of them as the origin, equal values become exactly 0, where
// rounding of μ would leave some σ > 0.
struct Standardization {
    T share, first, mean, inverse_deviation;  // 1/M; the first value; μ minus that; and 1/σ, or 0 where σ is 0

    __device__ Standardization(const Row& row, const T* matrix, const Values& d) {
        share = T(1) / row.m;
        first = row.size ? row.of(matrix)[0] : T(0);
        mean = row.sum([&](int i, int j) { return d(i, j) - first; }) * share;
        T variance = row.sum([&](int i, int j) { return centered(d(i, j)) * centered(d(i, j)); }) * share;
        inverse_deviation = variance > 0 ? rsqrt(variance) : T(0);
    }

    __device__ T centered(T d) const { return d - first - mean; }  // d − μ
};

// κ/s. Where exp overflows it is 0, as it should be. Where the fast exp of float is a few digits less exact, for large
// |x|, κ/s is almost 0 or 1, and these digits do not count.
__device__ float sigmoid(float x) { return __fdividef(1, 1 + __expf(-x)); }
__device__ double sigmoid(double x) { return 1 / (1 + exp(-x)); }

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
forward(const T* __restrict__ d, T scale, const T* scale_at, T steepness, int n, int m, T* __restrict__ r) {
    Row row(n, m);
    Values x = row.read(d);
    Standardization of(row, d, x);
    T factor = setting(scale, scale_at) * m / (m - 1);
    row.write(r, [&](int i, int j) {
        T centered = of.centered(x(i, j));
        return x(i, j) - factor * sigmoid(steepness * (centered * of.inverse_deviation)) * centered;
    });
}

// With q = M/(M−1) κ g, the gradient with respect to d is, for a frozen κ, a constant of the step,
//
//     g − q + mean q.
//
// If derivatives see how κ depends on d, through d̃, μ and σ, they have besides, with b = α q (d − μ) (κ/s − 1), which is
// the gradient with respect to d̃,
//
//     (b − mean b − d̃ mean(b d̃)) / σ.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
gradient(const T* __restrict__ g, const T* __restrict__ d, T scale, const T* scale_at, T steepness, int frozen, int n,
         int m, T* __restrict__ by_d) {
    Row row(n, m);
    Values x = row.read(d, 0), by_r = row.read(g, 1);
    Standardization of(row, d, x);
    T factor = setting(scale, scale_at) * m / (m - 1);

    struct Terms {
        T normalized, q, b;
    };
    auto terms = [&](int i, int j) -> Terms {  // computed twice, which takes less time than to keep them
        T centered = of.centered(x(i, j)), normalized = centered * of.inverse_deviation;
        T share = sigmoid(steepness * normalized), q = factor * share * by_r(i, j);
        return {normalized, q, frozen ? T(0) : steepness * q * centered * (share - 1)};
    };
    T sum_q = 0, sum_b = 0, sum_bx = 0;
    row.each([&](int i, int j) {
        Terms t = terms(i, j);
        sum_q += t.q;
        sum_b += t.b;
        sum_bx += t.b * t.normalized;
    });
    T mean_q = row.total(sum_q) * of.share, mean_b = 0, mean_bx = 0;
    if (!frozen) {
        mean_b = row.total(sum_b) * of.share;
        mean_bx = row.total(sum_bx) * of.share;
    }
    row.write(by_d, [&](int i, int j) {
        Terms t = terms(i, j);
        return by_r(i, j) - t.q + mean_q + of.inverse_deviation * (t.b - mean_b - t.normalized * mean_bx);
    });
}
