"""How a study is carried out: tuning first, then every recipe from several seeds on the same data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidl.files import writable_folder
from minidl.ops.arguments import positive_integer
from minidl.studies.arm import Arm
from minidl.studies.found import written
from minidl.studies.pool import carry_out
from minidl.studies.progress import StudyProgress
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run, accuracies, part_name
from minidl.studies.space import Value
from minidl.studies.study import Options, Study
from minidl.studies.tuning import Search, best_of, grid_runs
from minidl.trials import TrialCurves


@dataclass(frozen=True)
class Results:
    """What a study has reached.

    Attributes
    ----------
    study : Study
    options : Options
    arms : tuple of Arm
        In the order of parts and recipes, those of which a trial has ended.
    folder : path
    interrupted : bool
    """

    study: Study
    options: Options
    arms: tuple[Arm, ...]
    folder: Path
    interrupted: bool

    @property
    def curves(self) -> list[TrialCurves]:
        """The accuracies of all arms."""
        return [arm.curves(self.group(arm), self.note(arm)) for arm in self.arms]

    def group(self, arm: Arm) -> str:
        """Return what an arm is compared within: the part of the data, if there are several, and the recipe's group."""
        part = part_name(arm.fraction) if len(self.options.fractions) > 1 else ""
        return " · ".join(word for word in (part, arm.recipe.group) if word)

    def note(self, arm: Arm) -> str:
        """Return the hyper-parameters of an arm that not all arms have alike, in words."""
        all_values = [_used(each.recipe) for each in self.arms]
        own = _used(arm.recipe)
        told = [name for name in own if any(values.get(name) != own[name] for values in all_values)]
        return ", ".join(f"{name} {written(own[name])}" for name in told)


def conduct(
    study: Study,
    options: Options | None = None,
    *,
    out: str | os.PathLike[str] = "",
    processes: int = 1,
    search: Search | None = None,
    quiet: bool = False,
) -> Results:
    """Carry a study out, or go on with it.

    Every run leaves a record in the folder `runs`; those that are there already are not made again, and one that was
    interrupted goes on from its last epoch. So a study can be stopped at any moment, begun again with the same
    settings, and enlarged by more trials, recipes or parts of the data.

    Parameters
    ----------
    study : Study
    options : Options, optional
        Default: the study's own.
    out : path, default "minidl-" and the study's name
        The folder.
    processes : int, default 1
        How many runs are made at the same time, on an equal share of the cores each.
    search : Search, optional
        How the recipes are tuned first. Default: as the study says.
    quiet : bool, default False
        Print nothing.

    Returns
    -------
    Results
        After Ctrl-C, of what had ended until then.
    """
    options = study.options if options is None else options
    by_grid = search is not None and search.method == "grid"
    recipes = study.recipes(options, expand=not by_grid)
    positive_integer(processes, "study", "processes")
    folder = Path(out or f"minidl-{study.name}")
    records = writable_folder(folder / "runs", "out")
    arms = [Arm(recipe, fraction) for fraction in options.fractions for recipe in recipes]
    interrupted = False
    try:
        if search is not None:
            arms = [search.tuned(study, options, arm, records, quiet) for arm in arms]
        tuning = [grid_runs(study, options, arm) if search is None else [] for arm in arms]
        epochs = sum(run.recipe.epochs for runs in tuning for run in runs)
        epochs += options.trials * sum(arm.recipe.epochs for arm in arms)
        with StudyProgress(epochs, quiet) as progress:
            arms = _tuned(arms, tuning, records, processes, progress)
            seeds = range(options.seed, options.seed + options.trials)
            pairs = [(arm, seed) for seed in seeds for arm in arms]  # so that what is done early can be compared
            runs = [Run(arm.recipe, options.data, arm.fraction, seed) for arm, seed in pairs]
            for i, record in _carried_out(runs, records, processes, progress, "training"):
                arm, seed = pairs[i]
                arm.records[seed] = record
    except KeyboardInterrupt:
        interrupted = True
    return Results(study, options, tuple(arm for arm in arms if arm.records), folder, interrupted)


def _tuned(
    arms: Sequence[Arm], tuning: Sequence[Sequence[Run]], folder: Path, processes: int, progress: StudyProgress
) -> list[Arm]:
    """Return the arms with the values that were best on the images held out."""
    runs = [run for own in tuning for run in own]
    records = dict(_carried_out(runs, folder, processes, progress, "tuning"))
    numbers = iter(range(len(runs)))
    return [best_of(arm, own, [records[next(numbers)] for _ in own]) for arm, own in zip(arms, tuning, strict=True)]


def _carried_out(
    runs: Sequence[Run], folder: Path, processes: int, progress: StudyProgress, what: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Carry runs out, show how far it is, and yield the number of each run and its record."""
    progress.describe(what)
    alone = processes == 1 or len(runs) < 2
    for done, (i, record) in enumerate(carry_out(runs, folder, processes, [progress] if alone else []), 1):
        if not alone:
            progress.advance(runs[i].recipe.epochs)
        progress.line(f"{what} {done:>{len(str(len(runs)))}}/{len(runs)}  {runs[i].describe():<52}{_line(record)}")
        yield i, record


def _line(record: Mapping[str, Any]) -> str:
    if record["failure"]:
        return f"diverged: {record['failure']}"
    reached = accuracies(record)
    return f"accuracy {reached[-1]:.2%}, best {max(reached):.2%}  {record['seconds']:.1f} s"


def _used(recipe: Recipe) -> dict[str, Value]:
    return {name: value for name, value in recipe.values.items() if name in recipe.used}
