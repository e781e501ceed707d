"""The dropout family. The generator is made anew in each call, so that op and oracle draw the same mask."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np

from minidl import ops

from op_cases.samples import Case, Edge, Kink, one_of, shape

EDGES = tuple(Edge((size,)) for size in ((), (1, 1), (0,), (2, 0)))
SATURATION = -1.0507009873554805 * 1.6732632423543772  # SELU at −∞


def seeded(op):
    return lambda *inputs, **settings: op(*inputs, **settings, generator=np.random.default_rng(3))


def coins(shape, p, rng):
    """What is kept: with t + f = 256 p, the elements of random bytes b > t, and with probability 1 − f of b = t."""
    if p in (0, 1):
        return np.full(shape, 1.0 - p)
    count, threshold = math.prod(shape), math.floor(256 * p)
    words = rng.integers(0, 2**64, -(-count // 8), dtype=np.uint64)
    stream = b"".join(int(word).to_bytes(8, "little") for word in words)[:count]
    kept = [b > threshold or (b == threshold and rng.random() >= 256 * p - threshold) for b in stream]
    return np.array(kept, float).reshape(shape)


def dropped(x, p=0.5, scaling="inverted", shared=(), *, generator):
    mask = coins([1 if axis in shared else size for axis, size in enumerate(x.shape)], p, generator)
    return x * mask / (1 - p if scaling == "inverted" and p < 1 else 1)


def dropout(data, rng):
    size = shape(data)
    shared = data.draw(st.sampled_from([(), (0,), (1, 2)])) if len(size) == 3 else ()
    settings = one_of(data, p=[0.0, 0.25, 0.3, 1.0], scaling=["inverted", "eval"])
    return (rng.standard_normal(size),), {**settings, "shared": shared}


def noisy(x, sigma, mu=1.0, *, generator):
    return x * (mu + sigma * generator.standard_normal(x.shape, np.float32).astype(float))


def gaussian_dropout(data, rng):
    return (rng.standard_normal(shape(data)),), one_of(data, sigma=[0.0, 0.5, 2], mu=[1, 0.7, -1.0])


def saturated(x, p=0.5, *, generator):
    kept = coins(x.shape, p, generator)
    a = 1 / math.sqrt((1 - p) * (1 + p * SATURATION**2))
    return a * np.where(kept, x, SATURATION) - a * p * SATURATION


def alpha_dropout(data, rng):
    return (rng.standard_normal(shape(data)),), one_of(data, p=[0.0, 0.3, 0.9])


ONES = [1.0] * 5

CASES: dict[str, Case] = {
    "alpha_dropout": Case(seeded(ops.alpha_dropout), seeded(saturated), alpha_dropout, EDGES, analytic=True),
    "dropout": Case(
        seeded(ops.dropout),
        seeded(dropped),
        dropout,
        (*EDGES, Edge(((2, 0),), {"shared": (0,)}), Edge(((0, 2),), {"shared": (0,)})),
        (Kink((ONES,), [0] * 5, ([0] * 5,), {"p": 1.0}), Kink((ONES,), ONES, (ONES,), {"p": 0.0})),
        analytic=True,
    ),
    "gaussian_dropout": Case(
        seeded(ops.gaussian_dropout),
        seeded(noisy),
        gaussian_dropout,
        tuple(Edge(edge.shapes, {"sigma": 0.5}) for edge in EDGES),
        (Kink((ONES,), ONES, (ONES,), {"sigma": 0}),),
        analytic=True,
    ),
}
