"""What a search has found: its trials, and the best of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minidl import tables
from minidl.files import replacing
from minidl.studies.space import Value

ROWS = 20  # of trials that a printed table shows


@dataclass(frozen=True, eq=False)
class Found:
    """The result of `search`; printed, it is a table of the trials, best first.

    Attributes
    ----------
    values : dict or None
        The hyper-parameters of the best trial; of equal ones the earliest. None if no trial has a finite value.
    value : float or None
        What the objective returned for them.
    trials : list of dict
        All trials that are done, by all processes: `trial` (from 1), `values`, `value` (None where it was not finite;
        of a pruned trial the last one reported), `pruned`, `failure` (why a training diverged, else empty), `reported`
        (pairs of an epoch and its value, None where it was not finite), `seconds`.
    settings : dict
        Name, method, direction, seed, space, and the versions of minidl and Optuna.
    interrupted : bool
        Whether Ctrl-C ended it.
    """

    values: dict[str, Value] | None
    value: float | None
    trials: list[dict[str, Any]]
    settings: dict[str, Any]
    interrupted: bool = False

    def __str__(self) -> str:
        """Return a table of the trials (the twenty best)."""
        names = list(self.settings["space"])
        best_first = sorted(self.trials, key=self._rank)
        rows = [
            (
                str(trial["trial"]),
                *(written(trial["values"][name]) for name in names),
                "–" if trial["value"] is None else f"{trial['value']:.5g}",
                _note(trial),
                f"{trial['seconds']:.1f}",
            )
            for trial in best_first[:ROWS]
        ]
        title = (
            f"search {self.settings['name']}: {self.settings['method']}, {len(self.trials)} "
            f"trial{'s' * (len(self.trials) != 1)}{' (interrupted)' * self.interrupted}, best first "
            f"({self.settings['direction']})"
        )
        headings = ("trial", *names, "value", "", "seconds")
        return tables.as_text(title, headings, rows, more=max(0, len(self.trials) - ROWS))

    def _rank(self, trial: Mapping[str, Any]) -> tuple[bool, bool, float]:
        """Return what sorts trials best first: those that were pruned, and those without a value, come last."""
        sign = -1 if self.settings["direction"] == "maximize" else 1
        return trial["value"] is None, trial["pruned"], sign * (trial["value"] or 0.0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as JSON."""
        content = {
            "settings": self.settings,
            "values": self.values,
            "value": self.value,
            "interrupted": self.interrupted,
            "trials": self.trials,
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def gathered(held: Mapping[int, Any], settings: dict[str, Any], interrupted: bool) -> Found:
    """Return what Optuna's trials, by place, have found: those that are done."""
    trials = []
    for place, trial in held.items():
        if trial.state.is_finished():
            pruned = trial.state.name == "PRUNED"
            entry = {
                "trial": place + 1,
                "values": {name: trial.params[name] for name in settings["space"]},
                "value": _finite(trial.value),
                "pruned": pruned,
                "failure": trial.user_attrs.get("failure", ""),
                "reported": [[epoch, _finite(value)] for epoch, value in sorted(trial.intermediate_values.items())],
                "seconds": round((trial.datetime_complete - trial.datetime_start).total_seconds(), 3),
            }
            trials.append(entry)
    complete = [trial for trial in trials if trial["value"] is not None and not trial["pruned"]]
    pick = max if settings["direction"] == "maximize" else min
    best = pick(complete, key=lambda trial: trial["value"], default=None)
    values, value = (dict(best["values"]), best["value"]) if best else (None, None)
    return Found(values, value, trials, settings, interrupted)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def written(value: Value) -> str:
    """Return a value as it is printed."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _note(trial: Mapping[str, Any]) -> str:
    if trial["pruned"]:
        return "pruned"
    return "" if trial["value"] is not None else "diverged"
