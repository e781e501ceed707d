// Batch normalization of x, seen as rows of C channels: all pixels of all images, or samples with features.
//
//   y = γ (x − μ) / √(σ² + ε) + β     with the mean μ and the biased variance σ² of each channel;  max(0, y) with `relu`
//
// Forward:   `moments`              each block reduces some rows, for each of its channels, to a mean and a variance;
//            `statistics`           joins what the blocks have found, and prepares the three numbers of a channel for
//            `affine`               y = (x − center)·scale + shift.
// Backward, for the gradient g of y, in the same three steps:
//            `gradient_sums`        Σ g and Σ g·(x − center), in blocks;
//            `parameter_gradients`  joins them: ∂L/∂β = Σ g and ∂L/∂γ = Σ g·x̂ with x̂ = (x − μ)/√(σ² + ε);
//            `input_gradient`       ∂L/∂x = scale·(g − mean(g) − x̂·mean(g·x̂)).
// With constant statistics, in evaluation, `running_statistics` takes the place of the first two, and ∂L/∂x = scale·g.
//
// Digits: where the mean is much larger than the deviation, E[x²] − E[x]² and x·scale − μ·scale would cancel. So all
// sums are of differences from a value near by, and the mean is two numbers, center + rest: the center is what T holds
// of it, so that x − center is exact or nearly so, and the rest goes into the shift. What belongs to a channel is
// computed in double, and so is what joins the sums.
//
// All sums are joined in a fixed order: the same x gives the same bits.
#include "channels.cuh"

constexpr int BATCH = 8;  // values that a thread has asked the memory for before it uses the first
constexpr int ROWS = 4;   // rows of a thread where nothing is summed

// The numbers of a channel, as rows of an array (…, C): of T, which `affine` and its derivative use, …
enum { CENTER, SCALE, SHIFT };
// … of T, for the input's gradient scale·(g − (x − center)·slope − offset) …
enum { SLOPE, OFFSET };
// … and of double.
enum { REST, INVERSE_DEVIATION };

__device__ __forceinline__ int channel_of_thread() { return blockIdx.y * blockDim.x + threadIdx.x; }

// Join the values of the threads of each column of a block: afterwards its topmost thread has the result. Each round
// the lower half of what is left is joined to the upper.
template <typename V, typename Join> __device__ __forceinline__ V joined(V own, Join join) {
    __shared__ V values[THREADS];
    const int at = threadIdx.y * blockDim.x + threadIdx.x;
    values[at] = own;
    for (unsigned height = blockDim.y; height > 1;) {
        const unsigned half = (height + 1) / 2;
        __syncthreads();
        if (threadIdx.y + half < height) values[at] = join(values[at], values[at + half * blockDim.x]);
        height = half;
    }
    return values[at];
}

// ---------------------------------------------------------------- mean and variance

// What is known of some values: how many they are, their mean, and Σ (x − mean)².
struct Moments {
    double count, mean, squares;
};

// Both together (Chan, Golub and LeVeque 1979).
__device__ __forceinline__ Moments both(Moments a, Moments b) {
    const double count = a.count + b.count, share = count > 0 ? b.count / count : 0, apart = b.mean - a.mean;
    return {count, a.mean + apart * share, a.squares + b.squares + apart * apart * a.count * share};
}

// Those of up to BATCH values of a channel, the one in `row` and further ones each blockDim.y rows below.
//
// The first of them stands in for the mean. Being one of them it cannot be so far from it that the correction at the
// end would cancel more than three bits.
__device__ __forceinline__ Moments moments_of_batch(const T* x, unsigned row, unsigned end, int channels, int channel) {
    T values[BATCH];
    int count = 0;
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
        const unsigned at = row + i * blockDim.y;
        values[i] = values[0];
        if (at < end) {
            values[i] = x[at * channels + channel];
            ++count;
        }
    }
    T sum = 0, squares = 0;
#pragma unroll
    for (int i = 1; i < BATCH; ++i) {
        const T d = values[i] - values[0];  // 0 where there is no value
        sum += d;
        squares = fma(d, d, squares);
    }
    const double mean = double(sum) / count;
    return {double(count), values[0] + mean, squares - sum * mean};
}

