// The product of two matrices in tiles: what convolutions (conv.cu) and products of matrices (gemm.cu) have in common.
//
//     C[row, column] = Σ_depth A[row, depth] · B[depth, column]
//
// A block of threads computes a tile of C, of ROWS × COLUMNS. It walks along the depth in steps of DEPTH: a slice of A,
// ROWS × DEPTH, and a slice of B, DEPTH × COLUMNS, are copied to shared memory, where every number is read by many
// threads. While a slice is computed with, the next ones are on their way: there is room for STAGES of them.
//
//          B ┌──┐                    A warp's 32 threads are 8 down and 4 across. Each of them keeps THREAD_ROWS ×
//            └──┘ DEPTH              THREAD_COLUMNS sums in registers; for each depth it reads so many numbers of A
//      A     COLUMNS                 and so many of B, and multiplies each with each (an outer product).
//     ┌──┐   ┌──┐
//     │  │   │C │ ROWS               With TF32, a warp does the same on the tensor cores (mma.cuh).
//     └──┘   └──┘
//     DEPTH
//
// Where the numbers of A and B come from is for the caller to say, in a class with a function `copy` that starts the
// copies of the next slice to a place in shared memory. For a convolution it gathers the windows of an image: no matrix
// of windows is ever written (implicit GEMM).
#pragma once

#include "copy.cuh"
#include "mma.cuh"

#ifndef ROWS
#define ROWS 64
#endif
#ifndef COLUMNS
#define COLUMNS 32
#endif
#ifndef DEPTH
#define DEPTH 16
#endif
#ifndef THREAD_ROWS
#define THREAD_ROWS 8
#endif
#ifndef THREAD_COLUMNS
#define THREAD_COLUMNS 4
#endif
#ifndef STAGES
#define STAGES 2
#endif
#ifndef VECTOR
#define VECTOR 1  // numbers that are copied as one: 4 where rows of matrices and pixels of images are multiples of 4
#endif
#ifndef REGISTERS
#define REGISTERS 168  // of a thread, at most
#endif
#ifndef TF32
#define TF32 0
#endif

constexpr int WIDTH = 16 / sizeof(T);  // numbers that a thread can read from shared memory at once
constexpr int LANES_DOWN = 8, LANES_ACROSS = 4;
constexpr int WARP_ROWS = LANES_DOWN * THREAD_ROWS, WARP_COLUMNS = LANES_ACROSS * THREAD_COLUMNS;
constexpr int WARPS_ACROSS = COLUMNS / WARP_COLUMNS;
constexpr int THREADS = 32 * (ROWS / WARP_ROWS) * WARPS_ACROSS;
constexpr int BLOCKS_AT_ONCE = 65536 / REGISTERS / THREADS;  // that a multiprocessor's registers suffice for

static_assert(ROWS % WARP_ROWS == 0 && COLUMNS % WARP_COLUMNS == 0, "a tile consists of whole warps");
static_assert(THREAD_ROWS % WIDTH == 0 && THREAD_COLUMNS % WIDTH == 0 && DEPTH % 8 == 0, "16 bytes are read at once");
static_assert(!TF32 || sizeof(T) == 4, "TF32 is a form of float32");

typedef T Sums[THREAD_ROWS][THREAD_COLUMNS];

// ---------------------------------------------------------------- slices in shared memory

// A slice of A or B in shared memory: LINES lines (rows of A or columns of B), DEPTH numbers each.
//
// ALONG says that a line's numbers lie side by side, as they do in memory; otherwise those of one depth do. The pitch
// is such that the threads of a warp read from different banks.
//
// The threads share the copying. Those with neighbouring numbers take neighbouring pieces of VECTOR numbers; a thread's
// own pieces lie STEP apart in the other direction.
template <int LINES, bool ALONG> struct Slice {
    static constexpr bool along = ALONG;
    static constexpr int PITCH = ALONG ? DEPTH + WIDTH : LINES + 2 * WIDTH;
    static constexpr int SIZE = (ALONG ? LINES : DEPTH) * PITCH;

    static constexpr int PIECES = (ALONG ? DEPTH : LINES) / VECTOR;
    static constexpr int STEP = THREADS / PIECES;
    static constexpr int LINES_EACH = ALONG ? LINES / STEP : 1;    // a thread copies for so many lines,
    static constexpr int DEPTHS_EACH = ALONG ? 1 : DEPTH / STEP;   // from so many depths,
    static constexpr int DEPTH_STEP = DEPTH / DEPTHS_EACH;         // so far apart
    static_assert(THREADS % PIECES == 0 && (ALONG ? LINES : DEPTH) % STEP == 0, "the threads share the pieces evenly");

    __device__ static int beside() { return threadIdx.x % PIECES * VECTOR; }
    __device__ static int below(int i) { return threadIdx.x / PIECES + i * STEP; }
    __device__ static int line(int i) { return ALONG ? below(i) : beside(); }
    __device__ static int depth(int i) { return ALONG ? beside() : below(i); }
    __device__ static int place(int line, int depth) { return ALONG ? line * PITCH + depth : depth * PITCH + line; }
};

