"""Learning curves of recipes that were each trained several times, with bands, and a ranking."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from minidl.trials import WORDS, TrialCurves, check_statistic, of_one_length
from minidl.viz.style import ACCENT, FAINT, HEADER, INK, OTHER, QUIET, plain, titled_figure

PANEL, RANKING = (3.1, 2.35), 4.6  # inches
LONGEST = {"name": 26, "note": 32}  # letters that fit over a panel
MANY = 25  # epochs: from here on they have no dots
BAND = 0.2  # its opacity
CROSS: dict[str, Any] = {"marker": "x", "markersize": 5, "markeredgewidth": 1.3}
HOLLOW: dict[str, Any] = {
    "marker": "D",
    "markersize": 5.5,
    "markerfacecolor": "none",
    "markeredgewidth": 1.4,
    "linestyle": "none",
}
PERCENT = FuncFormatter(lambda y, _: f"{100 * y:.5g}%" if -1e-9 <= y <= 1 + 1e-9 else "")


@dataclass(frozen=True)
class _Group:
    """Recipes that share limits and a ranking, and the values of a paper by their names."""

    name: str
    recipes: list[TrialCurves]
    values: dict[str, float]


def learning_curves(
    trials: Sequence[TrialCurves],
    title: str,
    subtitle: str,
    ylabel: str = "test accuracy",
    reference: Sequence[tuple[str, float]] = (),
    *,
    statistic: str = "maximum",
    reference_name: str = "the paper",
) -> Figure:
    """Draw a panel for each recipe, with the other recipes faint behind it, and at the right a ranking.

    A panel shows the mean of the trials and a band from the lowest to the highest of them; trials that diverged are
    thin lines that end in a cross, and have no part in either. The ranking shows of each recipe the value of each
    trial, their mean, and its 95 % confidence interval, best first. Where one recipe is far below the others, it
    stands at the left edge of the ranking, with its number. Each group has limits and a ranking of its own.

    Parameters
    ----------
    trials : sequence of TrialCurves
        Up to about 24.
    title, subtitle : str
    ylabel : str, default "test accuracy"
        What the numbers are.
    reference : sequence of (str, float), optional
        Values that a paper has, as fractions, by the names of the recipes; or by "group · name", where the groups have
        recipes of one name. A name that no recipe has gets a line of its own in the last ranking.
    statistic : {"maximum", "last", "final"}, default "maximum"
        What the ranking shows: see `trials.STATISTICS`.
    reference_name : str, default "the paper"
        Whose values those are.

    Raises
    ------
    ValueError
        If there are no trials, or a value is none in [0, 1].
    """
    check_statistic(statistic, "learning_curves")
    check_reference(reference)
    groups = _groups(trials, reference)
    columns = _columns(max(len(group.recipes) for group in groups))
    rows = [-(-len(group.recipes) // columns) for group in groups]
    width = max(PANEL[0] * columns + RANKING, 10.2)
    figure = titled_figure(width, PANEL[1] * sum(rows) + HEADER + 0.35, title, subtitle)
    grid = figure.add_gridspec(sum(rows), columns + 1, width_ratios=[PANEL[0]] * columns + [width - PANEL[0] * columns])
    for group, above, height in zip(groups, np.cumsum([0, *rows]), rows, strict=False):
        limits = _limits(group.recipes)
        for i, recipe in enumerate(group.recipes):
            axes = plain(figure.add_subplot(grid[above + i // columns, i % columns]))
            _panel(axes, recipe, group.recipes, limits, statistic)
            if i % columns == 0:
                axes.set_ylabel(ylabel, fontsize=8.5, color=INK)
        ranking = plain(figure.add_subplot(grid[above : above + height, columns]))
        heading(ranking, f"{ylabel}: {WORDS[statistic]}", group.name)
        _ranking(ranking, group, statistic)
    _legend(figure, groups, reference_name)
    return figure


def check_reference(reference: Sequence[tuple[str, float]]) -> None:
    """Raise ValueError unless all values are fractions."""
    for name, value in reference:
        if not 0 <= value <= 1:
            raise ValueError(f"learning_curves: reference has {value!r} for {name!r}, expected a fraction in [0, 1]")


def heading(axes: Any, name: str, note: str) -> None:
    """Write a name in bold over an axes, and a note below it."""
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=16, parse_math=False)
    below = axes.annotate(
        note, (0, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", fontsize=8.5, color=QUIET,
        parse_math=False,
    )  # fmt: skip
    below.set_in_layout(False)  # as the title's, its width does not make the axes narrower


def draw_trials(axes: Any, recipe: TrialCurves, color: str) -> None:
    """Draw the mean of the trials that finished and a band from their lowest to their highest, and those that diverged.

    The x axis counts epochs, from 1; a single one is a dot.
    """
    finished = np.array(recipe.finished)
    if len(finished):
        at = np.arange(1, finished.shape[1] + 1)
        if len(finished) > 1 and len(at) == 1:
            axes.vlines(at, finished.min(), finished.max(), color=color, linewidth=7, alpha=BAND)
        elif len(finished) > 1:
            axes.fill_between(at, finished.min(axis=0), finished.max(axis=0), color=color, alpha=BAND, linewidth=0)
        dots = {"marker": "o", "markersize": 3} if len(at) < MANY else {}
        axes.plot(at, finished.mean(axis=0), color=color, linewidth=2, **dots)
    for seed, curve in zip(recipe.by_seed, recipe.curves, strict=True):
        known = [(epoch, value) for epoch, value in enumerate(curve or (), start=1) if value is not None]
        if seed in recipe.diverged and known:
            axes.plot(*zip(*known, strict=True), color=color, linewidth=0.9, linestyle=(0, (4, 2)))
            axes.plot(*known[-1], color=color, **CROSS)


def epoch_axis(axes: Any, epochs: int) -> None:
    """Let the x axis count this many epochs."""
    room = min(0.5, 0.04 * (epochs - 1)) if epochs > 1 else 0.5  # so small that there is no epoch 0
    axes.set_xlim(1 - room, epochs + room)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.set_xlabel("epoch", fontsize=8.5, color=INK, labelpad=1)


def accuracy_axis(axis: Any, bins: int = 5) -> None:
    """Let an axis show fractions as percentages."""
    axis.set_major_formatter(PERCENT)
    axis.set_major_locator(MaxNLocator(bins))


def _groups(trials: Sequence[TrialCurves], reference: Sequence[tuple[str, float]]) -> list[_Group]:
    if not trials:
        raise ValueError("learning_curves: trials is empty, expected at least one recipe")
    labels = [recipe.label for recipe in trials]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"learning_curves: trials has {label!r} more than once, expected different names")
    recipes = of_one_length(trials)
    groups: list[_Group] = []
    known = {name for recipe in recipes for name in (recipe.name, recipe.label)}
    names = dict.fromkeys(recipe.group for recipe in recipes)
    for name in names:
        members = [recipe for recipe in recipes if recipe.group == name]
        values = {r.name: value for r in members for label, value in reference if label in (r.name, r.label)}
        if len(groups) == len(names) - 1:
            values |= {label: value for label, value in reference if label not in known}
        groups.append(_Group(name, members, values))
    return groups


def _columns(number: int) -> int:
    if number <= 3:
        return number
    return 3 if number == 9 else min(4, -(-number // 2))


def _panel(axes: Any, recipe: TrialCurves, others: Sequence[TrialCurves], limits: Any, statistic: str) -> None:
    means = [np.mean(other.finished, axis=0) for other in others if other is not recipe and other.finished]
    lines = [np.column_stack((np.arange(1, len(mean) + 1), mean)) for mean in means]
    axes.add_collection(LineCollection([line for line in lines if len(line) > 1], colors=FAINT, linewidths=0.8))
    axes.plot(*np.array([line[0] for line in lines if len(line) == 1] or [[np.nan] * 2]).T, ".", color=FAINT)
    draw_trials(axes, recipe, ACCENT)
    heading(axes, _cut(recipe.name, LONGEST["name"]), _cut(recipe.note, LONGEST["note"]))
    axes.set_ylim(limits)
    accuracy_axis(axes.yaxis)
    epoch_axis(axes, max(1, *(other.longest for other in others), recipe.longest))
    found = recipe.estimate(statistic)
    ending = recipe.finished[0][-1] if found else 0.0
    above = found is not None and ending < sum(limits) / 2
    place: dict[str, Any] = {"x": 0.97, "ha": "right", "transform": axes.transAxes}
    place["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
    if found:
        y, side = (0.95, "top") if above else (0.06, "bottom")
        axes.text(y=y, s=f"{found.percent()} %", va=side, fontsize=11, fontweight="bold", color=ACCENT, **place)
    if recipe.diverged:
        lost, all_of_them = len(recipe.diverged), len(recipe.curves)
        words = "diverged" if lost == all_of_them else f"{lost} of {all_of_them} diverged"
        y, side = (0.82, "top") if above else (0.2 if found else 0.06, "bottom")
        axes.text(y=y, s=words, va=side, fontsize=8.5, color=INK, **place)


def _limits(recipes: Sequence[TrialCurves]) -> tuple[float, float]:
    """Return limits that show every recipe's best epochs; of long runs not the first ones, which would flatten them."""
    curves = [curve for recipe in recipes for curve in recipe.finished]
    if not curves:  # then what those that diverged reached before
        curves = [[v for v in curve or () if v is not None] for recipe in recipes for curve in recipe.curves]
        curves = [curve for curve in curves if curve] or [[0.0, 1.0]]
    values = np.concatenate(curves)
    early = min(0.25, max(map(len, curves)) / 100)
    low = min(float(np.quantile(values, early)), *(max(curve) for curve in curves), float(values.max()))
    high = float(values.max())
    room = max(0.08 * (high - low), 0.01)
    return low - room, high + room


