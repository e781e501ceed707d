"""What a sample call of an op is, and how its inputs are drawn.

A sample is the op with its settings filled in and the float64 inputs that it is differentiated by. Values stay away
from kinks and ties by far more than the step of the finite differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import array_shapes


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


def images(data, rng, least=1):
    size = tuple(data.draw(st.integers(low, high)) for low, high in ((1, 3), (least, 6), (least, 6), (1, 3)))
    return rng.standard_normal(size)
