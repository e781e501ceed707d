"""The graph that ops record, and the walk back through it.

Nodes are visited from the newest to the oldest, which is a topological order because a node is always made after its
inputs; each sends the gradient of its output through its derivatives. The walk is a loop, so that a graph may be as
deep as memory allows, and it lets go of what a node has kept as it passes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from minidl import buffers
from minidl.kernels.numpy import blocks

Derivative = Callable[[Any], Any]

# ---------------------------------------------------------------- recording on and off


class _Recording(threading.local):
    on = True
    leaves: frozenset[int] | None = None  # the ids of the leaves that receive gradients; None for all


recording = _Recording()
_Function = TypeVar("_Function", bound=Callable[..., Any])


@contextlib.contextmanager
def differentiating(leaves: Iterable[Any]) -> Iterator[None]:
    """Record a graph, whatever holds outside, and let `backward` reach these leaves and no other."""
    before = recording.on, recording.leaves
    recording.on, recording.leaves = True, frozenset(map(id, leaves))
    try:
        yield
    finally:
        recording.on, recording.leaves = before


class no_grad:
    """Record no graph, as a context or a decorator: `with ml.no_grad(): ...`. Other threads are not affected.

    Examples
    --------
    >>> w = ml.Tensor([1.0], requires_grad=True)
    >>> with ml.no_grad():
    ...     y = 2 * w
    >>> y.requires_grad
    False
    """

    def __enter__(self) -> None:
        self._before = recording.on
        recording.on = False

    def __exit__(self, *exception: object) -> None:
        recording.on = self._before

    def __call__(self, function: _Function) -> _Function:
        @functools.wraps(function)
        def without_graph(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        return without_graph  # type: ignore[return-value]


# ---------------------------------------------------------------- the graph


class Joint:
    """The derivatives of an op with respect to all its inputs, computed together because they share their work.

    Parameters
    ----------
    function : callable
        Takes `g`, the gradient with respect to the op's result, and a list that says for each argument whether its
        gradient is needed. Returns a gradient for each, anything where it is not needed.
    """

    __slots__ = ("function", "needed")

    def __init__(self, function: Callable[[Any, list[bool]], Sequence[Any]]) -> None:
        self.function = function
        self.needed: list[bool] = []


class Node:
    """One recorded op: the derivatives that lead from its output back to its inputs.

    `inputs` holds, for each derivative, the node that made the input, the input itself if it is a leaf, or None if
    nobody needs that gradient. A node knows no Tensor but leaves and nobody that uses its output: there are no
    reference cycles, and values that no derivative needs are freed during the forward pass already.
    """

    __slots__ = ("derivatives", "dtype", "grad", "inputs", "leaves", "name", "order", "shape")

    def __init__(self, name: str, inputs: list[Any], derivatives: list[Derivative | None] | Joint, output: Any) -> None:
        self.name = name
        self.inputs = inputs
        self.derivatives: list[Derivative | None] | Joint | None = derivatives
        self.leaves: list[tuple[Any, int]] = []  # with how often the memory of each had been written to
        for source in inputs:
            if source is not None and type(source) is not Node:
                self.leaves.append((source, source.version))
        self.shape = output.shape
        self.dtype = output.dtype
        self.order = next(_count)
        self.grad: Any = None

    def free(self) -> None:
        """Let go of everything that was kept for `backward`."""
        self.derivatives = self.grad = None
        self.inputs = self.leaves = []


_count = itertools.count()
_age = operator.attrgetter("order")


def nodes_behind(root: Node) -> list[Node]:
    """Return `root` and the nodes that it depends on, newest first."""
    nodes, seen = [root], {root}
    for node in nodes:
        for source in node.inputs:
            if type(source) is Node and source not in seen:
                seen.add(source)
                nodes.append(source)
    nodes.sort(key=_age, reverse=True)
    return nodes


def _check_recorded(nodes: list[Node]) -> None:
    """Raise unless all can still be differentiated."""
    for node in nodes:
        if node.derivatives is None:
            raise RuntimeError(
                f"backward: the graph behind '{node.name}' was freed by an earlier backward; run the forward pass again"
            )
        for leaf, version in node.leaves:
            if leaf.version != version:
                raise RuntimeError(
                    f"backward: an input of '{node.name}' was changed in place after the forward pass (by an "
                    "optimizer's step or an assignment to .data), so its derivative is lost; run the forward pass again"
                )


def backpropagate(root: Node, g: Any, keep: bool = False) -> None:
    """Send the gradient `g` of the root's output to every leaf, freeing each node as it is passed unless `keep`."""
    nodes = nodes_behind(root)
    _check_recorded(nodes)
    root.grad = g
    try:
        for node in nodes:
            g = node.grad
            derivatives = node.derivatives
            if isinstance(derivatives, Joint):
                for source, gradient in zip(node.inputs, derivatives.function(g, derivatives.needed), strict=False):
                    if source is not None:
                        accumulate(source, gradient, g)
            else:
                for source, derivative in zip(node.inputs, derivatives or (), strict=False):
                    if derivative is not None:
                        accumulate(source, derivative(g), g)
            if keep:
                node.grad = None
            else:
                node.free()
    except BaseException:
        for node in nodes:  # half a gradient must not be found by a later backward
            node.free()
        raise


def accumulate(source: Any, gradient: Any, g: Any) -> None:
    """Add `gradient`, which was computed from `g`, to what `source`, a node or a leaf, has received so far."""
    if gradient.shape != source.shape:
        gradient = unbroadcast(gradient, source.shape)
    if gradient.dtype is not source.dtype and gradient.dtype != source.dtype:
        gradient = gradient.astype(source.dtype)
    if type(source) is not Node:
        if recording.leaves is not None and id(source) not in recording.leaves:
            return
        if source.grad is None and (gradient is g or isinstance(gradient, np.generic) or not buffers.whole(gradient)):
            # A leaf keeps its gradient, so it must be an array that shares memory with nothing.
            gradient = np.copy(gradient)
    source.grad = gradient if source.grad is None else blocks.combine(np.add, source.grad, gradient)


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum `gradient` over the axes along which an input of this shape was broadcast."""
    added = gradient.ndim - len(shape)
    stretched = tuple(
        axis for axis, size in enumerate(gradient.shape) if axis < added or (shape[axis - added] == 1 and size != 1)
    )
    for axis in stretched:  # one after the other: short sums round less
        gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient.reshape(shape)
