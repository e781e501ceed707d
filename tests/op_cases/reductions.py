"""Reductions over axes."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from minidl import ops

from op_cases.samples import Case, Edge, Kink, distinct, shape


def case(op, oracle, *kinks, empty=None, values=lambda rng, size: rng.standard_normal(size), analytic=False):
    """The Case of a reduction; `empty` is with what message it refuses to reduce no values."""

    def arguments(data, rng):
        size = shape(data, low=1)
        axes = st.integers(-len(size), len(size) - 1)
        axis = data.draw(st.none() | axes | st.sets(st.integers(0, len(size) - 1), min_size=1).map(tuple))
        return (values(rng, size),), {"axis": axis, "keepdims": data.draw(st.booleans())}

    taken = [
        Edge(((),)),
        Edge(((),), {"axis": ()}),
        Edge(((1, 1),)),
        Edge(((3, 1),), {"axis": -1, "keepdims": True}),
        Edge(((2, 0, 3),), {"axis": 0}),
        Edge(((0, 3),), {"axis": 1, "keepdims": True}),
        Edge(((0, 3),), {"axis": ()}),
    ]
    over_nothing = [
        Edge(((0,),), refused=empty),
        Edge(((2, 0, 3),), {"axis": 1}, refused=empty),
        Edge(((0, 3),), {"axis": (0, 1), "keepdims": True}, refused=empty),
        Edge(((0, 0),), {"axis": 0}, refused=empty),
    ]
    return Case(op, oracle, arguments, (*taken, *over_nothing), kinks, analytic=analytic)


def mean(x, axis=None, keepdims=False):
    y = x.sum(axis, keepdims=keepdims)
    return y * (y.size / max(x.size, 1))


CASES: dict[str, Case] = {
    "max": case(
        ops.max,
        np.max,
        Kink(([[1.0, 3.0], [3.0, 3.0]],), 3, ([[0, 1], [0, 0]],)),
        Kink(([[2.0, 2.0], [2.0, 2.0]],), [2, 2], ([[1, 1], [0, 0]],), {"axis": 0}),
        empty="there is no value over axis",
        values=distinct,
    ),
    "mean": case(ops.mean, mean, empty="there is nothing to average over axis", analytic=True),
    "min": case(
        ops.min,
        np.min,
        Kink(([[1.0, 3.0], [1.0, 2.0]],), [1, 2], ([[1, 0], [0, 1]],), {"axis": 0}),
        Kink(([[2.0, 1.0], [1.0, 1.0]],), 1, ([[0, 1], [0, 0]],)),
        empty="there is no value over axis",
        values=distinct,
    ),
    "sum": case(ops.sum, np.sum, analytic=True),
}
