r"""Jacobians and Hessians of any function of minidl's ops, with respect to the vector W.

A Jacobian with many rows is built from its columns: W carries tangents along its axes through the function (forward
mode), a block of them at a time. One with few rows is built from its rows: one `backward` for each (reverse mode). A
Hessian is the Jacobian of the gradient: the tangents go through the forward pass and through `backward` as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minidl import memory
from minidl.forward import Dual
from minidl.graph import backpropagate, differentiating
from minidl.tensor import Tensor

BLOCK = 16  # directions that are pushed forward together: enough to forget Python, few enough for the cache


def jacobian(function: Callable[[], Tensor], params: Any) -> Any:
    r"""Return the Jacobian :math:`J_{ij} = \partial y_i / \partial W_j`, exact to rounding.

    Parameters
    ----------
    function : callable
        Takes nothing and returns the Tensor y, of m elements, computed from the parameters. It is called several times,
        so it must be deterministic: no dropout; and batch normalization's running values move each time.
    params : Module, Tensor or iterable of Tensors
        Leaves that require a gradient. W is all of them in a row, of n elements.

    Returns
    -------
    array (m, n)
        8 m n bytes in float64; while it is computed, also 16 times the memory of the function's values.

    Raises
    ------
    MemoryError
        Before the allocation, if the Jacobian would not fit.

    Notes
    -----
    Meanwhile the parameters carry tangents: no other thread may read them.

    Examples
    --------
    >>> x = ml.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> ml.jacobian(lambda: x * x, x)
    array([[2., 0.],
           [0., 4.]])
    """
    return value_and_jacobian(function, leaves(params, "jacobian"), "jacobian")[1]


def hessian(function: Callable[[], Tensor], params: Any) -> Any:
    r"""Return the Hessian :math:`H_{ij} = \partial^2 L / \partial W_i \partial W_j`, exact to rounding.

    Parameters
    ----------
    function : callable
        Takes nothing and returns the Tensor L, a single value, computed from the parameters; deterministic.
    params : Module, Tensor or iterable of Tensors
        Leaves that require a gradient. W is all of them in a row, of n elements.

    Returns
    -------
    array (n, n)
        8 n² bytes in float64: 50 MiB for LeNet-5's two convolutions, 15 GiB for all of it.

    Raises
    ------
    MemoryError
        Before the allocation, if the Hessian would not fit.

    Examples
    --------
    >>> x = ml.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> ml.hessian(lambda: (x * x * x).sum(), x)
    array([[ 6.,  0.],
           [ 0., 12.]])
    """

    def backward() -> Tensor:
        loss = function()
        if not isinstance(loss, Tensor):
            raise TypeError(f"hessian: the function returned {type(loss).__name__}, expected a Tensor")
        loss.backward()
        return loss

    return value_gradient_and_hessian(backward, leaves(params, "hessian"), "hessian")[2]


def leaves(params: Any, who: str) -> list[Tensor]:
    """Return the Tensors that make up W."""
    if isinstance(params, Tensor):
        tensors = [params]
    elif hasattr(params, "parameters"):
        tensors = [parameter for parameter in params.parameters() if parameter.requires_grad]
    else:
        tensors = list(params)
    if not tensors or not all(isinstance(t, Tensor) and t.node is None and t.requires_grad for t in tensors):
        raise TypeError(f"{who}: params is {params!r:.80}, expected leaf Tensors with requires_grad=True")
    if len(set(map(id, tensors))) < len(tensors):
        raise ValueError(f"{who}: params contains the same Tensor twice")
    return tensors


# ---------------------------------------------------------------- what the second-order optimizers use


def value_and_jacobian(
    function: Callable[[], Tensor], tensors: Sequence[Tensor], who: str, copies: int = 1
) -> tuple[Any, Any]:
    """Return y, flattened, and its Jacobian with respect to the tensors in a row; there must be memory for `copies`."""
    with differentiating(tensors):
        y = function()
        if not isinstance(y, Tensor):
            raise TypeError(f"{who}: the function returned {type(y).__name__}, expected a Tensor")
        count = sum(tensor.size for tensor in tensors)
        memory.require(copies * y.size * count * y.dtype.itemsize, who, f"a Jacobian of {y.size:,} × {count:,}")
        J = np.empty_like(y.data, shape=(y.size, count))
        if 2 * y.size < count:
            _fill_rows(J, y, tensors)
        else:
            for start, stop in _blocks(count):
                with _varied(tensors, start, stop):
                    column = function()._data
                J[:, start:stop] = column.tangents.reshape(stop - start, -1).T if isinstance(column, Dual) else 0
    return y.data.reshape(-1), J


def value_gradient_and_hessian(closure: Callable[[], Any], tensors: Sequence[Tensor], who: str) -> tuple[Any, Any, Any]:
    """Return what the closure returns, the gradient that it leaves in the tensors, and the Hessian.

    The closure computes a loss, calls `backward` on it and returns it.
    """
    count = sum(tensor.size for tensor in tensors)
    memory.require(2 * count * count * tensors[0].dtype.itemsize, who, f"a Hessian of {count:,} × {count:,}")
    H = np.empty_like(tensors[0].data, shape=(count, count), dtype=np.result_type(*(t.dtype for t in tensors)))
    loss: Any = None
    g: Any = None
    before = [tensor.grad for tensor in tensors]
    try:
        for start, stop in _blocks(count):
            for tensor in tensors:
                tensor.grad = None
            with differentiating(tensors), _varied(tensors, start, stop):
                loss = closure()
            gradients = [_as_dual(tensor, stop - start) for tensor in tensors]
            H[start:stop] = np.concatenate([dual.tangents.reshape(stop - start, -1) for dual in gradients], axis=1)
            g = np.concatenate([dual.value.reshape(-1) for dual in gradients])
    finally:
        for tensor, gradient in zip(tensors, before, strict=True):
            tensor.grad = gradient
    H += H.T.copy()
    H /= 2
    return loss, g, H


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


@contextlib.contextmanager
def _varied(tensors: Sequence[Tensor], start: int, stop: int) -> Iterator[None]:
    """Let the tensors carry tangents along the axes start … stop − 1 of W; those that have none of them stay plain."""
    plain = [tensor._data for tensor in tensors]
    first = 0
    try:
        for tensor in tensors:
            own = range(max(start, first), min(stop, first + tensor.size))
            if own:
                tangents = np.zeros_like(tensor._data, shape=(stop - start, tensor.size))
                tangents[[axis - start for axis in own], [axis - first for axis in own]] = 1
                tensor._data = Dual(tensor._data, tangents.reshape(stop - start, *tensor.shape))
            first += tensor.size
        yield
    finally:
        for tensor, data in zip(tensors, plain, strict=True):
            tensor._data = data


def _as_dual(tensor: Tensor, directions: int) -> Dual:
    """Return a tensor's gradient as a Dual; one that does not depend on the directions has tangents 0."""
    if isinstance(tensor.grad, Dual):
        return tensor.grad
    gradient = np.zeros_like(tensor.data) if tensor.grad is None else tensor.grad
    return Dual(gradient, np.zeros_like(gradient, shape=(directions, *tensor.shape)))


def _fill_rows(J: Any, y: Tensor, tensors: Sequence[Tensor]) -> None:
    """Fill the Jacobian row by row, by walking back through one recorded graph once for each element of y."""
    root = (y * 1).node  # so that there is one even if y is a leaf
    before = [tensor.grad for tensor in tensors]
    try:
        for i in range(y.size):
            for tensor in tensors:
                tensor.grad = None
            if root is not None:
                g = np.zeros_like(y.data)
                g.reshape(-1)[i] = 1
                backpropagate(root, g, keep=i + 1 < y.size)
            parts = [np.zeros_like(t.data) if t.grad is None else t.grad for t in tensors]
            J[i] = np.concatenate([part.reshape(-1) for part in parts])
    finally:
        for tensor, gradient in zip(tensors, before, strict=True):
            tensor.grad = gradient
