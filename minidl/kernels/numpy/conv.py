"""Two-dimensional convolution and its gradients as matrix products, channels last.

The batch is cut into pieces, which the threads share. What `lowering` writes out of a piece stays in the processor's
cache, for one product forward and for two on the way back.

Padding is ((top, bottom), (left, right)), stride a pair. The functions use only what CuPy has too.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from minidl import buffers
from minidl.backend import array_module
from minidl.forward import Dual, multilinear
from minidl.kernels.numpy.lowering import by_column, output_size, pixels, windows
from minidl.threads import share, single_blas_thread

CHUNK_BYTES = 2**21  # a piece with all that is made of it: about a core's cache; in less, calls are short
SHARE = 2**21  # multiplications that are worth waking another thread
SMALL = 2**18  # multiplications up to which OpenBLAS uses one thread by itself
UNPACKED = 10**6  # multiplications up to which it leaves out the packing, which gains a quarter


@multilinear(0, 1)
def forward(x, w, stride, padding):
    """Return the convolution of x (N, H, W, C) with w (kh, kw, C, K): shape (N, oh, ow, K)."""
    return _forward(x, w, None, stride, padding)


def affine(x, w, b, stride, padding):
    """Return the convolution of x with w plus a bias b (K,) or None, which is added while a piece is in the cache."""
    if b is None or Dual in (type(x), type(w), type(b)):
        y = forward(x, w, stride, padding)
        return y if b is None else y + b
    return _forward(x, w, b, stride, padding)


def _forward(x, w, b, stride, padding):
    size, filters = w.shape[:2], w.shape[-1]
    oh, ow = output_size(x.shape, size, stride, padding)
    y = buffers.empty((len(x), oh, ow, filters), x, np.result_type(*(a.dtype for a in (x, w, b) if a is not None)))
    matrix = _matrix(w)
    row = None if b is None else array_module(b).concatenate([b] * ow)  # short loops over the filters would be slow

    def compute(piece):
        images, rows = piece
        products = _products(windows(x[images], size, stride, padding, rows), matrix, y[images, rows])
        if row is None:
            y[images, rows] = products
        else:
            np.add(products.reshape(-1, len(row)), row, out=y[images, rows].reshape(-1, len(row)))

    _share(compute, y.shape, w.shape, y)
    return y


@multilinear(0, 1)
def input_gradient(g, w, shape, stride, padding):
    """Return the gradient with respect to the input of this shape."""
    return _gradients(None, w, g, shape, stride, padding)[0]


@multilinear(0, 1)
def weight_gradient(x, g, size, stride, padding):
    """Return the gradient with respect to the kernel: the windows of x, transposed, times the output's gradient g."""
    kernel = (*size, x.shape[3], g.shape[3])

    def compute(piece):
        images, rows = piece
        return _correlation(g[images, rows], windows(x[images], size, stride, padding, rows), kernel)

    return _sum(_share(compute, g.shape, kernel, g)).transpose(1, 2, 3, 0)


def gradients(x, w, g, stride, padding):
    """Return the gradients with respect to x and w together: what is written out of g serves both."""
    if Dual in (type(x), type(w), type(g)):
        size = w.shape[:2]
        return input_gradient(g, w, x.shape, stride, padding), weight_gradient(x, g, size, stride, padding)
    return _gradients(x, w, g, x.shape, stride, padding)


def _gradients(x, w, g, shape, stride, padding):
    """Return the gradient with respect to the input of this shape and, unless x is None, with respect to w.

    Rows p of the input with the same remainder of (p + top) / stride meet the same rows of the kernel, every stride-th,
    and no others. So a strided convolution falls apart into several of stride 1, one for each remainder and direction.
    The gradient of such a one is again a convolution: of g with its part of the kernel, turned by 180° and with inputs
    and outputs exchanged. The padding is what is left of a full window on each side.
    """
    (sh, sw), ((top, _), (left, _)) = stride, padding
    gx = buffers.empty(shape, g, np.result_type(g.dtype, w.dtype))
    gw: Any = None if x is None else array_module(w).zeros(w.shape, dtype=np.result_type(x.dtype, g.dtype))
    for p, q in itertools.product(range(min(sh, shape[1])), range(min(sw, shape[2]))):
        (above, i), (before, j) = divmod(p + top, sh), divmod(q + left, sw)
        pixels_of, taps = np.s_[:, p::sh, q::sw], np.s_[i::sh, j::sw]
        part, part_of_gx = w[taps], gx[pixels_of]
        if part.size == 0:
            part_of_gx[...] = 0
            continue
        kh, kw = part.shape[:2]
        full = (
            (kh - 1 - above, part_of_gx.shape[1] + above - g.shape[1]),
            (kw - 1 - before, part_of_gx.shape[2] + before - g.shape[2]),
        )
        part_of_gw = _stride_1_gradients(None if x is None else x[pixels_of], part, g, full, part_of_gx)
        if x is not None:
            gw[taps] = part_of_gw
    return gx, gw