// partial (blocks, 2, C): the means and Σ (x − mean)² of each block's rows.
extern "C" __global__ void __launch_bounds__(THREADS)
moments(const T* __restrict__ x, double* __restrict__ partial, int rows, int channels, int rows_of_block) {
    const int channel = channel_of_thread();
    const unsigned begin = blockIdx.x * rows_of_block, end = min(unsigned(rows), begin + rows_of_block);
    Moments found = {0, 0, 0};
    if (channel < channels)
        for (unsigned row = begin + threadIdx.y; row < end; row += BATCH * blockDim.y)
            found = both(found, moments_of_batch(x, row, end, channels, channel));
    found = joined(found, both);
    if (threadIdx.y == 0 && channel < channels) {
        partial[2 * blockIdx.x * channels + channel] = found.mean;
        partial[(2 * blockIdx.x + 1) * channels + channel] = found.squares;
    }
}

// Write what the other kernels need to know of a channel.
__device__ __forceinline__ void prepare(int channel, int channels, double mean, double variance, T gamma, T beta,
                                        T eps, T* numbers, double* exact) {
    const T center = mean;
    const double rest = mean - center, inverse_deviation = 1 / sqrt(variance + eps), scale = gamma * inverse_deviation;
    numbers[CENTER * channels + channel] = center;
    numbers[SCALE * channels + channel] = scale;
    numbers[SHIFT * channels + channel] = beta - rest * scale;
    exact[REST * channels + channel] = rest;
    exact[INVERSE_DEVIATION * channels + channel] = inverse_deviation;
}

extern "C" __global__ void __launch_bounds__(THREADS)
statistics(const double* __restrict__ partial, const T* __restrict__ gamma, const T* __restrict__ beta,
           T* __restrict__ mean, T* __restrict__ variance, T* __restrict__ numbers, double* __restrict__ exact,
           T eps, int blocks, int rows, int channels, int rows_of_block) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    Moments found = {0, 0, 0};
    if (channel < channels)
#pragma unroll 4
        for (int i = threadIdx.y; i < blocks; i += blockDim.y) {
            const double count = min(rows_of_block, rows - i * rows_of_block);
            found = both(found, {count, partial[2 * i * channels + channel], partial[(2 * i + 1) * channels + channel]});
        }
    found = joined(found, both);
    if (threadIdx.y > 0 || channel >= channels) return;
    mean[channel] = found.mean;
    variance[channel] = found.squares / rows;
    prepare(channel, channels, found.mean, found.squares / rows, gamma[channel], beta[channel], eps, numbers, exact);
}

extern "C" __global__ void __launch_bounds__(THREADS)
running_statistics(const T* __restrict__ mean, const T* __restrict__ variance, const T* __restrict__ gamma,
                   const T* __restrict__ beta, T* __restrict__ numbers, double* __restrict__ exact, T eps,
                   int channels) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel < channels)
        prepare(channel, channels, mean[channel], variance[channel], gamma[channel], beta[channel], eps, numbers, exact);
}

// ---------------------------------------------------------------- forward

// (x − center)·scale + shift. The gradient computes it again, to the bit, instead of reading y to see where it is 0.
__device__ __forceinline__ T normalized(T x, T center, T scale, T shift) { return fma(x - center, scale, shift); }

// The gradient of that for the gradient g of y.
__device__ __forceinline__ T passed(T g, int relu, T x, T center, T scale, T shift) {
    return relu ? g * T(normalized(x, center, scale, shift) > 0) : g;
}

extern "C" __global__ void __launch_bounds__(THREADS)
affine(const T* __restrict__ x, const T* __restrict__ numbers, T* __restrict__ y, int relu, int rows, int packs) {
    const int pack = pack_of_thread();
    if (pack >= packs) return;
    const Pack<T> center = load(numbers, CENTER * packs + pack), scale = load(numbers, SCALE * packs + pack),
                  shift = load(numbers, SHIFT * packs + pack);
    const unsigned first = blockIdx.x * ROWS * blockDim.y + threadIdx.y;
    Pack<T> values[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const unsigned row = first + i * blockDim.y;
        if (row < rows) values[i] = load(x, row * packs + pack);
    }
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const unsigned row = first + i * blockDim.y;
        for (int k = 0; k < PACK; ++k) {
            const T value = normalized(values[i].at[k], center.at[k], scale.at[k], shift.at[k]);
            values[i].at[k] = relu && value <= 0 ? 0 : value;  // a NaN stays one
        }
        if (row < rows) store(y, row * packs + pack, values[i]);
    }
}

// ---------------------------------------------------------------- backward

// Σ g and Σ g·(x − center)
struct Sums {
    double g, gd;
};

__device__ __forceinline__ Sums sum(Sums a, Sums b) { return {a.g + b.g, a.gd + b.gd}; }

