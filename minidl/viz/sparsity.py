"""How many weights a penalty sets to zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from minidl.backend import to_numpy
from minidl.viz.style import ACCENT, FAINT, HEADER, INK, QUIET, plain, titled_figure

COLUMNS = 3
BINS = 61  # odd, so that 0 is the middle of a bin
LOWEST = 0.7  # where the axis of counts begins: a bin with one weight is visible


def sparsity(weights: Mapping[str, Any], title: str, subtitle: str) -> Figure:
    """Draw the histogram of each run's weights, with the exact zeros as a bar of their own.

    All panels share their bins and axes; counts are logarithmic. Weights that are exactly 0 are counted only in the
    accented bar, and their share is written beside it. The outline in all panels but the first is the first run's
    histogram, so give the one without a penalty first.

    Parameters
    ----------
    weights : mapping
        Arrays of any shape, such as `optimizer.weights`, by the name of the run.
    title, subtitle : str

    Raises
    ------
    ValueError
        If there is no run, or one has no weights or weights that are NaN or infinite.
    """
    runs = {name: _checked(name, values) for name, values in weights.items()}
    if not runs:
        raise ValueError("sparsity: weights is empty, expected at least one run")
    reach = max(float(np.abs(values).max()) for values in runs.values()) or 1.0
    edges = np.linspace(-1.02 * reach, 1.02 * reach, BINS + 1)
    counts = {name: np.histogram(values[values != 0], edges)[0] for name, values in runs.items()}
    zeros = {name: int((values == 0).sum()) for name, values in runs.items()}
    top = 4 * max(max(int(counts[name].max()), zeros[name]) for name in runs)

    columns = min(COLUMNS, len(runs))
    rows = -(-len(runs) // columns)
    figure = titled_figure(3.6 * columns, 2.5 * rows + HEADER, title, subtitle)
    grid = figure.add_gridspec(rows, columns)
    first = next(iter(runs))
    for i, name in enumerate(runs):
        axes = plain(figure.add_subplot(grid[divmod(i, columns)]))
        axes.stairs(counts[name], edges, baseline=LOWEST, fill=True, color=FAINT)
        if i:
            axes.stairs(counts[first], edges, baseline=None, color=QUIET, linewidth=0.8)
        if zeros[name]:
            axes.bar(0, zeros[name] - LOWEST, bottom=LOWEST, width=0.6 * (edges[1] - edges[0]), color=ACCENT)
        axes.set_yscale("log")
        axes.set_ylim(LOWEST, top)
        axes.set_xlim(edges[0], edges[-1])
        _label(axes, name, zeros[name], runs[name].size, below=i + columns >= len(runs), left=i % columns == 0)
        if i == 1:
            _note(axes, 0.85, f"outline: {first}", fontsize=8.5, color=QUIET)
    return figure


def _checked(name: str, values: Any) -> Any:
    array = np.asarray(to_numpy(values)).ravel()
    if not array.size or not np.isfinite(array).all():
        what = "no elements" if not array.size else "elements that are NaN or infinite"
        raise ValueError(f"sparsity: weights[{name!r}] has {what}, expected finite weights")
    return array


def _label(axes, name, zeros, size, below, left):
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    share = "none" if zeros == 0 else f"{zeros / size:.1%}"
    _note(axes, 0.97, f"{share} exactly 0", fontsize=11, fontweight="bold", color=ACCENT)
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    if below:
        axes.set_xlabel("weight", fontsize=8.5, color=INK, labelpad=1)
    if left:
        axes.set_ylabel("number of weights", fontsize=8.5, color=INK)


def _note(axes, height, text, **style):
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
    axes.text(0.985, height, text, transform=axes.transAxes, ha="right", va="top", bbox=background, **style)
