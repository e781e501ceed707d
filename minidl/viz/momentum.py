"""How fast the heavy-ball method converges on a quadratic, over its rate and its momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from minidl.viz.style import FAINT, HEADER, INK, plain, titled_figure

CONDITIONS = (1.0, 10.0, 100.0)
POINTS = 400  # of the map in each direction
CONTOURS = (0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
DARK = 0.88  # up to this rate the map is dark
BAR = (0.1, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)  # rates that the colour bar names

STAR: dict[str, Any] = {"marker": "*", "markersize": 14, "color": INK, "markerfacecolor": "white", "linestyle": "none"}
DOT: dict[str, Any] = {"marker": "o", "markersize": 7, "color": INK, "markerfacecolor": "white", "linestyle": "none"}
DASHES: dict[str, Any] = {"linestyle": (0, (5, 3)), "linewidth": 1.2}


def heavy_ball_rate(alpha: Any, beta: Any, eigenvalues: Any) -> np.ndarray[Any, Any]:
    r"""Return the factor by which each step of the heavy-ball method shrinks the error on a quadratic, in the long run.

    In the direction of an eigenvalue λ of the Hessian the errors follow

    .. math:: \begin{pmatrix} e_{t+1} \\ e_t \end{pmatrix}
              = \begin{pmatrix} 1 + \beta - \alpha\lambda & -\beta \\ 1 & 0 \end{pmatrix}
                \begin{pmatrix} e_t \\ e_{t-1} \end{pmatrix},

    whose characteristic polynomial is :math:`z^2 - s z + \beta` with :math:`s = 1 + \beta - \alpha\lambda`. Its larger
    root has the absolute value :math:`\sqrt\beta` if :math:`s^2 < 4\beta` (a complex pair: the error oscillates), else
    :math:`\tfrac12 (|s| + \sqrt{s^2 - 4\beta})`. The rate is the largest of these over the eigenvalues. It grows with
    :math:`|s|`, which is convex in λ: so of many eigenvalues the smallest and the largest decide.

    Parameters
    ----------
    alpha, beta : array_like, broadcast against each other
        α > 0 and β in [0, 1).
    eigenvalues : float or sequence of positive floats

    Returns
    -------
    ndarray of the shape of α and β together
        Above 1 the method diverges: that is for :math:`\alpha > 2(1+\beta)/M`, M the largest eigenvalue.

    Notes
    -----
    Polyak 1964. The best setting is :math:`\alpha = \big(\tfrac{2}{\sqrt M + \sqrt\mu}\big)^2`,
    :math:`\beta = \big(\tfrac{\sqrt\kappa - 1}{\sqrt\kappa + 1}\big)^2` with the rate :math:`\sqrt\beta`, μ being the
    smallest eigenvalue and :math:`\kappa = M / \mu`; that of gradient descent is :math:`\alpha = \tfrac{2}{M + \mu}`
    with the rate :math:`\tfrac{\kappa - 1}{\kappa + 1}`.
    """
    alpha, beta = np.asarray(alpha, dtype=float), np.asarray(beta, dtype=float)
    ends = np.atleast_1d(np.asarray(eigenvalues, dtype=float)).ravel()
    if not ends.size or not (np.isfinite(ends).all() and (ends > 0).all()):
        raise ValueError(f"heavy_ball_rate: eigenvalues is {eigenvalues!r}, expected positive numbers")
    if not (np.isfinite(alpha).all() and (alpha > 0).all()):
        raise ValueError("heavy_ball_rate: alpha has values that are not positive numbers")
    if not ((beta >= 0) & (beta < 1)).all():
        raise ValueError("heavy_ball_rate: beta has values outside [0, 1)")
    s = np.maximum(np.abs(1 + beta - alpha * ends.min()), np.abs(1 + beta - alpha * ends.max()))
    discriminant = s**2 - 4 * beta
    real = (s + np.sqrt(np.maximum(discriminant, 0))) / 2
    return np.where(discriminant < 0, np.sqrt(beta), real)


def best_setting(condition: float) -> tuple[float, float, float]:
    """Return α·M, β and the rate of the best heavy-ball setting on a quadratic with this condition number κ = M/μ."""
    root = np.sqrt(condition)
    rate = (root - 1) / (root + 1)
    return float((2 * root / (root + 1)) ** 2), float(rate**2), float(rate)


def momentum_map(conditions: Sequence[float] = CONDITIONS) -> Figure:
    """Draw the heavy-ball method's rate of convergence over α and β, one map for each condition number.

    Parameters
    ----------
    conditions : sequence of floats of at least 1, default (1, 10, 100)
    """
    conditions = tuple(conditions)
    if not conditions or not all(1 <= condition < np.inf for condition in conditions):
        raise ValueError(f"momentum_map: conditions is {conditions!r}, expected numbers of at least 1")
    figure = titled_figure(
        max(4.6 * len(conditions) + 1.6, 13), 4.6 + HEADER + 0.35,
        "What momentum buys: the heavy ball's speed on a quadratic",
        "In the long run each step shrinks the error by the rate on the contours. The farther the Hessian's "
        "eigenvalues lie apart (κ = M/μ), the smaller the fast region, and the more momentum it needs.",
    )  # fmt: skip
    norm, colours = LogNorm(_steps(BAR[0]), _steps(BAR[-1]), clip=True), colormaps["YlGnBu_r"]
    panels = [plain(axes) for axes in figure.subplots(1, len(conditions), sharey=True, squeeze=False)[0]]
    for axes, condition in zip(panels, conditions, strict=True):
        _map(axes, condition, norm, colours)
    panels[0].set_ylabel("momentum β", fontsize=8.5, color=INK)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=panels, aspect=30, pad=0.012)
    bar.set_ticks([_steps(rate) for rate in BAR], labels=[f"{rate:g}: {_steps(rate):.3g} steps" for rate in BAR])
    bar.minorticks_off()
    bar.set_label("rate: steps for one more decimal digit", fontsize=8.5, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", length=0, labelsize=8, colors=INK)
    figure.legend(
        handles=[
            Line2D([], [], label="the best heavy ball", **STAR),
            Line2D([], [], label="the best gradient descent (β = 0)", **DOT),
            Line2D([], [], color=INK, **DASHES, label="above it every direction oscillates, and the rate is √β"),
            Patch(facecolor="white", edgecolor=FAINT, hatch="xxxx", linewidth=0, label="diverges: α > 2 (1 + β) / M"),
        ],
        loc="outside lower left", ncols=4, fontsize=8.5, frameon=False, labelcolor=INK,
    )  # fmt: skip
    return figure


def _steps(rate: Any) -> Any:
    """Return how many steps at this rate divide the error by ten."""
    return -1 / np.log10(rate)


def _map(axes: Any, condition: float, norm: LogNorm, colours: Any) -> None:
    """Draw one map, with M = 1 and μ = 1/κ."""
    alpha, beta = np.linspace(0, 4, POINTS + 1)[1:], np.linspace(0, 1, POINTS, endpoint=False)
    rate = heavy_ball_rate(alpha, beta[:, None], (1 / condition, 1.0))
    steps = _steps(np.clip(rate, 0.01, 0.999))
    axes.pcolormesh(alpha, beta, steps, norm=norm, cmap=colours, shading="nearest", rasterized=True)
    _contours(axes, alpha, beta, rate, condition)
    oscillating = np.maximum((1 - np.sqrt(alpha / condition)) ** 2, (1 - np.sqrt(alpha)) ** 2)  # s² < 4β above
    inside = oscillating > alpha / 2 - 1
    axes.plot(alpha[inside], oscillating[inside], color=INK, **DASHES)
    axes.fill([2, 4, 4], [0, 1, 0], facecolor="white", edgecolor=FAINT, hatch="xxxx", linewidth=0, zorder=2)
    axes.plot([2, 4], [0, 1], color=INK, linewidth=1.2, zorder=2.5)
    _optima(axes, condition)
    axes.set_title(f"κ = {condition:g}", loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    axes.set_xlabel("learning rate α, in units of 1/M", fontsize=8.5, color=INK)
    axes.set(xlim=(0, 4), ylim=(0, 1))
    axes.grid(False)


def _contours(axes: Any, alpha: Any, beta: Any, rate: Any, condition: float) -> None:
    """Draw the contours, named where they are level: at β = rate², between the two curves of the complex pairs."""
    for place, level in enumerate(CONTOURS):
        colour = "white" if level < DARK else INK
        lines = axes.contour(alpha, beta, rate, levels=[level], colors=colour, linewidths=0.7)
        left, right = condition * (1 - level) ** 2, (1 + level) ** 2
        if left < right:
            at = left + (right - left) * (0.35 if place % 2 else 0.55)
            axes.clabel(lines, fontsize=7.5, fmt="%g", manual=[(at, level**2)])


def _optima(axes: Any, condition: float) -> None:
    alpha, beta, rate = best_setting(condition)
    plain_alpha, plain_rate = 2 / (1 + 1 / condition), (condition - 1) / (condition + 1)
    axes.plot(plain_alpha, 0, clip_on=False, zorder=5, **DOT)
    axes.plot(alpha, beta, clip_on=False, zorder=6, **STAR)
    axes.text(
        3.96, 0.02,
        f"☆ α = {alpha:.3g}/M, β = {beta:.3g}\nrate {_in_words(rate)}\n"
        f"○ α = {plain_alpha:.3g}/M\nrate {_in_words(plain_rate)}",
        ha="right", va="bottom", fontsize=8, linespacing=1.35, color=INK, zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )  # fmt: skip


def _in_words(rate: float) -> str:
    return f"{rate:.3f}, {_steps(rate):.3g} steps a digit" if rate > 0 else "0, a single step"
