"""Two-dimensional convolution and its gradients, channels last: the launches of `conv.cu`.

Padding is ((top, bottom), (left, right)), stride a pair.
"""

from __future__ import annotations

import math

import numpy as np

from minidl import buffers
from minidl.kernels.cuda import launch, sums, tiles
from minidl.kernels.numpy.lowering import output_size

VARIANTS = [*tiles.variants("conv.cu"), *tiles.single_variants("conv.cu")]


def forward(x, w, stride, padding):
    """Return the convolution of x (N, H, W, C) with w (kh, kw, C, K): shape (N, oh, ow, K)."""
    return affine(x, w, None, stride, padding)


def affine(x, w, b, stride, padding):
    """Return the convolution of x with w plus a bias b (K,) or None."""
    launch.check_size("conv2d", x=x, w=w)
    dtype = np.result_type(*(array.dtype for array in (x, w, b) if array is not None))
    x, w = tiles.contiguous(dtype, x, w)
    if b is not None:
        (b,) = tiles.contiguous(dtype, b)
    filters = w.shape[3]
    oh, ow = output_size(x.shape, w.shape[:2], stride, padding)
    y = buffers.empty((len(x), oh, ow, filters), x)
    launch.check_size("conv2d", **{"the result": y})
    if y.size == 0:
        return y
    if w.size == 0:  # no channels
        return _filled(y, 0 if b is None else b)
    rows, depth = math.prod(y.shape[:3]), math.prod(w.shape[:3])
    plan = tiles.plan(dtype, _in_fours(w.shape), rows, filters, depth)
    layer = _layer(x.shape, y.shape, w.shape[:2], stride, padding)
    plan.launch("conv.cu", "forward", dtype, plan.tile.blocks(rows, filters), x, w, b, y, *layer)
    return y


def input_gradient(g, w, shape, stride, padding):
    """Return the gradient with respect to the input of this shape."""
    launch.check_size("conv2d", g=g, w=w)
    dtype = np.result_type(g.dtype, w.dtype)
    g, w = tiles.contiguous(dtype, g, w)
    gx = buffers.empty(shape, g)
    launch.check_size("conv2d", **{"the gradient": gx})
    if gx.size == 0:
        return gx
    if g.size == 0:  # no filters
        return _filled(gx, 0)
    (count, height, width, channels), (sh, sw) = shape, stride
    phases = min(sh, height) * min(sw, width)
    rows = count * launch.blocks(height, sh) * launch.blocks(width, sw)  # of the largest phase
    depth = launch.blocks(w.shape[0], sh) * launch.blocks(w.shape[1], sw) * w.shape[3]
    plan = tiles.plan(dtype, _in_fours(w.shape), rows, channels, depth, groups=phases)
    layer = _layer(shape, g.shape, w.shape[:2], stride, padding)
    plan.launch("conv.cu", "input_gradient", dtype, phases * plan.tile.blocks(rows, channels), g, w, gx, *layer)
    return gx


def weight_gradient(x, g, size, stride, padding):
    """Return the gradient with respect to the kernel: the windows of x, transposed, times the output's gradient g."""
    launch.check_size("conv2d", x=x, g=g)
    dtype = np.result_type(x.dtype, g.dtype)
    x, g = tiles.contiguous(dtype, x, g)
    shape = (*size, x.shape[3], g.shape[3])
    if math.prod(shape) == 0 or x.size == 0 or g.size == 0:
        return _filled(buffers.empty(shape, g), 0)
    rows, filters, depth = math.prod(shape[:3]), shape[3], math.prod(g.shape[:3])
    plan = tiles.plan(dtype, _in_fours(shape), rows, filters, depth, cut=True)
    parts = buffers.empty((plan.parts, *shape), g)
    launch.check_size("conv2d", **{"sums for the gradient of w": parts})
    layer = _layer(x.shape, g.shape, size, stride, padding)
    blocks = plan.parts * plan.tile.blocks(rows, filters)
    plan.launch("conv.cu", "weight_gradient", dtype, blocks, x, g, parts, plan.length, *layer)
    return sums.add_parts(parts)


def gradients(x, w, g, stride, padding):
    """Return the gradients with respect to x and w."""
    return input_gradient(g, w, x.shape, stride, padding), weight_gradient(x, g, w.shape[:2], stride, padding)


def bias_gradient(g):
    """Return the sum of g over images and pixels."""
    launch.check_size("conv2d", g=g)
    (g,) = tiles.contiguous(g.dtype, g)
    if g.size == 0:
        return _filled(buffers.empty(g.shape[3:], g), 0)
    return sums.column_sums(g.reshape(-1, g.shape[3]))


def _filled(array, value):
    array[...] = value
    return array


def _layer(shape, out, size, stride, padding):
    """Return the numbers that the kernels go by: N, H, W, C, oh, ow, K, kh, kw, sh, sw, top, left."""
    return *shape, *out[1:], *size, *stride, padding[0][0], padding[1][0]


def _in_fours(kernel):
    """Say whether channels and filters, of a kernel (kh, kw, C, K), are multiples of 4."""
    return kernel[2] % tiles.VECTOR == kernel[3] % tiles.VECTOR == 0
