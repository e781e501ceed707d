"""Normalizations."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from minidl import ops
from minidl.backend import asarray

from op_cases.samples import Case, Edge, Kink, one_of


def with_running(x, gamma, beta, running=None, **settings):
    return ops.batch_norm(x, gamma, beta, running=None if running is None else tuple(map(asarray, running)), **settings)


def channel_by_channel(x, gamma, beta, eps=1e-5, running=None, relu=False):
    y = np.empty(x.shape)
    for c, values in enumerate(x.reshape(-1, x.shape[-1]).T):
        mean, variance = (values.mean(), values.var()) if running is None else (running[0][c], running[1][c])
        y[..., c] = gamma[c] * (x[..., c] - mean) / np.sqrt(variance + eps) + beta[c]
    return np.where(y > 0, y, 0) if relu else y


def batch_norm(data, rng):
    size = data.draw(st.sampled_from([(4, 3), (5, 1), (2, 3, 2, 3), (3, 1, 1, 2)]))
    channels = size[-1]
    x = data.draw(st.sampled_from([1, 2])) * rng.standard_normal(size) + data.draw(st.sampled_from([0, 3, 100]))
    running = (x.mean() + rng.standard_normal(channels), rng.uniform(0.5, 2, channels))
    settings = {"eps": 1e-3, "running": running if data.draw(st.booleans()) else None}
    gamma, beta = rng.standard_normal(channels), rng.standard_normal(channels)
    relu = data.draw(st.booleans())
    while relu and np.abs(channel_by_channel(x, gamma, beta, **settings)).min() < 0.01:  # close to the kink
        beta = rng.standard_normal(channels)
    return (x, gamma, beta), {**settings, "relu": relu}


def standardized(x, axes, eps=1e-5, eps_inside=True):
    axes = tuple(axes)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / (np.sqrt(variance + eps) if eps_inside else np.sqrt(variance) + eps)


def standardize(data, rng):
    size, axes = data.draw(
        st.sampled_from([((4, 3), (0,)), ((2, 5), (-1,)), ((2, 3, 2, 3), (1, 2)), ((2, 2, 3, 2, 2), (1, 2, -1))])
    )
    settings = one_of(data, eps=[1e-3, 0.5], eps_inside=[True, False])
    return (2 * rng.standard_normal(size) + 3,), {"axes": axes, **settings}


def in_its_dtype(w, u, v):
    return ops.spectral_normalize(w, asarray(u.astype(w.dtype)), asarray(v.astype(w.dtype)))


def divided_by_norm(w, u, v):
    norm = np.einsum("i,ij,j", v, w.reshape(len(v), len(u)), u)
    return w / norm if norm > 0 else w


def spectral_normalize(data, rng):
    size = data.draw(st.sampled_from([(4, 3), (1, 2), (3, 1), (2, 1, 3, 2)]))
    w = rng.standard_normal(size) + 1
    v, _, u = np.linalg.svd(w.reshape(-1, size[-1]), full_matrices=False)
    u, v = (x + 0.2 * rng.uniform(-1, 1, x.shape) for x in (u[0], v[:, 0]))
    sign = data.draw(st.sampled_from([1, 1, -1]))  # vectors that give no positive norm divide by 1
    return (w,), {"u": u, "v": sign * v}


def vectors(rest, out):
    return {"u": np.ones(out), "v": np.ones(rest)}


SAME, ZEROS = [[7.0, -7.0]] * 4, [[0, 0]] * 4

CASES: dict[str, Case] = {
    "batch_norm": Case(
        with_running,
        channel_by_channel,
        batch_norm,
        (
            Edge(((1, 1), (1,), (1,))),
            Edge(((1, 1, 1, 2), (2,), (2,))),
            Edge(((1, 1), (1,), (1,)), {"running": (np.zeros(1), np.ones(1))}),
            Edge(((0, 3), (3,), (3,)), refused="the batch is empty"),
            Edge(((0, 3), (3,), (3,)), {"running": (np.zeros(3), np.ones(3))}, refused="the batch is empty"),
            Edge(((2, 0), (0,), (0,)), refused="the batch is empty"),
            Edge(((3,), (3,), (3,)), refused="expected x with at least 2 axes"),
        ),
        (  # a channel without variance is β; with ReLU, the derivative where y is 0 is 0
            Kink((SAME, [1.0, 1.0], [1.0, 2.0]), [[1, 2]] * 4, (ZEROS, [0, 0], [4, 4])),
            Kink((SAME, [1.0, 1.0], [0.0, 2.0]), [[0, 2]] * 4, (ZEROS, [0, 0], [0, 4]), {"relu": True}),
        ),
        analytic=True,
    ),
    "spectral_normalize": Case(
        in_its_dtype,
        divided_by_norm,
        spectral_normalize,
        (
            Edge(((1,),), vectors(1, 1)),
            Edge(((1, 1),), vectors(1, 1)),
            Edge(((0, 3),), vectors(0, 3)),
            Edge(((2, 0),), vectors(2, 0)),
            Edge(((),), {"u": np.ones(()), "v": np.ones(1)}, refused=r"w has shape \(\), expected at least one axis"),
        ),
        (Kink(([[0.0, 0.0]],), [[0, 0]], ([[1, 1]],), vectors(1, 2)),),
        analytic=True,
    ),
    "standardize": Case(
        ops.standardize,
        standardized,
        standardize,
        (
            Edge(((),), {"axes": ()}),
            Edge(((3,),), {"axes": ()}),
            Edge(((1, 1),), {"axes": (0,)}),
            Edge(((1, 1),), {"axes": (1,), "eps_inside": False}),
            Edge(((0, 3),), {"axes": (1,)}, refused="there is nothing to average"),
            Edge(((2, 0),), {"axes": (1,)}, refused="there is nothing to average"),
        ),
        (
            Kink((SAME,), ZEROS, (ZEROS,), {"axes": (0,)}),
            Kink((SAME,), ZEROS, (ZEROS,), {"axes": (0,), "eps_inside": False}),
        ),
        analytic=True,
    ),
}
