"""Functions of one array, element by element, each with its derivative from the table."""

from __future__ import annotations

import numpy as np

from minidl.kernels.numpy.blocks import apply, combine, elementwise
from minidl.tensor import differentiable


@differentiable
def exp(x):
    """eˣ."""
    y = apply(np.exp, x)
    return y, lambda g: combine(np.multiply, g, y)


@differentiable
def log(x):
    """Return the natural logarithm ln x."""
    return apply(np.log, x), lambda g: combine(np.true_divide, g, x)


@differentiable
def sqrt(x):
    """√x."""
    y = apply(np.sqrt, x)
    return y, lambda g: elementwise(lambda g, y: g / (2 * y), g, y)


@differentiable
def sin(x):
    """Return sin x."""
    return apply(np.sin, x), lambda g: elementwise(lambda g, x: g * np.cos(x), g, x)


@differentiable
def cos(x):
    """Return cos x."""
    return apply(np.cos, x), lambda g: elementwise(lambda g, x: -g * np.sin(x), g, x)


@differentiable
def arctan(x):
    """Return arctan x, in (−π/2, π/2)."""
    return apply(np.arctan, x), lambda g: elementwise(lambda g, x: g / (1 + x * x), g, x)


@differentiable
def tanh(x):
    """Return tanh x."""
    y = apply(np.tanh, x)
    return y, lambda g: elementwise(lambda g, y: g * (1 - y * y), g, y)


@differentiable
def abs(x):
    """:math:`|x|`. The subgradient at 0 is 0."""
    return apply(np.abs, x), lambda g: elementwise(lambda g, x: g * np.sign(x), g, x)


@differentiable
def clip(x, low=None, high=None):
    """Limit x to [low, high]; None leaves that side open. The gradient passes where low ≤ x ≤ high.

    Raises
    ------
    ValueError
        If both are None, or low > high.
    """
    if low is None and high is None:
        raise ValueError("clip: low and high are both None, expected at least one of them")
    if low is not None and high is not None and np.any(np.greater(low, high)):
        raise ValueError(f"clip: low is {low}, above high, which is {high}")

    def derivative(g):
        inside = True
        if low is not None:
            inside = inside & (x >= low)
        if high is not None:
            inside = inside & (x <= high)
        return g * inside

    limited = x if low is None else np.maximum(x, low)
    return limited if high is None else np.minimum(limited, high), derivative
