"""The picture of a measurement: how far each case is from its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from minidl.viz.style import ACCENT, FAINT, HEADER, INK, OTHER, QUIET, plain, titled_figure

ROW = 0.24  # inches for a case
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


def draw(sections: Sequence[tuple[str, Sequence[dict[str, Any]]]], facts: Mapping[str, str]) -> Figure:
    """Return the figure: a line for each case that has a target, by section, on a scale where the target is 1."""
    rows = [(heading, row) for heading, own in sections for row in own if row.get("target") and row.get("reached")]
    height = HEADER + 1.0 + ROW * max(4, len(rows))
    subtitle = f"1 is the target; to the right of it is faster. {facts['GPU']}, {facts['date']}"
    figure = titled_figure(9.2, height, "minidl on a GPU: what was reached of the targets", subtitle)
    axes = plain(figure.add_subplot())
    for y, (heading, row) in enumerate(rows):
        share = row["reached"] / row["target"]
        spread = [own / row["ours"] for own in row["ours_range"]]
        colour = ACCENT if share >= 1 else OTHER
        axes.plot([share / spread[1], share / spread[0]], [y, y], color=colour, linewidth=1, alpha=0.45, zorder=2)
        axes.plot(share, y, "o", color=colour, markersize=4.2, zorder=3)
        if not y or rows[y - 1][0] != heading:
            axes.axhline(y - 0.5, color=FAINT, linewidth=0.8)
            place = axes.get_yaxis_transform()  # across the axes, and along the rows
            axes.text(0.005, y - 0.42, heading, transform=place, fontsize=7, color=QUIET, va="top")
    axes.set_yticks(range(len(rows)), [row["case"] for _, row in rows], fontsize=7.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    shares = [row["reached"] / row["target"] for _, row in rows] or [1]
    axes.set_xlim(0.8 * min(0.5, *shares, 1), 1.25 * max(2, *shares, 1))
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xlabel("reached over target", fontsize=8.5, color=QUIET)
    return figure
