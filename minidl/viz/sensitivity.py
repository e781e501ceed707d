"""How much the loss at the end depends on the learning rate and on the momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from minidl.surfaces import Family, Sweep
from minidl.surfaces.sweep import ROUNDING
from minidl.viz.style import ACCENT, FAINT, HEADER, INK, QUIET, plain, titled_figure

COLUMNS = 4
GOOD = 0.01  # a rate works if the loss ends below this fraction of the loss at the start
WORDS = {"lr": "learning rate η", "eps": "ε", "beta": "momentum β", "gamma": "memory γ", "betas": "momentum β₁"}

RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 8,
    "markerfacecolor": "white",
    "markeredgewidth": 1.8,
    "linestyle": "none",
}
CROSS: dict[str, Any] = {"marker": "x", "markersize": 5, "markeredgewidth": 1.3, "linestyle": "none"}
PEAK: dict[str, Any] = {"marker": "^", "markersize": 4.5, "markerfacecolor": "white", "linestyle": "none"}


def rate_sensitivity(sweep: Sweep) -> Figure:
    """Draw how low each method ends against its learning rate (Adadelta's against ε), one panel a method.

    The loss is the median over the last quarter of the steps, so that no run is judged by one lucky step.

    The last panel shows the rates that work: with those the loss ends below 1 % of what it was at the start. There a
    method that needs no rate has a bar over all of them, if it ends as low.

    Parameters
    ----------
    sweep : Sweep
        From `surfaces.sweep`.

    Raises
    ------
    ValueError
        If no method has a rate or ε.
    """
    start = _checked(sweep, "rate_sensitivity")
    tuned = [family for family in sweep.families if family.method.tuned is not None]
    if not tuned:
        raise ValueError(f"rate_sensitivity: sweep has {_names(sweep)}, expected a method with a rate")
    limits = _limits(tuned, start)
    columns = min(COLUMNS, len(tuned) + 1)
    rows = -(-(len(tuned) + 1) // columns)
    figure = titled_figure(
        max(3.4 * columns, 10.2), 2.45 * rows + HEADER + 0.3,
        f"How much the learning rate matters on {in_sentence(sweep.problem.title)}",
        f"Median loss of the last quarter of {sweep.steps} steps: a wide valley forgives a bad choice, a narrow one "
        f"beside crosses does not.{_floor_note(tuned)}",
    )  # fmt: skip
    grid = figure.add_gridspec(rows, columns)
    for i, family in enumerate(tuned):
        axes = plain(figure.add_subplot(grid[divmod(i, columns)]))
        _valley(axes, family, start, limits)
        axes.tick_params(labelleft=i % columns == 0)
        if i % columns == 0:
            axes.set_ylabel("loss at the end", fontsize=8.5, color=INK)
    _working_rates(plain(figure.add_subplot(grid[divmod(len(tuned), columns)])), sweep.families, start)
    figure.legend(
        handles=[
            Line2D([], [], color=ACCENT, linewidth=2, label="at its best momentum"),
            Line2D([], [], color=FAINT, linewidth=0.8, label="at the other momenta"),
            Line2D([], [], color=ACCENT, label="the lowest", **RING),
            Line2D([], [], color=INK, label="diverged", **CROSS),
            Line2D([], [], color=INK, label="ended above the scale", **PEAK),
            Line2D([], [], color=QUIET, linestyle=":", linewidth=1, label="the loss at the start"),
        ],
        loc="outside lower left", ncols=6, fontsize=8.5, frameon=False, labelcolor=INK,
    )  # fmt: skip
    return figure


def rate_momentum_map(sweep: Sweep) -> Figure:
    """Draw how low each method ends over its learning rate (Adadelta's ε) and its momentum, one map a method.

    Parameters
    ----------
    sweep : Sweep
        From `surfaces.sweep`. Methods that do not have both settings are left out, and named.

    Raises
    ------
    ValueError
        If no method has both.
    """
    start = _checked(sweep, "rate_momentum_map")
    both = [family for family in sweep.families if _has_both(family)]
    if not both:
        raise ValueError(f"rate_momentum_map: sweep has {_names(sweep)}, expected a method with a rate and a momentum")
    left_out = ", ".join(family.method.label for family in sweep.families if not _has_both(family))
    columns = min(COLUMNS, len(both))
    rows = -(-len(both) // columns)
    figure = titled_figure(
        max(3.4 * columns, 10.2), 2.5 * rows + HEADER + 0.3,
        f"Learning rate and momentum together on {in_sentence(sweep.problem.title)}",
        f"Each cell is one run of {sweep.steps} steps: the darker, the lower the loss at its end (median of the last "
        f"quarter).{_floor_note(both)}",
    )  # fmt: skip
    grid = figure.add_gridspec(rows, columns)
    norm, colours = LogNorm(min(_least(both), start / 100), start), colormaps["YlGnBu_r"]
    panels = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(len(both))]
    for axes, family in zip(panels, both, strict=True):
        _heat(axes, family, norm, colours)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=panels, aspect=30, pad=0.015, extend="max")
    bar.set_label("loss at the end, up to the loss at the start", fontsize=8.5, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", length=0, labelsize=8, colors=INK)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    figure.legend(
        handles=[
            Patch(facecolor="white", edgecolor=INK, linewidth=1.8, label="the lowest"),
            Patch(facecolor="white", edgecolor=FAINT, hatch="xxxx", linewidth=0, label="diverged"),
            *([Line2D([], [], linestyle="none", label=f"no map, for want of a setting: {left_out}")] * bool(left_out)),
        ],
        loc="outside lower left", ncols=3, fontsize=8.5, frameon=False, labelcolor=INK,
    )  # fmt: skip
    return figure


def _checked(sweep: Any, who: str) -> float:
    """Return the loss at the start, of a sweep that can be drawn."""
    if not isinstance(sweep, Sweep):
        raise TypeError(f"{who}: sweep is {type(sweep).__name__}, expected a Sweep from surfaces.sweep")
    for family in sweep.families:
        wrong = [value for value in family.values if value is not None and value <= 0]
        if wrong:
            raise ValueError(
                f"{who}: {family.method.name} has the rate {wrong[0]:g}, expected positive: the axis is a log"
            )
    return max(float(sweep.families[0].losses[0, 0, 0]), ROUNDING)


def _names(sweep: Sweep) -> str:
    return ", ".join(family.method.name for family in sweep.families)


def _has_both(family: Family) -> bool:
    return family.method.tuned is not None and family.method.momentum is not None


def _least(families: Sequence[Family]) -> float:
    return min((float(np.nanmin(f.ends)) for f in families if not f.diverged.all()), default=ROUNDING)


def _limits(families: Sequence[Family], start: float) -> tuple[float, float]:
    """Return limits for the losses, with room below for the ring and above for the crosses."""
    low = min(_least(families), start / 100)
    room = (start / low) ** 0.09
    return low / room, start * room**2


def _floor_note(families: Sequence[Family]) -> str:
    return f" Lower than {ROUNDING:g} counts as that." if _least(families) == ROUNDING else ""


def _titles(axes: Any, family: Family, at: tuple[int, int]) -> None:
    axes.set_title(family.method.label, loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    note = "diverged" if family.diverged[at] else family.setting(at)
    axes.set_title(note, loc="right", fontsize=8.5, color=QUIET, pad=4)


def _valley(axes: Any, family: Family, start: float, limits: tuple[float, float]) -> None:
    final, (i, j) = family.ends, family.best
    _titles(axes, family, (i, j))
    axes.set_yscale("log")
    axes.set_ylim(limits)
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.axhline(start, color=QUIET, linestyle=":", linewidth=1)
    top = limits[1] / (limits[1] / limits[0]) ** 0.05
    order = np.argsort(rates := np.array(family.values, dtype=float))
    rates = rates[order]
    for other in range(final.shape[1]):
        if other != j:
            axes.plot(rates, final[order, other], color=FAINT, linewidth=0.8)
    best = final[order, j]
    axes.plot(rates, best, color=ACCENT, linewidth=2)
    diverged, above = np.isnan(best), best > limits[1]
    axes.plot(rates[diverged], np.full(diverged.sum(), top), color=INK, label="diverged", **CROSS)
    axes.plot(rates[above], np.full(above.sum(), top), color=INK, label="above", **PEAK)
    if not family.diverged[i, j] and final[i, j] <= limits[1]:
        axes.plot(family.values[i], final[i, j], color=ACCENT, label="lowest", **RING)
    _rate_axis(axes, WORDS[family.method.tuned or ""])


def _rate_axis(axes: Any, words: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(words, fontsize=8.5, color=INK, labelpad=1)


def _working_rates(axes: Any, families: Sequence[Family], start: float) -> None:
    """Mark, in a row for each method with a learning rate or with nothing to tune, the rates that work."""
    shown = [family for family in families if family.method.tuned != "eps"]
    every = np.array([rate for family in shown if family.method.tuned for rate in family.values] or [1e-4, 10], float)
    low, high = every.min() / 1.5, every.max() * 1.5
    for row, family in enumerate(shown):
        works = family.ends[:, family.best[1]] < GOOD * start
        if family.method.tuned is None:
            axes.plot([low, high], [row, row], color=ACCENT if works[0] else FAINT, linewidth=4 if works[0] else 0.8)
        else:
            rates = np.array(family.values, dtype=float)
            axes.plot(rates[~works], np.full((~works).sum(), row), ".", color=FAINT, markersize=3)
            axes.plot(rates[works], np.full(works.sum(), row), "o", color=ACCENT, markersize=4.5)
        axes.text(
            0.0, row, family.method.label, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK
        )
    axes.set_title("Rates that work", loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    axes.set_title(f"end below {GOOD:.0%} of the start", loc="right", fontsize=8.5, color=QUIET, pad=4)
    _rate_axis(axes, "learning rate η  (bar: needs none)" if None in [f.method.tuned for f in shown] else WORDS["lr"])
    axes.set_xticks([10.0**k for k in range(-12, 13) if low <= 10.0**k <= high])
    axes.set_xlim(low / (high / low) ** 0.5, high)  # the names stand inside: so it is as wide as the other panels
    axes.set_yticks([])
    axes.set_ylim(len(shown) - 0.4, -0.6)


def _heat(axes: Any, family: Family, norm: LogNorm, colours: Any) -> None:
    rates, momenta = np.array(family.values, dtype=float), np.array(family.momenta, dtype=float)
    across, up = np.argsort(rates), np.argsort(momenta)
    rates, momenta, final = rates[across], momenta[up], family.ends[np.ix_(across, up)]
    axes.imshow(np.ma.masked_invalid(final.T), norm=norm, cmap=colours, origin="lower", aspect="auto")
    for i, j in np.argwhere(np.isnan(final)):
        axes.add_patch(_cell(i, j, facecolor="white", edgecolor=FAINT, hatch="xxxx", linewidth=0))
    at = family.best
    _titles(axes, family, at)
    if not family.diverged[at]:
        i, j = int(np.flatnonzero(across == at[0])[0]), int(np.flatnonzero(up == at[1])[0])
        axes.add_patch(_cell(i, j, fill=False, edgecolor="white", linewidth=4, zorder=3))
        axes.add_patch(_cell(i, j, fill=False, edgecolor=INK, linewidth=1.8, zorder=4))
    axes.set_xticks(*_decades(rates))
    axes.set_yticks(range(len(momenta)), [f"{momentum:g}" for momentum in momenta])
    axes.set_xlabel(WORDS[family.method.tuned or ""], fontsize=8.5, color=INK, labelpad=1)
    axes.set_ylabel(WORDS[family.method.momentum or ""], fontsize=8.5, color=INK, labelpad=1)
    axes.tick_params(length=0, labelsize=8, colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)


def _cell(i: int, j: int, **look: Any) -> Rectangle:
    return Rectangle((i - 0.5, j - 0.5), 1, 1, **look)


def _decades(rates: Any) -> tuple[Any, list[str]]:
    """Return the powers of ten as places on an axis that counts the rates, and their labels."""
    exponents = np.log10(rates)
    whole = np.arange(np.ceil(exponents[0] - 1e-9), exponents[-1] + 1e-9)
    if len(whole) < 2:
        return range(len(rates)), [f"{rate:.2g}" for rate in rates]
    whole = whole[:: -(-len(whole) // 6)]
    return np.interp(whole, exponents, np.arange(len(rates))), [f"$10^{{{exponent:.0f}}}$" for exponent in whole]


def in_sentence(title: str) -> str:
    """Return a title as it stands within a sentence: "a quadratic …", but "Rosenbrock's valley"."""
    return title[0].lower() + title[1:] if title.startswith("A ") else title
