"""Checking derivatives against finite differences.

A wrong derivative often survives a check through `.sum()`: batch normalization and softmax have constant sums, so any
gradient that vanishes passes. Here the output is weighted with random signed numbers v before it is summed, so every
element of the derivative counts. Three random directions u through the input decide; only if one disagrees is every
element differentiated alone, to name the worst.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minidl import backend
from minidl.backend import default_generator
from minidl.tensor import Tensor

DIRECTIONS = 3


class GradientError(AssertionError):
    """A derivative disagrees with finite differences."""


def check_gradients(
    fn: Callable[..., Tensor],
    *inputs: Any,
    step: float = 1e-6,
    rtol: float = 1e-4,
    atol: float = 1e-6,
    generator: np.random.Generator | None = None,
) -> None:
    r"""Check the derivatives of a function against central differences, in float64, on the current device.

    With random signed v (the weight of each output) and u (a direction of the input), compare

    .. math:: u \cdot \nabla_x (v \cdot f(x)) \quad\text{with}\quad
              \frac{v \cdot f(x + hu) - v \cdot f(x - hu)}{2h}

    Parameters
    ----------
    fn : callable
        Takes Tensors, one for each of `inputs`, and returns a Tensor. It must be deterministic: give dropout a
        generator made inside `fn`. Stay away from kinks by more than 10 steps.
    *inputs : array_like
        Floating-point inputs are converted to float64 and checked; others are passed as they are.
    step : float, default 1e-6
        h.
    rtol, atol : float, default 1e-4 and 1e-6
        How much the two may differ; `rtol` relative to the numeric value.
    generator : numpy.random.Generator, optional
        Draws v and u. Default: the thread's generator.

    Raises
    ------
    GradientError
        Naming the op, the input, the worst element, and its analytic and numeric derivative.

    Examples
    --------
    >>> ml.check_gradients(lambda x, w: ops.tanh(x @ w), np.ones((2, 3)), np.ones((3, 2)))
    """
    rng = generator or default_generator()
    arrays = [np.array(backend.to_numpy(getattr(x, "data", x) if isinstance(x, Tensor) else x)) for x in inputs]
    arrays = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays]
    checked = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    if not checked:
        raise ValueError("check_gradients: none of the inputs is floating-point, so there is nothing to differentiate")

    tensors = [Tensor(x, requires_grad=i in checked) for i, x in enumerate(arrays)]
    output = fn(*tensors)
    if not isinstance(output, Tensor):
        raise TypeError(f"check_gradients: fn returned {type(output).__name__}, expected a Tensor")
    name = _name(fn, output)
    v = rng.standard_normal(output.shape)
    output.backward(v)
    analytic = [
        np.zeros(x.shape) if t.grad is None else backend.to_numpy(t.grad) for t, x in zip(tensors, arrays, strict=True)
    ]

    def weighted(index: int, x: Any) -> float:
        at = [Tensor(x if i == index else y) for i, y in enumerate(arrays)]
        return float((backend.to_numpy(fn(*at).data) * v).sum())

    def central(index: int, u: Any) -> float:
        x = arrays[index]
        return (weighted(index, x + step * u) - weighted(index, x - step * u)) / (2 * step)

    for index in checked:
        for _ in range(DIRECTIONS):
            u = rng.standard_normal(arrays[index].shape)
            if not np.isclose(float((analytic[index] * u).sum()), central(index, u), rtol=rtol, atol=atol):
                which = f"{index}{_argument_name(fn, index)}"
                raise GradientError(_worst_element(name, which, analytic[index], partial(central, index), rtol, atol))


def _worst_element(
    name: str, which: str, analytic: Any, central: Callable[[Any], float], rtol: float, atol: float
) -> str:
    """Differentiate every element alone and describe the one that is furthest off."""
    numeric = np.empty(analytic.shape)
    for element in itertools.product(*map(range, analytic.shape)):
        u = np.zeros(analytic.shape)
        u[element] = 1
        numeric[element] = central(u)
    excess = np.abs(analytic - numeric) - (atol + rtol * np.abs(numeric))
    excess = np.where(np.isnan(excess), np.inf, excess)
    worst = np.unravel_index(int(excess.argmax()), analytic.shape)
    place = ", ".join(str(int(i)) for i in worst)
    wrong = int((excess > 0).sum())
    extent = (
        f"in {wrong} of {analytic.size} elements" if wrong else "along a random direction, in many elements a little"
    )
    return (
        f"{name}: the gradient with respect to input {which}, of shape {analytic.shape}, is wrong {extent}; "
        f"worst at [{place}]: analytic {analytic[worst]:.9g}, numeric {numeric[worst]:.9g}"
    )


def _name(fn: Callable[..., Any], output: Tensor) -> str:
    name = getattr(fn, "__name__", type(fn).__name__)
    return output.node.name if name == "<lambda>" and output.node is not None else name


def _argument_name(fn: Callable[..., Any], index: int) -> str:
    """Return " (name)" of the argument at this place, or nothing where it has no name of its own."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())[: index + 1]
    except (TypeError, ValueError):
        return ""
    named = len(parameters) > index and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    return f" ({parameters[index].name})" if named else ""
