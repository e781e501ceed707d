// Pooling of images x (N, H, W, C) over windows of kh × kw pixels, which begin at every sh-th row and sw-th column.
//
//   y(n, i, j, c) = max  x(n, i·sh + a, j·sw + b, c)    or their mean,    0 ≤ a < kh,  0 ≤ b < kw
//
// Windows may overlap (kh > sh) or leave gaps (kh < sh); pixels behind the last window lie in none.
//
// Forward, one thread makes one pixel of y (PACK channels of it): it walks over its window. Backward, one thread makes
// one pixel of the gradient: it walks over the windows that its pixel lies in and gathers what they give. Nobody else
// writes there, so no atomics are needed, and the sum has always the same order.
//
// Pixels are numbered through all images, row by row, and so are windows; places are numbered through a window.
#include "channels.cuh"

#ifndef WIDE
#define WIDE 0  // whether a window has more places than a byte can number
#endif
#if WIDE
typedef int Place;
#else
typedef unsigned char Place;
#endif
constexpr Place NOWHERE = Place(-1);

// How windows lie in an image: its height and width, windows down and across, their size and stride.
#define WINDOWS int height, int width, int down, int across, int kh, int kw, int sh, int sw

// The number of the pixel, window, or place of a window that a thread makes.
__device__ __forceinline__ unsigned number_of_thread() { return blockIdx.x * blockDim.y + threadIdx.y; }

// The first pixel of a window.
__device__ __forceinline__ int first_pixel(int window, WINDOWS) {
    const int j = window % across, row = window / across;
    const int i = row % down, n = row / down;
    return (n * height + i * sh) * width + j * sw;
}

// Call use(window, place) for each window that a pixel lies in, where the pixel has this place in the window.
template <typename Use> __device__ __forceinline__ void for_windows_of(int pixel, WINDOWS, Use use) {
    const int w = pixel % width, row = pixel / width;
    const int h = row % height, n = row / height;
    const int first_i = h < kh ? 0 : (h - kh) / sh + 1, last_i = min(h / sh, down - 1);
    const int first_j = w < kw ? 0 : (w - kw) / sw + 1, last_j = min(w / sw, across - 1);
    for (int i = first_i; i <= last_i; ++i)
        for (int j = first_j; j <= last_j; ++j)
            use((n * down + i) * across + j, (h - i * sh) * kw + (w - j * sw));
}

// ---------------------------------------------------------------- the largest value

// y, and which place of its window it comes from. Of equal values the first counts. In a window with a NaN, y is NaN
// and comes from nowhere.
extern "C" __global__ void __launch_bounds__(THREADS)
max_forward(const T* __restrict__ x, T* __restrict__ y, Place* __restrict__ places, int windows, int packs, WINDOWS) {
    const int pack = pack_of_thread();
    const unsigned window = number_of_thread();
    if (pack >= packs || window >= unsigned(windows)) return;
    const int first = first_pixel(window, height, width, down, across, kh, kw, sh, sw);
    Pack<T> largest = load(x, first * packs + pack);
    Pack<Place> place;
    for (int k = 0; k < PACK; ++k) place.at[k] = 0;
    for (int a = 0; a < kh; ++a)
        for (int b = 0; b < kw; ++b) {
            const Pack<T> value = load(x, (first + a * width + b) * packs + pack);
            for (int k = 0; k < PACK; ++k) {
                if (value.at[k] > largest.at[k]) {
                    largest.at[k] = value.at[k];
                    place.at[k] = a * kw + b;
                }
                if (isnan(value.at[k])) {  // nothing is larger than a NaN: it stays
                    largest.at[k] = value.at[k];
                    place.at[k] = NOWHERE;
                }
            }
        }
    store(y, window * packs + pack, largest);
    store(places, window * packs + pack, place);
}

