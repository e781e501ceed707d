"""The bases of all penalties."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.optim.vector import Layout


class Penalty:
    """The base: write `value` and its derivative `gradient`, or `pull`, the decoupled form.

    Attributes
    ----------
    decoupled : bool
        Whether the optimizer calls `pull` after its update, instead of adding `gradient` to the loss's.
    """

    decoupled = False

    def check(self, layout: Layout) -> None:
        """Raise if this penalty does not fit these parameters."""

    def value(self, W: Any, layout: Layout) -> float:
        """Return what is added to the loss."""
        raise TypeError(f"{type(self).__name__} has no value method")

    def gradient(self, W: Any, layout: Layout) -> Any:
        """Return the derivative of `value`, a vector like W."""
        raise TypeError(f"{type(self).__name__} has no gradient method")

    def curvature(self, W: Any, layout: Layout) -> Any:
        """Return the diagonal of the second derivative of `value`, a vector like W."""
        raise TypeError(f"{type(self).__name__} has no curvature method")

    def pull(self, W: Any, before: Any, layout: Layout) -> Any:
        """Return the weights after the decoupled step; `W` is what the update made of `before`."""
        raise TypeError(f"{type(self).__name__} has no decoupled form")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class NormPenalty(Penalty):
    r"""The base of those that are a sum of norms: write `terms`, the S, Λ and p of each.

    .. math:: \sum_S \Lambda_S \|W_S\|_p^p, \qquad
              \nabla = \Lambda p\, |w|^{p-1} \operatorname{sign}(w), \qquad
              \nabla^2 = \Lambda p (p-1)\, |w|^{p-2}

    `curvature` is 0 for p = 1, and infinite at w = 0 for 1 < p < 2. The decoupled form first subtracts ∇ at the old w
    for all terms with p > 1, then moves the weights towards zero by Λ for those with p = 1, as `L1` describes.

    Parameters
    ----------
    decoupled : bool
    biases : bool
        Whether parameters with fewer than two axes count: biases, and the scales and shifts of normalizations.
    """

    def __init__(self, decoupled: bool, biases: bool) -> None:
        for name, value in (("decoupled", decoupled), ("biases", biases)):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{type(self).__name__}: {name} is {value!r}, expected True or False")
        self.decoupled, self.biases = bool(decoupled), bool(biases)

    def terms(self, layout: Layout) -> list[tuple[slice, float, float]]:
        """Return (S, Λ, p) for each term; S is the slice of W."""
        raise TypeError(f"{type(self).__name__} has no terms method")

    def check(self, layout: Layout) -> None:
        self.terms(layout)

    def value(self, W: Any, layout: Layout) -> float:
        norms = ((strength, (np.abs(W[part]) ** p).sum(dtype=np.float64)) for part, strength, p in self.terms(layout))
        return sum((strength * float(norm) for strength, norm in norms), 0.0)

    def gradient(self, W: Any, layout: Layout) -> Any:
        gradient = np.zeros_like(W)
        for part, strength, p in self.terms(layout):
            gradient[part] += _derivative(W[part], strength, p)
        return gradient

    def curvature(self, W: Any, layout: Layout) -> Any:
        curvature = np.zeros_like(W)
        for part, strength, p in self.terms(layout):
            if p > 1:
                with np.errstate(divide="ignore"):  # infinite at 0 for p < 2
                    curvature[part] += strength * p * (p - 1) * np.abs(W[part]) ** (p - 2)
        return curvature

    def pull(self, W: Any, before: Any, layout: Layout) -> Any:
        W, terms = W.copy(), self.terms(layout)
        for part, strength, p in terms:
            if p > 1:
                W[part] -= _derivative(before[part], strength, p)
        for part, strength, p in terms:
            if p == 1:
                W[part] -= np.clip(W[part], -strength, strength)  # exactly 0 where |w| is at most Λ
        return W

    def _parts(self, layout: Layout) -> list[slice]:
        """Return the slices of W that count."""
        return [slice(None)] if self.biases else with_two_axes(layout, f"{type(self).__name__}: biases is False")


def _derivative(w: Any, strength: float, p: float) -> Any:
    """Return the gradient of Λ‖w‖_p^p."""
    if p == 1:
        return strength * np.sign(w)
    if p == 2:
        return 2 * strength * w
    return strength * p * np.abs(w) ** (p - 1) * np.sign(w)


def with_two_axes(layout: Layout, who: str) -> list[slice]:
    """Return where the parameters with at least two axes lie in W; raise if there are none."""
    parts = [span for shape, span in zip(layout.shapes, layout.spans, strict=True) if len(shape) >= 2]
    if not parts:
        raise ValueError(f"{who}, and no parameter has two axes; there are {', '.join(layout.names)}")
    return parts