// partial (blocks, 2, C): both sums over each block's rows. A thread adds up BATCH rows in T, and these sums in double.
extern "C" __global__ void __launch_bounds__(THREADS)
gradient_sums(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ numbers,
              int relu, double* __restrict__ partial, int rows, int channels, int rows_of_block) {
    const int channel = channel_of_thread();
    const unsigned begin = blockIdx.x * rows_of_block, end = min(unsigned(rows), begin + rows_of_block);
    Sums found = {0, 0};
    if (channel < channels) {
        const T center = numbers[CENTER * channels + channel], scale = numbers[SCALE * channels + channel],
                shift = numbers[SHIFT * channels + channel];
        for (unsigned row = begin + threadIdx.y; row < end; row += BATCH * blockDim.y) {
            T gs[BATCH], xs[BATCH];
#pragma unroll
            for (int i = 0; i < BATCH; ++i) {
                const unsigned at = row + i * blockDim.y;
                gs[i] = at < end ? g[at * channels + channel] : 0;
                xs[i] = at < end ? x[at * channels + channel] : center;
            }
            T sum_g = 0, sum_gd = 0;
#pragma unroll
            for (int i = 0; i < BATCH; ++i) {
                const T gradient = passed(gs[i], relu, xs[i], center, scale, shift);
                sum_g += gradient;
                sum_gd = fma(gradient, xs[i] - center, sum_gd);
            }
            found = sum(found, {sum_g, sum_gd});
        }
    }
    found = joined(found, sum);
    if (threadIdx.y == 0 && channel < channels) {
        partial[2 * blockIdx.x * channels + channel] = found.g;
        partial[(2 * blockIdx.x + 1) * channels + channel] = found.gd;
    }
}

// ∂L/∂γ, ∂L/∂β, and slope and offset of the input's gradient.
extern "C" __global__ void __launch_bounds__(THREADS)
parameter_gradients(const double* __restrict__ partial, const double* __restrict__ exact, T* __restrict__ by_gamma,
                    T* __restrict__ by_beta, T* __restrict__ slopes, int blocks, int rows, int channels,
                    int /* rows_of_block */) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    Sums found = {0, 0};
    if (channel < channels)
#pragma unroll 4
        for (int i = threadIdx.y; i < blocks; i += blockDim.y)
            found = sum(found, {partial[2 * i * channels + channel], partial[(2 * i + 1) * channels + channel]});
    found = joined(found, sum);
    if (threadIdx.y > 0 || channel >= channels) return;
    const double rest = exact[REST * channels + channel];
    const double inverse_deviation = exact[INVERSE_DEVIATION * channels + channel];
    const double sum_g_x_hat = (found.gd - rest * found.g) * inverse_deviation;
    const double slope = sum_g_x_hat / rows * inverse_deviation;
    by_gamma[channel] = sum_g_x_hat;
    by_beta[channel] = found.g;
    slopes[SLOPE * channels + channel] = slope;
    slopes[OFFSET * channels + channel] = found.g / rows - rest * slope;
}

// scale·(g − (x − center)·slope − offset); without slopes, of constant statistics, scale·g.
extern "C" __global__ void __launch_bounds__(THREADS)
input_gradient(const T* __restrict__ g, const T* __restrict__ x, const T* __restrict__ numbers,
               const T* __restrict__ slopes, T* __restrict__ by_x, int relu, int rows, int packs) {
    const int pack = pack_of_thread();
    if (pack >= packs) return;
    const Pack<T> center = load(numbers, CENTER * packs + pack), scale = load(numbers, SCALE * packs + pack),
                  shift = load(numbers, SHIFT * packs + pack);
    Pack<T> slope = {}, offset = {};
    if (slopes) {
        slope = load(slopes, SLOPE * packs + pack);
        offset = load(slopes, OFFSET * packs + pack);
    }
    const unsigned first = blockIdx.x * ROWS * blockDim.y + threadIdx.y;
    Pack<T> gs[ROWS], xs[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const unsigned row = first + i * blockDim.y;
        if (row < rows) gs[i] = load(g, row * packs + pack);
        xs[i] = center;
        if (row < rows && (relu || slopes)) xs[i] = load(x, row * packs + pack);
    }
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const unsigned row = first + i * blockDim.y;
        for (int k = 0; k < PACK; ++k) {
            const T gradient = passed(gs[i].at[k], relu, xs[i].at[k], center.at[k], scale.at[k], shift.at[k]);
            const T mean = fma(xs[i].at[k] - center.at[k], slope.at[k], offset.at[k]);
            gs[i].at[k] = scale.at[k] * (gradient - mean);
        }
        if (row < rows) store(by_x, row * packs + pack, gs[i]);
    }
}
