"""The learning-rate range test."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from minidl.training import RateRange
from minidl.viz.style import ACCENT, FAINT, HEADER, INK, QUIET, plain, titled_figure


def rate_range(result: RateRange, title: str = "Learning-rate range test") -> Figure:
    """Draw the loss of every step of `training.find_rate` against its rate, and mark what can be read off it.

    The smoothed loss is drawn over the loss of the mini-batches, which may leave the picture at its top.
    """
    figure = titled_figure(7.2, 4.0 + HEADER, title, _subtitle(result))
    axes = plain(figure.add_subplot())
    axes.plot(result.rates, result.losses, color=FAINT, linewidth=1)
    axes.plot(result.rates, result.smoothed, color=ACCENT, linewidth=2)
    _limits(axes, result)
    if not math.isnan(result.suggestion):
        _mark(axes, result, result.suggestion, f"steepest: {result.suggestion:.2g}", ACCENT, (-7, -3), "right")
    _mark(axes, result, result.least, f"least: {result.least:.2g}", INK, (0, -10), "center")
    if result.diverged_at is not None:
        axes.axvline(result.diverged_at, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"diverged at {result.diverged_at:.2g}", (result.diverged_at, 0.98), xycoords=axes.get_xaxis_transform(),
            xytext=(-5, 0), textcoords="offset points", ha="right", va="top", fontsize=9, color=QUIET,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
        )  # fmt: skip
    return figure


def _subtitle(result: RateRange) -> str:
    steps, (first, last) = len(result.rates), result.rates[[0, -1]]
    return f"{steps} steps, the rate rising from {first:.2g} to {last:.2g}; faint: each mini-batch, blue: running mean"


def _limits(axes, result):
    """Show all of the falling part; of what comes after the least value, as much as fits above it."""
    before = result.rates <= result.least
    shown = (*result.losses[before], *result.smoothed[before], result.smoothed[0])
    low, high = min(*shown, *result.losses), max(shown)
    room = 0.08 * (high - low) or 1.0
    axes.set_ylim(low - 2 * room, high + 3 * room)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("learning rate", fontsize=9, color=INK)
    axes.set_ylabel("training loss", fontsize=9, color=INK)


def _mark(axes, result, rate, text, color, offset, side):
    """Put a dot on the smoothed curve with its meaning below it, where the falling curve leaves room."""
    loss = float(result.smoothed[result.rates == rate][0])
    axes.plot(rate, loss, "o", color=color, markersize=7, markeredgecolor="white", zorder=3)
    axes.annotate(
        text, (rate, loss), xytext=offset, textcoords="offset points", ha=side, va="top",
        fontsize=10, fontweight="bold", color=color, zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
    )  # fmt: skip
