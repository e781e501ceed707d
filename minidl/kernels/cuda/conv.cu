// Convolution of images, channels last, and its gradients, each a product of matrices (tile.cuh) that is never written
// out: what a block copies to shared memory it picks from the images where it needs it.
//
//                      rows                  columns    depth
//     forward          pixels of y           filters    row, column, channel of a window   y = windows of x · w + b
//     input_gradient   pixels of x           channels   row, column, filter of a window    gx = windows of g · turned w
//     weight_gradient  row, column, channel  filters    pixels of y                        gw = (windows of x)ᵀ · g
//
// x (N, H, W, C), w (kh, kw, C, K), y and g (N, oh, ow, K). One block makes one tile; blocks are numbered tile by tile
// of the columns, then of the rows, then of what is left (phases, parts).
#include "tile.cuh"

// Vectors of 16 bytes can only be copied as they lie; single numbers can be laid as it suits the reading.
constexpr bool ALONG = VECTOR > 1;

constexpr int OUTSIDE = -(1 << 30);  // a row or column that no image has

// Images, and windows in them: window (p, q) of image n begins at pixel (p · sh − top, q · sw − left), which may lie
// outside. What lies outside counts as 0.
struct Windows {
    const T* images;
    int height, width, channels;
    int rows, columns;  // how many windows there are, down and across
    int kh, kw;         // pixels of a window
    int sh, sw, top, left;
};

// The windows as A: a row is a window, numbered (n, p, q), the depth is (i, j, channel) in it.
struct WindowRows {
    using Shape = Slice<ROWS, ALONG>;
    static constexpr int EACH = Shape::LINES_EACH;

    const T* images;
    int height, width, channels, kh;
    Walk depth;
    int start[EACH], y[EACH], x[EACH];  // of each window: where it begins, in memory and in the image

    __device__ WindowRows(const Windows& w, int row, int rows)
        : images(w.images), height(w.height), width(w.width), channels(w.channels), kh(w.kh),
          depth(Shape::depth(0), Shape::DEPTH_STEP, w.kw, w.channels) {
        Walk window(row + Shape::line(0), Shape::STEP, w.rows, w.columns);  // its image, row, column
        for (int l = 0; l < EACH; ++l) {
            y[l] = window.b * w.sh - w.top;
            x[l] = window.c * w.sw - w.left;
            start[l] = ((window.a * height + y[l]) * width + x[l]) * channels;
            if (row + Shape::line(l) >= rows) y[l] = OUTSIDE;  // a row below the matrix lies outside all images
            window.advance();
        }
    }

    __device__ __forceinline__ void copy(T* slice) {
        for (int d = 0; d < Shape::DEPTHS_EACH; ++d) {
            const int offset = (depth.a * width + depth.b) * channels + depth.c;
            for (int l = 0; l < EACH; ++l) {
                const bool inside = depth.a < kh && unsigned(y[l] + depth.a) < unsigned(height)
                                    && unsigned(x[l] + depth.b) < unsigned(width);
                T* const to = slice + Shape::place(Shape::line(l), Shape::depth(d));
                start_copy<VECTOR>(to, images + start[l] + offset, inside);
            }
            depth.advance();
        }
    }
};

// The windows, transposed, as A: a row is (i, j, channel), the depth is the number of the window (n, p, q).
struct WindowColumns {
    using Shape = Slice<ROWS, false>;

    const T* images;
    int height, width, channels;
    Walk window;
    int left_to_do;             // windows up to the end of this block's part
    int sh, sw, y, x, channel;  // of this thread's row: its pixel in window (0, 0), and its channel

    __device__ WindowColumns(const Windows& w, int row, int rows, int begin, int end)
        : images(w.images), height(w.height), width(w.width), channels(w.channels),
          window(begin + Shape::depth(0), Shape::DEPTH_STEP, w.rows, w.columns),
          left_to_do(end - begin - Shape::depth(0)), sh(w.sh), sw(w.sw) {
        row += Shape::line(0);
        channel = row % channels;
        x = row / channels % w.kw - w.left;
        y = row < rows ? row / channels / w.kw - w.top : OUTSIDE;
    }

    __device__ __forceinline__ void copy(T* slice) {
        for (int d = 0; d < Shape::DEPTHS_EACH; ++d) {
            const int i = window.b * sh + y, j = window.c * sw + x;
            const bool inside = left_to_do > 0 && unsigned(i) < unsigned(height) && unsigned(j) < unsigned(width);
            const T* from = images + ((window.a * height + i) * width + j) * channels + channel;
            start_copy<VECTOR>(slice + Shape::place(Shape::line(0), Shape::depth(d)), from, inside);
            window.advance();
            left_to_do -= Shape::DEPTH_STEP;
        }
    }
};

// Every stride-th row and column of the filters, turned by 180°, as B: a column is a channel, the depth (i, j, filter).
struct TurnedFilters {
    using Shape = Slice<COLUMNS, ALONG>;

    const T* at;  // at the last row and column of these, this thread's first channel
    int filters, down, channels_left;
    int row_step, column_step;
    Walk depth;

    __device__ TurnedFilters(const T* last, int column, int channels, int filters, int down, int across, int row_step,
                             int column_step)
        : filters(filters), down(down), row_step(row_step), column_step(column_step),
          depth(Shape::depth(0), Shape::DEPTH_STEP, across, filters) {
        const int channel = column + Shape::line(0);
        at = last + channel * filters;
        channels_left = channels - channel;
    }

