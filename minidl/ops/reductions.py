"""Reductions over axes: `axis` is an axis, a tuple of axes, or None for all of them."""

from __future__ import annotations

import math

from minidl.backend import array_module
from minidl.forward import zeros
from minidl.tensor import differentiable


def checked_axes(axis, ndim, who):
    """Return the axes as a tuple of non-negative numbers; raise in the name of `who` if they are none of x."""
    axes = range(ndim) if axis is None else axis if isinstance(axis, (tuple, list, range)) else (axis,)
    if any(not -ndim <= a < ndim for a in axes):
        raise ValueError(f"{who}: axis is {axis}, but x has {ndim} axes")
    axes = tuple(a % ndim for a in axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{who}: axis is {axis}, which names an axis of x twice")
    return axes


def total(x, axes):
    """Return the sum over the axes, which keep size 1.

    One axis after the other: short sums round less, and whole rows are added at once, which is faster. All axes at once
    are one long row, which NumPy adds up in pairs.
    """
    if len(axes) == x.ndim:
        return x.sum(axis=None, keepdims=True)
    for axis in axes:
        x = x.sum(axis=axis, keepdims=True)
    return x


def _shaped(y, axes, keepdims):
    """Return y, whose reduced axes have size 1, without these unless they are to be kept."""
    return y if keepdims else y.reshape(tuple(size for i, size in enumerate(y.shape) if i not in axes))


def _kept(shape, axes):
    """Return the shape in which the reduced axes have size 1."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


@differentiable
def sum(x, axis=None, keepdims=False):
    """Return the sum of x over the axes."""
    axes = checked_axes(axis, x.ndim, "sum")
    xp, shape = array_module(x), x.shape
    return _shaped(total(x, axes) if axes else x.copy(), axes, keepdims), (
        lambda g: xp.broadcast_to(g.reshape(_kept(shape, axes)), shape)
    )


@differentiable
def mean(x, axis=None, keepdims=False):
    """Return the mean of x over the axes.

    Examples
    --------
    >>> ops.mean(np.array([[1.0, 2.0], [3.0, 6.0]]), axis=0).numpy()
    array([2., 4.])
    """
    axes = checked_axes(axis, x.ndim, "mean")
    count = math.prod(x.shape[a] for a in axes)
    if count == 0:
        raise ValueError(f"mean: x has shape {x.shape}, so there is nothing to average over axis {axis}")
    xp, shape = array_module(x), x.shape
    return _shaped(total(x, axes) / count, axes, keepdims), (
        lambda g: xp.broadcast_to((g / count).reshape(_kept(shape, axes)), shape)
    )


@differentiable
def max(x, axis=None, keepdims=False):
    """Return the largest value of x over the axes. Among equal values the gradient goes to the first."""
    return _extreme(x, axis, keepdims, "max")


@differentiable
def min(x, axis=None, keepdims=False):
    """Return the smallest value of x over the axes. Among equal values the gradient goes to the first."""
    return _extreme(x, axis, keepdims, "min")


def _extreme(x, axis, keepdims, which):
    axes = checked_axes(axis, x.ndim, which)
    if math.prod(x.shape[a] for a in axes) == 0:
        raise ValueError(f"{which}: x has shape {x.shape}, so there is no value over axis {axis}")
    xp, shape = array_module(x), x.shape
    order = tuple(a for a in range(x.ndim) if a not in axes) + axes  # the reduced axes last, as one row
    moved = x.transpose(order)
    left = moved.shape[: x.ndim - len(axes)]
    rows = moved.reshape(*left, math.prod(x.shape[a] for a in axes))
    first = (rows.argmax(axis=-1) if which == "max" else rows.argmin(axis=-1))[..., None]
    values = xp.take_along_axis(rows, first, axis=-1)[..., 0]

    def derivative(g):
        gradient = zeros(rows.shape, like=g)
        xp.put_along_axis(gradient, first, g.reshape(values.shape)[..., None], axis=-1)
        back = sorted(range(len(order)), key=order.__getitem__)
        return gradient.reshape(moved.shape).transpose(back)

    return values.reshape(_kept(shape, axes)) if keepdims else values, derivative
