"""The loop without a data set: steps of an optimizer on a function, until a stopping rule holds."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.backend import to_numpy
from minidl.ops.arguments import positive_integer
from minidl.optim import Optimizer
from minidl.tensor import Tensor
from minidl.training.interrupts import deferred_interrupt
from minidl.training.stopping import StepLimit, StoppingRule


@dataclass(frozen=True, eq=False)
class Minimized:
    r"""The result of `minimize`, with T steps.

    Attributes
    ----------
    steps : int
        T, the steps that were made.
    stopped : str
        Which rule ended the run, with its figures; or "interrupted".
    losses : list of float, of length T
        :math:`e_1, …, e_T`. A step returns the loss where it began: :math:`e_t` is that of :math:`W^{t-1}` (for
        `Nesterov`, of the look-ahead point), and the loss of the final weights is not among them.
    weights : (n,) array
        :math:`W^T`.
    path : (T + 1, n) array or None
        :math:`W^0, …, W^T`, if it was kept.
    """

    steps: int
    stopped: str
    losses: list[float]
    weights: np.ndarray[Any, Any]
    path: np.ndarray[Any, Any] | None


def minimize(
    optimizer: Optimizer,
    closure: Callable[[], Any],
    rules: Sequence[StoppingRule] | StoppingRule = (),
    max_steps: int = 1000,
    keep_path: bool = False,
) -> Minimized:
    """Call `optimizer.step(closure)` until a stopping rule holds.

    For functions without a data set: test problems, and least squares with second-order methods. Ctrl-C ends the run
    after the current step (`stopped` is then "interrupted"); pressed twice it raises KeyboardInterrupt.

    Parameters
    ----------
    optimizer : optim.Optimizer
        Over the Tensors that the closure reads.
    closure : callable
        What the optimizer's `step` takes: for a first-order method it computes the loss, calls `backward` on it and
        returns it.
    rules : StoppingRule or sequence of them
        Such as `SmallStep` and `SmallChange`; t counts the steps of this call. If several hold at once, the first is
        named.
    max_steps : int, default 1000
        The limit for t, as a last rule `StepLimit`.
    keep_path : bool, default False
        Whether to keep the weights after every step.

    Returns
    -------
    Minimized

    Raises
    ------
    TypeError
        If the closure returns None, or a step returns no number.
    ArithmeticError
        If the loss is NaN or infinite where a step begins; the message names the step. The weights are as they were
        before it, and so is the state of a method that evaluates its loss only once a step.

    Examples
    --------
    >>> bowl = surfaces.quadratic()
    >>> W = Tensor(np.array(bowl.start), requires_grad=True)
    >>> def closure():
    ...     loss = bowl(W)
    ...     loss.backward()
    ...     return loss
    >>> training.minimize(optim.SGD([W], lr=0.01), closure, [training.SmallStep(1e-3)]).stopped
    'SmallStep: ‖ΔW‖ = 0.001 < 0.001 at step 289'
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"minimize: optimizer is {type(optimizer).__name__}, expected Optimizer")
    if not callable(closure):
        raise TypeError(f"minimize: closure is {type(closure).__name__}, expected a callable")
    limit = StepLimit(positive_integer(max_steps, "minimize", "max_steps"))
    rules = [*_checked_rules(rules), limit]
    W = optimizer.weights
    losses: list[float] = []
    path = [W]
    stopped, interrupted = "", threading.Event()
    with deferred_interrupt(interrupted.set):
        for rule in rules:
            rule.start(W)
        while not stopped:
            t = len(losses) + 1
            losses.append(_step(optimizer, closure, W, t))
            W = optimizer.weights
            if keep_path:
                path.append(W)
            reasons = [rule.check(t, W, losses[-1]) for rule in rules]
            stopped = next(filter(None, reasons), None) or ("interrupted" if interrupted.is_set() else "")
    kept = np.stack([to_numpy(weights) for weights in path]) if keep_path else None
    return Minimized(len(losses), stopped, losses, to_numpy(W), kept)


def _checked_rules(rules: Any) -> list[StoppingRule]:
    rules = [rules] if isinstance(rules, StoppingRule) else list(rules)
    for i, rule in enumerate(rules):
        if not isinstance(rule, StoppingRule):
            raise TypeError(f"minimize: rules[{i}] is {rule!r}, expected a StoppingRule")
        if rule.every != "step":
            name = type(rule).__name__
            raise ValueError(f"minimize: rules[{i}], {name}, looks at every {rule.every}, but here are only steps")
    return rules


def _step(optimizer: Optimizer, closure: Callable[[], Any], before: Any, t: int) -> float:
    """Take the step number t and return its loss; if that is not finite, raise with the weights as before."""
    first = True

    def checked() -> Any:
        nonlocal first
        value = closure()
        if value is None:
            raise TypeError("minimize: the closure returned None, expected the loss")
        if first and getattr(value, "size", 1) == 1:  # where the step begins; a later trial is the method's to reject
            _finite(value, t)
        first = False
        return value

    loss = optimizer.step(checked)
    try:
        return _finite(loss, t)
    except ArithmeticError:
        for tensor, (_, part) in zip(optimizer.params, optimizer.layout.parts(before), strict=True):
            tensor.data = part
        raise


def _finite(value: Any, t: int) -> float:
    try:
        number = float(value.item() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"minimize: step {t} returned {value!r}, expected the loss, a number") from error
    if not math.isfinite(number):
        message = f"the loss is {number} at step {t}, which was not made. A smaller learning rate is the usual remedy"
        raise ArithmeticError(f"minimize: {message}")
    return number
