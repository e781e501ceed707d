// Softmax and cross entropy of the rows of logits x (n, m), a row a sample.
//
//     L = −Σ_j q_j ln softmax(x)_j = ln Σ_j exp(x_j − max x) − Σ_j q_j (x_j − max x),    q = (1 − ε) p + ε / m
//
// where p is 1 at the label and 0 elsewhere, or the share of each class. The threads of a row read a sample and find the
// three sums together. With max x and the sum of the powers, which are kept, the gradient needs no sums:
//
//     ∂L/∂x_j = exp(x_j − max x) / Σ_k exp(x_k − max x) − q_j
#include "rows.cuh"

// q of a row. A label that is no class, and shares that are negative or not 1 in sum, give NaN.
struct Target {
    long long label;
    const T* shares;  // or null, if there is a label
    T certain, even;  // 1 − ε and ε / m; both NaN if the target is none

    // All threads of the block must take part.
    __device__ Target(const Row& row, const long long* labels, const T* shares_, T smoothing) {
        label = labels && row.size ? labels[row.index] : 0;
        shares = shares_ ? row.of(shares_) : nullptr;
        bool valid = 0 <= label && label < row.m;
        if (shares) {
            T sum = row.sum([&](int, int j) { return shares[j]; });
            T most_negative = row.max([&](int, int j) { return -shares[j]; });
            valid = fabs(sum - 1) <= T(1e-3) && most_negative <= 0;  // not with a NaN either
        }
        certain = valid ? 1 - smoothing : T(nan(""));
        even = valid ? smoothing / row.m : T(nan(""));
    }

    __device__ T operator()(int j) const { return certain * (shares ? shares[j] : T(j == label)) + even; }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
cross_entropy(const T* logits, const long long* labels, const T* shares, T smoothing, int n, int m, T* losses,
              T* largest, T* totals) {
    Row row(n, m);
    Values x = row.read(logits);
    Target q(row, labels, shares, smoothing);
    T top = row.max([&](int i, int j) { return x(i, j); });
    T total = row.sum([&](int i, int j) { return exp(x(i, j) - top); });
    T expected = row.sum([&](int i, int j) {
        T share = q(j);
        return share == 0 ? T(0) : share * (x(i, j) - top);  // 0 also of −∞
    });
    if (row.leads()) {
        losses[row.index] = log(total) - expected;
        largest[row.index] = top;
        totals[row.index] = total;
    }
}

// g has the gradient of each sample's loss, or a single number for all.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
cross_entropy_gradient(const T* g, int g_is_single, const T* logits, const long long* labels, const T* shares,
                       T smoothing, const T* largest, const T* totals, int n, int m, T* by_logits) {
    Row row(n, m);
    Values x = row.read(logits);
    Target q(row, labels, shares, smoothing);
    bool any = row.size > 0;
    T of_loss = any ? g[g_is_single ? 0 : row.index] : T(0), top = any ? largest[row.index] : T(0);
    T inverse_total = any ? 1 / totals[row.index] : T(0);
    row.write(by_logits, [&](int i, int j) { return of_loss * (exp(x(i, j) - top) * inverse_total - q(j)); });
}

// The targets q themselves. m is that of the matrix that is written.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
targets(const long long* labels, const T* shares, T smoothing, int n, int m, T* result) {
    Row row(n, m);
    Target q(row, labels, shares, smoothing);
    row.write(result, [&](int, int j) { return q(j); });
}
