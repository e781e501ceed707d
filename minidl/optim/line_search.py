"""Steepest descent: gradient descent that looks for the best rate in every step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.optimize

from minidl.optim.deterministic import DeterministicOptimizer, float64
from minidl.optim.penalties import Penalty


class SteepestDescent(DeterministicOptimizer):
    r"""Gradient descent to the lowest point along the gradient.

    .. math:: W^t = W^{t-1} - \eta_t\, g, \qquad \eta_t = \arg\min_\eta L(W^{t-1} - \eta g)

    Parameters
    ----------
    params : Module or iterable of Tensors
    search : {"exact", "wolfe"}, default "exact"
        "exact": bracket a minimum along −g, then Brent's method (`scipy.optimize.minimize_scalar`). "wolfe": any step
        that satisfies the strong Wolfe conditions (`scipy.optimize.line_search`), or if SciPy finds none, one that
        lowers the loss.
    penalty : Penalty or sequence of them, optional
        Not decoupled ones.

    Attributes
    ----------
    eta : float
        η of the last step, the first guess of the next; 0 if no step lowered the loss, and W stayed.

    Raises
    ------
    ArithmeticError
        From `step`, if the loss or its gradient is not finite. W is as before.

    Notes
    -----
    N §1.2.3.2, "quickest descent". Successive gradients are orthogonal, so that in a narrow valley it zigzags: with
    condition number κ, on a quadratic, a step leaves up to ((κ − 1) / (κ + 1))² of the loss.
    """

    numbers: ClassVar[dict[str, str]] = {"guess": "[0, inf)"}

    def __init__(self, params: Any, search: str = "exact", penalty: Penalty | Sequence[Penalty] | None = None) -> None:
        super().__init__(params, penalty)
        if search not in ("exact", "wolfe"):
            raise ValueError(f"SteepestDescent: search is {search!r}, expected 'exact' or 'wolfe'")
        self.search = search
        self.guess = self.eta = 0.0

    def advance(self, closure):
        at = self._number(closure()) + self.penalty_value
        W, g = self._place, float64(self._gradient())[self._learned]
        self._finite(loss=at, gradient=g)
        self.eta = 0.0
        if g.any():
            along = lambda eta: self._loss(closure, W - eta * g)
            longest = float((1 + np.linalg.norm(W)) / np.linalg.norm(g))  # a step about as long as W
            first = _first_that_falls(along, at, min(2 * self.guess, longest) or longest)
            if first is not None:
                self.eta = (
                    self._exact(along, *first) if self.search == "exact" else self._wolfe(closure, W, g, at, first[0])
                )
        self._move(W - self.eta * g)
        self.guess = self.eta or self.guess
        return at

    def _exact(self, along: Callable[[float], float], b: float, lowest: float) -> float:
        """Return the best η, given one that lowers the loss, and the loss there: double it until the loss rises."""
        for _ in range(100):
            if (further := along(2 * b)) > lowest:
                return float(scipy.optimize.minimize_scalar(along, bracket=(0.0, b, 2 * b), method="brent").x)
            if further == lowest:  # to rounding, the loss is flat from here
                return b
            b, lowest = 2 * b, further
        raise ArithmeticError("SteepestDescent: the loss falls without end along its gradient")

    def _wolfe(self, closure: Any, W: Any, g: Any, at: float, first: float) -> float:
        def gradient(place: Any) -> Any:
            self._loss(closure, place)
            return float64(self._gradient())[self._learned]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that it found none; the answer says so too
            unit = first * g  # SciPy tries 1 first
            eta = scipy.optimize.line_search(lambda place: self._loss(closure, place), gradient, W, -unit, g, at)[0]
        return first if eta is None else float(eta) * first


def _first_that_falls(along: Callable[[float], float], at: float, eta: float) -> tuple[float, float] | None:
    """Return an η that lowers the loss, and the loss there; None if none does, down to the size of rounding."""
    for _ in range(60):
        if (loss := along(eta)) < at:
            return eta, loss
        eta /= 4
    return None
