"""Functions of one array, element by element, and softmax along an axis."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
from scipy import special

from minidl import ops

from op_cases.samples import POSITIVE, REAL, WITHOUT_ZERO, Case, Domain, Edge, Kink, one_of, shape

INF, NAN = math.inf, math.nan
SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # λ and α of Klambauer et al. 2017
EDGES = tuple(Edge((size,)) for size in ((), (1, 1), (0,), (2, 0, 3)))


def case(op, oracle, *kinks, domain=REAL, analytic=False, edges=EDGES, **choices):
    def arguments(data, rng):
        return (domain(rng, shape(data)),), one_of(data, **choices)

    return Case(op, oracle, arguments, edges, kinks, (domain,), analytic)


def each(function):
    """Python's function of a number for the elements of an array."""
    return np.vectorize(function, otypes=[float])


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x):
    return SCALE * elu(x, ALPHA)


def gelu(x, approximate="none"):
    if approximate == "tanh":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * special.erfc(-x / math.sqrt(2))


# ---------------------------------------------------------------- along an axis


def along_axis(op, oracle, *kinks):
    def arguments(data, rng):
        size = shape(data, low=1)
        return (2 * rng.standard_normal(size),), {"axis": data.draw(st.integers(-len(size), len(size) - 1))}

    edges = (
        *(Edge((size,)) for size in ((1,), (1, 1), (0,), (3, 0), (0, 3), (2, 0, 3))),
        Edge(((3, 0),), {"axis": 0}),
        Edge(((3, 1),), {"axis": 0}),
    )
    return Case(op, oracle, arguments, edges, kinks)


def softmax(x, axis=-1):
    return special.softmax(x, axis) if x.size else x


def log_softmax(x, axis=-1):
    return special.log_softmax(x, axis) if x.size else x


HUGE = [[1e4, -1e4, 0.0]]

CASES: dict[str, Case] = {
    "abs": case(ops.abs, each(abs), Kink(([0.0],), [0], ([0],)), domain=WITHOUT_ZERO),
    "arctan": case(ops.arctan, each(math.atan), analytic=True),
    "clip": case(
        lambda x, limits: ops.clip(x, *limits),
        lambda x, limits: np.clip(x, *limits),
        Kink(([0.0, 1.0, -0.1, 1.1, NAN],), [0, 1, 0, 1, NAN], ([1, 1, 0, 0, 0],), {"limits": (0, 1)}),
        Kink(([0.0, 0.1],), [0, 0], ([1, 0],), {"limits": (0, 0)}),
        domain=Domain(kinks=(-0.5, 0.5)),
        edges=tuple(Edge(edge.shapes, {"limits": (0, 1)}) for edge in EDGES),
        limits=[(None, 0.5), (-0.5, None), (-0.5, 0.5)],
    ),
    "cos": case(ops.cos, each(math.cos), analytic=True),
    "elu": case(
        ops.elu,
        elu,
        Kink(([0.0],), [0], ([0.5],), {"alpha": 0.5}),
        Kink(([-1e4, 1e4],), [-1, 1e4], ([0, 1],)),
        domain=WITHOUT_ZERO,
        alpha=[1.0, 0.5],
    ),
    "exp": case(ops.exp, each(math.exp), Kink(([-1e4],), [0], ([0],)), analytic=True),
    "gelu": case(
        ops.gelu,
        gelu,
        *(
            Kink(([-1e30, 0.0, 1e30],), [0, 0, 1e30], ([0, 0.5, 1],), {"approximate": approximate})
            for approximate in ("none", "tanh")
        ),
        analytic=True,
        approximate=["none", "tanh"],
    ),
    "leaky_relu": case(
        ops.leaky_relu,
        lambda x, slope=0.01: np.where(x > 0, x, slope * x),
        Kink(([0.0],), [0], ([0.2],), {"slope": 0.2}),
        domain=WITHOUT_ZERO,
        slope=[0.01, 0.3],
    ),
    "log": case(
        ops.log,
        each(math.log),
        Kink(([0.0],), [-INF], ([INF],), warning="divide by zero"),
        Kink(([-1.0],), [NAN], ([-1],), warning="invalid value"),
        domain=POSITIVE,
        analytic=True,
    ),
    "log_softmax": along_axis(ops.log_softmax, log_softmax, Kink((HUGE,), [[0, -2e4, -1e4]], ([[-2, 1, 1]],))),
    "negative": case(ops.negative, lambda x: 0 - x, analytic=True),
    "relu": case(
        ops.relu, lambda x: np.where(x > 0, x, 0), Kink(([0.0, -0.0],), [0, 0], ([0, 0],)), domain=WITHOUT_ZERO
    ),
    "selu": case(ops.selu, selu, Kink(([0.0],), [0], ([SCALE * ALPHA],)), domain=WITHOUT_ZERO),
    "sigmoid": case(ops.sigmoid, special.expit, Kink(([-1e4, 0.0, 1e4],), [0, 0.5, 1], ([0, 0.25, 0],))),
    "sin": case(ops.sin, each(math.sin), analytic=True),
    "softmax": along_axis(ops.softmax, softmax, Kink((HUGE,), [[1, 0, 0]], ([[0, 0, 0]],))),
    "softplus": case(
        ops.softplus, lambda x: np.logaddexp(0, x), Kink(([-1e4, 0.0, 1e4],), [0, math.log(2), 1e4], ([0, 0.5, 1],))
    ),
    "sqrt": case(
        ops.sqrt,
        each(math.sqrt),
        Kink(([0.0],), [0], ([INF],), warning="divide by zero"),
        Kink(([-1.0],), [NAN], ([NAN],), warning="invalid value"),
        domain=POSITIVE,
        analytic=True,
    ),
    "tanh": case(ops.tanh, each(math.tanh), Kink(([-1e4, 1e4],), [-1, 1], ([0, 0],)), analytic=True),
}
