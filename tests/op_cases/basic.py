"""Samples of elementwise ops, reductions, and ops that move values."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from minidl import ops
from minidl.backend import asarray

from op_cases.samples import Case, Sample, away_from, distinct, shape

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
    return Sample(lambda a, b: ops.where(asarray(condition), a, b), (x, y))


def leaky_relu(data, rng):
    slope = data.draw(st.sampled_from([0.01, 0.3]))
    return Sample(lambda x: ops.leaky_relu(x, slope), (without_zero(rng, shape(data)),))


def elu(data, rng):
    alpha = data.draw(st.sampled_from([1.0, 0.5]))
    return Sample(lambda x: ops.elu(x, alpha), (without_zero(rng, shape(data)),))


def gelu(data, rng):
    approximate = data.draw(st.sampled_from(["none", "tanh"]))
    return Sample(lambda x: ops.gelu(x, approximate), (2 * rng.standard_normal(shape(data)),))


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


CASES: dict[str, Case] = {
    "abs": Case(unary(ops.abs, without_zero)),
    "add": Case(binary(ops.add), analytic=True),
    "arctan": Case(unary(ops.arctan), analytic=True),
    "broadcast_to": Case(broadcast_to, analytic=True),
    "clip": Case(clip),
    "cos": Case(unary(ops.cos), analytic=True),
    "divide": Case(binary(ops.divide, y_domain=without_zero), analytic=True),
    "elu": Case(elu),
    "exp": Case(unary(ops.exp), analytic=True),
    "gelu": Case(gelu, analytic=True),
    "getitem": Case(getitem, analytic=True),
    "join": Case(join, analytic=True),
    "leaky_relu": Case(leaky_relu),
    "log": Case(unary(ops.log, positive), analytic=True),
    "log_softmax": Case(along_axis(ops.log_softmax)),
    "matmul": Case(matmul, analytic=True),
    "max": Case(reduction(ops.max, distinct)),
    "maximum": Case(ordered_pair(ops.maximum)),
    "mean": Case(reduction(ops.mean), analytic=True),
    "min": Case(reduction(ops.min, distinct)),
    "minimum": Case(ordered_pair(ops.minimum)),
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
