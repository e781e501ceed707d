"""Learning-rate schedules."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from minidl.optim.schedules import Schedule
from minidl.viz.style import ACCENT, HEADER, INK, QUIET, plain, titled_figure

COLUMNS = 3
POINTS = 2000  # more than a panel has pixels
LETTERS = 60  # what fits on a line above a panel


def rates(
    schedules: Mapping[str, Callable[[int], float]],
    steps: int,
    title: str = "Learning-rate schedules",
    unit: str = "step",
) -> Figure:
    """Draw one panel for each schedule: its rate against t = 0, 1, …, steps − 1.

    All panels share the axis of t; each has an axis of its own for η, from 0.

    Parameters
    ----------
    schedules : mapping of str to callable
        From `optim.schedules`, or any function of t, by the name that stands over its panel.
    steps : int
        How many rates; of a long run, a part at even distances.
    title : str
    unit : str, default "step"
        What t counts, for the label.

    Raises
    ------
    ValueError
        If there is nothing to draw, or a rate is not finite.
    TypeError
        If a schedule is not callable.
    """
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"rates: steps is {steps!r}, expected a positive integer")
    if not schedules:
        raise ValueError("rates: schedules is empty, expected at least one")
    for name, schedule in schedules.items():
        if not callable(schedule):
            raise TypeError(f"rates: schedules[{name!r}] is {schedule!r}, expected a function of t")
    times = np.unique(np.linspace(0, steps - 1, min(steps, POINTS)).round().astype(int))
    drawn = {name: _evaluated(name, schedule, times) for name, schedule in schedules.items()}

    columns = min(COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    subtitle = f"the rate η of {unit} t + 1" + ("; the axes of η differ from panel to panel" if len(drawn) > 1 else "")
    figure = titled_figure(max(4.1 * columns, 5.5), 2.35 * rows + HEADER, title, subtitle)
    grid = figure.add_gridspec(rows, columns)
    for i, (name, values) in enumerate(drawn.items()):
        axes = plain(figure.add_subplot(grid[divmod(i, columns)]))
        _panel(axes, name, schedules[name], np.append(times, steps), np.append(values, values[-1]))
        if i + columns < len(drawn):
            axes.tick_params(labelbottom=False)
        else:
            axes.set_xlabel(f"t, finished {unit}s", fontsize=8.5, color=INK, labelpad=1)
        if i % columns == 0:
            axes.set_ylabel("η", fontsize=10, color=INK, rotation=0, labelpad=8)
    return figure


def _evaluated(name: str, schedule: Callable[[int], float], times: Any) -> Any:
    values = np.array([schedule(int(t)) for t in times], dtype=float)
    if not np.isfinite(values).all():
        t = times[~np.isfinite(values)][0]
        raise ValueError(f"rates: schedules[{name!r}] gives {schedule(int(t))} at t = {t}, expected a finite rate")
    return values


def _panel(axes, name, schedule, times, values):
    """Draw what the rate is during each step: it holds from t to t + 1."""
    axes.fill_between(times, values, step="post", color=ACCENT, alpha=0.08, linewidth=0)
    axes.plot(times, values, drawstyle="steps-post", color=ACCENT, linewidth=1.8)
    text = repr(schedule) if isinstance(schedule, Schedule) else ""
    call = textwrap.wrap(text, LETTERS, max_lines=2, placeholder=" …")
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=4 + 12 * len(call))
    axes.annotate(
        "\n".join(call), (0, 1), xycoords="axes fraction", xytext=(0, 5), textcoords="offset points",
        fontsize=8, color=QUIET,
    )  # fmt: skip
    axes.set_xlim(0, times[-1])
    axes.set_ylim(min(0.0, 1.1 * values.min()), 1.1 * values.max() or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
