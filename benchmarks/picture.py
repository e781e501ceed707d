"""The picture of a measurement: ratios by case and environment, and how they grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from minidl.viz.style import ACCENT, FAINT, HEADER, INK, OTHER, QUIET, plain, save, titled_figure

__all__ = ["draw", "save"]

ROW = 0.36  # inches for a case
LEFT, RIGHT = 7.6, 4.4
TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20)
# S and H by colour, the tuned malloc by an empty mark
MARKS = {"S": (ACCENT, ACCENT), "S-tuned": (ACCENT, "white"), "H": (OTHER, OTHER), "H-tuned": (OTHER, "white")}
AXES = {"batch": "images in the batch", "channels": "channels", "size": "image size"}


def draw(rows: Mapping[str, Sequence[dict[str, Any]]], facts: Mapping[str, str]) -> Figure:
    """Return the figure: on the left a line for each case, on the right a panel for each thing that grows."""
    cases = list(dict.fromkeys(row["case"] for row in rows["ratios"]))
    growing = [what for what in AXES if _growing(rows["growth"], what)]
    widths = [LEFT] * bool(cases) + [RIGHT] * bool(growing)
    height = max(ROW * len(cases) + 0.9, 2.1 * len(growing), 2.5)
    subtitle = f"Median and range; below 1 minidl is faster. {facts['processor']}, {facts['date']}"
    figure = titled_figure(max(sum(widths), LEFT), height + HEADER, "minidl's time over PyTorch's, CPU", subtitle)
    columns = figure.add_gridspec(1, max(len(widths), 1), width_ratios=widths or [1])
    if cases:
        _ratios(plain(figure.add_subplot(columns[0])), rows["ratios"], cases)
    panels = columns[-1].subgridspec(len(growing), 1) if growing else ()
    for i, what in enumerate(growing):
        _growth(plain(figure.add_subplot(panels[i])), what, rows["growth"])
    return figure


def _ratios(axes: Any, rows: Sequence[dict[str, Any]], cases: Sequence[str]) -> None:
    environments = list(dict.fromkeys(row["environment"] for row in rows))
    for row in rows:
        i = environments.index(row["environment"])
        y = cases.index(row["case"]) + 0.2 * (i - (len(environments) - 1) / 2)
        colour, face = MARKS[row["environment"]]
        label = row["environment"] if row["case"] == cases[0] else None
        axes.plot([row["min"], row["max"]], [y, y], color=colour, linewidth=1, alpha=0.45, zorder=2)
        axes.plot(row["median"], y, "o", color=colour, markerfacecolor=face, markersize=4.2, label=label, zorder=3)
    for boundary in range(len(cases) - 1):
        axes.axhline(boundary + 0.5, color=FAINT, linewidth=0.5)
    axes.set_yticks(range(len(cases)), cases)
    axes.set_ylim(len(cases) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    _log(axes.set_xscale, axes.xaxis, axes.set_xlim, rows)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xlabel("ratio", fontsize=8.5, color=QUIET)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, frameon=False, handletextpad=0.2)


def _growing(rows: Sequence[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["case"].startswith(f"growth, {what} ")]


def _growth(axes: Any, what: str, rows: Sequence[dict[str, Any]]) -> None:
    own = _growing(rows, what)
    values = [int(row["case"].rsplit(" ", 1)[1]) for row in own]
    least, middle, most = (np.array([row[name] for row in own]) for name in ("min", "median", "max"))
    axes.fill_between(values, least, most, color=ACCENT, alpha=0.15, linewidth=0)
    axes.plot(values, middle, "o-", color=ACCENT, markersize=4, linewidth=1.5)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
    _log(axes.set_yscale, axes.yaxis, axes.set_ylim, rows)
    axes.axhline(1, color=INK, linewidth=1)
    axes.set_title(f"conv, batch norm, ReLU: {AXES[what]}", loc="left", fontsize=9, fontweight="bold", color=INK)
    axes.set_ylabel("ratio", fontsize=8.5, color=QUIET)


def _log(set_scale: Any, axis: Any, set_limits: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Make an axis logarithmic, with plain numbers, around all ranges and 1."""
    set_scale("log")
    axis.set_major_locator(FixedLocator(TICKS))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    set_limits(0.85 * min(0.8, *(row["min"] for row in rows)), 1.15 * max(1.25, *(row["max"] for row in rows)))
