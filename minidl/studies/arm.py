"""An arm of a study: a recipe on a part of the data, and what its trials have reached."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from minidl.studies.recipe import Recipe
from minidl.studies.run import accuracies
from minidl.trials import TrialCurves


@dataclass(frozen=True)
class Arm:
    """A recipe on a part of the training images, and what its trials have reached.

    Attributes
    ----------
    recipe : Recipe
        With its tuned values.
    fraction : float
    tuned : list of dict
        For each combination of values that was tried in tuning: `values`, and the `accuracy` on the images held out.
    records : dict of int to dict
        The trials' records, by seed.
    """

    recipe: Recipe
    fraction: float
    tuned: list[dict[str, Any]] = field(default_factory=list)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def chosen(self) -> dict[str, Any]:
        """The values that were found by tuning."""
        differ = [
            name for name in self.recipe.values if len({str(each["values"].get(name)) for each in self.tuned}) > 1
        ]
        return {name: self.recipe.values[name] for name in differ}

    @property
    def seconds(self) -> float:
        """Of training, the median of the trials that did not diverge: other work on the machine disturbs it least."""
        finished = [record["seconds"] for record in self.records.values() if not record["failure"]]
        return statistics.median(finished) if finished else 0.0

    def curves(self, title: str = "", note: str = "", group: str = "") -> TrialCurves:
        """Return the accuracies of the trials, one after each epoch, with words for tables and pictures."""
        seeds = sorted(self.records)
        found = [accuracies(self.records[seed]) for seed in seeds]
        return TrialCurves(title or self.recipe.name, note, found, group, seeds, self.recipe.epochs)