// ---------------------------------------------------------------- which sums are whose

struct Lane {
    int row, column;    // where its warp begins in the tile
    int down, across;   // its place in the warp

    __device__ Lane() {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        row = warp / WARPS_ACROSS * WARP_ROWS;
        column = warp % WARPS_ACROSS * WARP_COLUMNS;
#if TF32
        down = lane / 4;  // g and t of mma.cuh
        across = lane % 4;
#else
        // Reads of 16 bytes are said to be served twice as fast if lanes want the same in pairs: 0 and 1, 2 and 3, …,
        // or 0 and 2, 1 and 3, … So bits 0 and 2 of a lane's number are its column, and bits 1, 3 and 4 its row.
        down = lane >> 1 & 1 | lane >> 2 & 6;
        across = lane & 1 | lane >> 1 & 2;
#endif
    }
};

// How many neighbouring lines a thread has. Where a line lies along the depth, it has single ones: then neighbouring
// threads read neighbouring lines.
template <class A> constexpr int ROW_GROUP = TF32 || A::along ? 1 : WIDTH;
template <class B> constexpr int COLUMN_GROUP = TF32 ? 2 : B::along ? 1 : WIDTH;

// Return a thread's i-th line, if LANES threads take turns, with GROUP lines each.
template <int LANES, int GROUP> __device__ __forceinline__ int spread(int lane, int i) {
    return i / GROUP * (LANES * GROUP) + lane * GROUP + i % GROUP;
}

// ---------------------------------------------------------------- computing

#if !TF32

// Add the product of two slices to the sums, WIDTH depths at a time: 16 bytes hold a line's numbers at so many depths,
// or so many lines' at one. A thread's numbers of A stay in registers meanwhile; those of B come and go.
template <class A, class B>
__device__ __forceinline__ void add_product(const T* a, const T* b, const Lane& lane, Sums& sums) {
    const auto row = [&](int m) { return lane.row + spread<LANES_DOWN, ROW_GROUP<A>>(lane.down, m); };
    const auto column = [&](int n) { return lane.column + spread<LANES_ACROSS, COLUMN_GROUP<B>>(lane.across, n); };
    const auto read = [](const T* from) { return *reinterpret_cast<const Piece<WIDTH>*>(from); };

#pragma unroll (B::along ? 1 : DEPTH / WIDTH)  // unrolled, it would take more registers than there are if B is along
    for (int depth = 0; depth < DEPTH; depth += WIDTH) {
        T of_a[WIDTH][THREAD_ROWS];
        for (int i = 0; i < (A::along ? THREAD_ROWS : WIDTH); ++i) {
            if constexpr (A::along) {
                const auto piece = read(a + A::place(row(i), depth));
                for (int k = 0; k < WIDTH; ++k) of_a[k][i] = piece.values[k];
            } else {
                for (int m = 0; m < THREAD_ROWS; m += WIDTH) {
                    const auto piece = read(a + A::place(row(m), depth + i));
                    for (int k = 0; k < WIDTH; ++k) of_a[i][m + k] = piece.values[k];
                }
            }
        }
        if constexpr (B::along) {
            for (int n = 0; n < THREAD_COLUMNS; ++n) {
                const auto piece = read(b + B::place(column(n), depth));
                for (int k = 0; k < WIDTH; ++k)
                    for (int m = 0; m < THREAD_ROWS; ++m) sums[m][n] += of_a[k][m] * piece.values[k];
            }
        } else {
            for (int i = 0; i < WIDTH; ++i)
                for (int n = 0; n < THREAD_COLUMNS; n += WIDTH) {
                    const auto piece = read(b + B::place(column(n), depth + i));
                    for (int k = 0; k < WIDTH; ++k)
                        for (int m = 0; m < THREAD_ROWS; ++m) sums[m][n + k] += of_a[i][m] * piece.values[k];
                }
        }
    }
}

#else

// The same on the tensor cores, 16 rows × 8 columns × 8 depths at a time. Rows m and m + 1 of a thread are rows g and
// g + 8 of such a product, columns n and n + 1 are columns 2t and 2t + 1.
template <class A, class B>
__device__ __forceinline__ void add_product(const T* a, const T* b, const Lane& lane, Sums& sums) {
    const int g = lane.down, t = lane.across;
#pragma unroll
    for (int depth = 0; depth < DEPTH; depth += 8) {
        unsigned rows[THREAD_ROWS / 2][4], columns[THREAD_COLUMNS / 2][2];
        for (int m = 0; m < THREAD_ROWS / 2; ++m)
            for (int i = 0; i < 4; ++i)
                rows[m][i] = round_to_tf32(a[A::place(lane.row + 16 * m + g + i % 2 * 8, depth + t + i / 2 * 4)]);
        for (int n = 0; n < THREAD_COLUMNS / 2; ++n)
            for (int i = 0; i < 2; ++i)
                columns[n][i] = round_to_tf32(b[B::place(lane.column + 8 * n + g, depth + t + i * 4)]);
        for (int m = 0; m < THREAD_ROWS; m += 2)
            for (int n = 0; n < THREAD_COLUMNS; n += 2) {
                float c[4] = {sums[m][n], sums[m][n + 1], sums[m + 1][n], sums[m + 1][n + 1]};
                add_on_tensor_cores(c, rows[m / 2], columns[n / 2]);
                sums[m][n] = c[0], sums[m][n + 1] = c[1], sums[m + 1][n] = c[2], sums[m + 1][n + 1] = c[3];
            }
    }
}

