"""The base of all schedules: the call, the settings, saving and loading."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np


class Schedule:
    """The base of all schedules: write `at(t)`, the equation.

    The parameters of the constructor are the settings; they are kept as attributes of the same names, which can be set
    once only. Two schedules are equal if their classes, settings and states are.
    """

    settings: ClassVar[dict[str, Any]] = {}  # the constructor's parameters and their defaults
    state: ClassVar[tuple[str, ...]] = ()  # attributes that change in training; they are saved and loaded too
    whole: ClassVar[bool] = False  # whether t must be a whole number

    def __init_subclass__(cls) -> None:
        cls.settings = {name: each.default for name, each in inspect.signature(cls).parameters.items()}

    def at(self, t: Any) -> float:
        raise TypeError(f"{type(self).__name__} has no at method")

    def __call__(self, t: float) -> float:
        """Return η_t, the rate of the step, or epoch, after t finished ones.

        Raises
        ------
        TypeError
            If t is no number.
        ValueError
            If t is negative or not finite, or a fraction where the equation takes whole numbers only.
        """
        return float(self.at(self.checked("t", t, whole=self.whole)))

    def observe(self, t: float, loss: float) -> None:
        """Take note of the watched loss after t finished steps; only `ReduceOnPlateau` watches one."""

    # -- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Return the class's name, the settings and the state; JSON can hold all of it, and loses no bit."""
        return {"class": type(self).__name__} | {name: self._plain(name) for name in (*self.settings, *self.state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; the settings must be the same.

        Raises
        ------
        ValueError
            If it is another class's or has other settings, or an entry is missing, unexpected or bad. Nothing has been
            loaded then.
        """
        new = self.from_state(state)
        self.check_settings(new)
        vars(self).update({name: getattr(new, name) for name in self.state})

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Schedule:
        """Return a new schedule of this class with these settings and this state."""
        cls.check_entries(state)
        try:
            new = cls(**{name: state[name] for name in cls.settings})
            new._take_state({name: state[name] for name in cls.state})
        except TypeError as error:
            raise ValueError(str(error)) from error
        return new

    def _take_state(self, state: dict[str, Any]) -> None:
        """Check the entries of `state` and make them attributes."""

    def check_settings(self, saved: Schedule) -> None:
        """Raise unless those of the saved schedule are the same: its rates would be others from now on."""
        plain = [(name, self._plain(name), saved._plain(name)) for name in self.settings]
        differ = ", ".join(f"{name} is {own}, in the state {theirs}" for name, own, theirs in plain if own != theirs)
        if differ:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: {differ}; a run goes on with the schedule that it began with. "
                "For another one load the weights alone, and begin a new run"
            )

    @classmethod
    def check_entries(cls, state: Any) -> None:
        """Raise unless `state` is of this class and has all of its entries, and no other."""
        kind, who = cls.__name__, f"{cls.__name__}.load_state_dict"
        if not isinstance(state, Mapping) or state.get("class") != kind:
            of = f"this is the state of {state.get('class')}" if isinstance(state, Mapping) else f"this is {state!r}"
            raise ValueError(f"{who}: {of}")
        expected = {"class", *cls.settings, *cls.state}
        for what, names in (("missing", expected - state.keys()), ("unexpected", state.keys() - expected)):
            if names:
                raise ValueError(f"{who}: {', '.join(sorted(map(str, names)))} {what}, expected {sorted(expected)}")

    def _plain(self, name: str) -> Any:
        value = getattr(self, name)
        if isinstance(value, Schedule):
            return value.state_dict()
        return list(value) if isinstance(value, (tuple, list)) else value

    # -- settings

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.settings and name in vars(self):
            kind = type(self).__name__
            raise AttributeError(f"{kind}: {name} is a setting, which does not change; make a new {kind}")
        super().__setattr__(name, value)

    def checked(self, name: str, value: Any, within: str = "[0, inf)", whole: bool = False) -> Any:
        """Return a number as Python's own if it lies in the interval `within`; otherwise raise, naming it."""
        value = self.number(name, value)
        low, high = map(float, within[1:-1].split(","))
        above = value > low if within[0] == "(" else value >= low
        below = value < high if within[-1] == ")" else value <= high
        if not (above and below and not (whole and value % 1)):
            kind = "whole number" if whole else "number"
            raise ValueError(f"{type(self).__name__}: {name} is {value!r}, expected a {kind} in {within}")
        return int(value) if whole else value

    def number(self, name: str, value: Any) -> Any:
        """Return a number of whatever size, NaN too, as Python's own; raise if it is something else."""
        if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
            raise TypeError(f"{type(self).__name__}: {name} is {value!r}, expected a number")
        return int(value) if isinstance(value, (int, np.integer)) else float(value)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.state_dict() == self.state_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        changed = {name: getattr(self, name) for name, default in self.settings.items()}
        shown = (f"{name}={value!r}" for name, value in changed.items() if value != self.settings[name])
        return f"{type(self).__name__}({', '.join(shown)})"
