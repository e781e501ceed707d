"""How a study finds the values of a recipe before its trials: by the study's own grid, or by a search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minidl import training, trials
from minidl.ops.arguments import positive_integer
from minidl.studies.arm import Arm
from minidl.studies.recipe import Recipe
from minidl.studies.run import HELD_OUT, Run, accuracies
from minidl.studies.search import METHODS, Pruned, Report, search
from minidl.studies.shared import need_optuna
from minidl.studies.space import Choice, Range, Value, as_json
from minidl.studies.study import Options, Study, varied


def judged(record: Mapping[str, Any]) -> float:
    """Return by what a run is chosen: the mean accuracy over its last 10 % of epochs, 0 if it diverged."""
    return 0.0 if record["failure"] else trials.STATISTICS["last"](accuracies(record))


def grid_runs(study: Study, options: Options, arm: Arm) -> list[Run]:
    """Return a short run on a part of the training images for each combination of the study's own grid."""
    grid = {} if study.tuning is None else study.tuning(arm.recipe)
    grid = {name: values for name, values in grid.items() if name not in options.grid}
    recipes = varied(replace(arm.recipe, epochs=options.tuning_epochs), grid)
    if len(recipes) < 2:
        return []
    images = len(Run(arm.recipe, options.data).data().train_x)
    fraction = min(arm.fraction, options.tuning_images / images)
    return [Run(recipe, options.data, fraction, options.seed, HELD_OUT) for recipe in recipes]


def best_of(arm: Arm, runs: Sequence[Run], records: Sequence[Mapping[str, Any]]) -> Arm:
    """Return the arm with the values of the run that was best on the images held out."""
    tried: list[dict[str, Any]] = [
        {"values": dict(run.recipe.values), "accuracy": judged(record)}
        for run, record in zip(runs, records, strict=True)
    ]
    if not tried:
        return arm
    best = max(tried, key=lambda each: each["accuracy"])
    return replace(arm, recipe=arm.recipe.changed(best["values"]), tuned=tried)


@dataclass(frozen=True)
class Search:
    """The search for the values of each recipe, by `studies.search`, on training images that are held out.

    Attributes
    ----------
    method : {"bayesian", "random", "grid"}
        "grid": over the values that the options' grid has; the others where the study says that a search looks.
    trials : int
        For each recipe on each part of the data; a grid has its own number.
    storage : str, optional
        As for `studies.search`. Default: a file in the study's folder.
    """

    method: str
    trials: int = 20
    storage: str | None = None

    def __post_init__(self) -> None:
        need_optuna()
        if self.method not in METHODS:
            raise ValueError(f"study: search is {self.method!r}, expected one of {', '.join(METHODS)}")
        positive_integer(self.trials, "study", "budget")

    def tuned(self, study: Study, options: Options, arm: Arm, folder: Path, quiet: bool) -> Arm:
        """Return the arm with the best values that the search has found.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C; the next call goes on.
        """
        space = self._space(study, options, arm.recipe)
        if not space:
            return arm

        def objective(values: Mapping[str, Value], report: Report) -> float:
            run = Run(arm.recipe.changed(values), options.data, arm.fraction, options.seed, HELD_OUT)
            try:
                return judged(run.train(folder, [_Reporting(report)]))
            except Pruned:
                run.forget(folder)
                raise

        asked = json.dumps([self.method, as_json(space)], sort_keys=True)
        key = Run(arm.recipe, options.data, arm.fraction, options.seed, HELD_OUT).key
        found = search(
            objective,
            space,
            name=f"{key}-{hashlib.sha256(asked.encode()).hexdigest()[:6]}",
            method=self.method,
            trials=None if self.method == "grid" else self.trials,
            seed=options.seed,
            storage=folder.parent / "search.journal" if self.storage is None else self.storage,
            quiet=quiet,
        )
        if found.interrupted:
            raise KeyboardInterrupt
        tried = [{"values": each["values"], "accuracy": each["value"] or 0.0} for each in found.trials]
        return replace(arm, recipe=arm.recipe.changed(found.values or {}), tuned=tried)

    def _space(self, study: Study, options: Options, recipe: Recipe) -> Mapping[str, Choice | Range]:
        if self.method == "grid":
            return {name: Choice(values) for name, values in options.grid.items() if name in recipe.used}
        space = {} if study.space is None else study.space(recipe)
        return {name: values for name, values in space.items() if name not in options.grid}


class _Reporting(training.Callback):
    """Tells a search the accuracy after each epoch."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def on_epoch(self, trainer: training.Trainer) -> None:
        self.report(trainer.epoch, trainer.history.epochs[-1]["validation_accuracy"])
