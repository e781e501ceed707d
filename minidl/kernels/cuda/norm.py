"""Batch normalization of the channels of x (…, C): the launches of `norm.cu`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl import buffers
from minidl.forward import Dual
from minidl.kernels.cuda import channels, launch

BATCH, ROWS = 8, 4  # rows of a thread where it sums, and where it does not; as in norm.cu
MOST = 512  # blocks below each other in a sum: enough to keep a GPU busy, and few to be joined. Sums depend on it
JOINED = 4  # channels of a block that joins what they have found: 32 bytes, which memory gives at once

VARIANTS = [
    {"source": "norm.cu", "dtype": dtype, "defines": {"PACK": pack}, "registers": 64, "shared": 6144}
    for dtype, pack in (("float32", 1), ("float32", 4), ("float64", 1), ("float64", 2))
]


class Saved(NamedTuple):
    """What `gradients` needs of the forward pass."""

    x: Any
    numbers: Any  # (3, C) in the dtype of x: center, scale and shift of each channel
    exact: Any  # (2, C), float64: what the center lacks to the mean, and the inverse deviation
    relu: bool
    constant: bool  # whether mean and variance do not depend on x


def forward(x, gamma, beta, eps, running, relu):
    """Return (y, mean, variance, saved): γ(x − μ)/√(σ² + ε) + β, as the twin in `numpy` describes it."""
    launch.check_size("batch_norm", x=x)
    x, gamma, beta = (channels.contiguous(array, x.dtype) for array in (x, gamma, beta))
    y, shape = buffers.empty(x.shape, x), x.shape[-1:]
    numbers, exact = buffers.empty((3, *shape), x), buffers.empty((2, *shape), x, np.float64)
    passes = _Passes(x, y, numbers)
    if running is None:
        mean, variance = buffers.empty(shape, x), buffers.empty(shape, x)
        passes.reduce("moments", (x,), "statistics", (gamma, beta, mean, variance, numbers, exact, float(eps)))
    else:
        mean = variance = None
        fixed = (channels.contiguous(array, x.dtype) for array in running)
        passes.each_channel("running_statistics", (*fixed, gamma, beta, numbers, exact, float(eps)))
    passes.each_element("affine", (x, numbers, y, relu))
    return y, mean, variance, Saved(x, numbers, exact, bool(relu), running is not None)


def gradients(g, saved, needed):
    """Return the gradients with respect to x, γ and β, those of the three that are needed, from that of the output."""
    if isinstance(g, Dual):  # they are linear in g
        parts = zip(*(gradients(part, saved, needed) for part in (g.value, *g.tangents)), strict=True)
        return [None if part[0] is None else Dual(part[0], np.stack(part[1:])) for part in parts]
    x, numbers, exact, relu, constant = saved
    g, shape = channels.contiguous(g, x.dtype), x.shape[-1:]
    by_x = by_gamma = by_beta = slopes = None
    passes = _Passes(x, g, numbers)
    if not constant or needed[1] or needed[2]:
        by_gamma, by_beta, slopes = (buffers.empty(each, x) for each in (shape, shape, (2, *shape)))
        passes.reduce("gradient_sums", (g, x, numbers, relu), "parameter_gradients", (exact, by_gamma, by_beta, slopes))
    if needed[0]:
        by_x = buffers.empty(x.shape, x)
        passes.each_element("input_gradient", (g, x, numbers, None if constant else slopes, by_x, relu))
    return by_x, by_gamma, by_beta


def by_samples(function, first, *others):
    """Return function(first, *others), which the other twin computes for some samples at a time."""
    return function(first, *others)


class _Passes:
    """Launches over arrays (…, C), seen as rows of C channels."""

    def __init__(self, x, *others):
        self.x, self.rows, self.width = x, x.size // x.shape[-1], x.shape[-1]
        self.pack = channels.pack(self.width, x, *others)

    def reduce(self, name, args, joining, results):
        """Sum over rows, in blocks, which write `partial` (blocks, 2, C); then join these sums to the results."""
        beside, block = channels.block(self.width)
        step = block[1] * BATCH
        each = step * launch.blocks(self.rows, step * MOST)  # whole steps
        blocks = launch.blocks(self.rows, each)
        partial = buffers.empty((blocks, 2, self.width), self.x, np.float64)
        self._kernel(name)((blocks, beside), block, *args, partial, self.rows, self.width, each)
        grid, block = launch.blocks(self.width, JOINED), (JOINED, channels.THREADS // JOINED)
        self._kernel(joining)((grid,), block, partial, *results, blocks, self.rows, self.width, each)

    def each_channel(self, name, args):
        """Let each thread take a channel."""
        threads = channels.THREADS
        self._kernel(name)((launch.blocks(self.width, threads),), (threads,), *args, self.width)

    def each_element(self, name, args):
        """Let each thread take the same channels of some rows."""
        packs = self.width // self.pack
        grid, block = channels.cover(self.rows, packs, ROWS)
        self._kernel(name)(grid, block, *args, self.rows, packs)

    def _kernel(self, name):
        return launch.kernel("norm.cu", name, self.x.dtype, PACK=self.pack)
