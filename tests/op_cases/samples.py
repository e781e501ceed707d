"""What the table says of an op: where it is defined, what it returns, and what is promised at kinks and odd shapes.

An oracle takes the arguments of its op, as NumPy arrays, and is written without minidl: with a function of NumPy's or
SciPy's, or as a loop from the equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import array_shapes


@dataclass(frozen=True)
class Domain:
    """The open interval in which an op is smooth, but for its kinks. Values are drawn well away from both."""

    low: float = -math.inf
    high: float = math.inf
    kinks: tuple[float, ...] = ()

    def __call__(self, rng, size):
        if self.bounded:
            margin = 0.04 * (self.high - self.low)
            return rng.uniform(self.low + margin, self.high - margin, size)
        if self.low > -math.inf:
            return self.low + rng.uniform(0.2, 3, size)
        values = np.asarray(rng.standard_normal(size))
        for kink in self.kinks:  # 0.01 is far more than a step of finite differences
            near = np.abs(values - kink) < 0.01
            values = np.where(near, kink + np.where(values < kink, -0.02, 0.02), values)
        return values

    @property
    def bounded(self):
        return math.isfinite(self.low) and math.isfinite(self.high)


REAL = Domain()
POSITIVE = Domain(low=0)
WITHOUT_ZERO = Domain(kinks=(0.0,))


@dataclass(frozen=True)
class Kink:
    """A point where mathematics leaves a choice or a careless form fails, and what is promised there.

    Lists are inputs with a gradient, which is that of the sum of the result; numbers have None. A warning is NumPy's.
    """

    inputs: tuple[Any, ...]
    value: Any
    gradients: tuple[Any, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    warning: str | None = None


@dataclass(frozen=True)
class Edge:
    """Input shapes with sizes of 0 or 1: the result is the oracle's, or they are refused with this message."""

    shapes: tuple[tuple[int, ...], ...]
    settings: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None


@dataclass(frozen=True)
class Sample:
    """A call of an op: the float64 inputs that it is differentiated by, and its settings."""

    op: Callable[..., Any]
    oracle: Callable[..., Any]
    inputs: tuple[Any, ...]
    settings: dict[str, Any]

    def call(self, *inputs):
        return self.op(*inputs, **self.settings)

    def expected(self, *inputs):
        return np.asarray(self.oracle(*inputs, **self.settings))


@dataclass(frozen=True)
class Case:
    op: Callable[..., Any]
    oracle: Callable[..., Any]
    arguments: Callable[[Any, np.random.Generator], tuple[tuple[Any, ...], dict[str, Any]]]  # draws inputs, settings
    edges: tuple[Edge, ...]
    kinks: tuple[Kink, ...] = ()
    domains: tuple[Domain, ...] = (REAL,)  # one for each input; the last one also for those that follow
    analytic: bool = False  # whether the plain function accepts complex numbers, for the complex step

    def draw(self, data, rng) -> Sample:
        inputs, settings = self.arguments(data, rng)
        return Sample(self.op, self.oracle, tuple(map(np.asarray, inputs)), settings)

    def at_edge(self, edge, rng) -> Sample:
        inputs = tuple(np.asarray(self.domain(i)(rng, size)) for i, size in enumerate(edge.shapes))
        return Sample(self.op, self.oracle, inputs, edge.settings)

    def domain(self, index) -> Domain:
        return self.domains[min(index, len(self.domains) - 1)]


def shape(data, low=0, high=3, least=1, most=4):
    return data.draw(array_shapes(min_dims=low, max_dims=high, min_side=least, max_side=most))


def one_of(data, **choices):
    """Draw a value for each setting."""
    return {name: data.draw(st.sampled_from(values)) for name, values in choices.items()}


def distinct(rng, size):
    """Return values of this shape that differ by at least 0.1, in random order, jittered."""
    count = int(np.prod(size))
    return (rng.permutation(count) * 0.2 + rng.uniform(0, 0.1, count)).reshape(size) - 0.1 * count


def images(data, rng, least=1):
    size = tuple(data.draw(st.integers(low, high)) for low, high in ((1, 3), (least, 6), (least, 6), (1, 3)))
    return rng.standard_normal(size)


def pair(value):
    return value if isinstance(value, tuple) else (value, value)