// The gradient of each window goes to the place that its largest value came from.
extern "C" __global__ void __launch_bounds__(THREADS)
max_gradient(const T* __restrict__ g, T* __restrict__ by_x, const Place* __restrict__ places, int pixels, int packs,
             WINDOWS) {
    const int pack = pack_of_thread();
    const unsigned pixel = number_of_thread();
    if (pack >= packs || pixel >= unsigned(pixels)) return;
    Pack<T> sum = {};
    for_windows_of(pixel, height, width, down, across, kh, kw, sh, sw, [&](int window, int place) {
        const Pack<Place> chosen = load(places, window * packs + pack);
        const Pack<T> gradient = load(g, window * packs + pack);
        for (int k = 0; k < PACK; ++k)
            if (chosen.at[k] == place) sum.at[k] += gradient.at[k];
    });
    store(by_x, pixel * packs + pack, sum);
}

// ---------------------------------------------------------------- the mean

extern "C" __global__ void __launch_bounds__(THREADS)
average_forward(const T* __restrict__ x, T* __restrict__ y, int windows, int packs, WINDOWS) {
    const int pack = pack_of_thread();
    const unsigned window = number_of_thread();
    if (pack >= packs || window >= unsigned(windows)) return;
    const int first = first_pixel(window, height, width, down, across, kh, kw, sh, sw);
    Pack<T> sum = {};
    for (int a = 0; a < kh; ++a)
        for (int b = 0; b < kw; ++b) {
            const Pack<T> value = load(x, (first + a * width + b) * packs + pack);
            for (int k = 0; k < PACK; ++k) sum.at[k] += value.at[k];
        }
    for (int k = 0; k < PACK; ++k) sum.at[k] /= T(kh * kw);
    store(y, window * packs + pack, sum);
}

// Each place of a window gets an equal share of its gradient.
extern "C" __global__ void __launch_bounds__(THREADS)
average_gradient(const T* __restrict__ g, T* __restrict__ by_x, int pixels, int packs, WINDOWS) {
    const int pack = pack_of_thread();
    const unsigned pixel = number_of_thread();
    if (pack >= packs || pixel >= unsigned(pixels)) return;
    Pack<T> sum = {};
    for_windows_of(pixel, height, width, down, across, kh, kw, sh, sw, [&](int window, int) {
        const Pack<T> gradient = load(g, window * packs + pack);
        for (int k = 0; k < PACK; ++k) sum.at[k] += gradient.at[k];
    });
    for (int k = 0; k < PACK; ++k) sum.at[k] /= T(kh * kw);
    store(by_x, pixel * packs + pack, sum);
}

// ---------------------------------------------------------------- the windows themselves, (N, down, across, kh·kw, C)

extern "C" __global__ void __launch_bounds__(THREADS)
windows_forward(const T* __restrict__ x, T* __restrict__ y, int count, int packs, WINDOWS) {
    const int pack = pack_of_thread();
    const unsigned number = number_of_thread();
    if (pack >= packs || number >= unsigned(count)) return;
    const int place = number % (kh * kw), a = place / kw, b = place % kw;
    const int pixel = first_pixel(number / (kh * kw), height, width, down, across, kh, kw, sh, sw) + a * width + b;
    store(y, number * packs + pack, load(x, pixel * packs + pack));
}

extern "C" __global__ void __launch_bounds__(THREADS)
windows_gradient(const T* __restrict__ g, T* __restrict__ by_x, int pixels, int packs, WINDOWS) {
    const int pack = pack_of_thread();
    const unsigned pixel = number_of_thread();
    if (pack >= packs || pixel >= unsigned(pixels)) return;
    Pack<T> sum = {};
    for_windows_of(pixel, height, width, down, across, kh, kw, sh, sw, [&](int window, int place) {
        const Pack<T> gradient = load(g, (window * kh * kw + place) * packs + pack);
        for (int k = 0; k < PACK; ++k) sum.at[k] += gradient.at[k];
    });
    store(by_x, pixel * packs + pack, sum);
}
