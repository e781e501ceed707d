"""The race of optimizers on a surface as one sheet of small multiples."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from minidl.surfaces import Sweep
from minidl.surfaces.sweep import NEAR, ROUNDING
from minidl.viz.style import ACCENT, INK, QUIET, plain, titled_figure
from minidl.viz.surface import (
    DIVERGED,
    MINIMUM,
    START,
    Ground,
    Run,
    arrowhead,
    best_runs,
    budget,
    counted,
    exits,
    in_words,
)

COLUMNS = 4
PANEL, GAP, MARGIN = 3.15, 0.2, 0.25  # inches
SMALL = 8.5


def race_sheet(sweep: Sweep) -> Figure:
    """Draw every method at its best setting: all paths together, all losses, and one panel for each, best first.

    Parameters
    ----------
    sweep : Sweep
        From `surfaces.sweep`.

    Returns
    -------
    matplotlib.figure.Figure
        `viz.save` writes it. Where a path leaves the picture stands an arrowhead, and in words the step.
    """
    if not isinstance(sweep, Sweep):
        raise TypeError(f"race_sheet: sweep is of type {type(sweep).__name__}, expected a Sweep")
    runs, ground, every = best_runs(sweep), Ground(sweep), _interval(sweep.steps)
    columns = min(max(len(runs), COLUMNS - 1), COLUMNS)
    width = 2 * MARGIN + columns * PANEL + (columns - 1) * GAP
    subtitle = _subtitle(sweep, every, width)
    header = 0.55 + 0.165 * (subtitle.count("\n") + 1)
    together = 4.3 if columns == COLUMNS else 3.2
    row = 0.32 + PANEL * ground.ratio + 0.36  # title, panel, words
    height = header + 0.32 + together + 0.55 + row * -(-len(runs) // columns) + 0.35

    figure = titled_figure(width, height, sweep.problem.title, subtitle)
    figure.set_layout_engine("none")  # every place is known, in inches

    def place(left: float, top: float, wide: float, tall: float) -> Any:
        return figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))

    top = header + 0.32
    wide = min(together / ground.ratio, width / 2)
    _together(place(MARGIN + 0.25, top, wide, wide * ground.ratio), runs, ground)
    left = MARGIN + 0.25 + wide + 0.15
    _names(place(left, top, 1.5, together), runs)
    _losses(place(left + 2.15, top, width - MARGIN - left - 2.15, together), runs, sweep.steps)
    top += together + 0.55
    for i, run in enumerate(runs):
        line, column = divmod(i, columns)
        axes = place(MARGIN + column * (PANEL + GAP), top + line * row + 0.3, PANEL, PANEL * ground.ratio)
        _panel(axes, run, ground, every)
    _key(figure, every, width, height)
    return figure


def _subtitle(sweep: Sweep, every: int, width: float) -> str:
    x, y = sweep.start
    tuned = budget(sweep)
    grid = f"Each method at the best of the same grid: {tuned}." if tuned else "No method here has anything to tune."
    lines = (
        f"{sweep.problem.equation},  from ({x:g}, {y:g}),  {counted(sweep.steps, 'step')}, a dot {_every(every)}",
        f"{grid} Best: the least loss, in the median over the last quarter of the steps." if tuned else grid,
        f"The panels are in this order. A minimum is met when a run stays closer to it than {NEAR:g}.",
    )
    return "\n".join(textwrap.fill(line, int(width / 0.0705)) for line in lines)


def _every(steps: int) -> str:
    return f"every {counted(steps, 'step').removeprefix('1 ')}"


def _interval(steps: int) -> int:
    """Return the least round number of steps that makes at most 20 dots."""
    return next(n for power in range(12) for n in np.array([1, 2, 5]) * 10**power if steps <= 20 * n)


def _panel(axes, run: Run, ground: Ground, every: int) -> None:
    ground.draw(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.plot(*run.path.T, color=ACCENT, linewidth=1.3, zorder=3)
    axes.plot(*run.path[::every].T, "o", color=ACCENT, markersize=3.2, zorder=4)
    _end(axes, run, ground, {"marker": "o", "markersize": 7, "color": ACCENT, "markeredgecolor": "white"})
    axes.set_title(run.name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    axes.set_title(run.setting, loc="right", fontsize=SMALL, color=QUIET, pad=8)
    outcome = "no minimum met" if run.met is None else f"minimum met at step {run.met}"
    for at, side, words in (
        (0, "left", f"{'ends at' if run.stopped is None else 'last'} loss {in_words(run.end)}"),
        (1, "right", outcome),
    ):
        axes.annotate(
            words, (at, 0), (0, -6), xycoords="axes fraction", textcoords="offset points", ha=side, va="top",
            fontsize=SMALL, color=INK,
        )  # fmt: skip
    left = exits(run.path, ground.box)
    for _, point, angle in left:
        axes.plot(*point, marker=arrowhead(angle), markersize=9, color=ACCENT, clip_on=False, zorder=7)
    if words := _departure(run, ground):
        _say(axes, words, run, ground, left[0][1] if left else run.path[run.last])


def _end(axes, run: Run, ground: Ground, look: dict[str, Any]) -> None:
    if ground.holds(run.path[run.last]):
        axes.plot(*run.path[run.last], **(look | DIVERGED if run.diverged else look), zorder=8)


def _departure(run: Run, ground: Ground) -> str:
    """Say when the run leaves the picture and comes back, and whether it diverges; nothing if it just goes its way."""
    path = run.path[: run.last + 1]
    inside = ground.holds(path)
    away = np.flatnonzero(~inside)
    lines = []
    if len(away):
        lines = [f"leaves the picture at step {away[0]}"]
        if inside[-1]:
            back = away[-1] + 1
            lines.append(f"back{'' if back - away[0] == len(away) else ' for good'} at step {back}")
    elif (np.abs(path - path[0]) < 0.01 * np.diff(ground.box).T).all():
        lines = ["stays at the start"]
    return "\n".join([*lines, run.fate] if run.stopped is not None else lines)


def _say(axes, words: str, run: Run, ground: Ground, near: Any) -> None:
    """Write the words into the panel where they hide the least of the path, and close to a point of it."""
    low, high = np.transpose(ground.box)
    scale = (1, ground.ratio) / (high - low)  # in panel widths
    frame = np.array([1, ground.ratio])
    lines = words.split("\n")
    size = np.array([0.07 * max(map(len, lines)) + 0.1, 0.15 * len(lines) + 0.08]) / PANEL

    path = np.clip((run.path[: run.last + 1] - low) * scale, -3, 4)
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    along = np.arange(0, lengths[-1], 0.01)
    drawn = np.stack([np.interp(along, lengths, path[:, i]) for i in (0, 1)], axis=1)
    marks = (np.array([ground.start, *ground.problem.minima]) - low) * scale
    goal = np.clip((near - low) * scale, 0, frame)

    def cost(corner: Any) -> float:
        hidden = 2 * _between(drawn, corner, corner + size) + 100 * _between(marks, corner - 0.04, corner + size + 0.04)
        return hidden + 30 * float(np.hypot(*(corner + size / 2 - goal)))

    room = frame - size
    places = np.stack(np.meshgrid(*(np.linspace(0.02, side - 0.02, 15) for side in room)), axis=-1).reshape(-1, 2)
    axes.text(
        *((min(places, key=cost) + size / 2) / frame), words, transform=axes.transAxes, ha="center", va="center",
        fontsize=SMALL, color=INK, linespacing=1.15, zorder=9.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2},
    )  # fmt: skip


def _between(points: Any, low: Any, high: Any) -> int:
    return int(((points > low) & (points < high)).all(axis=1).sum())


def _together(axes, runs: list[Run], ground: Ground) -> None:
    ground.draw(axes)
    for place, run in enumerate(reversed(runs)):
        axes.plot(*run.path.T, **run.line, linewidth=1.5, alpha=0.9, zorder=2 + place / 50)
        _end(axes, run, ground, run.look)
        for _, point, angle in exits(run.path, ground.box):
            axes.plot(*point, marker=arrowhead(angle), markersize=8, color=run.color, clip_on=False, zorder=7)
    axes.set_title("all paths", loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)


def _names(axes, runs: list[Run]) -> None:
    axes.set_axis_off()
    axes.legend(
        handles=[Line2D([], [], **run.look, linewidth=1.8, label=run.name) for run in runs],
        loc="upper left", borderaxespad=0, frameon=False, fontsize=9,
        labelcolor=INK, title="best first", title_fontsize=SMALL, alignment="left", handlelength=3.6, labelspacing=0.6,
    )  # fmt: skip


def _losses(axes, runs: list[Run], steps: int) -> None:
    plain(axes)
    curves = [np.maximum(run.losses, ROUNDING) for run in runs]
    top = 30 * float(curves[0][0])
    low = min(float(np.nanmin(curve)) for curve in curves)
    axes.set_yscale("log")
    axes.set_xlim(0, steps * 1.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(max(low / 3, ROUNDING / 3), top)
    box = (0.0, steps * 1.01), (np.log10(low) - 1, np.log10(top))
    for run, curve in reversed(list(zip(runs, curves, strict=True))):
        axes.plot(curve, **run.line, linewidth=1.5)
        for _, (x, y), _ in exits(np.stack([np.arange(steps + 1), np.log10(curve)], axis=1), box):
            axes.plot(x, 10**y, marker=arrowhead(90), markersize=8, color=run.color, clip_on=False)
        if run.diverged and curve[run.last] <= top:
            axes.plot(run.last, curve[run.last], **DIVERGED | {"markerfacecolor": run.color})
    axes.set_title("all losses", loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    axes.set_xlabel("step", fontsize=SMALL, color=INK)
    if low == ROUNDING:
        axes.set_title(f"{ROUNDING:g} stands for all below", loc="right", fontsize=SMALL, color=QUIET, pad=8)


def _key(figure: Figure, every: int, width: float, height: float) -> None:
    def mark(label: str, **look: Any) -> Line2D:
        return Line2D([], [], **({"linestyle": "none", "color": ACCENT, "label": label} | look))

    figure.legend(
        handles=[
            mark("start", **START),
            mark("minimum", **MINIMUM),
            mark("end", marker="o", markersize=7.5, markeredgecolor="white"),
            mark(_every(every), marker="o", markersize=3.2, linestyle="-", linewidth=1.3),
            mark("leaves the picture", marker=arrowhead(90), markersize=9),
            mark("diverged", **DIVERGED),
        ],
        loc="lower left", bbox_to_anchor=(MARGIN / width, 0.06 / height), borderaxespad=0, borderpad=0,
        ncols=6, fontsize=SMALL, frameon=False, labelcolor=INK, columnspacing=1.8, handletextpad=0.5,
    )  # fmt: skip
