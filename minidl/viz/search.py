"""What a search for hyper-parameters has tried: the value against each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from minidl.viz.style import ACCENT, HEADER, INK, OTHER, QUIET, plain, titled_figure

COLUMNS = 4
SPREAD = 0.16  # on either side of a choice, so that dots of equal values lie beside each other


def search(
    trials: Sequence[Mapping[str, Any]],
    space: Mapping[str, Mapping[str, Any]],
    title: str = "Search",
    subtitle: str = "",
    direction: str = "maximize",
    ylabel: str = "value",
) -> Figure:
    """Draw every trial as a dot: its value against each hyper-parameter, one panel each, and the best so far.

    Parameters
    ----------
    trials : sequence of mappings
        As `studies.Found.trials` holds them: `trial`, `values`, `value`, `pruned`.
    space : mapping
        As `studies.Found.settings["space"]` holds it: for each name `choices`, or `low`, `high`, `log` and `integer`.
    title, subtitle : str
        Default subtitle: what the colours mean, and how many trials were pruned or have no value.
    direction : {"maximize", "minimize"}, default "maximize"
    ylabel : str, default "value"
        What the objective returned.

    Returns
    -------
    Figure
        Values that are far worse than most, and those of pruned trials that are worse than all that were finished, lie
        as triangles at the edge.
    """
    if direction not in ("maximize", "minimize"):
        raise ValueError(f"search: direction is {direction!r}, expected 'maximize' or 'minimize'")
    panels = len(space) + 1
    columns, rows = min(COLUMNS, panels), -(-panels // COLUMNS)
    width = max(3.2 * columns, 6.4)
    figure = titled_figure(width, 2.7 * rows + HEADER, title, subtitle or _subtitle(trials))
    grid = figure.add_gridspec(rows, columns)
    shown = [trial for trial in trials if trial["value"] is not None]
    limits = _limits([trial for trial in shown if not trial["pruned"]] or shown, direction)
    best = _best(shown, direction)
    for i, (name, values) in enumerate(space.items()):
        axes = _panel(figure, grid[divmod(i, columns)], name, limits, ylabel if i % columns == 0 else "")
        _scale(axes, values)
        _dots(
            axes, [(_place(values, trial["values"][name]), trial) for trial in shown], best, limits, "choices" in values
        )
    last = "" if len(space) % columns else ylabel
    axes = _panel(figure, grid[divmod(len(space), columns)], "best so far", limits, last)
    _progress(axes, trials, direction, best, limits)
    return figure


def _subtitle(trials: Sequence[Mapping[str, Any]]) -> str:
    pruned = sum(bool(trial["pruned"]) for trial in trials)
    without = sum(trial["value"] is None for trial in trials)
    parts = [f"{len(trials)} trial{'s' * (len(trials) != 1)}; later ones darker, the best one orange"]
    parts += [f"{pruned} pruned: hollow"] * bool(pruned) + [f"{without} without a value: not drawn"] * bool(without)
    return ", ".join(parts)


def _best(trials, direction):
    pick = max if direction == "maximize" else min
    return pick((t for t in trials if not t["pruned"]), key=lambda trial: trial["value"], default=None)


def _limits(trials, direction):
    """Return the values that fit: all good ones, and of the bad ones what is not far beyond the middle half."""
    values = np.array([trial["value"] for trial in trials] or [0.0, 1.0])
    low, first, third, high = np.quantile(values, (0, 0.25, 0.75, 1))
    far = 3 * (third - first)
    if far and direction == "maximize":
        low = max(low, first - far)
    elif far:
        high = min(high, third + far)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def _panel(figure, cell, name, limits, ylabel):
    axes = plain(figure.add_subplot(cell))
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    axes.set_ylim(limits)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if ylabel:
        axes.set_ylabel(ylabel, fontsize=8.5, color=INK)
    return axes


def _scale(axes, values):
    """Set the axis of a hyper-parameter up for all that it may be."""
    if "choices" in values:
        choices = values["choices"]
        labels = [_short(choice) for choice in choices]
        crowded = sum(map(len, labels)) + len(labels) > 34
        axes.set_xticks(range(len(choices)), labels, rotation=90 if crowded else 0)
        axes.set_xlim(-0.6, len(choices) - 0.4)
        return
    low, high = values["low"], values["high"]
    if values["log"]:
        room = (high / low) ** 0.04
        axes.set_xscale("log")
        axes.set_xlim(low / room, high * room)
        subs = (1,) if high / low > 30 else (1, 2, 5)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=values["integer"]))


def _short(choice):
    text = f"{choice:g}" if isinstance(choice, float) else str(choice)
    return text if len(text) <= 14 else text[:13] + "…"


def _place(values, value):
    return values["choices"].index(value) if "choices" in values else value


def _dots(axes, points, best, limits, spread):
    """Draw dots, later trials darker and above; triangles at the edge for what lies beyond it."""
    count = max((trial["trial"] for _, trial in points), default=1)
    for x, trial in points:
        share = trial["trial"] / count
        at = x + SPREAD * (2 * math.modf(0.618 * trial["trial"])[0] - 1) if spread else x
        _dot(axes, at, trial, best, limits, 0.25 + 0.6 * share, 2 + share)


def _dot(axes, x, trial, best, limits, alpha, zorder):
    low, high = limits
    y = min(max(trial["value"], low), high)
    marker = "o" if low <= trial["value"] <= high else "v" if trial["value"] < low else "^"
    if trial is best:
        style = {"markerfacecolor": OTHER, "markeredgecolor": "white", "markersize": 8, "zorder": 4}
    elif trial["pruned"]:
        style = {"markerfacecolor": "none", "markeredgecolor": QUIET, "alpha": 0.7, "markersize": 4.5, "zorder": 2}
    else:
        style = {"color": ACCENT, "alpha": alpha, "markeredgecolor": "none", "markersize": 5, "zorder": zorder}
    axes.plot(x, y, marker, clip_on=marker == "o", **style)


def _progress(axes, trials, direction, best, limits):
    """Draw the values by the order of the trials, and the best one until then as a line."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.set_xlabel("trial", fontsize=8.5, color=INK, labelpad=1)
    last = max((trial["trial"] for trial in trials), default=1)
    axes.set_xlim(0.5 - 0.02 * last, last + 0.5 + 0.02 * last)
    steps, so_far = [], None
    for trial in trials:
        value = trial["value"]
        if value is not None:
            if not trial["pruned"] and (
                so_far is None or (value > so_far if direction == "maximize" else value < so_far)
            ):
                so_far = value
            _dot(axes, trial["trial"], trial, best, limits, 0.35, 2)
        if so_far is not None:
            steps.append((trial["trial"], so_far))
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color=ACCENT, linewidth=2, zorder=3)
    if best is not None:
        axes.annotate(
            f"{best['value']:.4g}", (best["trial"], best["value"]), xytext=(0, 9 if direction == "minimize" else -9),
            textcoords="offset points", ha="center", va="bottom" if direction == "minimize" else "top", fontsize=9,
            fontweight="bold", color=OTHER, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
        )  # fmt: skip
