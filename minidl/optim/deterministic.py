"""What the methods for deterministic problems share: they try several places in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl import derivatives
from minidl.backend import array_module, to_numpy
from minidl.graph import no_grad
from minidl.optim.optimizer import Optimizer
from minidl.optim.penalties import AdaptivePenalty, Penalty
from minidl.tensor import Tensor
from minidl.threads import single_blas_thread


class DeterministicOptimizer(Optimizer):
    """The base of methods that try several places in a step, so that they need a closure that is always the same.

    Write `advance(closure)`, which moves the parameters and returns the loss before the step.
    """

    closure_shall = "compute the loss, call backward and return it"
    has_rate = False

    def __init__(self, params: Any, penalty: Penalty | Sequence[Penalty] | None = None) -> None:
        super().__init__(params, None, penalty=penalty)
        for each in self.penalties:
            if each.decoupled:
                raise ValueError(f"{type(self).__name__}: penalty is {each!r}, expected one that is not decoupled")
            if isinstance(each, AdaptivePenalty):
                raise ValueError(
                    f"{type(self).__name__}: penalty is {each!r}, expected one that is the same everywhere"
                )

    def step(self, closure: Callable[[], Any] | None = None) -> float:  # type: ignore[override]  # never in a graph
        """Make a step.

        Parameters
        ----------
        closure : callable
            Called several times. For least squares it returns the residuals, a Tensor with at least one axis; for the
            other methods it computes the loss, calls `backward` on it and returns it.

        Returns
        -------
        float
            The loss before the step, with its penalties; for least squares the sum of the squares of the residuals.
        """
        if not callable(closure):
            raise TypeError(f"{type(self).__name__}.step: closure is {closure!r}, expected one to {self.closure_shall}")
        self.zero_grad()
        before, numbers = self._vector.iterate.copy(), {name: getattr(self, name) for name in self.numbers}
        learned = [np.full(tensor.size, tensor.requires_grad) for tensor in self._vector.tensors]
        self._learned = np.flatnonzero(np.concatenate(learned))  # some may have been frozen since the last step
        if not self._learned.size:
            raise RuntimeError(f"{type(self).__name__}.step: all parameters are frozen")
        try:
            with single_blas_thread():
                loss = self.advance(closure)
        except BaseException:
            self._vector.write(before)
            vars(self).update(numbers)
            raise
        self.t += 1
        return loss

    def advance(self, closure: Callable[[], Any]) -> float:
        raise TypeError(f"{type(self).__name__} has no advance method")

    # -- W here is the part of the vector that is learned, in float64 on the CPU

    @property
    def _place(self) -> Any:
        return float64(self._vector.iterate)[self._learned]

    def _move(self, W: Any) -> None:
        whole = float64(self._vector.iterate).copy()
        whole[self._learned] = W
        own = self._vector.iterate
        self._vector.write(array_module(own).asarray(whole, dtype=own.dtype))

    @property
    def _tensors(self) -> list[Tensor]:
        return [tensor for tensor in self._vector.tensors if tensor.requires_grad]

    def _loss(self, closure: Callable[[], Any], W: Any) -> float:
        """Move to W and return the loss and its penalties there; infinite where they are not a number."""
        self._move(W)
        self.zero_grad()
        with np.errstate(all="ignore"):
            loss = self._number(closure()) + self.penalty_value
        return loss if np.isfinite(loss) else np.inf

    def _number(self, loss: Any) -> float:
        """Return what a closure returned as a number, after it has called `backward`."""
        if loss is None:
            raise TypeError(f"{type(self).__name__}.step: the closure returned None, expected the loss")
        if all(tensor.grad is None for tensor in self._tensors):
            raise RuntimeError(
                f"{type(self).__name__}.step: no parameter has a gradient; the closure must call backward"
            )
        return float(loss.item() if isinstance(loss, Tensor) else loss)

    def _residuals(self, closure: Any) -> tuple[Any, Any]:
        """Return the residuals r and their Jacobian J at W, in float64 on the CPU."""
        who = f"{type(self).__name__}.step"

        def checked() -> Tensor:
            r = closure()
            if not isinstance(r, Tensor) or r.ndim == 0 or r.size == 0:
                what = f"a Tensor of shape {r.shape}" if isinstance(r, Tensor) else type(r).__name__
                raise TypeError(f"{who}: the closure returned {what}, expected the residuals as a Tensor with axes")
            return r

        r, J = map(float64, derivatives.value_and_jacobian(checked, self._tensors, who, copies=3))
        with np.errstate(over="ignore"):
            self._finite(residuals=r, Jacobian=J, **{"sum of squares": r @ r, "size of the Jacobian": (J * J).sum()})
        return r, J

    def _sum_of_squares(self, closure: Callable[[], Tensor], W: Any) -> float:
        """Move to W and return Σ r² there; infinite where it is not a number."""
        self._move(W)
        with np.errstate(all="ignore"), no_grad():
            r = float64(closure().data).reshape(-1)
            total = float(r @ r)
        return total if np.isfinite(total) else np.inf

    def _finite(self, **values: Any) -> None:
        for name, value in values.items():
            if not array_module(value).isfinite(value).all():
                raise ArithmeticError(f"{type(self).__name__}: the {name} is not finite at step {self.t + 1}")


def float64(array: Any) -> Any:
    """Return an array in float64 on the CPU, copied only if it is not."""
    return np.asarray(to_numpy(array), dtype=np.float64)
