"""Accuracy against a hyper-parameter, for several schemes, each trained several times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from minidl.trials import WORDS, Estimate, TrialCurves, check_statistic, of_one_length
from minidl.viz.style import ACCENT, HEADER, INK, OTHER, QUIET, plain, titled_figure
from minidl.viz.trials import CROSS, accuracy_axis, heading

COLUMNS = 3
LOOKS = ((ACCENT, "o"), (OTHER, "s"), ("#2b8a57", "^"), ("#8a4fb0", "D"), ("#8c6d1f", "v"), ("#c2185b", "P"))
DODGE = 0.012  # of the axis' width, between schemes, so that their intervals do not hide each other
WIDE = 30.0  # the axis is logarithmic where the values span more than this factor
STROKES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))

Points = Mapping[float, TrialCurves] | Sequence[tuple[float, TrialCurves]]


def parameter_sweep(
    schemes: Mapping[str, Points],
    title: str,
    subtitle: str,
    *,
    parameter: str,
    baselines: Sequence[TrialCurves] = (),
    ylabel: str = "test accuracy",
    statistic: str = "maximum",
) -> Figure:
    """Draw accuracy against a hyper-parameter with 95 % confidence intervals, one line a scheme. R, Figure 4.

    A baseline is a horizontal line, its interval a band. Each group of the recipes has a panel. Where some trials
    diverged, the mark of the others is hollow; where all did, a cross stands at the bottom.

    Parameters
    ----------
    schemes : mapping of str to mapping of float to TrialCurves
        For each scheme, up to six, the recipes by the value of the hyper-parameter. Pairs (value, recipe) instead of a
        mapping may have one value several times, in several groups.
    title, subtitle : str
    parameter : str
        What the hyper-parameter is called.
    baselines : sequence of TrialCurves, optional
        Recipes that do not have it, up to four in a group.
    ylabel : str, default "test accuracy"
    statistic : {"maximum", "last", "final"}, default "maximum"
        What is shown of the trials: see `trials.STATISTICS`.

    Raises
    ------
    ValueError
        If there are no recipes, too many schemes or baselines, or one value twice in a group.
    """
    check_statistic(statistic, "parameter_sweep")
    points = _points(schemes)
    baselines = of_one_length([*baselines, *(recipe for _, _, recipe in points)])[: len(baselines)]
    groups = list(dict.fromkeys(recipe.group for _, _, recipe in points))
    _check(schemes, points, baselines, groups)
    strokes = dict(zip(dict.fromkeys(one.name for one in baselines), STROKES, strict=False))
    columns = min(COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    width = max(4.2 * columns, 7.6)
    figure = titled_figure(width, 3.2 * rows + HEADER + 0.35, title, subtitle)
    for i, group in enumerate(groups):
        axes = plain(figure.add_subplot(rows, columns, i + 1))
        members = [(scheme, value, recipe) for scheme, value, recipe in points if recipe.group == group]
        mine = [one for one in baselines if one.group == group]
        _panel(axes, members, list(schemes), mine, strokes, statistic)
        heading(axes, f"{ylabel}: {WORDS[statistic]}", group)
        axes.set_xlabel(parameter, fontsize=9, color=INK, labelpad=1)
    _legend(figure, schemes, points, baselines, strokes)
    return figure


def _points(schemes: Mapping[str, Points]) -> list[tuple[str, float, TrialCurves]]:
    """Return scheme, value and recipe of each point, with one number of epochs, in the order of the values."""
    flat = [
        (scheme, float(value), recipe)
        for scheme, points in schemes.items()
        for value, recipe in (points.items() if isinstance(points, Mapping) else points)
    ]
    recipes = of_one_length([recipe for _, _, recipe in flat])
    paired = [(scheme, value, recipe) for (scheme, value, _), recipe in zip(flat, recipes, strict=True)]
    return sorted(paired, key=lambda point: point[1])


def _check(schemes: Any, points: Any, baselines: Sequence[TrialCurves], groups: Sequence[str]) -> None:
    if not points:
        raise ValueError("parameter_sweep: schemes has no recipe, expected at least one")
    if len(schemes) > len(LOOKS):
        raise ValueError(f"parameter_sweep: schemes has {len(schemes)}, expected at most {len(LOOKS)}")
    seen = set()
    for scheme, value, recipe in points:
        if (scheme, value, recipe.group) in seen:
            raise ValueError(f"parameter_sweep: {scheme!r} has {value:g} twice, expected one recipe for a value")
        seen.add((scheme, value, recipe.group))
    names = list(dict.fromkeys(one.name for one in baselines))
    if len(names) > len(STROKES):
        raise ValueError(f"parameter_sweep: baselines has {len(names)} names, expected at most {len(STROKES)}")
    for one in baselines:
        if one.group not in groups:
            raise ValueError(f"parameter_sweep: the baseline {one.label!r} is of no group that schemes has")


def _panel(
    axes: Any,
    points: Sequence[tuple[str, float, TrialCurves]],
    schemes: Sequence[str],
    baselines: Sequence[TrialCurves],
    strokes: Mapping[str, Any],
    statistic: str,
) -> None:
    values = sorted({value for _, value, _ in points})
    logarithmic = values[0] > 0 and values[-1] / values[0] > WIDE
    if logarithmic:
        axes.set_xscale("log")
    for baseline in baselines:
        found, stroke = baseline.estimate(statistic), strokes[baseline.name]
        if found is not None:
            axes.axhspan(*found.interval, color=INK, alpha=0.1, linewidth=0, zorder=0.5)
            axes.axhline(found.mean, color=INK, linewidth=1.4, linestyle=stroke)
    width = values[-1] / values[0] if logarithmic else values[-1] - values[0] or 1.0
    for scheme in dict.fromkeys(scheme for scheme, _, _ in points):
        place = schemes.index(scheme)
        aside = DODGE * (place - (len(schemes) - 1) / 2)
        mine = [
            (value * width**aside if logarithmic else value + aside * width, recipe.estimate(statistic), recipe)
            for name, value, recipe in points
            if name == scheme
        ]
        _line(axes, mine, *LOOKS[place])
    _value_axis(axes, values, logarithmic)
    accuracy_axis(axes.yaxis)
    axes.margins(y=0.12)


def _line(axes: Any, points: Sequence[tuple[float, Estimate | None, TrialCurves]], color: str, marker: str) -> None:
    """Draw a scheme's means and intervals, with a gap where all trials diverged."""
    axes.plot([x for x, _, _ in points], [one.mean if one else float("nan") for _, one, _ in points], color=color)
    for x, one, recipe in points:
        if one is None:
            axes.plot(x, 0.02, color=color, transform=axes.get_xaxis_transform(), **CROSS)
            continue
        if one.half_width is not None:
            axes.vlines(x, *one.interval, color=color, linewidth=1.4)
        axes.plot(
            x, one.mean, marker, color=color, markersize=5.5, zorder=3,
            markerfacecolor="white" if recipe.diverged else color,
        )  # fmt: skip