def _ranking(axes: Any, group: _Group, statistic: str) -> None:
    """Show each recipe's trials, mean and interval from the top down, best first, and a paper's values beside them."""
    found = {recipe.name: recipe.estimate(statistic) for recipe in group.recipes}
    means = {name: one.mean for name, one in found.items() if one}
    order = sorted(found, key=lambda name: -means.get(name, -1.0))
    order += [name for name in group.values if name not in found]
    trials = {recipe.name: list(recipe.values(statistic).values()) for recipe in group.recipes}
    low, high = _ranking_limits(found, trials, group.values)
    right = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8.5}
    for place, name in enumerate(order):
        one = found.get(name)
        if one is not None:
            shown = [value for value in trials[name] if value >= low]
            axes.plot(shown, [place] * len(shown), "o", color=ACCENT, markersize=4, alpha=0.5, markeredgewidth=0)
            if one.half_width is not None:
                axes.plot(one.interval, [place, place], color=ACCENT, linewidth=1.6, solid_capstyle="butt")
            if one.mean >= low:
                axes.plot(one.mean, place, "o", color=ACCENT, markersize=7, markeredgecolor="white", zorder=3)
            else:
                axes.plot(0.015, place, "<", color=ACCENT, transform=axes.get_yaxis_transform(), markersize=5)
        words = one.percent() if one else "diverged" if name in found else ""
        axes.text(1.02, place, words, color=INK, **right)
        if name in group.values:
            value = group.values[name]
            if value >= low:
                axes.plot(value, place, color=OTHER, zorder=4, **HOLLOW)
            axes.annotate(
                f"{100 * value:.2f}", (1.02, place), xycoords=axes.get_yaxis_transform(), xytext=(70, 0),
                textcoords="offset points", va="center", fontsize=8.5, color=OTHER,
            )  # fmt: skip
    axes.set_yticks(range(len(order)), [_cut(name, LONGEST["name"]) for name in order], fontsize=8.5, parse_math=False)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(low, high)
    axes.grid(visible=False, axis="y")
    accuracy_axis(axes.xaxis, 4)


