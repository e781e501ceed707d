"""Trials of one recipe, which differ in their seeds alone: what they reached, and what that says together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

CONFIDENCE = 0.95
TAIL = 10  # the last epochs are a tenth of all


def tail_length(epochs: int) -> int:
    """Return how many epochs are the last 10 %: rounded to the nearest, halves up, and at least one."""
    return max(1, (epochs + TAIL // 2) // TAIL)


STATISTICS: dict[str, Callable[[Sequence[Any]], float]] = {
    "maximum": max,
    "last": lambda curve: statistics.fmean(curve[-tail_length(len(curve)) :]),
    "final": lambda curve: curve[-1],
}
"""What is said of one trial, by its accuracies after each epoch: their maximum, the mean of the last 10 %, the last."""

WORDS = {"maximum": "maximum", "last": "last 10 % of epochs", "final": "last epoch"}


@dataclass(frozen=True)
class Estimate:
    """The mean of some trials and how sure it is.

    Attributes
    ----------
    mean : float
    half_width : float or None
        Half of the mean's 95 % confidence interval, mean ± half_width; None for a single trial.
    number : int
        Of trials.
    """

    mean: float
    half_width: float | None
    number: int

    @property
    def interval(self) -> tuple[float, float]:
        """The interval's ends; of a single trial both are its value."""
        half = self.half_width or 0.0
        return self.mean - half, self.mean + half

    def percent(self, *, sign: bool = False) -> str:
        """Return the estimate in percent with two digits: "93.36 ± 0.12", with `sign` "+0.41 ± 0.12"."""
        mean = f"{100 * self.mean:+.2f}" if sign else f"{100 * self.mean:.2f}"
        return mean if self.half_width is None else f"{mean} ± {100 * self.half_width:.2f}"


def estimate(values: Sequence[float]) -> Estimate | None:
    r"""Return the mean with its 95 % confidence interval, or None without values.

    .. math:: \bar x \pm t_{0.975,\,n-1}\, \frac{s}{\sqrt n}, \qquad s^2 = \frac{1}{n-1} \sum_i (x_i - \bar x)^2,

    with Student's t: the values are taken as independent and normal.
    """
    if not values:
        return None
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Estimate(mean, None, 1)
    from scipy.special import stdtrit  # here, because it takes a while to import

    t = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return Estimate(mean, t * statistics.stdev(values) / math.sqrt(n), n)


@dataclass(frozen=True)
class TrialCurves:
    """What the trials of one recipe reached: for each the accuracy after every epoch.

    A trial diverged if it ended before its last epoch or reached no number in one: it is shown and counted, but it has
    no part in a mean, which would be that of other epochs.

    Parameters
    ----------
    name : str
        The recipe's.
    note : str
        A few words on its settings.
    curves : sequence of (sequence of float or None, or None)
        For each trial its accuracies, fractions in [0, 1], one an epoch; None or NaN where there was none, None instead
        of the whole list for a trial that reached nothing.
    group : str, default ""
        What is compared with each other, for recipes of several tasks (a part of the data, a data set).
    seeds : sequence of int, optional
        Of the trials, by which trials of two recipes are paired. Default: 0, 1, 2, …
    epochs : int, optional
        How many were planned. Default: as many as the longest trial has, of all recipes that are shown together.

    Raises
    ------
    ValueError
        If an accuracy is none, or there are not as many seeds, all different, as trials.
    """

    name: str
    note: str
    curves: Sequence[Sequence[float | None] | None]
    group: str = ""
    seeds: Sequence[int] | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "curves", tuple(None if curve is None else _numbers(curve) for curve in self.curves))
        for curve in self.curves:
            for value in curve or ():
                if value is not None and not 0 <= value <= 1:
                    raise ValueError(f"TrialCurves: curves of {self.name!r} hold {value:g}, expected values in [0, 1]")
        if self.seeds is not None and not len(set(self.seeds)) == len(self.seeds) == len(self.curves):
            raise ValueError(
                f"TrialCurves: seeds of {self.name!r} are {list(self.seeds)}, expected {len(self.curves)} different "
                "ones, one for each trial"
            )
        most = max((len(curve or ()) for curve in self.curves), default=0)
        if self.epochs is not None and self.epochs < max(1, most):
            raise ValueError(
                f"TrialCurves: epochs of {self.name!r} is {self.epochs}, expected at least {max(1, most)}, what the "
                "longest trial has"
            )

    @property
    def label(self) -> str:
        """The group, if there is one, and the name."""
        return label(self.group, self.name)

    @property
    def longest(self) -> int:
        """How many epochs were planned, as far as the trials tell."""
        return self.epochs or max((len(curve or ()) for curve in self.curves), default=0)

    @property
    def by_seed(self) -> dict[int, list[float] | None]:
        """For each seed the accuracies after every epoch, None if the trial diverged."""
        seeds = range(len(self.curves)) if self.seeds is None else self.seeds
        return {seed: self._finished(curve) for seed, curve in zip(seeds, self.curves, strict=True)}

    @property
    def finished(self) -> list[list[float]]:
        """The accuracies of the trials that did not diverge."""
        return [curve for curve in self.by_seed.values() if curve is not None]

    @property
    def diverged(self) -> tuple[int, ...]:
        """The seeds of the trials that diverged."""
        return tuple(seed for seed, curve in self.by_seed.items() if curve is None)

    def values(self, statistic: str = "maximum") -> dict[int, float]:
        """Return what is said of each trial that finished, by its seed: a statistic of `STATISTICS`."""
        return {seed: STATISTICS[statistic](curve) for seed, curve in self.by_seed.items() if curve is not None}

    def estimate(self, statistic: str = "maximum") -> Estimate | None:
        """Return the mean over the trials that finished, with its interval; None if there are none."""
        return estimate(list(self.values(statistic).values()))

    def _finished(self, curve: Sequence[float | None] | None) -> list[float] | None:
        known = [value for value in curve or () if value is not None]
        return known if known and len(known) == self.longest else None


def of_one_length(recipes: Sequence[TrialCurves]) -> list[TrialCurves]:
    """Return the recipes with the number of epochs that those which do not tell it have in common: the longest."""
    longest = max((recipe.longest for recipe in recipes if recipe.epochs is None), default=0)
    return [recipe if recipe.epochs else replace(recipe, epochs=longest or None) for recipe in recipes]


def label(group: str, name: str) -> str:
    """Return how a recipe is called among those of several groups."""
    return f"{group} · {name}" if group else name


def check_statistic(statistic: str, who: str, name: str = "statistic") -> None:
    """Raise ValueError unless it is one of `STATISTICS`."""
    if statistic not in STATISTICS:
        raise ValueError(f"{who}: {name} is {statistic!r}, expected one of {', '.join(STATISTICS)}")


def _numbers(curve: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return the accuracies as Python's numbers, None for NaN."""
    return tuple(None if value is None or math.isnan(value) else float(value) for value in curve)
