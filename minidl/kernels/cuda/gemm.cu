// Products of matrices, C = A · B (tile.cuh), also of batches of them. An operand may be transposed: it is read as it
// lies in memory.
//
// The number of A at (row, depth) of matrix n lies at n · a_batch + row · a_row + depth · a_depth, that of B at (depth,
// column) accordingly. A batch of 0 uses the same matrix again. C is contiguous.
//
// If the depth is much longer than C is large, it is cut into parts of `length`, and each block sums over one; the sums
// of the parts are added up afterwards (sums.cu), always in the same order.
#include "tile.cuh"

#ifndef A_ALONG
#define A_ALONG 0  // whether rows of A lie along the depth, as they do in a matrix that is not transposed
#endif
#ifndef B_ALONG
#define B_ALONG 0  // whether columns of B do, as in a transposed matrix
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
product(const T* a, const T* b, T* c, int rows, int columns, int depth, int length, int a_batch, int a_row, int a_depth,
        int b_batch, int b_depth, int b_column) {
    const int across = blocks_of(columns, COLUMNS), down = blocks_of(rows, ROWS), parts = blocks_of(depth, length);
    const int row = blockIdx.x / across % down * ROWS, column = blockIdx.x % across * COLUMNS;
    const int matrix = blockIdx.x / across / down, n = matrix / parts;  // matrices are numbered by (n, part)
    const int begin = matrix % parts * length, end = min(begin + length, depth);

    Matrix<Slice<ROWS, A_ALONG>> of_a(a + n * a_batch, row, rows, begin, end, a_row, a_depth);
    Matrix<Slice<COLUMNS, B_ALONG>> of_b(b + n * b_batch, column, columns, begin, end, b_column, b_depth);
    Sums sums = {};
    multiply(of_a, of_b, blocks_of(end - begin, DEPTH), sums);
    store<decltype(of_a)::Shape, decltype(of_b)::Shape>(
        sums, row, column, rows, columns, nullptr, [&](int r) { return c + (matrix * rows + r) * columns; });
}
