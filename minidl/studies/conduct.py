"""How a study is carried out: tuning first, then every recipe from several seeds on the same data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minidl import data
from minidl.files import alone, writable_folder
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

SAMPLE = 40  # images, with which recipes are tried before they are trained


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
    search : Search or None
        How the recipes were tuned, if not as the study says.
    further : dict of str to dict
        Records of the runs that the study needs beside the trials, by `Run.key`.
    interrupted : bool
    """

    study: Study
    options: Options
    arms: tuple[Arm, ...]
    folder: Path
    search: Search | None = None
    further: dict[str, dict[str, Any]] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def curves(self) -> list[TrialCurves]:
        """The accuracies of all arms."""
        return [arm.curves(self.title(arm), self.note(arm), self.group(arm)) for arm in self.arms]

    @property
    def baseline(self) -> str | None:
        """The title of the arm that the others are compared with; None if it is not among them."""
        return next((self.title(arm) for arm in self.arms if arm.recipe.name == self.study.baseline), None)

    def title(self, arm: Arm, but: str = "") -> str:
        """Return the name of an arm, and which values of the grid it has, but one and those that make groups."""
        own = {key: value for key, value in arm.recipe.varied.items() if key not in self._shared and key != but}
        return ", ".join([arm.recipe.name, *_words(own)])

    def group(self, arm: Arm, but: str = "") -> str:
        """Return what an arm is compared within: the part of the data, if there are several, its recipe's group, and
        those values of the grid, but one, that all arms have.
        """
        part = part_name(arm.fraction) if len(self.options.fractions) > 1 else ""
        own = {key: value for key, value in arm.recipe.varied.items() if key in self._shared and key != but}
        return " · ".join(filter(None, [part, arm.recipe.group, *_words(own)]))

    def note(self, arm: Arm) -> str:
        """Return the hyper-parameters of an arm that were tuned, or that not all arms have alike, in words."""
        all_values = [_used(each.recipe) for each in self.arms]
        told = {
            name: value
            for name, value in _used(arm.recipe).items()
            if name in arm.chosen or any(values.get(name) != value for values in all_values)
        }
        return ", ".join(_words({name: told[name] for name in told if name not in arm.recipe.varied}))

    @property
    def _shared(self) -> set[str]:
        return {name for name in self.options.grid if all(name in arm.recipe.used for arm in self.arms)}


def _used(recipe: Recipe) -> dict[str, Value]:
    return {name: value for name, value in recipe.values.items() if name in recipe.used}


def _words(values: Mapping[str, Value]) -> list[str]:
    return [f"{name} {written(value)}" for name, value in values.items()]


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
        How many runs are made at the same time, on an equal share of the cores each. A script that asks for several
        needs the usual ``if __name__ == "__main__":``. Processes that are given one folder make their trials one after
        the other: the second finds the records of the first.
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
    if by_grid and not options.grid:
        raise ValueError("study: the search is a grid, but options.grid is empty, expected values to choose from")
    recipes = study.recipes(options, expand=not by_grid)
    positive_integer(processes, "study", "processes")
    arms = [Arm(recipe, fraction) for fraction in options.fractions for recipe in recipes]
    _try(recipes, options)
    folder = Path(out or f"minidl-{study.name}")
    records = writable_folder(folder / "runs", "out")
    further: dict[str, dict[str, Any]] = {}
    interrupted = False
    try:
        if search is not None:
            arms = [search.tuned(study, options, arm, records, quiet) for arm in arms]
        tuning = [grid_runs(study, options, arm) if search is None else [] for arm in arms]
        epochs = sum(run.recipe.epochs for runs in tuning for run in runs)
        epochs += options.trials * sum(arm.recipe.epochs for arm in arms)
        with alone(records, "making runs", quiet), StudyProgress(epochs, quiet) as progress:
            arms = _tuned(arms, tuning, records, processes, progress)
            seeds = range(options.seed, options.seed + options.trials)
            pairs = [(arm, seed) for seed in seeds for arm in arms]  # so that what is done early can be compared
            runs = [Run(arm.recipe, options.data, arm.fraction, seed) for arm, seed in pairs]
            for i, record in _carried_out(runs, records, processes, progress, "training"):
                arm, seed = pairs[i]
                arm.records[seed] = record
            runs = [] if study.further is None else list(study.further(options, arms))
            for i, record in _carried_out(runs, records, processes, progress, "further"):
                further[runs[i].key] = record
    except KeyboardInterrupt:
        interrupted = True
    ended = tuple(arm for arm in arms if arm.records)
    results = Results(study, options, ended, folder, search, further, interrupted)
    groups = list(dict.fromkeys(map(results.group, ended)))
    return replace(results, arms=tuple(sorted(ended, key=lambda arm: groups.index(results.group(arm)))))


def _try(recipes: Sequence[Recipe], options: Options) -> None:
    """Prepare every recipe with a few images: what does not fit is told now, and not after hours."""
    loaded = Run(recipes[0], options.data).data()
    x, y = loaded.train_x[:SAMPLE], loaded.train_y[:SAMPLE]
    sample = data.Dataset(x, y, loaded.test_x[:SAMPLE], loaded.test_y[:SAMPLE], loaded.classes)
    for recipe in recipes:
        recipe.prepare(sample, options.seed)


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
    progress.begin(what)
    for done, (i, record) in enumerate(carry_out(runs, folder, processes, [progress]), 1):
        progress.reach(sum(run.recipe.epochs for run in runs[:done]))
        progress.line(f"{what} {done:>{len(str(len(runs)))}}/{len(runs)}  {runs[i].describe():<52}  {_line(record)}")
        yield i, record


def _line(record: Mapping[str, Any]) -> str:
    if record["failure"]:
        return f"diverged: {record['failure']}"
    reached = accuracies(record)
    return f"accuracy {reached[-1]:.2%}, best {max(reached):.2%}  {record['seconds']:.1f} s"
