"""All optimizers on one surface, from one start, over a grid of learning rates and momenta.

The optimizers are the real ones. A first-order method acts on each element of W alone, so the runs with all rates of
the grid are one run of one optimizer: W holds one point for each rate, and `lr_scale` holds the rates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import memory
from minidl.optim import Optimizer, catalogue
from minidl.optim.catalogue import Method
from minidl.surfaces.problems import Problem
from minidl.tensor import Tensor

STEPS = 200
RATES = tuple(float(rate) for rate in np.logspace(-4, 1, 17))
EPSILONS = tuple(float(eps) for eps in np.logspace(-8, 0, 17))  # for Adadelta, which has no rate
MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
ROUNDING = 1e-16  # losses below it are rounding
NEAR = 0.01  # a run is at a minimum while it is closer than this
FAR = 1e6  # a run has diverged when it leaves this box, measured in widths of the domain


@dataclass(frozen=True)
class Family:
    """The runs of one method over its grid.

    Attributes
    ----------
    method : catalogue.Method
    values : tuple of float or None, of length R
        The grid of the hyper-parameter `method.tuned`; (None,) if the method has none.
    momenta : tuple of float or None, of length B
        The grid of the hyper-parameter `method.momentum`; (None,) if the method has none.
    paths : (R, B, steps + 1, 2)
        W^t, from the start on; NaN after a run has diverged.
    losses : (R, B, steps + 1)
        f(W^t); NaN after a run has diverged.
    """

    method: Method
    values: tuple[float | None, ...]
    momenta: tuple[float | None, ...]
    paths: np.ndarray[Any, Any]
    losses: np.ndarray[Any, Any]

    @property
    def ends(self) -> np.ndarray[Any, Any]:
        """(R, B): the median of the loss over the last quarter of the steps; NaN where the run diverged.

        So a run that happens to swing through a minimum at the last step does not count as good. Losses below 1e-16
        are rounding, and count as that.
        """
        last = self.losses[:, :, -max(1, self.losses.shape[-1] // 4) :]
        return np.median(np.maximum(last, ROUNDING), axis=-1)

    @property
    def best(self) -> tuple[int, int]:
        """Where on the grid the loss ends lowest; among equals, where it fell the fastest."""
        whole = np.log(np.maximum(self.losses, ROUNDING)).mean(axis=-1)
        order = np.lexsort((whole.ravel(), self.ends.ravel()))  # NaN comes last
        i, j = np.unravel_index(int(order[0]), whole.shape)
        return int(i), int(j)

    @property
    def diverged(self) -> np.ndarray[Any, Any]:
        """(R, B) booleans: which runs have left every bound."""
        return np.isnan(self.losses[:, :, -1])

    @property
    def at_edge(self) -> bool:
        """Whether the best value is the grid's first or last: a larger grid might hold a better one."""
        return len(self.values) > 1 and self.best[0] in (0, len(self.values) - 1)

    def arrivals(self, minima: Sequence[Sequence[float]]) -> np.ndarray[Any, Any]:
        """Return (R, B) integers: the first step from which on a run stays `NEAR` a minimum; −1 if it never does."""
        away = ~(np.linalg.norm(self.paths[..., None, :] - np.array(minima), axis=-1).min(axis=-1) < NEAR)
        last_away = away.shape[-1] - 1 - away[..., ::-1].argmax(axis=-1)
        steps = np.where(away.any(axis=-1), last_away + 1, 0)
        return np.where(steps < away.shape[-1], steps, -1)

    def setting(self, at: tuple[int, int] | None = None) -> str:
        """Return the setting at a place of the grid, by default the best one, in words: "η 0.01, β 0.9"."""
        i, j = at or self.best
        parts = [] if self.values[i] is None else [self.method.setting(float(f"{self.values[i]:.2g}"))]
        if self.momenta[j] is not None:
            symbol = {"beta": "β", "gamma": "γ", "betas": "β₁"}[self.method.momentum or "beta"]
            parts.append(f"{symbol} {self.momenta[j]:g}")
        return ", ".join(parts) or "nothing to tune"


@dataclass(frozen=True)
class Sweep:
    """The result of `sweep`: the problem, the start, and one family of runs for each method."""

    problem: Problem
    start: tuple[float, float]
    steps: int
    families: tuple[Family, ...]


