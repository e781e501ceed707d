"""Arithmetic on two arrays, with broadcasting, and products of matrices."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from minidl import ops
from minidl.backend import asarray

from op_cases.samples import POSITIVE, REAL, WITHOUT_ZERO, Case, Edge, Kink, one_of

SHAPES = [
    ((), ()),
    ((1,), (1, 1)),
    ((0,), (0,)),
    ((0,), (1,)),
    ((1, 3), (0, 1)),
    ((3,), (0, 3)),
    ((2, 0), ()),
    ((), (0,)),
]
EDGES = (*map(Edge, SHAPES), Edge(((0,), (2,)), refused="could not be broadcast"))


def broadcastable(data, count):
    return data.draw(mutually_broadcastable_shapes(num_shapes=count, max_dims=3, max_side=3)).input_shapes


def binary(op, oracle, *kinks, domains=(REAL, REAL), analytic=True):
    def arguments(data, rng):
        return tuple(domain(rng, size) for domain, size in zip(domains, broadcastable(data, 2), strict=True)), {}

    return Case(op, oracle, arguments, EDGES, kinks, domains, analytic)


def extreme(op, oracle, *kinks):
    """The larger or smaller of two: no pair of elements is close."""

    def arguments(data, rng):
        first, second = broadcastable(data, 2)
        return (np.round(rng.standard_normal(first), 1), np.round(rng.standard_normal(second), 1) + 0.05), {}

    return Case(op, oracle, arguments, EDGES, kinks)


def power(data, rng):
    first, second = broadcastable(data, 2)
    if data.draw(st.booleans()):
        return (POSITIVE(rng, first),), one_of(data, y=[-1, 0.5, 1, 2, 3.0])
    return (POSITIVE(rng, first), rng.standard_normal(second)), {}


def where(data, rng):
    first, *others = broadcastable(data, 3)
    return tuple(rng.standard_normal(size) for size in others), {"condition": rng.random(first) < 0.5}


def product(x, y):
    """Σ_j x_ij y_jk, with all products written down."""
    rows = x[None, :] if x.ndim == 1 else x
    columns = y[:, None] if y.ndim == 1 else y
    z = (rows[..., :, :, None] * columns[..., None, :, :]).sum(-2)
    z = z[..., 0, :] if x.ndim == 1 else z
    return z[..., 0] if y.ndim == 1 else z


def matmul(data, rng):
    n, k, m = (data.draw(st.integers(1, 4)) for _ in range(3))
    kinds = [
        ((n, k), (k, m)),
        ((k,), (2, k, m)),
        ((3, n, k), (k,)),
        ((k,), (k,)),
        ((2, n, k), (2, k, m)),
        ((2, 1, n, k), (3, k, m)),
        ((2, n, k), (k, m)),
        ((n, k), (2, k, m)),
    ]
    return tuple(rng.standard_normal(size) for size in data.draw(st.sampled_from(kinds))), {}


PRODUCTS = [
    ((1,), (1,)), ((1, 1), (1, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0,), (0,)), ((0,), (0, 2)),
    ((0, 2, 3), (3, 4)), ((0, 2, 3), (0, 3, 4)), ((2, 0, 3), (3,)), ((1, 2, 3), (0, 3, 4)),
]  # fmt: skip

TIE = ([1.0, 2.0], [1.0, 2.0])

CASES: dict[str, Case] = {
    "add": binary(ops.add, lambda x, y: x + y),
    "divide": binary(
        ops.divide,
        lambda x, y: x * y**-1.0,
        Kink(([1.0], 0.0), [math.inf], ([math.inf], None), warning="divide by zero"),
        domains=(REAL, WITHOUT_ZERO),
    ),
    "matmul": Case(
        ops.matmul,
        product,
        matmul,
        (
            *map(Edge, PRODUCTS),
            Edge(((0, 3), (0, 3)), refused="the last axis of x must match y's rows"),
            Edge(((), (1,)), refused="the last axis of x must match y's rows"),
        ),
        analytic=True,
    ),
    "maximum": extreme(
        ops.maximum,
        lambda x, y: np.where(x > y, x, y),
        Kink(TIE, [1, 2], ([1, 1], [0, 0])),
        Kink(([0.0], 0.0), [0], ([1], None)),
        Kink((0.0, [0.0]), [0], (None, [0])),
    ),
    "minimum": extreme(ops.minimum, lambda x, y: np.where(x < y, x, y), Kink(TIE, [1, 2], ([1, 1], [0, 0]))),
    "multiply": binary(ops.multiply, lambda x, y: x * y),
    "power": Case(
        ops.power,
        lambda x, y: np.exp(y * np.log(x)),
        power,
        EDGES,
        (
            Kink(([0.0, 2.0], 0), [1, 1], ([0, 0], None)),
            Kink(([0.0, 2.0], 1), [0, 2], ([1, 1], None)),
            Kink(([-3.0, 0.0], 2), [9, 0], ([-6, 0], None)),
            Kink(([0.0, 0.0], [1.0, 2.0]), [0, 0], ([1, 0], [0, 0])),
            Kink((0.0, [1.0, 2.0]), [0, 0], (None, [0, 0])),
        ),
        (POSITIVE, REAL),
        analytic=True,
    ),
    "subtract": binary(ops.subtract, lambda x, y: x - y),
    "where": Case(
        lambda x, y, condition: ops.where(asarray(condition), x, y),
        lambda x, y, condition: np.choose(condition, [y, x]),
        where,
        (
            Edge(((), ()), {"condition": np.array(True)}),
            Edge(((0, 3), (3,)), {"condition": np.zeros((0, 3), bool)}),
            Edge(((1,), ()), {"condition": np.zeros((2, 0), bool)}),
            Edge(((1, 1), (1,)), {"condition": np.array([True])}),
        ),
        (Kink(([1.0, math.nan], [math.nan, 2.0]), [1, 2], ([1, 0], [0, 1]), {"condition": np.array([True, False])}),),
        analytic=True,
    ),
}
