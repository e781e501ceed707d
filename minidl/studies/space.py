"""What a search looks through: the values that each hyper-parameter may have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

Value = None | bool | int | float | str
LARGEST = 2**53  # the integers up to here are exact as floats, as which storages hold them


@dataclass(frozen=True)
class Choice:
    """One of some values.

    Parameters
    ----------
    values : sequence of None, bool, int, float or str
        At least one, each once, where 1, 1.0 and True are the same. What is no such value, as an optimizer, is chosen
        by its name.
    """

    values: Sequence[Value]

    def __post_init__(self) -> None:
        if isinstance(self.values, (str, bytes)) or not isinstance(self.values, Sequence) or not self.values:
            raise TypeError(f"Choice: values is {self.values!r}, expected a sequence of at least one value")
        for i, value in enumerate(self.values):
            if not isinstance(value, (type(None), bool, int, float, str)):
                raise TypeError(f"Choice: a value is {value!r}, expected None, a bool, an int, a float or a string")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"Choice: a value is {value}, expected a finite number")
            if value in self.values[:i]:
                raise ValueError(f"Choice: {value!r} is there twice, expected each value once")
        object.__setattr__(self, "values", tuple(self.values))

    def draw(self, rng: np.random.Generator) -> Value:
        """Return one of the values, each as probable as the others."""
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included.

    Parameters
    ----------
    low, high : float, or int with integer=True
        low < high.
    log : bool, default False
        Whether the logarithm is drawn evenly, as suits rates and strengths; `low` is then positive.
    integer : bool, default False
        Whether it is an integer.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        kind: Any
        kind, word = (Integral, "an integer") if self.integer else (Real, "a number")
        for name in ("low", "high"):
            bound = getattr(self, name)
            if not isinstance(bound, kind) or isinstance(bound, bool):
                raise TypeError(f"Range: {name} is {bound!r}, expected {word}")
            if not math.isfinite(bound) or (self.integer and abs(bound) > LARGEST):
                raise ValueError(f"Range: {name} is {bound!r}, expected a finite number, and an integer up to 2**53")
            object.__setattr__(self, name, int(bound) if self.integer else float(bound))
        if not self.low < self.high:
            raise ValueError(f"Range: low is {self.low!r} and high {self.high!r}, expected low < high")
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"Range: from {self.low!r} to {self.high!r}, expected a difference that is finite")
        if self.log and self.low <= 0:
            raise ValueError(f"Range: low is {self.low!r}, expected a positive number with log=True")

    def draw(self, rng: np.random.Generator) -> int | float:
        """Return a number, drawn evenly or with log=True evenly in its logarithm."""
        if self.integer and not self.log:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        half = 0.5 if self.integer else 0.0  # so that both ends are as probable as what lies between
        low, high = self.low - half, self.high + half
        drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if self.log else rng.uniform(low, high)
        inside = min(max(drawn, self.low), self.high)  # rounding may step over a bound
        return min(max(round(inside), int(self.low)), int(self.high)) if self.integer else inside


def checked_space(space: object, who: str) -> dict[str, Choice | Range]:
    """Return the space as a dict; raise in the name of `who` if it is none."""
    if not isinstance(space, Mapping) or not space:
        raise TypeError(f"{who}: space is {space!r}, expected a dict of names and Choice or Range")
    for name, values in space.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"{who}: space has the name {name!r}, expected a string that is not empty")
        if not isinstance(values, (Choice, Range)):
            raise TypeError(f"{who}: space[{name!r}] is {values!r}, expected a Choice or a Range")
    return dict(space)


def as_json(space: Mapping[str, Choice | Range]) -> dict[str, Any]:
    """Return the space in words that JSON can hold."""
    return {
        name: {"choices": list(values.values)} if isinstance(values, Choice) else asdict(values)
        for name, values in space.items()
    }


def grid_size(space: Mapping[str, Choice | Range], who: str) -> int:
    """Return the number of points of the grid of all choices; raise in the name of `who` if there is a Range."""
    for name, values in space.items():
        if isinstance(values, Range):
            raise ValueError(f"{who}: space[{name!r}] is {values}; a grid needs a Choice of the values to try")
    return math.prod(len(values.values) for values in space.values() if isinstance(values, Choice))


def grid_point(space: Mapping[str, Choice | Range], number: int) -> dict[str, Value]:
    """Return a point of the grid by its number, from 0; the last name varies fastest."""
    point: dict[str, Value] = {}
    for name, values in reversed(list(space.items())):
        assert isinstance(values, Choice)
        number, place = divmod(number, len(values.values))
        point[name] = values.values[place]
    return {name: point[name] for name in space}