def sweep(
    problem: Problem,
    methods: Sequence[str] | str = catalogue.RACE,
    *,
    start: Sequence[float] | None = None,
    steps: int = STEPS,
    rates: Sequence[float] = RATES,
    epsilons: Sequence[float] = EPSILONS,
    momenta: Sequence[float] = MOMENTA,
    notice: Callable[[Method], None] = lambda method: None,
) -> Sweep:
    """Run optimizers on a surface with every rate and momentum of a grid.

    Parameters
    ----------
    problem : Problem
        In two dimensions.
    methods : sequence of str or str, default: all
        Names of `optim.catalogue`.
    start : pair of float, optional
        Default: the problem's.
    steps : int, default 200
    rates, epsilons, momenta : sequences of float
        The grids: learning rates, Adadelta's ε, and β (or γ, or β₁). A method has the same grid as every other, as far
        as it has these settings.
    notice : callable, optional
        Called with each method before its runs.

    Returns
    -------
    Sweep
    """
    picked, at = check(problem, methods, start, steps)
    runs = sum(len(rates if m.tuned else (0,)) * len(momenta if m.momentum else (0,)) for m in picked)
    memory.require(runs * (steps + 1) * 8 * 8, "sweep", f"{runs:,} runs of {steps:,} steps")
    grids = {"lr": tuple(rates), "eps": tuple(epsilons), None: (None,)}
    families = []
    for method in picked:
        notice(method)
        values = grids[method.tuned]
        shares = tuple(momenta) if method.momentum else (None,)
        paths = np.stack([_runs(problem, method, at, steps, values, share) for share in shares], axis=1)
        families.append(_family(problem, method, values, shares, paths))
    return Sweep(problem, (float(at[0]), float(at[1])), int(steps), tuple(families))


def check(
    problem: Problem, methods: Sequence[str] | str, start: Sequence[float] | None, steps: int
) -> tuple[list[Method], Any]:
    """Raise if `sweep` could not begin with these arguments; return the methods and the start."""
    picked = catalogue.pick(methods)
    if problem.dimension != 2:
        raise ValueError(f"sweep: {problem.name} has {problem.dimension} dimensions, expected 2")
    at = np.asarray(problem.start if start is None else start, dtype=float)
    if at.shape != (2,) or not np.isfinite(at).all():
        raise ValueError(f"sweep: start is {start!r}, expected two finite numbers")
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"sweep: steps is {steps!r}, expected a positive integer")
    return picked, at


def _family(problem: Problem, method: Method, values: Any, momenta: Any, paths: Any) -> Family:
    with np.errstate(all="ignore"):
        losses = problem(paths).data.copy()
        losses[~np.isfinite(losses)] = np.nan
        return Family(method, values, momenta, paths, losses)


def _runs(problem: Problem, method: Method, start: Any, steps: int, values: Any, momentum: float | None) -> Any:
    """Return the paths of one method with every value of its tuned hyper-parameter: (R, steps + 1, 2)."""
    points = Tensor(np.tile(start, (len(values), 1)), requires_grad=True)
    if method.tuned == "lr":
        optimizer = method.make([points], 1.0, momentum, lr_scale={"params[0]": np.array(values)[:, None]})
    else:
        optimizer = method.make([points], None, momentum)
        if method.tuned == "eps":
            vars(optimizer)["eps"] = np.repeat(values, 2)  # a number in the equation, and just as well a vector
    return _path(problem, points, optimizer, steps, method.closure == "residuals")


def _path(problem: Problem, points: Tensor, optimizer: Optimizer, steps: int, residuals: bool) -> Any:
    """Take the steps and return W^t of each point, from the start on; NaN after a point has left every bound."""

    def loss() -> Tensor:
        total = problem(points).sum()
        total.backward()
        return total

    def closure() -> Tensor:
        return problem.residuals(points)[0] if residuals else loss()

    widths = np.array([high - low for low, high in problem.domain])
    path = np.full((len(points), steps + 1, 2), np.nan)
    path[:, 0] = points.data
    inside = np.ones(len(points), dtype=bool)
    with np.errstate(all="ignore"):  # a rate that is too high may diverge
        for t in range(1, steps + 1):
            try:
                optimizer.step(closure)
            except (ArithmeticError, np.linalg.LinAlgError):  # a second-order method says that it cannot go on
                break
            W = optimizer.weights.reshape(-1, 2)
            inside &= (np.abs(W) < FAR * widths).all(axis=1)
            path[inside, t] = W[inside]
            if not inside.any():
                break
    return path
