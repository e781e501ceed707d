r"""Forward mode: arrays that carry their derivatives along several directions with them.

A `Dual` is a value and, for each of n directions, its derivative along that direction, the tangent. NumPy asks it what
a function means (`__array_ufunc__`, `__array_function__`), so code that was written for arrays pushes the tangents
forward by the chain rule, :math:`\dot z = \sum_i \frac{\partial z}{\partial x_i} \dot x_i`, all n at once.

An op pushed forward gives columns of a Jacobian. An op *and* its derivative for reverse mode, pushed forward together,
give columns of a Hessian. A function that has no rule here raises; nothing is dropped silently.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Dual(NDArrayOperatorsMixin):
    """An array with n tangents.

    Parameters
    ----------
    value : array
    tangents : array of shape (n, *value.shape)
        The derivatives of the value along n directions.
    """

    base = None  # it is no view of memory that could change
    __array_priority__ = 1000  # above CuPy's arrays: their operators leave the work to ours

    def __init__(self, value: Any, tangents: Any) -> None:
        self.value = np.asarray(value) if isinstance(value, np.generic) else value
        self.tangents = tangents

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"Dual({self.value!r}, {len(self.tangents)} tangents)"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError("an array that carries derivatives cannot become a plain one: a function here has no rule")

    def __bool__(self) -> bool:
        return bool(self.value)

    def item(self) -> Any:
        return self.value.item()

    # -- what NumPy asks

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **settings: Any) -> Any:
        if method == "at" and ufunc is np.add:
            return _add_at(*inputs)
        if method != "__call__" or settings:
            raise _no_rule(f"numpy.{ufunc.__name__} as {method} {settings or ''}".strip())
        z = ufunc(*map(value, inputs))
        if ufunc in LOCALLY_CONSTANT:
            return z
        if ufunc is np.matmul:
            result = Dual(z, _matmul_tangents(*inputs))
        elif ufunc in DERIVATIVES:
            result = Dual(z, _chain_rule(DERIVATIVES[ufunc], inputs, z))
        else:
            raise _no_rule(f"numpy.{ufunc.__name__}")
        return result if out is None else _store(result, out[0])

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in FUNCTIONS:
            return FUNCTIONS[function](*args, **kwargs)
        raise _no_rule(f"numpy.{function.__name__}")

    # -- methods that arrays have

    def sum(self, axis: Any = None, keepdims: bool = False) -> Dual:
        axes = _axes_of_tangents(axis, self.ndim)
        return Dual(self.value.sum(axis=axis, keepdims=keepdims), self.tangents.sum(axis=axes, keepdims=keepdims))

    def mean(self, axis: Any = None, keepdims: bool = False) -> Dual:
        axes = _axes_of_tangents(axis, self.ndim)
        return Dual(self.value.mean(axis=axis, keepdims=keepdims), self.tangents.mean(axis=axes, keepdims=keepdims))

    def max(self, axis: int | None = None, keepdims: bool = False) -> Dual:
        return self._extreme(np.argmax(self.value, axis=axis, keepdims=True), axis, keepdims)

    def min(self, axis: int | None = None, keepdims: bool = False) -> Dual:
        return self._extreme(np.argmin(self.value, axis=axis, keepdims=True), axis, keepdims)

    def _extreme(self, at: Any, axis: int | None, keepdims: bool) -> Dual:
        if axis is None:
            found = self.reshape(-1)[at.reshape(-1)].reshape(at.shape)
        else:
            found = _each(lambda x: np.take_along_axis(x, at, axis), self)
        return found if keepdims else found.reshape(np.squeeze(at, axis).shape)

    def argmax(self, axis: int | None = None) -> Any:
        return self.value.argmax(axis=axis)

    def argmin(self, axis: int | None = None) -> Any:
        return self.value.argmin(axis=axis)

    def reshape(self, *shape: Any) -> Dual:
        reshaped = self.value.reshape(*shape)
        return Dual(reshaped, self.tangents.reshape(len(self.tangents), *reshaped.shape))

    def transpose(self, *axes: Any) -> Dual:
        given = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        order = range(self.ndim)[::-1] if given is None else [axis % self.ndim for axis in given]
        return Dual(self.value.transpose(order), self.tangents.transpose(0, *(axis + 1 for axis in order)))

    def swapaxes(self, first: int, second: int) -> Dual:
        n = self.ndim
        return Dual(self.value.swapaxes(first, second), self.tangents.swapaxes(first % n + 1, second % n + 1))

    def astype(self, dtype: Any, copy: bool = True) -> Dual:
        return Dual(self.value.astype(dtype, copy=copy), self.tangents.astype(dtype, copy=copy))

    def copy(self) -> Dual:
        return Dual(self.value.copy(), self.tangents.copy())

    def __getitem__(self, index: Any) -> Dual:
        parts = index if isinstance(index, tuple) else (index,)
        if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
            return Dual(self.value[index], self.tangents[(slice(None), *parts)])  # views, both
        return _each(lambda x: x[index], self)

    def __setitem__(self, index: Any, new: Any) -> None:
        self.value[index] = value(new)
        for i, tangent in enumerate(self.tangents):
            tangent[index] = new.tangents[i] if isinstance(new, Dual) else 0


def value(x: Any) -> Any:
    """Return the value of a Dual without its tangents, and anything else as it is."""
    return x.value if isinstance(x, Dual) else x


def zeros(shape: tuple[int, ...], like: Any) -> Any:
    """Return zeros of this shape and of the kind of `like`: its dtype, its device, and with tangents if it has some."""
    if isinstance(like, Dual):
        return Dual(zeros(shape, like.value), zeros((len(like.tangents), *shape), like.tangents))
    return np.zeros(shape, like.dtype) if type(like) is np.ndarray else np.zeros_like(like, shape=shape)


def multilinear(*places: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a kernel on arrays accept Duals, by the product rule: it is linear in each of the arguments at these places.

    In the other arguments it must be locally constant, as a choice of the largest is.
    """

    def decorate(kernel: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(kernel)
        def pushed(*args: Any) -> Any:
            if Dual not in map(type, args):
                return kernel(*args)
            values = [value(arg) for arg in args]
            z = kernel(*values)
            tangents = np.zeros_like(z, shape=(_directions(args), *z.shape))
            for place in places:
                if isinstance(args[place], Dual):
                    for i, tangent in enumerate(args[place].tangents):
                        tangents[i] += kernel(*values[:place], tangent, *values[place + 1 :])
            return Dual(z, tangents)

        return pushed

    return decorate


# ---------------------------------------------------------------- derivatives of NumPy's functions of elements

# For each function z = f(x, …), its derivatives with respect to the inputs, as functions of the inputs and z.
DERIVATIVES: dict[Any, tuple[Any, ...]] = {
    np.add: (1, 1),
    np.subtract: (1, -1),
    np.multiply: (lambda x, y, z: y, lambda x, y, z: x),
    np.true_divide: (lambda x, y, z: 1 / y, lambda x, y, z: -z / y),
    np.power: (
        lambda x, y, z: y * np.power(x, np.where(np.equal(y, 0), 1, y - 1)),
        lambda x, y, z: z * np.log(np.where((np.equal(x, 0)) & (np.greater(y, 0)), 1, x)),
    ),
    np.maximum: (lambda x, y, z: np.greater_equal(x, y), lambda x, y, z: np.less(x, y)),
    np.minimum: (lambda x, y, z: np.less_equal(x, y), lambda x, y, z: np.greater(x, y)),
    np.logaddexp: (lambda x, y, z: np.exp(x - z), lambda x, y, z: np.exp(y - z)),
    np.positive: (1,),
    np.negative: (-1,),
    np.square: (lambda x, z: 2 * x,),
    np.reciprocal: (lambda x, z: -z * z,),
    np.sqrt: (lambda x, z: 0.5 / z,),
    np.exp: (lambda x, z: z,),
    np.expm1: (lambda x, z: z + 1,),
    np.log: (lambda x, z: 1 / x,),
    np.log1p: (lambda x, z: 1 / (1 + x),),
    np.sin: (lambda x, z: np.cos(x),),
    np.cos: (lambda x, z: -np.sin(x),),
    np.arctan: (lambda x, z: 1 / (1 + x * x),),
    np.tanh: (lambda x, z: 1 - z * z,),
    np.absolute: (lambda x, z: np.sign(x),),
}
LOCALLY_CONSTANT = {
    np.sign, np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.isfinite, np.isnan,
    np.isinf, np.floor, np.ceil, np.logical_not, np.logical_and, np.logical_or,
}  # fmt: skip


def _chain_rule(derivatives: tuple[Any, ...], inputs: tuple[Any, ...], z: Any) -> Any:
    values = [value(x) for x in inputs]
    parts = [
        (derivative(*values, z) if callable(derivative) else derivative) * _with_axes(x.tangents, z.ndim)
        for x, derivative in zip(inputs, derivatives, strict=True)
        if isinstance(x, Dual)
    ]
    total = sum(parts[1:], parts[0])
    if total.shape[1:] != z.shape:
        total = np.broadcast_to(total, (len(total), *z.shape))
    return total.astype(z.dtype, copy=False)


def _with_axes(tangents: Any, ndim: int) -> Any:
    """Return the tangents with axes of size 1 after the first, so that they broadcast as values of `ndim` axes do."""
    missing = ndim + 1 - tangents.ndim
    return tangents.reshape(len(tangents), *(1,) * missing, *tangents.shape[1:]) if missing else tangents


def _matmul_tangents(x: Any, y: Any) -> Any:
    """Return ẋ y + x ẏ."""
    if x.ndim == 1 or y.ndim == 1:
        parts = [np.stack([t @ value(y) for t in x.tangents])] if isinstance(x, Dual) else []
        parts += [np.stack([value(x) @ t for t in y.tangents])] if isinstance(y, Dual) else []
    else:
        ndim = max(x.ndim, y.ndim)
        parts = [_with_axes(x.tangents, ndim) @ value(y)] if isinstance(x, Dual) else []
        parts += [value(x) @ _with_axes(y.tangents, ndim)] if isinstance(y, Dual) else []
    return sum(parts[1:], parts[0])


# ---------------------------------------------------------------- functions that move values


def _each(function: Callable[..., Any], *duals: Any) -> Dual:
    """Apply a function that is linear in its arrays, Duals or constants, to the values and to each tangent."""
    z = function(*map(value, duals))
    directions = _directions(duals)
    still = [np.zeros_like(x) if hasattr(x, "dtype") else 0 for x in duals if not isinstance(x, Dual)]  # the constants

    def moved(i: int) -> Any:
        rest = iter(still)
        return function(*(x.tangents[i] if isinstance(x, Dual) else next(rest) for x in duals))

    tangents = [moved(i) for i in range(directions)]
    stacked = np.stack(tangents) if directions else np.zeros_like(z, shape=(0, *z.shape))
    return Dual(z, stacked.astype(z.dtype, copy=False))  # the zeros of a Python number would promote


def _directions(args: Any) -> int:
    return next(len(arg.tangents) for arg in args if isinstance(arg, Dual))


def _axes_of_tangents(axis: Any, ndim: int) -> tuple[int, ...]:
    axes = range(ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(a % ndim + 1 for a in axes)


def _where(condition: Any, x: Any, y: Any) -> Dual:
    return _each(lambda a, b: np.where(condition, a, b), x, y)


def _pad(x: Any, widths: Any, constant_values: Any = 0) -> Dual:
    return Dual(np.pad(x.value, widths, constant_values=constant_values), np.pad(x.tangents, [(0, 0), *widths]))


def _concatenate(arrays: Any, axis: int = 0) -> Dual:
    return _each(lambda *parts: np.concatenate(parts, axis=axis), *arrays)


def _broadcast_to(x: Any, shape: Any) -> Dual:
    broadcast = np.broadcast_to(x.value, shape)
    tangents = _with_axes(x.tangents, broadcast.ndim)
    return Dual(broadcast, np.broadcast_to(tangents, (len(tangents), *broadcast.shape)))


def _take_along_axis(x: Any, indices: Any, axis: int) -> Dual:
    return _each(lambda part: np.take_along_axis(part, indices, axis), x)


def _put_along_axis(x: Any, indices: Any, values: Any, axis: int) -> None:
    np.put_along_axis(x.value, indices, value(values), axis)
    for i, tangent in enumerate(x.tangents):
        np.put_along_axis(tangent, indices, values.tangents[i] if isinstance(values, Dual) else 0, axis)


def _add_at(x: Any, indices: Any, values: Any) -> None:
    np.add.at(x.value, indices, value(values))
    if isinstance(values, Dual):
        for tangent, added in zip(x.tangents, values.tangents, strict=True):
            np.add.at(tangent, indices, added)


def _zeros_like(x: Any, shape: Any = None) -> Any:
    return zeros(x.shape if shape is None else shape, x)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.broadcast_to: _broadcast_to,
    np.concatenate: _concatenate,
    np.copy: lambda x: x.copy(),
    np.max: lambda x, axis=None, keepdims=False: x.max(axis, keepdims),
    np.mean: lambda x, axis=None, keepdims=False: x.mean(axis, keepdims),
    np.min: lambda x, axis=None, keepdims=False: x.min(axis, keepdims),
    np.pad: _pad,
    np.put_along_axis: _put_along_axis,
    np.reshape: lambda x, shape: x.reshape(shape),
    np.shape: lambda x: x.shape,
    np.stack: lambda arrays, axis=0: _each(lambda *parts: np.stack(parts, axis=axis), *arrays),
    np.sum: lambda x, axis=None, keepdims=False: x.sum(axis, keepdims),
    np.swapaxes: lambda x, first, second: x.swapaxes(first, second),
    np.take_along_axis: _take_along_axis,
    np.transpose: lambda x, axes=None: x.transpose(axes),
    np.where: _where,
    np.zeros_like: _zeros_like,
}


def _store(result: Dual, out: Any) -> Dual:
    """Write a result where the caller wants it: `y += x`, and functions with out=."""
    if not isinstance(out, Dual):
        raise TypeError("a result that carries derivatives cannot be written into a plain array")
    out.value[...] = result.value
    if not out.tangents.flags.writeable:
        out.tangents = out.tangents.copy()
    out.tangents[...] = result.tangents
    return out


def _no_rule(what: str) -> TypeError:
    return TypeError(f"{what} has no rule for arrays that carry derivatives; minidl.forward lists those that have one")