def _stride_1_gradients(x, w, g, padding, gx):
    """Write the gradient with respect to x to gx and return the one with respect to w, or None if x is None."""
    turned = w[::-1, ::-1].swapaxes(2, 3)
    matrix = _matrix(turned)

    def compute(piece):
        images, rows = piece
        found = windows(g[images], w.shape[:2], (1, 1), padding, rows)
        pixels(gx)[images, rows] = pixels(_products(found, matrix, gx[images, rows]))
        return None if x is None else _correlation(x[images, rows], found, turned.shape)

    partial = _share(compute, gx.shape, turned.shape, gx)
    return None if x is None else _sum(partial)[:, ::-1, ::-1].transpose(1, 2, 0, 3)


def bias_gradient(g):
    """Return the sum of g over images and pixels, one axis after the other: short sums round less."""
    if type(g) is Dual:
        return g.sum(axis=0).sum(axis=0).sum(axis=0)
    count, height, width, filters = g.shape
    rows = array_module(g).ascontiguousarray(g).reshape(count * height, width * filters)
    least = max(1, CHUNK_BYTES // (width * filters * g.dtype.itemsize + 1))
    partial = share(lambda part: rows[part].sum(axis=0), _cut(len(rows), -(-len(rows) // least) or 1))
    return _sum(partial).reshape(width, filters).sum(axis=0)


# ---------------------------------------------------------------- products


def _matrix(w):
    """Return a kernel as a matrix (kw · kh · C, K), in the order of the windows."""
    return array_module(w).ascontiguousarray(w.swapaxes(0, 1)).reshape(-1, w.shape[-1])


def _products(found, matrix, like):
    """Return windows times a kernel as images of the shape and dtype of `like`.

    They lie in the cache: the columns of the result are far apart, and written straight to memory they would come there
    in an order that it is not made for.
    """
    images = buffers.empty(like.shape, like)
    number = _groups(found.shape[1], matrix.size, least=8)
    _multiply(_grouped(found, number), matrix, _grouped(by_column(images), number))
    return images


def _groups(rows, kernel, least):
    """Return into how many groups of `least` rows or more the rows are cut for products that need no packing."""
    most = UNPACKED // max(1, kernel)
    return next((number for number in range(1, rows // least + 1) if rows <= most * number and rows % number == 0), 1)


def _grouped(matrices, number):
    """Return matrices (W, rows, n) as (W, number, rows of a group, n), a view."""
    columns, rows, n = matrices.shape
    return matrices.reshape(columns, number, rows // number, n)


def _multiply(a, b, out):
    if type(out) is np.ndarray:
        np.matmul(a, b, out=out)
    else:  # CuPy writes to contiguous memory only
        out[...] = a @ b


def _correlation(images, found, kernel):
    """Return the sum over columns and rows of images (N, H, W, K) times their windows, for a kernel of this shape.

    Its shape is (K, kh, kw, C), a view.
    """
    columns = by_column(array_module(images).ascontiguousarray(images))
    kh, kw, channels, filters = kernel
    number = _groups(found.shape[1], math.prod(kernel), least=48)  # or adding up the groups would take too long
    shape = (len(columns), number, filters, found.shape[2])
    products = buffers.empty(shape, images, np.result_type(images.dtype, found.dtype))
    _multiply(_grouped(columns, number).swapaxes(2, 3), _grouped(found, number), products)
    return products.sum(axis=(0, 1)).reshape(filters, kw, kh, channels).swapaxes(1, 2)


def _sum(partial):
    """Add up arrays in their order."""
    total = partial[0]
    for array in partial[1:]:
        total += array
    return total


# ---------------------------------------------------------------- pieces


def _share(work, shape, kernel, like):
    """Call work(piece) for all pieces of an output of this shape, in several threads where that is worth it."""
    pieces = _pieces(shape, kernel, like)
    if math.prod(shape) * math.prod(kernel[:3]) <= SMALL:
        return [work(piece) for piece in pieces]
    with single_blas_thread():
        return share(work, pieces)


def _pieces(shape, kernel, like):
    """Cut an output of shape (N, oh, ow, K) into pieces (images, rows), each of them contiguous.

    They do not depend on the number of threads, because the gradient of the kernel is a sum over them.
    """
    count, oh, ow, filters = shape
    kh, kw, channels, _ = kernel
    row = (ow + kw - 1) * kh * channels + ow * filters + 1  # numbers that are made for a row of the output
    # A piece's gradient of the kernel shall not be larger than what it is made from, or adding them would take longest.
    largest = max(CHUNK_BYTES // (row * like.dtype.itemsize), math.prod(kernel) // row, 1)
    number = max(-(-count * oh // largest), min(4, math.prod(shape) * math.prod(kernel[:3]) // SHARE), 1)
    if type(like) is not np.ndarray:
        number = 1
    if number <= count or count == 0:
        number += number % 2 if 1 < number < count else 0  # so that two threads end together
        return [(images, slice(0, oh)) for images in _cut(count, number)]
    parts = _cut(oh, min(oh, -(-number // count)))
    return [(slice(n, n + 1), rows) for n in range(count) for rows in parts]


def _cut(count, number):
    """Cut range(count) into so many slices of about the same size."""
    ends = [count * i // number for i in range(number + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]
