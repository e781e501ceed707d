"""The loss around the weights of a network, and along the ways to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from minidl.training import LossLine, LossPaths, LossPlane
from minidl.viz.parameter_sweep import LOOKS
from minidl.viz.style import ACCENT, FAINT, HEADER, INK, QUIET, plain, titled_figure
from minidl.viz.surface import GROUND, LEVELS, START

SIDE = 3.4  # inches, of a map
LEAST = 1e-6  # losses below it are drawn as if they were it, on a logarithmic scale
HALO: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.8}


def loss_lines(lines: Mapping[str, LossLine], title: str, subtitle: str, *, xlabel: str = "α") -> Figure:
    """Draw the loss along lines through weights, all in one axes, on a logarithmic scale.

    Parameters
    ----------
    lines : mapping of LossLine
        From `training.loss_line`, by name; up to six.
    title, subtitle, xlabel : str

    Raises
    ------
    ValueError
        If there are no lines, too many, or one without a finite loss. Where a loss is not finite there is a gap.
    """
    _check_number("loss_lines", "lines", lines)
    figure = titled_figure(7.2, 3.9 + HEADER, title, subtitle)
    axes = plain(figure.add_subplot())
    for (name, line), (color, marker) in zip(lines.items(), LOOKS, strict=False):
        losses = _drawable("loss_lines", name, line.losses)
        axes.plot(line.alpha, losses, color=color, linewidth=2, label=name)
        if line.alpha[0] <= 0 <= line.alpha[-1]:
            finite = np.isfinite(losses)
            axes.plot(0, np.interp(0, line.alpha[finite], losses[finite]), marker, color=color, markersize=7, **HALO)
    axes.axvline(0, color=FAINT, zorder=0)
    _log_axis(axes)
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel("loss", fontsize=9, color=INK)
    _legend(axes)
    return figure


def loss_planes(planes: Mapping[str, LossPlane], title: str, subtitle: str) -> Figure:
    """Draw the loss on planes through weights as maps with the same levels, the weights in the middle as a dot.

    Parameters
    ----------
    planes : mapping of LossPlane
        From `training.loss_plane`, by name; up to six.
    title, subtitle : str

    Raises
    ------
    ValueError
        If there are no planes, too many, or one without a finite loss. A loss that is not finite is drawn as high as
        the highest one that is.
    """
    _check_number("loss_planes", "planes", planes)
    heights = {name: _filled(_drawable("loss_planes", name, plane.losses)) for name, plane in planes.items()}
    levels = _levels(list(heights.values()))
    columns = min(3, len(planes))
    rows = -(-len(planes) // columns)
    figure = titled_figure(max(SIDE * columns + 0.9, 5.6), SIDE * rows + HEADER + 0.25, title, subtitle)
    panels = []
    for i, (name, plane) in enumerate(planes.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        panels.append(axes)
        _map(axes, plane, heights[name], levels)
        axes.plot(0, 0, "o", color=ACCENT, markersize=7, **HALO)
        axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
        axes.set_title(f"lowest {heights[name].min():.3g}", loc="right", fontsize=8.5, color=QUIET, pad=4)
        axes.set_xlabel("α", fontsize=9, color=INK, labelpad=1)
        axes.set_ylabel("β" if i % columns == 0 else "", fontsize=9, color=INK, labelpad=1)
    _bar(figure, panels, levels)
    return figure


def loss_paths(found: LossPaths, title: str, subtitle: str) -> Figure:
    """Draw the ways of optimizers in the plane of their principal directions, and the true beside the projected loss.

    At the left the map of the loss on the plane, with the paths: a ring at the first weights, a filled mark at the
    last. At the right the loss along each path: solid at the weights themselves, dashed at their projections. The map
    shows the truth as far as both agree.

    Parameters
    ----------
    found : LossPaths
        From `training.loss_paths`; up to six paths.
    title, subtitle : str

    Raises
    ------
    ValueError
        If there are too many paths, or no loss is finite.
    """
    _check_number("loss_paths", "places", found.places)
    heights = _filled(_drawable("loss_paths", "plane", found.plane.losses))
    levels = _levels([heights])
    figure = titled_figure(11.2, 4.6 + HEADER, title, subtitle)
    grid = figure.add_gridspec(1, 2, width_ratios=(1.25, 1))
    left, right = figure.add_subplot(grid[0]), plain(figure.add_subplot(grid[1]))
    _map(left, found.plane, heights, levels)
    for (name, places), (color, marker) in zip(found.places.items(), LOOKS, strict=False):
        left.plot(*places.T, "-", color=color, linewidth=1.6, marker=marker, markersize=3, label=name)
        left.plot(*places[-1], marker, color=color, markersize=9, **HALO)
    for places in found.places.values():
        left.plot(*places[0], **START)
    first, second = found.variance[:2]
    left.set_xlabel(f"first principal direction: {first:.0%} of the variance", fontsize=9, color=INK)
    left.set_ylabel(f"second: {second:.0%}", fontsize=9, color=INK)
    _bar(figure, [left], levels)

    for (name, true), (color, marker) in zip(found.true.items(), LOOKS, strict=False):
        projected, at = found.projected[name], np.arange(len(true))
        right.plot(at, _logged(true), color=color, linewidth=2, marker=marker, markersize=3, label=f"{name}: true")
        right.plot(at, _logged(projected), color=color, linewidth=1.2, linestyle=(0, (4, 2)), label="on the map")
    _log_axis(right)
    right.set_xlabel("weights along the path", fontsize=9, color=INK)
    right.set_ylabel("loss", fontsize=9, color=INK)
    _legend(right, columns=1 if len(found.true) < 4 else 2)
    return figure


def _check_number(who: str, what: str, given: Mapping[str, Any]) -> None:
    if not 1 <= len(given) <= len(LOOKS):
        raise ValueError(f"{who}: {what} has {len(given)} entries, expected 1 to {len(LOOKS)}")


def _logged(losses: Any) -> Any:
    """Return what a logarithmic axis can show: NaN where it is not finite."""
    return np.maximum(np.where(np.isfinite(losses), losses, np.nan), LEAST)


def _drawable(who: str, name: str, losses: Any) -> Any:
    logged = _logged(np.asarray(losses, np.float64))
    if np.isnan(logged).all():
        raise ValueError(f"{who}: no loss of {name!r} is finite")
    return logged


def _filled(losses: Any) -> Any:
    return np.where(np.isnan(losses), np.nanmax(losses), losses)


def _levels(heights: list[Any]) -> Any:
    low, high = min(float(h.min()) for h in heights), max(float(h.max()) for h in heights)
    return np.geomspace(low, max(high, 1.001 * low), LEVELS)


def _map(axes: Any, plane: LossPlane, heights: Any, levels: Any) -> None:
    norm = LogNorm(levels[0], levels[-1])
    axes.contourf(plane.alpha, plane.beta, heights, levels, cmap=GROUND, norm=norm, extend="both")
    if heights.max() > heights.min():
        axes.contour(plane.alpha, plane.beta, heights, levels, colors=QUIET, linewidths=0.5, alpha=0.6)
    axes.tick_params(length=0, labelsize=8, colors=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for side in axes.spines.values():
        side.set_visible(False)


def _bar(figure: Figure, panels: list[Any], levels: Any) -> None:
    colours = ScalarMappable(LogNorm(levels[0], levels[-1]), GROUND)
    bar = figure.colorbar(colours, ax=panels, aspect=28, pad=0.02)
    bar.set_label("loss", fontsize=8.5, color=INK)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_ticks(levels[::3], labels=[f"{level:#.2g}" if level < 10 else f"{level:,.0f}" for level in levels[::3]])
    bar.ax.tick_params(which="both", length=0, labelsize=8, colors=INK)


def _log_axis(axes: Any) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, columns: int = 1) -> None:
    legend = axes.legend(fontsize=8.5, frameon=True, framealpha=0.85, edgecolor="none", labelcolor=INK, ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)