    __device__ __forceinline__ void copy(T* slice) {
        for (int d = 0; d < Shape::DEPTHS_EACH; ++d) {
            const T* from = at - depth.a * row_step - depth.b * column_step + depth.c;
            for (int l = 0; l < Shape::LINES_EACH; ++l) {
                const bool there = depth.a < down && l * Shape::STEP < channels_left;
                T* const to = slice + Shape::place(Shape::line(l), Shape::depth(d));
                start_copy<VECTOR>(to, from + l * Shape::STEP * filters, there);
            }
            depth.advance();
        }
    }
};

// ---------------------------------------------------------------- y = conv(x, w) + b

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
forward(const T* x, const T* w, const T* b, T* y, int count, int height, int width, int channels, int oh, int ow,
        int filters, int kh, int kw, int sh, int sw, int top, int left) {
    const int rows = count * oh * ow, depth = kh * kw * channels;
    const int across = blocks_of(filters, COLUMNS);
    const int row = blockIdx.x / across * ROWS, column = blockIdx.x % across * COLUMNS;

    WindowRows windows({x, height, width, channels, oh, ow, kh, kw, sh, sw, top, left}, row, rows);
    Matrix<Slice<COLUMNS, false>> matrix(w, column, filters, 0, depth, 1, filters);
    Sums sums = {};
    multiply(windows, matrix, blocks_of(depth, DEPTH), sums);
    store<WindowRows::Shape, decltype(matrix)::Shape>(
        sums, row, column, rows, filters, b, [&](int r) { return y + r * filters; });
}

// ---------------------------------------------------------------- the gradient with respect to x
//
// Rows of x with the same remainder of (row + top) / sh meet the same rows of the filters, every sh-th, and no others.
// So a strided convolution falls apart into sh · sw of stride 1, the phases: one for each remainder down and across.
// The gradient of such a one is again a convolution: of g with its part of the filters, turned by 180° and with
// channels and filters exchanged; the padding is what is left of a full window. There are no zeros between the pixels
// of g to multiply with. A phase that meets no row or no column of the filters gets gradient 0.

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
input_gradient(const T* g, const T* w, T* gx, int count, int height, int width, int channels, int oh, int ow,
               int filters, int kh, int kw, int sh, int sw, int top, int left) {
    const int across = blocks_of(channels, COLUMNS);
    const int down = blocks_of(count * blocks_of(height, sh) * blocks_of(width, sw), ROWS);  // of the largest phase
    const int phase = blockIdx.x / across / down;
    const int row = blockIdx.x / across % down * ROWS, column = blockIdx.x % across * COLUMNS;

    const int phases_across = min(sw, width);
    const int p = phase / phases_across, q = phase % phases_across;  // the first pixel of the phase
    const int rows_of_x = blocks_of(height - p, sh), columns_of_x = blocks_of(width - q, sw);
    const int rows = count * rows_of_x * columns_of_x;
    if (row >= rows) return;

    const int i = (p + top) % sh, j = (q + left) % sw;               // the first row and column of the filters
    const int taps_down = blocks_of(kh - i, sh), taps_across = blocks_of(kw - j, sw);  // 0 where i ≥ kh or j ≥ kw
    const int above = taps_down - 1 - (p + top) / sh, before = taps_across - 1 - (q + left) / sw;  // the padding
    const T* last = w + ((i + (taps_down - 1) * sh) * kw + j + (taps_across - 1) * sw) * channels * filters;
    const int width_of_taps = max(taps_across, 1);  // a divisor, also where nothing is divided

    WindowRows windows({g, oh, ow, filters, rows_of_x, columns_of_x, taps_down, width_of_taps, 1, 1, above, before},
                       row, rows);
    TurnedFilters turned(last, column, channels, filters, taps_down, width_of_taps,
                         sh * kw * channels * filters, sw * channels * filters);
    Sums sums = {};
    multiply(windows, turned, blocks_of(taps_down * taps_across * filters, DEPTH), sums);
    store<WindowRows::Shape, TurnedFilters::Shape>(sums, row, column, rows, channels, nullptr, [&](int r) {
        if (sh == 1 && sw == 1) return gx + r * channels;
        const int t = r % columns_of_x, s = r / columns_of_x % rows_of_x, n = r / columns_of_x / rows_of_x;
        return gx + ((n * height + p + s * sh) * width + q + t * sw) * channels;
    });
}

// ---------------------------------------------------------------- the gradient with respect to w
//
// There are few rows and columns, and the depth is long: all pixels of a batch. So it is cut into parts of `length`
// pixels, and each block sums over one. The sums of the parts are added up afterwards (sums.cu), always in the same
// order.

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
weight_gradient(const T* x, const T* g, T* parts, int length, int count, int height, int width, int channels, int oh,
                int ow, int filters, int kh, int kw, int sh, int sw, int top, int left) {
    const int rows = kh * kw * channels;
    const int across = blocks_of(filters, COLUMNS), down = blocks_of(rows, ROWS);
    const int part = blockIdx.x / across / down;
    const int row = blockIdx.x / across % down * ROWS, column = blockIdx.x % across * COLUMNS;
    const int begin = part * length, end = min(begin + length, count * oh * ow);

    WindowColumns windows({x, height, width, channels, oh, ow, kh, kw, sh, sw, top, left}, row, rows, begin, end);
    Matrix<Slice<COLUMNS, false>> matrix(g, column, filters, begin, end, 1, filters);
    Sums sums = {};
    multiply(windows, matrix, blocks_of(end - begin, DEPTH), sums);
    store<WindowColumns::Shape, decltype(matrix)::Shape>(
        sums, row, column, rows, filters, nullptr, [&](int r) { return parts + (part * rows + r) * filters; });
}
