"""Arithmetic on two arrays, with broadcasting; the engine sums the gradients over axes that were broadcast."""

from __future__ import annotations

import numpy as np

from minidl import kernels
from minidl.kernels.numpy.blocks import apply, combine, elementwise
from minidl.tensor import differentiable


def _same(g):
    return g


def _negated(g):
    return apply(np.negative, g)


@differentiable
def add(x, y):
    """x + y."""
    return combine(np.add, x, y), (_same, _same)


@differentiable
def subtract(x, y):
    """x − y."""
    return combine(np.subtract, x, y), (_same, _negated)


@differentiable
def multiply(x, y):
    """x · y, element by element."""
    return combine(np.multiply, x, y), (
        lambda g: combine(np.multiply, g, y),  # ∂/∂x
        lambda g: combine(np.multiply, g, x),  # ∂/∂y
    )


@differentiable
def divide(x, y):
    """x / y, element by element."""
    return combine(np.true_divide, x, y), (
        lambda g: combine(np.true_divide, g, y),  # ∂/∂x
        lambda g: elementwise(lambda g, x, y: -g * (x / y) / y, g, x, y),  # ∂/∂y; y² would leave the range before y
    )


@differentiable
def negative(x):
    """−x."""
    return _negated(x), _negated


@differentiable
def power(x, y):
    r"""Raise x to the power y, element by element.

    :math:`\partial x^y / \partial x = y\,x^{y-1}` (0 where y = 0) and
    :math:`\partial x^y / \partial y = x^y \ln x` (0 where x = 0 and y > 0).
    """
    z = np.power(x, y)

    def by_base(g):
        if hasattr(y, "shape"):
            return g * y * np.power(x, np.where(y == 0, 1, y - 1))
        n = z.dtype.type(y)
        return elementwise(lambda g, x: g * n * np.power(x, n - 1 if n else n), g, x)

    def by_exponent(g):
        base = x if hasattr(x, "shape") else z.dtype.type(x)
        return g * z * np.log(np.where((base == 0) & (y > 0), 1, base))

    return z, (by_base, by_exponent)


@differentiable
def maximum(x, y):
    """Return the larger of x and y, element by element. Where they are equal the gradient goes to x, the first."""
    return np.maximum(x, y), (
        lambda g: elementwise(lambda g, x, y: g * np.greater_equal(x, y), g, x, y),
        lambda g: elementwise(lambda g, x, y: g * np.less(x, y), g, x, y),
    )


@differentiable
def minimum(x, y):
    """Return the smaller of x and y, element by element. Where they are equal the gradient goes to x, the first."""
    return np.minimum(x, y), (
        lambda g: elementwise(lambda g, x, y: g * np.less_equal(x, y), g, x, y),
        lambda g: elementwise(lambda g, x, y: g * np.greater(x, y), g, x, y),
    )


@differentiable
def where(condition, x, y):
    """Return x where the condition holds and y elsewhere. The condition, an array of booleans, has no derivative.

    Examples
    --------
    >>> x = np.array([-1.0, 2.0])
    >>> ops.where(x > 0, x, 10 * x).numpy()
    array([-10.,   2.])
    """
    return np.where(condition, x, y), (
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
    product = kernels.of(x, y).matmul.product
    rows = x[None, :] if len(x_shape) == 1 else x
    columns = y[:, None] if len(y_shape) == 1 else y

    if len(y_shape) == 2 and len(x_shape) > 2:  # one product of all rows instead of one for each batch
        flat = x.reshape(-1, x_shape[-1])
        return product(flat, y).reshape(*x_shape[:-1], y_shape[-1]), (
            lambda g: product(g.reshape(-1, y_shape[-1]), y.T).reshape(x_shape),
            lambda g: product(flat.T, g.reshape(-1, y_shape[-1])),
        )

    def as_matrix(g):
        """Give g the axes back that vectors lost."""
        if len(y_shape) == 1:
            g = g[..., None]
        return g[..., None, :] if len(x_shape) == 1 else g

    def by_x(g):
        return product(as_matrix(g), columns.swapaxes(-1, -2))  # G Yᵀ

    def by_y(g):
        gradient = product(rows.swapaxes(-1, -2), as_matrix(g))  # Xᵀ G
        return gradient[..., 0] if len(y_shape) == 1 else gradient

    return product(x, y), (by_x, by_y)