def _value_axis(axes: Any, values: Sequence[float], logarithmic: bool) -> None:
    """Put a tick at each value, as far as there is room for their numbers."""
    shown = values[:: -(-len(values) // 8)]
    axes.set_xticks(shown, [f"{value:g}" for value in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    if logarithmic:
        room = (values[-1] / values[0]) ** 0.06
        axes.set_xlim(values[0] / room, values[-1] * room)
    else:
        room = 0.06 * (values[-1] - values[0]) or 0.5
        axes.set_xlim(values[0] - room, values[-1] + room)


def _legend(
    figure: Figure,
    schemes: Mapping[str, Points],
    points: Sequence[tuple[str, float, TrialCurves]],
    baselines: Sequence[TrialCurves],
    strokes: Mapping[str, Any],
) -> None:
    handles = [
        Line2D([], [], color=color, marker=marker, markersize=5.5, label=name)
        for name, (color, marker) in zip(schemes, LOOKS, strict=False)
    ]
    known = {one.name for one in baselines if one.finished}
    handles += [
        Line2D([], [], color=INK, linewidth=1.4, linestyle=stroke, label=name + ": diverged" * (name not in known))
        for name, stroke in strokes.items()
    ]
    if any(recipe.diverged and recipe.finished for _, _, recipe in points):
        handles.append(
            Line2D([], [], color=QUIET, marker="o", markerfacecolor="white", linestyle="none", label="some diverged")
        )
    if any(not recipe.finished for _, _, recipe in points):
        handles.append(Line2D([], [], color=QUIET, linestyle="none", label="all diverged", **CROSS))
    legend = figure.legend(
        handles=handles, loc="outside lower left", ncols=4, fontsize=8.5, frameon=False, labelcolor=INK
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
