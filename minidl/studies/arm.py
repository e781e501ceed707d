"""An arm of a study: a recipe on a part of the data, and what its trials have reached."""

from __future__ import annotations

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
    def seconds(self) -> float:
        """Of training, mean over the trials."""
        return sum(record["seconds"] for record in self.records.values()) / max(1, len(self.records))

    def curves(self, group: str = "", note: str = "") -> TrialCurves:
        """Return the accuracies of the trials, one after each epoch."""
        seeds = sorted(self.records)
        found = [accuracies(self.records[seed]) for seed in seeds]
        return TrialCurves(self.recipe.name, note, found, group, seeds, self.recipe.epochs)
