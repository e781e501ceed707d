"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from minidl.viz.style import ACCENT, FAINT, HEADER, INK, QUIET, plain, titled_figure

COLUMNS = 4
SMOOTHING = 0.1  # weight of the newest step in the running mean that the loss is drawn with


@dataclass(frozen=True)
class LearningCurve:
    """What is drawn of one run: the loss of every step, the test accuracy of every epoch, and a note (its rate)."""

    name: str
    note: str
    losses: Sequence[float]
    accuracies: Sequence[float]
    steps_per_epoch: int
    diverged: bool = False


def small_multiples(curves: Sequence[LearningCurve], title: str, subtitle: str) -> Figure:
    """Draw one panel for each run: its loss above, its accuracy below, all others faint behind it.

    The last panel lists their final accuracies. Give the runs best first.
    """
    rows = -(-(len(curves) + 1) // COLUMNS)
    columns = min(COLUMNS, len(curves) + 1)
    figure = titled_figure(3.4 * columns, 3.0 * rows + HEADER, title, subtitle)
    grid = figure.add_gridspec(rows, columns)
    limits = _loss_limits(curves), _accuracy_limits(curves)
    for i, curve in enumerate(curves):
        _panel(figure, grid[divmod(i, columns)], curve, curves, limits, first_column=i % columns == 0)
    _ranking(plain(figure.add_subplot(grid[divmod(len(curves), columns)])), curves)
    return figure


def running_mean(values: Sequence[float]) -> Any:
    """Return the exponential running mean of the values, corrected for its start."""
    mean, weight, means = 0.0, 0.0, []
    for value in values:
        mean += SMOOTHING * (value - mean)
        weight += SMOOTHING * (1 - weight)
        means.append(mean / weight)
    return np.array(means)


def _panel(figure, cell, curve, curves, limits, first_column):
    upper, lower = cell.subgridspec(2, 1, hspace=0.0, height_ratios=(1.15, 1))
    loss, accuracy = plain(figure.add_subplot(upper)), plain(figure.add_subplot(lower))
    for other in curves:
        if other is not curve:
            _draw(loss, accuracy, other, FAINT, linewidth=0.8)
    _draw(loss, accuracy, curve, ACCENT, linewidth=2)

    loss.set_title(curve.name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    loss.set_title("diverged" if curve.diverged else curve.note, loc="right", fontsize=8.5, color=QUIET, pad=4)
    loss.set_yscale("log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=6))
    loss.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    loss.yaxis.set_minor_formatter(NullFormatter())
    accuracy.yaxis.set_major_formatter(FuncFormatter(_percent))
    accuracy.yaxis.set_major_locator(MaxNLocator(4))
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    loss.set_ylim(limits[0])
    accuracy.set_ylim(limits[1])
    epochs = max((len(c.accuracies) for c in curves), default=1)
    for axes in (loss, accuracy):
        axes.set_xlim(0, max(1, epochs) * 1.02)
    loss.tick_params(labelbottom=False)
    if first_column:
        loss.set_ylabel("training loss", fontsize=8.5, color=INK)
        accuracy.set_ylabel("test accuracy", fontsize=8.5, color=INK)
    accuracy.set_xlabel("epoch", fontsize=8.5, color=INK, labelpad=1)
    if curve.accuracies and not curve.diverged:
        accuracy.text(
            0.98, 0.06, f"{curve.accuracies[-1]:.1%}", transform=accuracy.transAxes, ha="right", va="bottom",
            fontsize=12, fontweight="bold", color=ACCENT,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
        )  # fmt: skip


def _draw(loss, accuracy, curve, color, linewidth):
    at = np.arange(1, len(curve.losses) + 1) / curve.steps_per_epoch
    loss.plot(at, running_mean(curve.losses), color=color, linewidth=linewidth)
    marker = "o" if linewidth > 1 else None
    accuracy.plot(
        range(1, len(curve.accuracies) + 1),
        curve.accuracies,
        color=color,
        linewidth=linewidth,
        marker=marker,
        markersize=3,
    )


def _ranking(axes, curves):
    """Show the final accuracies from the top of the panel down, best first as the runs come."""
    axes.set_title("final test accuracy", loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    for place, curve in enumerate(curves):
        if curve.diverged or not curve.accuracies:
            axes.text(0.02, place, "diverged", transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)
            continue
        final = curve.accuracies[-1]
        axes.plot(final, place, "o", color=ACCENT, markersize=5)
        axes.annotate(
            f"{final:.1%}", (final, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(range(len(curves)), [curve.name for curve in curves], fontsize=8.5)
    axes.set_ylim(len(curves) - 0.3, -0.7)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(_percent))
    axes.margins(x=0.3)


def _percent(fraction, position):
    return f"{100 * fraction:g}%" if fraction <= 1 else ""


def _loss_limits(curves):
    values = np.concatenate([running_mean(c.losses) for c in curves if c.losses and not c.diverged] or [np.ones(1)])
    low = max(float(values.min()) * 0.8, 1e-6)
    return low, max(float(np.quantile(values, 0.995)) * 1.3, 2 * low)


def _accuracy_limits(curves):
    values = np.concatenate([c.accuracies for c in curves if c.accuracies and not c.diverged] or [np.ones(1)])
    low = min(float(np.quantile(values, 0.1)), 0.9)
    return max(0.0, low - 0.1 * (1 - low)), 1.0 + 0.06 * (1 - low)
