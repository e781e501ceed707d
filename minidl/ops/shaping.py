"""Ops that move values without computing: their derivatives move the gradient back."""

from __future__ import annotations

import numpy as np

from minidl.backend import array_module
from minidl.forward import zeros
from minidl.kernels.numpy import blocks
from minidl.tensor import Tensor, differentiable


@differentiable
def reshape(x, shape):
    """Return x in another shape with the same number of elements; one size may be −1 and is worked out."""
    before = x.shape
    return x.reshape(shape), lambda g: g.reshape(before)


@differentiable
def transpose(x, axes=None):
    """Return x with its axes in another order; None reverses them."""
    axes = tuple(reversed(range(x.ndim))) if axes is None else tuple(axes)
    if sorted(axis % x.ndim if -x.ndim <= axis < x.ndim else -1 for axis in axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: axes are {axes}, expected each of the {x.ndim} axes of x once")
    back = sorted(range(x.ndim), key=lambda i: axes[i] % x.ndim)
    return x.transpose(axes), lambda g: g.transpose(back)


@differentiable
def broadcast_to(x, shape):
    """Return x broadcast to a shape."""
    return array_module(x).broadcast_to(x, shape), lambda g: g


@differentiable
def getitem(x, index):
    """Return x[index]: numbers, slices, None, …, arrays of integers (repetitions allowed) or of booleans.

    An element that was taken several times receives the sum of its gradients.
    """
    parts = tuple(_plain_index(part) for part in (index if isinstance(index, tuple) else (index,)))
    shape = x.shape

    def derivative(g):
        gradient = zeros(shape, like=g)
        if any(_may_repeat(part) for part in parts):
            blocks.add_at(gradient, parts, g)
        else:
            gradient[parts] = g
        return gradient

    return x[parts], derivative


def _plain_index(part):
    """Return a part of an index as NumPy knows it; arrays and lists become arrays that nobody else can change."""
    if part is None or part is Ellipsis or isinstance(part, (slice, int, np.integer)):
        return part
    values = part.data if isinstance(part, Tensor) else part
    if isinstance(values, list) and not values:
        return np.array(values, dtype=int)  # an empty list names no element; as an array it would hold floats
    return array_module(values).array(values)


def _may_repeat(part):
    """Say whether this part of an index can name an element twice: only arrays of integers can."""
    return hasattr(part, "dtype") and part.ndim > 0 and part.dtype.kind != "b"


def concatenate(tensors, axis=0):
    """Join arrays along an existing axis, by default the first; their other sizes must agree.

    Examples
    --------
    >>> ops.concatenate([np.ones((2, 2)), np.zeros((2, 1))], axis=1).numpy()
    array([[1., 1., 0.],
           [1., 1., 0.]])
    """
    return join(*(tensor if hasattr(tensor, "dtype") else Tensor(tensor) for tensor in tensors), axis=axis)


def stack(tensors, axis=0):
    """Join arrays of one shape along a new axis."""
    tensors = [tensor if isinstance(tensor, Tensor) else Tensor(tensor) for tensor in tensors]
    if len({tensor.shape for tensor in tensors}) > 1:
        raise ValueError(f"stack: the shapes {', '.join(str(tensor.shape) for tensor in tensors)} differ")
    ndim = tensors[0].ndim + 1 if tensors else 1
    if not -ndim <= axis < ndim:
        raise ValueError(f"stack: axis is {axis}, but the result has {ndim} axes")
    at = axis % ndim
    return join(*(tensor.reshape(*tensor.shape[:at], 1, *tensor.shape[at:]) for tensor in tensors), axis=at)


@differentiable
def join(*arrays, axis):
    """Join arrays along an axis: `concatenate` with one argument for each array."""
    _check_joinable(arrays, axis)
    ends = np.cumsum([array.shape[axis] for array in arrays]).tolist()

    def part(start, end):
        return lambda g: g[(slice(None),) * (axis % g.ndim) + (slice(start, end),)]

    parts = tuple(part(start, end) for start, end in zip([0, *ends], ends, strict=False))
    return blocks.concatenate(arrays, axis), parts


def _check_joinable(arrays, axis):
    if not arrays:
        raise ValueError("concatenate: no Tensors were given")
    shapes = [array.shape for array in arrays]
    ndim = len(shapes[0])
    if not -ndim <= axis < ndim:
        raise ValueError(f"concatenate: axis is {axis}, but the Tensors have {ndim} axes")
    at = axis % ndim
    if len({(*shape[:at], None, *shape[at + 1 :]) for shape in shapes}) > 1:
        raise ValueError(f"concatenate: the shapes {', '.join(map(str, shapes))} differ in more than axis {axis}")


@differentiable
def pad(x, widths, value=0.0):
    """Surround x with a constant.

    Parameters
    ----------
    x : array
    widths : sequence of (before, after)
        How many elements to add on each side, for each axis of x.
    value : float, default 0

    Examples
    --------
    >>> ops.pad(np.ones((1, 2)), [(0, 1), (1, 0)]).numpy()
    array([[0., 1., 1.],
           [0., 0., 0.]])
    """
    try:
        pairs = [(int(before), int(after)) for before, after in widths]
    except (TypeError, ValueError):
        pairs = []
    if len(pairs) != x.ndim or any(min(pair) < 0 for pair in pairs):
        raise ValueError(f"pad: widths is {widths}, expected a pair of non-negative integers for each of {x.ndim} axes")
    inside = tuple(slice(before, before + size) for (before, _), size in zip(pairs, x.shape, strict=True))
    return blocks.pad(x, pairs, value) if pairs else x.copy(), lambda g: g[inside]
