"""Ops that move values without computing."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import minidl as ml
from minidl import ops

from op_cases.samples import Case, Edge, Kink, shape


def reshape(data, rng):
    size = shape(data, low=1)
    target = data.draw(st.sampled_from([(-1,), -1, (int(np.prod(size)), 1), (1, *size)]))
    return (rng.standard_normal(size),), {"shape": target}


def transpose(data, rng):
    size = shape(data, low=1, high=4)
    axes = data.draw(st.none() | st.permutations(range(len(size))) | st.permutations(range(-len(size), 0)))
    return (rng.standard_normal(size),), {"axes": axes}


def transposed(x, axes=None):
    """Each element by itself, put where the axes say."""
    axes = range(x.ndim)[::-1] if axes is None else axes
    y = np.empty([x.shape[axis] for axis in axes])
    for place in np.ndindex(y.shape):
        at = dict(zip([axis % x.ndim for axis in axes], place, strict=True))
        y[place] = x[tuple(at[axis] for axis in range(x.ndim))]
    return y


def broadcast_to(data, rng):
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    return (rng.standard_normal(shapes.input_shapes[0]),), {"shape": shapes.result_shape}


def getitem(data, rng):
    indices = [
        1,
        -1,
        slice(None, None, 2),
        slice(None, None, -1),
        slice(2, 2),
        (slice(None), None, 1),
        (Ellipsis, 0),
        np.array([0, 2, 2, 0]),
        [1, 1, 1],
        (np.array([[0, 1], [1, 1]]), np.array([2, 0])),
        (slice(None), np.array([0, 0, 3])),
        np.array([True, False, True]),
    ]
    return (rng.standard_normal((3, 4, 2)),), {"index": data.draw(st.sampled_from(indices))}


def join(data, rng):
    size = shape(data, low=1)
    axis = data.draw(st.integers(-len(size), len(size) - 1))
    extents = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    at = axis % len(size)
    return tuple(rng.standard_normal((*size[:at], extent, *size[at + 1 :])) for extent in extents), {"axis": axis}


def stack(data, rng):
    size = shape(data)
    axis = data.draw(st.integers(-len(size) - 1, len(size)))
    return tuple(rng.standard_normal(size) for _ in range(data.draw(st.integers(1, 3)))), {"axis": axis}


def joined(*arrays, axis=0):
    """All slices of all arrays, one after the other."""
    slices = list(itertools.chain.from_iterable(np.moveaxis(x, axis, 0) for x in arrays))
    if not slices:
        return arrays[0]
    return np.moveaxis(np.array(slices), 0, axis)


def stacked(*arrays, axis=0):
    return np.moveaxis(np.array(arrays), 0, axis)


def pad(data, rng):
    size = shape(data, low=1)
    widths = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in size]
    return (rng.standard_normal(size),), {"widths": widths, "value": data.draw(st.sampled_from([0.0, 1.5]))}


def padded(x, widths, value=0.0):
    y = np.full([before + size + after for (before, after), size in zip(widths, x.shape, strict=True)], value)
    for place in np.ndindex(x.shape):
        y[tuple(before + i for (before, _), i in zip(widths, place, strict=True))] = x[place]
    return y


JOINED = (
    Edge(((0,), (2,))),
    Edge(((1,),)),
    Edge(((1, 3), (1, 3))),
    Edge(((0, 3), (0, 3))),
    Edge(((2, 0), (2, 1), (2, 0)), {"axis": -1}),
    Edge(((), ()), refused="axis is 0, but the Tensors have 0 axes"),
    Edge(((0, 2), (0, 3)), refused="differ in more than axis 0"),
    Edge((), refused="no Tensors were given"),
)

CASES: dict[str, Case] = {
    "broadcast_to": Case(
        ops.broadcast_to,
        lambda x, shape: x * np.ones(shape),
        broadcast_to,
        (
            Edge(((),), {"shape": ()}),
            Edge(((),), {"shape": (0,)}),
            Edge(((1,),), {"shape": (0,)}),
            Edge(((0,),), {"shape": (2, 0)}),
            Edge(((1, 1),), {"shape": (3, 1, 2)}),
            Edge(((0,),), {"shape": (1,)}, refused="could not be broadcast"),
        ),
        analytic=True,
    ),
    "concatenate": Case(
        lambda *tensors, **settings: ops.concatenate(tensors, **settings), joined, join, JOINED, analytic=True
    ),
    "getitem": Case(
        ops.getitem,
        lambda x, index: x[index],
        getitem,
        (
            Edge(((),), {"index": ()}),
            Edge(((),), {"index": None}),
            Edge(((),), {"index": Ellipsis}),
            Edge(((1,),), {"index": 0}),
            Edge(((0,),), {"index": slice(None)}),
            Edge(((3, 2),), {"index": []}),
            Edge(((3, 2),), {"index": (slice(None), [])}),
            Edge(((3,),), {"index": np.zeros(3, bool)}),
            Edge(((3,),), {"index": np.zeros(0, int)}),
            Edge(((0, 3),), {"index": (slice(None), 1)}),
        ),
        (
            Kink(([1.0, 2.0, 3.0],), [1, 1, 3, 1], ([3, 0, 1],), {"index": [0, 0, 2, 0]}),
            Kink(([1.0, 2.0, 3.0],), [3, 3], ([0, 0, 2],), {"index": np.array([-1, 2])}),
            Kink(([1.0, 2.0, 3.0],), [2, 2], ([0, 2, 0],), {"index": ml.Tensor([1, 1])}),
        ),
        analytic=True,
    ),
    "join": Case(lambda *tensors, axis=0: ops.join(*tensors, axis=axis), joined, join, JOINED, analytic=True),
    "pad": Case(
        ops.pad,
        padded,
        pad,
        (
            Edge(((),), {"widths": []}),
            Edge(((0,),), {"widths": [(1, 1)], "value": 2.0}),
            Edge(((0, 2),), {"widths": [(0, 0), (1, 0)]}),
            Edge(((1, 1),), {"widths": [(0, 0), (0, 0)]}),
        ),
        analytic=True,
    ),
    "reshape": Case(
        ops.reshape,
        lambda x, shape: np.array(list(x.flat)).reshape(shape),
        reshape,
        (
            Edge(((),), {"shape": (1,)}),
            Edge(((1,),), {"shape": ()}),
            Edge(((0, 3),), {"shape": (3, 0)}),
            Edge(((0, 3),), {"shape": (-1, 3)}),
            Edge(((0, 3),), {"shape": (-1,)}),
            Edge(((0, 3),), {"shape": (-1, 0)}, refused="cannot reshape array of size 0"),
            Edge(((0,),), {"shape": (1,)}, refused="cannot reshape array of size 0"),
        ),
        analytic=True,
    ),
    "stack": Case(
        lambda *tensors, **settings: ops.stack(tensors, **settings),
        stacked,
        stack,
        (
            Edge(((),)),
            Edge(((), ())),
            Edge(((1,), (1,)), {"axis": -1}),
            Edge(((0, 3), (0, 3)), {"axis": 1}),
            Edge(((0,), (1,)), refused="the shapes .* differ"),
            Edge((), refused="no Tensors were given"),
        ),
        analytic=True,
    ),
    "transpose": Case(
        ops.transpose,
        transposed,
        transpose,
        (Edge(((),)), Edge(((1,),)), Edge(((0, 3),)), Edge(((2, 0, 1),), {"axes": (2, 0, 1)})),
        analytic=True,
    ),
}
