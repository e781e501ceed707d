"""What a study is: a question, the recipes that answer it, and what can be chosen of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minidl.ops.arguments import positive_integer
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run
from minidl.studies.space import Choice, Range, Value


@dataclass(frozen=True)
class Options:
    """What can be chosen of a study.

    Attributes
    ----------
    data : str
        A name for `data.load`; the digits are enlarged to 28 × 28.
    fractions : tuple of float
        Of the training images: the study is made with each.
    model : str
        As in `Recipe`: of `minidl.models`, with settings.
    epochs, trials : int
        A trial is a run with a seed of its own: seed, seed + 1, ….
    seed : int, default 0
        Of the first trial.
    batch_size : int, default 128
    grid : dict of str to tuple
        Values of hyper-parameters: each recipe that has them is made with all combinations.
    only : tuple of str
        Keep the recipes whose names contain one of these; empty for all.
    tuning_epochs, tuning_images : int, default 4 and 6000
        Of a study's own tuning: for how long, and with how many images at most, of which 30 % are held out.
    """

    data: str
    fractions: tuple[float, ...] = (1.0,)
    model: str = "small_cnn"
    epochs: int = 10
    trials: int = 5
    seed: int = 0
    batch_size: int = 128
    grid: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    tuning_epochs: int = 4
    tuning_images: int = 6000

    def __post_init__(self) -> None:
        for name in ("epochs", "trials", "batch_size", "tuning_epochs", "tuning_images"):
            positive_integer(getattr(self, name), "study", name)
        for name in ("fractions", "only"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise TypeError(f"study: {name} is {getattr(self, name)!r}, expected a tuple")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if any(not isinstance(fraction, (int, float)) or not 0 < fraction <= 1 for fraction in self.fractions):
            raise ValueError(f"study: fractions is {self.fractions}, expected numbers above 0 and at most 1")
        if not self.fractions or len(set(self.fractions)) < len(self.fractions):
            raise ValueError(f"study: fractions is {self.fractions}, expected at least one, each once")
        for name, values in self.grid.items():
            if not isinstance(values, (tuple, list)):
                raise TypeError(f"study: grid has {values!r} for {name}, expected a tuple of values")
            if not values or len(set(values)) < len(values):
                raise ValueError(f"study: grid has {values} for {name}, expected at least one value, each once")


@dataclass(frozen=True)
class Published:
    """What a paper reports for a recipe, by its name here, on a part of a dataset: fractions, None if not told."""

    recipe: str
    data: str
    fraction: float = 1.0
    maximum: float | None = None
    last: float | None = None
    final: float | None = None


@dataclass(frozen=True)
class Study:
    """A question that is put to networks, and how.

    Attributes
    ----------
    name : str
        As on the command line.
    title : str
        What is asked.
    source : str
        Where the question comes from, and with which settings it was answered there.
    plan : callable
        Takes `Options` and returns the recipes.
    options : Options
        The defaults: what two cores do in a moderate time.
    quick, full : dict
        What `--quick` and `--full` change of them: under three minutes on two cores; as in the source.
    baseline : str, default ""
        The recipe that the others are compared with.
    published : sequence of Published
        The source's results.
    tuning : callable or None
        Takes a recipe and returns the values to choose from before its trials, by their names: each is judged on 30 %
        of the training images that are held out.
    space : callable or None
        Takes a recipe and returns where a search looks, by the names of its values: `Choice` and `Range`.
    further : callable or None
        Takes the options and the arms with their trials, and returns runs that `extras` needs beside them.
    extras : callable or None
        Takes the `Results`, writes into their folder what the study has of its own, and returns a text and paths.
    statistics, difference
        What the table shows and what is compared with the baseline, as for `summary.text_table`.
    """

    name: str
    title: str
    source: str
    plan: Callable[[Options], Sequence[Recipe]]
    options: Options
    quick: Mapping[str, Any]
    full: Mapping[str, Any]
    baseline: str = ""
    published: Sequence[Published] = ()
    tuning: Callable[[Recipe], Mapping[str, Sequence[Value]]] | None = None
    space: Callable[[Recipe], Mapping[str, Choice | Range]] | None = None
    further: Callable[[Options, Sequence[Any]], Sequence[Run]] | None = None
    extras: Callable[[Any], tuple[str, Sequence[Path]]] | None = None
    statistics: Sequence[str] = ("maximum", "last")
    difference: str = "last"

    def recipes(self, options: Options, expand: bool = True) -> list[Recipe]:
        """Return the recipes that the options ask for, with all values of the grid unless `expand` is False.

        Raises
        ------
        ValueError
            If no recipe has a value of the grid, or none is left.
        """
        planned = list(self.plan(options))
        known = {name for recipe in planned for name in recipe.used}
        unknown = options.grid.keys() - known
        if unknown:
            expected = ", ".join(sorted(known)) or "none"
            raise ValueError(f"study {self.name}: grid has {', '.join(sorted(unknown))}, expected some of {expected}")
        recipes = [each for recipe in planned for each in varied(recipe, options.grid if expand else {})]
        kept = [each for each in recipes if not options.only or any(part in each.name for part in options.only)]
        if not kept:
            names = ", ".join(repr(each.name) for each in recipes)
            raise ValueError(f"study {self.name}: only is {', '.join(options.only)}, expected parts of {names}")
        return kept


def varied(recipe: Recipe, grid: Mapping[str, Sequence[Value]]) -> list[Recipe]:
    """Return the recipe with all combinations of those values of the grid that it has."""
    names = [name for name in grid if name in recipe.used]
    combinations = [dict(zip(names, values, strict=True)) for values in itertools.product(*(grid[n] for n in names))]
    return [replace(recipe.changed(chosen), varied={**recipe.varied, **chosen}) for chosen in combinations]
