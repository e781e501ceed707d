"""Steepest descent: gradient descent that looks for the best rate in every step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import scipy.optimize

from minidl.optim.deterministic import SMALLEST_STEP, DeterministicOptimizer, float64
from minidl.optim.penalties import Penalty


class SteepestDescent(DeterministicOptimizer):
    r"""Gradient descent to the lowest point along the gradient.

    .. math:: W^t = W^{t-1} - \eta_t\, g, \qquad \eta_t = \arg\min_\eta L(W^{t-1} - \eta g)

    Parameters
    ----------
    params : Module or iterable of Tensors
    penalty : Penalty or sequence of them, optional
        Not decoupled ones.
    search : {"exact", "wolfe"}, default "exact"
        "exact": bracket a minimum along −g, then Brent's method (`scipy.optimize.minimize_scalar`). "wolfe": any step
        that satisfies the strong Wolfe conditions (`scipy.optimize.line_search`).

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
    condition number κ the loss falls by ((κ − 1) / (κ + 1))² a step.
    """

    numbers: ClassVar[tuple[str, ...]] = ("guess",)

    def __init__(self, params: Any, search: str = "exact", penalty: Penalty | Sequence[Penalty] | None = None) -> None:
        super().__init__(params, penalty)
        if search not in ("exact", "wolfe"):
            raise ValueError(f"SteepestDescent: search is {search!r}, expected 'exact' or 'wolfe'")
        self.search = search
        self.guess, self.eta = 1.0, 0.0

    def advance(self, closure):
        self.zero_grad()
        loss = closure()
        at, W, g = self._number(loss) + self.penalty_value, float64(self._vector.iterate), float64(self._gradient())
        self._finite(loss=at, gradient=g)
        along = lambda eta: self._loss(closure, W - eta * g)
        self.eta = self._exact(along, at) if self.search == "exact" else self._wolfe(closure, W, g, at)
        self._move(W - self.eta * g)
        self.guess = self.eta or self.guess
        return loss

    def _exact(self, along: Callable[[float], float], at: float) -> float:
        bracket = _bracket(along, at, self.guess)
        if bracket is None:
            return 0.0
        if bracket[1] == bracket[2]:
            return bracket[1]
        return float(scipy.optimize.minimize_scalar(along, bracket=bracket, method="brent").x)

    def _wolfe(self, closure: Any, W: Any, g: Any, at: float) -> float:
        def gradient(place: Any) -> Any:
            self.zero_grad()
            self._loss(closure, place)
            return float64(self._gradient())

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that it found none; the answer says so too
            eta = scipy.optimize.line_search(lambda place: self._loss(closure, place), gradient, W, -g, g, at)[0]
        return 0.0 if eta is None else float(eta)


def _bracket(along: Callable[[float], float], at: float, guess: float) -> tuple[float, float, float] | None:
    """Return (0, b, c) with a loss at b below both ends, (0, b, b) if it is flat there; None if no step lowers it."""
    b = guess
    while not (lowest := along(b)) < at:
        b /= 4
        if b < SMALLEST_STEP:
            return None
    while True:
        c = 2 * b
        if (further := along(c)) > lowest:
            return 0.0, b, c
        if further == lowest:  # to rounding, the loss is flat from here
            return 0.0, b, b
        if c > 1 / SMALLEST_STEP:
            raise ArithmeticError("SteepestDescent: the loss falls without end along its gradient")
        b, lowest = c, further