#endif

// Add the products of `steps` slices to the sums.
//
// The stages are used in turn. Before a step a thread waits until its own copies of this slice are there, then for the
// other threads: now the slice is complete, and everybody has done with the one before it, whose stage the next copies
// may overwrite.
template <class SourceA, class SourceB>
__device__ __forceinline__ void multiply(SourceA& a, SourceB& b, int steps, Sums& sums) {
    using A = typename SourceA::Shape;
    using B = typename SourceB::Shape;
    alignas(16) __shared__ T slices_a[STAGES][A::SIZE];
    alignas(16) __shared__ T slices_b[STAGES][B::SIZE];

    const Lane lane;
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (stage < steps) a.copy(slices_a[stage]), b.copy(slices_b[stage]);
        close_group();
    }
    int now = 0, next = STAGES - 1;
    for (int step = 0; step < steps; ++step) {
        wait_for_groups<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) a.copy(slices_a[next]), b.copy(slices_b[next]);
        close_group();
        add_product<A, B>(slices_a[now], slices_b[now], lane, sums);
        now = now + 1 < STAGES ? now + 1 : 0;
        next = next + 1 < STAGES ? next + 1 : 0;
    }
}

// Write the sums of a tile that begins at (row, column), with `bias` (or null) added to each row: to line(row), for all
// rows and columns below `rows` and `columns`.
template <class A, class B, class Line>
__device__ __forceinline__ void store(const Sums& sums, int row, int column, int rows, int columns, const T* bias,
                                      Line line) {
    const Lane lane;
    constexpr int GROUP = COLUMN_GROUP<B>;
    constexpr int MOVED = VECTOR > 1 ? GROUP : 1;  // numbers that are written at once
    row += lane.row, column += lane.column;
    for (int m = 0; m < THREAD_ROWS; ++m) {
        const int r = row + spread<LANES_DOWN, ROW_GROUP<A>>(lane.down, m);
        if (r >= rows) continue;
        T* const to = line(r);
        for (int n = 0; n < THREAD_COLUMNS; n += MOVED) {
            const int c = column + spread<LANES_ACROSS, GROUP>(lane.across, n);
            if (c >= columns) continue;
            Piece<MOVED> piece;
            for (int i = 0; i < MOVED; ++i) piece.values[i] = bias ? sums[m][n + i] + bias[c + i] : sums[m][n + i];
            *reinterpret_cast<Piece<MOVED>*>(to + c) = piece;
        }
    }
}

// ---------------------------------------------------------------- walking

// A number in digits (a, b, c), of which b counts to `width` and c to `channels`, that grows by the same step again and
// again: the depth as (row, column, channel) of a window or as (image, row, column) of a batch, without divisions.
struct Walk {
    int a, b, c;
    int step_a, step_b, step_c, width, channels;

    __device__ Walk(int start, int step, int width, int channels)
        : a(start / channels / width), b(start / channels % width), c(start % channels),
          step_a(step / channels / width), step_b(step / channels % width), step_c(step % channels),
          width(width), channels(channels) {}

    __device__ __forceinline__ void advance() {
        c += step_c;
        b += step_b;
        a += step_a;
        if (c >= channels) c -= channels, ++b;
        if (b >= width) b -= width, ++a;
    }
};

// ---------------------------------------------------------------- plain matrices

// A matrix in memory as A or B: its number at (line, depth) lies at line · line_stride + depth · depth_stride.
template <class S> struct Matrix {
    using Shape = S;
    const T* at;        // the next number that this thread copies
    int lines, depths;  // how many there are, from the thread's own on
    int line_stride, depth_stride;

    __device__ Matrix(const T* data, int line, int lines, int depth, int depths, int line_stride, int depth_stride)
        : line_stride(line_stride), depth_stride(depth_stride) {
        const int first_line = line + S::line(0), first_depth = depth + S::depth(0);
        at = data + first_line * line_stride + first_depth * depth_stride;
        this->lines = lines - first_line;
        this->depths = depths - first_depth;
    }

    __device__ __forceinline__ void copy(T* slice) {
        for (int d = 0; d < S::DEPTHS_EACH; ++d) {
            for (int l = 0; l < S::LINES_EACH; ++l) {
                const bool there = l * S::STEP < lines && depths > 0;
                start_copy<VECTOR>(slice + S::place(S::line(l), S::depth(d)), at + l * S::STEP * line_stride, there);
            }
            at += S::DEPTH_STEP * depth_stride;
            depths -= S::DEPTH_STEP;
        }
    }
};
