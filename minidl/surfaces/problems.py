r"""Functions with known minima to try optimizers on: each is a sum of squares, :math:`f(W) = \sum_i r_i(W)^2`.

So first-order methods, Newton's, Gauss–Newton and Levenberg–Marquardt can all be run on each of them. Gradients,
Jacobians and Hessians come from the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minidl import ops
from minidl.tensor import Tensor

Residuals = Callable[[Sequence[Tensor]], list[Any]]


@dataclass(frozen=True)
class Problem:
    """A function to minimize.

    Attributes
    ----------
    name, title : str
        As on the command line, and as in pictures.
    equation : str
        In words that a terminal can show.
    terms : callable
        Takes the coordinates, as a sequence of Tensors of one shape, and returns the residuals as a list of Tensors.
    start : tuple of float
        Where runs begin by default.
    minima : tuple of points
        All global minimizers; the minimum is 0 at each of them.
    domain : ((low, high), (low, high))
        What a picture of the first two coordinates shows.
    """

    name: str
    title: str
    equation: str
    terms: Residuals
    start: tuple[float, ...]
    minima: tuple[tuple[float, ...], ...]
    domain: tuple[tuple[float, float], tuple[float, float]]

    @property
    def dimension(self) -> int:
        return len(self.start)

    def residuals(self, W: Any) -> Tensor:
        """Return the residuals r at a point (n,), as a vector; of many points (…, n), as (…, m)."""
        return ops.stack(self._terms(W), axis=-1)

    def __call__(self, W: Any) -> Tensor:
        """Return f(W) = Σ r² at a point (n,), or the values at many points (…, n), as (…,)."""
        squares = [r * r for r in self._terms(W)]
        return sum(squares[1:], squares[0])

    def gradient(self, W: Any) -> np.ndarray[Any, Any]:
        """Return ∇f at a point or at many, by the engine, as an array of W's shape."""
        W = Tensor(np.asarray(W, dtype=float), requires_grad=True)
        self(W).sum().backward()
        return W.grad

    def _terms(self, W: Any) -> list[Tensor]:
        W = W if isinstance(W, Tensor) else Tensor(np.asarray(W, dtype=float))
        if W.ndim == 0 or W.shape[-1] != self.dimension:
            raise ValueError(f"{self.name}: W has shape {W.shape}, expected (…, {self.dimension})")
        return self.terms([W[..., i] for i in range(self.dimension)])


def rosenbrock(dimension: int = 2) -> Problem:
    r"""Rosenbrock's curved valley (1960): :math:`\sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2`, minimum at 1."""
    n = _at_least(dimension, 2, "rosenbrock")
    equation = "f = 100 (y − x²)² + (1 − x)²" if n == 2 else "f = Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)²"
    return Problem(
        "rosenbrock", "Rosenbrock's valley", equation, _rosenbrock,
        start=tuple([-1.2, 1.0] * n)[:n], minima=((1.0,) * n,), domain=((-2.0, 2.0), (-1.0, 3.0)),
    )  # fmt: skip


def beale() -> Problem:
    r"""Beale's function (1958), flat far from its minimum at (3, ½), with steep walls.

    :math:`(1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2`.
    """
    return Problem(
        "beale", "Beale's function", "f = (1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²", _beale,
        start=(-0.5, -1.5), minima=((3.0, 0.5),), domain=((-1.0, 4.5), (-2.0, 2.5)),
    )  # fmt: skip


def himmelblau() -> Problem:
    r"""Himmelblau's function (1972), with four minima: :math:`(x^2 + y - 11)^2 + (x + y^2 - 7)^2`."""
    minima = (
        (3.0, 2.0),
        (-2.805118086952745, 3.131312518250573),
        (-3.779310253377747, -3.283185991286170),
        (3.584428340330492, -1.848126526964404),
    )
    return Problem(
        "himmelblau", "Himmelblau's function", "f = (x² + y − 11)² + (x + y² − 7)²", _himmelblau,
        start=(-0.5, -1.0), minima=minima, domain=((-5.0, 5.0), (-5.0, 5.0)),
    )  # fmt: skip


def saddle() -> Problem:
    r"""A saddle at (0, 0) between two minima: :math:`\tfrac12 x^2 + \tfrac14 (y^2 - 1)^2`.

    Plain gradient descent from a start on y = 0 never leaves the saddle. Nesterov 2004, example 1.2.2, plus ¼.
    """
    return Problem(
        "saddle", "A saddle between two minima", "f = ½ x² + ¼ (y² − 1)²", _saddle,
        start=(1.5, 0.01), minima=((0.0, 1.0), (0.0, -1.0)), domain=((-2.0, 2.0), (-1.8, 1.8)),
    )  # fmt: skip


