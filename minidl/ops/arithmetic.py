"""Arithmetic on two arrays, with broadcasting; the engine sums the gradients over axes that were broadcast."""

from __future__ import annotations

import numpy as np

from minidl.backend import array_module
from minidl.tensor import differentiable


def _same(g):
    return g


@differentiable
def add(x, y):
    """x + y."""
    return np.add(x, y), (_same, _same)


@differentiable
def subtract(x, y):
    """x − y."""
    return np.subtract(x, y), (_same, np.negative)


@differentiable
def multiply(x, y):
    """x · y, element by element."""
    return np.multiply(x, y), (
        lambda g: g * y,  # ∂/∂x
        lambda g: g * x,  # ∂/∂y
    )


@differentiable
def divide(x, y):
    """x / y, element by element."""
    return np.true_divide(x, y), (
        lambda g: g / y,  # ∂/∂x
        lambda g: -g * x / (y * y),  # ∂/∂y
    )


@differentiable
def negative(x):
    """−x."""
    return -x, np.negative


@differentiable
def power(x, y):
    r"""Raise x to the power y, element by element.

    :math:`\partial x^y / \partial x = y\,x^{y-1}` (0 where y = 0) and
    :math:`\partial x^y / \partial y = x^y \ln x` (0 where x = 0 and y > 0).
    """
    z = np.power(x, y)

    def by_base(g):
        n = y if hasattr(y, "shape") else z.dtype.type(y)
        return g * n * np.power(x, np.where(n == 0, 1, n - 1))

    def by_exponent(g):
        base = x if hasattr(x, "shape") else z.dtype.type(x)
        return g * z * np.log(np.where((base == 0) & (y > 0), 1, base))

    return z, (by_base, by_exponent)


@differentiable
def maximum(x, y):
    """Return the larger of x and y, element by element. Where they are equal the gradient goes to x, the first."""
    return np.maximum(x, y), (
        lambda g: g * np.greater_equal(x, y),
        lambda g: g * np.less(x, y),
    )


@differentiable
def minimum(x, y):
    """Return the smaller of x and y, element by element. Where they are equal the gradient goes to x, the first."""
    return np.minimum(x, y), (
        lambda g: g * np.less_equal(x, y),
        lambda g: g * np.greater(x, y),
    )


@differentiable
def where(condition, x, y):
    """Return x where the condition holds and y elsewhere. The condition, an array of booleans, has no derivative."""
    return array_module(condition).where(condition, x, y), (
        None,
        lambda g: g * condition,
        lambda g: g * np.logical_not(condition),
    )


@differentiable
def matmul(x, y):
    """Return the matrix product x @ y.

    Parameters
    ----------
    x : (…, n, k) or (k,)
    y : (…, k, m) or (k,)
        Leading axes are batches and broadcast; a vector is one row on the left and one column on the right.

    Raises
    ------
    ValueError
        If the inner sizes differ or an argument is a number.
    """
    x, y = (operand if hasattr(operand, "shape") else np.asarray(operand) for operand in (x, y))
    x_shape, y_shape = x.shape, y.shape
    if not x_shape or not y_shape or x_shape[-1] != y_shape[-2 if len(y_shape) > 1 else 0]:
        raise ValueError(f"matmul: x has shape {x_shape} and y {y_shape}; the last axis of x must match y's rows")
    rows = x[None, :] if len(x_shape) == 1 else x
    columns = y[:, None] if len(y_shape) == 1 else y

    def as_matrix(g):
        """Give g the axes back that vectors lost."""
        if len(y_shape) == 1:
            g = g[..., None]
        return g[..., None, :] if len(x_shape) == 1 else g

    def by_x(g):
        return as_matrix(g) @ columns.swapaxes(-1, -2)  # G Yᵀ

    def by_y(g):
        gradient = rows.swapaxes(-1, -2) @ as_matrix(g)  # Xᵀ G
        return gradient[..., 0] if len(y_shape) == 1 else gradient

    return x @ y, (by_x, by_y)
