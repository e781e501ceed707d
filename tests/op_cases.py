"""Sample calls of every op: for each name in the registry, a function that draws inputs and settings.

A sample is the op with its settings filled in and the float64 inputs that it is differentiated by. Values stay away
from kinks and ties by far more than the step of the finite differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

from minidl import ops


@dataclass(frozen=True)
class Sample:
    call: Callable[..., Any]
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    draw: Callable[[Any, np.random.Generator], Sample]
    analytic: bool = False  # whether the plain function accepts complex numbers, for the complex step


def shape(data, low=0, high=3, least=1, most=4):
    return data.draw(array_shapes(min_dims=low, max_dims=high, min_side=least, max_side=most))


def away_from(values, *kinks, distance=0.01):
    """Move values that lie within the distance of a kink away from it."""
    for kink in kinks:
        near = np.abs(values - kink) < distance
        values = np.where(near, kink + distance * np.where(values < kink, -2, 2), values)
    return values


def distinct(rng, size):
    """Return values of this shape that differ by at least 0.1, in random order, jittered."""
    count = int(np.prod(size))
    return (rng.permutation(count) * 0.2 + rng.uniform(0, 0.1, count)).reshape(size) - 0.1 * count


# ---------------------------------------------------------------- elementwise


def unary(op, domain=lambda rng, size: rng.standard_normal(size)):
    return lambda data, rng: Sample(op, (domain(rng, shape(data)),))


def positive(rng, size):
    return rng.uniform(0.2, 3, size)


def without_zero(rng, size):
    return away_from(rng.standard_normal(size), 0)


def binary(op, x_domain=None, y_domain=None):
    def draw(data, rng):
        shapes = data.draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)).input_shapes
        domains = x_domain or (lambda r, s: r.standard_normal(s)), y_domain or (lambda r, s: r.standard_normal(s))
        return Sample(op, tuple(domain(rng, size) for domain, size in zip(domains, shapes, strict=True)))

    return draw


def ordered_pair(op):
    """Two broadcastable arrays of which no pair of elements is close."""

    def draw(data, rng):
        shapes = data.draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)).input_shapes
        x = np.round(rng.standard_normal(shapes[0]), 1)
        y = np.round(rng.standard_normal(shapes[1]), 1) + 0.05
        return Sample(op, (x, y))

    return draw


def clip(data, rng):
    low, high = data.draw(st.sampled_from([(None, 0.5), (-0.5, None), (-0.5, 0.5)]))
    return Sample(lambda x: ops.clip(x, low, high), (away_from(rng.standard_normal(shape(data)), -0.5, 0.5),))


def where(data, rng):
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)).input_shapes
    condition = rng.random(shapes[0]) < 0.5
    x, y = (rng.standard_normal(s) for s in shapes[1:])
    return Sample(lambda a, b: ops.where(condition, a, b), (x, y))


def leaky_relu(data, rng):
    slope = data.draw(st.sampled_from([0.01, 0.3]))
    return Sample(lambda x: ops.leaky_relu(x, slope), (without_zero(rng, shape(data)),))


def elu(data, rng):
    alpha = data.draw(st.sampled_from([1.0, 0.5]))
    return Sample(lambda x: ops.elu(x, alpha), (without_zero(rng, shape(data)),))


def along_axis(op):
    def draw(data, rng):
        size = shape(data, low=1)
        axis = data.draw(st.integers(-len(size), len(size) - 1))
        return Sample(lambda x: op(x, axis), (rng.standard_normal(size),))

    return draw


def matmul(data, rng):
    n, k, m = (data.draw(st.integers(1, 4)) for _ in range(3))
    kind = data.draw(st.sampled_from(["matrices", "vector left", "vector right", "vectors", "batches", "broadcast"]))
    sizes = {
        "matrices": ((n, k), (k, m)),
        "vector left": ((k,), (2, k, m)),
        "vector right": ((3, n, k), (k,)),
        "vectors": ((k,), (k,)),
        "batches": ((2, n, k), (2, k, m)),
        "broadcast": ((2, 1, n, k), (3, k, m)),
    }[kind]
    return Sample(ops.matmul, tuple(rng.standard_normal(size) for size in sizes))


# ---------------------------------------------------------------- reductions and shapes


def reduction(op, domain=lambda rng, size: rng.standard_normal(size)):
    def draw(data, rng):
        size = shape(data, low=1)
        axes = st.integers(-len(size), len(size) - 1)
        axis = data.draw(st.none() | axes | st.sets(st.integers(0, len(size) - 1), min_size=1).map(tuple))
        keepdims = data.draw(st.booleans())
        return Sample(lambda x: op(x, axis, keepdims), (domain(rng, size),))

    return draw


def reshape(data, rng):
    size = shape(data, low=1)
    target = data.draw(st.sampled_from([(-1,), (int(np.prod(size)), 1), (1, *size)]))
    return Sample(lambda x: ops.reshape(x, target), (rng.standard_normal(size),))


def transpose(data, rng):
    size = shape(data, low=1, high=4)
    axes = data.draw(st.none() | st.permutations(range(len(size))) | st.permutations(range(-len(size), 0)))
    return Sample(lambda x: ops.transpose(x, axes), (rng.standard_normal(size),))


def broadcast_to(data, rng):
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    target = shapes.result_shape
    return Sample(lambda x: ops.broadcast_to(x, target), (rng.standard_normal(shapes.input_shapes[0]),))


def getitem(data, rng):
    index = data.draw(
        st.sampled_from(
            [
                1,
                -1,
                slice(None, None, 2),
                (slice(None), None, 1),
                (Ellipsis, 0),
                np.array([0, 2, 2, 0]),
                [1, 1, 1],
                (np.array([[0, 1], [1, 1]]), np.array([2, 0])),
                (slice(None), np.array([0, 0, 3])),
                np.array([True, False, True]),
            ]
        )
    )
    return Sample(lambda x: ops.getitem(x, index), (rng.standard_normal((3, 4, 2)),))


def join(data, rng):
    size = shape(data, low=1)
    axis = data.draw(st.integers(-len(size), len(size) - 1))
    extents = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    at = axis % len(size)
    inputs = tuple(rng.standard_normal((*size[:at], extent, *size[at + 1 :])) for extent in extents)
    return Sample(lambda *tensors: ops.concatenate(tensors, axis), inputs)


def pad(data, rng):
    size = shape(data, low=1)
    widths = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in size]
    return Sample(lambda x: ops.pad(x, widths, 1.5), (rng.standard_normal(size),))


# ---------------------------------------------------------------- networks


def images(data, rng, least=1):
    size = tuple(data.draw(st.integers(low, high)) for low, high in ((1, 3), (least, 6), (least, 6), (1, 3)))
    return rng.standard_normal(size)


def conv2d(data, rng):
    x = images(data, rng, least=3)
    w = rng.standard_normal((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), x.shape[3], 2))
    stride = data.draw(st.sampled_from([1, 2, (2, 1), 3]))
    padding = data.draw(st.sampled_from([0, 1, (0, 2), "same", "valid"]))
    inputs = (x, w, rng.standard_normal(2)) if data.draw(st.booleans()) else (x, w)
    return Sample(lambda *a: ops.conv2d(*a, stride=stride, padding=padding), inputs)


def pooling(op, domain):
    def draw(data, rng):
        x = domain(rng, images(data, rng, least=3).shape)
        size = data.draw(st.sampled_from([1, 2, 3, (2, 3)]))
        stride = data.draw(st.sampled_from([None, 1, 2, (2, 1)]))
        return Sample(lambda a: op(a, size, stride), (x,))

    return draw


def batch_norm(data, rng):
    size = data.draw(st.sampled_from([(4, 3), (5, 1), (2, 3, 2, 3), (3, 1, 1, 2)]))
    channels = size[-1]
    x = 2 * rng.standard_normal(size) + 3
    if data.draw(st.booleans()):
        running = rng.standard_normal(channels), rng.uniform(0.5, 2, channels)
    else:
        running = None
    call = lambda *a: ops.batch_norm(*a, eps=1e-3, running=running)
    return Sample(call, (x, rng.standard_normal(channels), rng.standard_normal(channels)))


def cross_entropy(data, rng):
    count, classes = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    labels = rng.integers(0, classes, count)
    smoothing = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]))
    call = lambda x: ops.cross_entropy(x, labels, smoothing, reduction=reduction)
    return Sample(call, (3 * rng.standard_normal((count, classes)),))


def mse(data, rng):
    size = shape(data)
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]))
    call = lambda x, y: ops.mse(x, y, reduction=reduction)
    return Sample(call, (rng.standard_normal(size), rng.standard_normal(size)))


def dropout(data, rng):
    p = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    scaling = data.draw(st.sampled_from(["inverted", "eval"]))
    call = lambda x: ops.dropout(x, p, scaling=scaling, generator=np.random.default_rng(3))
    return Sample(call, (rng.standard_normal(shape(data)),))


CASES: dict[str, Case] = {
    "abs": Case(unary(ops.abs, without_zero)),
    "add": Case(binary(ops.add), analytic=True),
    "arctan": Case(unary(ops.arctan), analytic=True),
    "avg_pool2d": Case(pooling(ops.avg_pool2d, lambda rng, size: rng.standard_normal(size)), analytic=True),
    "batch_norm": Case(batch_norm, analytic=True),
    "broadcast_to": Case(broadcast_to, analytic=True),
    "clip": Case(clip),
    "conv2d": Case(conv2d, analytic=True),
    "cos": Case(unary(ops.cos), analytic=True),
    "cross_entropy": Case(cross_entropy),
    "divide": Case(binary(ops.divide, y_domain=without_zero), analytic=True),
    "dropout": Case(dropout),
    "elu": Case(elu),
    "exp": Case(unary(ops.exp), analytic=True),
    "getitem": Case(getitem, analytic=True),
    "join": Case(join, analytic=True),
    "leaky_relu": Case(leaky_relu),
    "log": Case(unary(ops.log, positive), analytic=True),
    "log_softmax": Case(along_axis(ops.log_softmax)),
    "matmul": Case(matmul, analytic=True),
    "max": Case(reduction(ops.max, distinct)),
    "max_pool2d": Case(pooling(ops.max_pool2d, distinct)),
    "maximum": Case(ordered_pair(ops.maximum)),
    "mean": Case(reduction(ops.mean), analytic=True),
    "min": Case(reduction(ops.min, distinct)),
    "minimum": Case(ordered_pair(ops.minimum)),
    "mse": Case(mse, analytic=True),
    "multiply": Case(binary(ops.multiply), analytic=True),
    "negative": Case(unary(ops.negative), analytic=True),
    "pad": Case(pad, analytic=True),
    "power": Case(binary(ops.power, positive), analytic=True),
    "relu": Case(unary(ops.relu, without_zero)),
    "reshape": Case(reshape, analytic=True),
    "selu": Case(unary(ops.selu, without_zero)),
    "sigmoid": Case(unary(ops.sigmoid)),
    "sin": Case(unary(ops.sin), analytic=True),
    "softmax": Case(along_axis(ops.softmax)),
    "softplus": Case(unary(ops.softplus)),
    "sqrt": Case(unary(ops.sqrt, positive), analytic=True),
    "subtract": Case(binary(ops.subtract), analytic=True),
    "sum": Case(reduction(ops.sum), analytic=True),
    "tanh": Case(unary(ops.tanh), analytic=True),
    "transpose": Case(transpose, analytic=True),
    "where": Case(where, analytic=True),
}