def _ranking_limits(found: Any, trials: Any, values: Any) -> tuple[float, float]:
    """Return limits for all values but those of recipes far below the best; wide intervals may end beyond them."""
    means = [one.mean for one in found.values() if one] or list(values.values())
    if not means:
        return 0.0, 1.0
    best = max(means)
    least = best - max(4 * (best - statistics.median(means)), 0.02) if len(means) > 3 else 0.0
    shown = [v for name, one in found.items() if one and one.mean >= least for v in trials[name]]
    shown += [value for value in values.values() if value >= least]
    span = max(max(shown) - min(shown), 0.002)
    ends = [end for one in found.values() if one and one.mean >= least for end in one.interval]
    low = max(min(shown + ends), min(shown) - span)
    high = min(max(shown + ends), max(shown) + span)
    room = max(0.08 * (high - low), 0.002)
    return low - room, high + room


def _legend(figure: Figure, groups: Sequence[_Group], reference_name: str) -> None:
    """Say below the picture what its lines are, of those that it has."""
    recipes = [recipe for group in groups for recipe in group.recipes]
    several = any(len(recipe.finished) > 1 for recipe in recipes)
    words = "mean of the trials" if several else "trial"
    handles: list[Any] = [Line2D([], [], color=ACCENT, linewidth=2, label=words)]
    if several:
        handles.append(Patch(color=ACCENT, alpha=BAND, linewidth=0, label="lowest to highest trial"))
    if any(len(group.recipes) > 1 for group in groups):
        handles.append(Line2D([], [], color=FAINT, linewidth=0.8, label="the other recipes"))
    if any(recipe.diverged for recipe in recipes):
        handles.append(Line2D([], [], color=ACCENT, linewidth=0.9, linestyle=(0, (4, 2)), label="diverged", **CROSS))
    if several:
        words = "right: mean, 95 % confidence interval"
        handles.append(Line2D([], [], color=ACCENT, linewidth=1.6, marker="o", markersize=6, label=words))
    if any(group.values for group in groups):
        handles.append(Line2D([], [], color=OTHER, label=reference_name, **HOLLOW))
    figure.legend(handles=handles, loc="outside lower left", ncols=6, fontsize=8.5, frameon=False, labelcolor=INK)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