def quadratic(condition: float = 100.0, dimension: int = 2) -> Problem:
    r"""A quadratic bowl with this condition number: :math:`\tfrac12 \sum_i \lambda_i x_i^2`.

    The eigenvalues λ of its Hessian are spaced evenly on a logarithmic scale, from 1 to the condition number.

    Parameters
    ----------
    condition : float of at least 1, default 100
    dimension : int of at least 2, default 2
    """
    n = _at_least(dimension, 2, "quadratic")
    if not (isinstance(condition, (int, float)) and 1 <= condition < math.inf):
        raise ValueError(f"quadratic: condition is {condition!r}, expected a number of at least 1")
    eigenvalues = np.logspace(0, math.log10(condition), n).tolist()
    equation = f"f = ½ (x² + {condition:g} y²)" if n == 2 else f"f = ½ Σ λᵢ xᵢ², λ from 1 to {condition:g}"
    return Problem(
        "quadratic", f"A quadratic with condition number {condition:g}", equation,
        partial(_quadratic, eigenvalues),
        start=tuple([-1.8, 0.6] * n)[:n], minima=((0.0,) * n,), domain=((-2.2, 1.2), (-1.0, 1.0)),
    )  # fmt: skip


def rastrigin(dimension: int = 2) -> Problem:
    r"""Rastrigin's function (1974), a bowl full of local minima: :math:`\sum_i x_i^2 + 10\,(1 - \cos 2\pi x_i)`.

    With :math:`1 - \cos 2\pi x = 2 \sin^2 \pi x` it is a sum of squares.
    """
    n = _at_least(dimension, 1, "rastrigin")
    equation = "f = x² + y² + 10 (2 − cos 2πx − cos 2πy)" if n == 2 else "f = Σ xᵢ² + 10 (1 − cos 2πxᵢ)"
    return Problem(
        "rastrigin", "Rastrigin's function", equation, _rastrigin,
        start=tuple([-3.3, 2.6] * n)[:n], minima=((0.0,) * n,), domain=((-5.12, 5.12), (-5.12, 5.12)),
    )  # fmt: skip


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "rosenbrock": rosenbrock,
    "beale": beale,
    "himmelblau": himmelblau,
    "saddle": saddle,
    "quadratic": quadratic,
    "rastrigin": rastrigin,
}


def problem(name: str) -> Problem:
    """Return the problem of this name, in two dimensions.

    Raises
    ------
    ValueError
        If there is none; the message lists the names.
    """
    if name not in PROBLEMS:
        raise ValueError(f"surface is {name!r}, expected one of {', '.join(PROBLEMS)}")
    return PROBLEMS[name]()


# ---------------------------------------------------------------- the residuals; outside, so that they can be pickled


def _rosenbrock(x: Sequence[Tensor]) -> list[Tensor]:
    return [r for i in range(len(x) - 1) for r in (10 * (x[i + 1] - x[i] * x[i]), 1 - x[i])]


def _beale(at: Sequence[Tensor]) -> list[Tensor]:
    x, y = at
    return [1.5 - x + x * y, 2.25 - x + x * y * y, 2.625 - x + x * y * y * y]


def _himmelblau(at: Sequence[Tensor]) -> list[Tensor]:
    x, y = at
    return [x * x + y - 11, x + y * y - 7]


def _saddle(at: Sequence[Tensor]) -> list[Tensor]:
    x, y = at
    return [x * math.sqrt(0.5), (y * y - 1) * 0.5]


def _quadratic(eigenvalues: Sequence[float], x: Sequence[Tensor]) -> list[Tensor]:
    return [xi * math.sqrt(0.5 * eigenvalue) for xi, eigenvalue in zip(x, eigenvalues, strict=True)]


def _rastrigin(x: Sequence[Tensor]) -> list[Tensor]:
    return [r for xi in x for r in (xi, math.sqrt(20) * ops.sin(math.pi * xi))]


def _at_least(dimension: int, least: int, who: str) -> int:
    if not isinstance(dimension, (int, np.integer)) or isinstance(dimension, bool) or dimension < least:
        raise ValueError(f"{who}: dimension is {dimension!r}, expected an integer of at least {least}")
    return int(dimension)
