"""The online problem on which Adam goes to the worst point and AMSGrad to the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from minidl import optim
from minidl.tensor import Tensor
from minidl.viz.style import ACCENT, HEADER, INK, QUIET, plain, titled_figure

C = 3.0  # the slope that comes in one step of three, against −1 in the two others
BETAS = (0.0, 1 / (1 + C**2))
ALPHA = 0.3
METHODS: dict[str, type[optim.Adam] | type[optim.AMSGrad]] = {"Adam": optim.Adam, "AMSGrad": optim.AMSGrad}
COLORS = {"Adam": "#d55e00", "AMSGrad": ACCENT}  # an orange and a blue that everybody can tell apart


@dataclass(frozen=True)
class OnlineRun:
    """A run on Reddi's problem.

    Attributes
    ----------
    x : (steps + 1,)
        x_0 = 0, x_1, …
    moves : (steps,)
        What the optimizer did in each step before the projection, in units of η_t.
    regret : (steps,)
        The average regret of the steps 1 … t: the mean of f_t(x_{t-1}) − f_t(−1).
    """

    x: np.ndarray[Any, Any]
    moves: np.ndarray[Any, Any]
    regret: np.ndarray[Any, Any]


def reddi_run(method: str, steps: int = 3000) -> OnlineRun:
    r"""Run Adam or AMSGrad on the online problem of Reddi et al. 2018, theorem 1.

    In step t the method pays :math:`f_t(x)` for its x in [−1, 1] and learns the slope,

    .. math:: f_t(x) = \begin{cases} C x & t \bmod 3 = 1 \\ -x & \text{otherwise} \end{cases}, \qquad C = 3.

    Three steps together cost :math:`(C - 2)\,x`: the best point is −1. The setting is the theorem's,
    :math:`\beta_1 = 0`, :math:`\beta_2 = \frac{1}{1 + C^2}`, :math:`\eta_t = \frac{\alpha}{\sqrt t}` with α = 0.3, from
    x = 0; after each step x is projected on [−1, 1].

    Parameters
    ----------
    method : {"Adam", "AMSGrad"}
    steps : int, default 3000

    Notes
    -----
    Adam runs with its bias correction and ε = 1e-8; neither matters, as :math:`\beta_2^t` has vanished after a few
    steps. The β do: with 0.9 and 0.999, which remember many of these short cycles, Adam goes to −1 as well, and only a
    problem with rarer large gradients misleads it. The experiment in section 5 of the paper is one, with
    :math:`f_t(x) = 1010 x` in one step of 101 and :math:`-10 x` in the others, but takes far more steps.
    """
    if method not in METHODS:
        raise ValueError(f"reddi_run: method is {method!r}, expected one of {', '.join(METHODS)}")
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or steps < 3:
        raise ValueError(f"reddi_run: steps is {steps!r}, expected an integer of at least 3, one cycle")
    x = Tensor(np.zeros(1), requires_grad=True)
    optimizer = METHODS[method]([x], lr=lambda t: ALPHA / math.sqrt(t + 1), betas=BETAS)
    slopes = np.where(np.arange(1, steps + 1) % 3 == 1, C, -1.0)
    path, moves = np.zeros(steps + 1), np.zeros(steps)
    for t, slope in enumerate(slopes):
        rate = optimizer.rate
        x.grad = np.array([slope])
        optimizer.step()
        moves[t] = (x.data[0] - path[t]) / rate
        x.data = np.clip(x.data, -1, 1)
        path[t + 1] = x.data[0]
    regret = np.cumsum(slopes * (path[:-1] + 1)) / np.arange(1, steps + 1)
    return OnlineRun(path, moves, regret)


def amsgrad_counterexample(steps: int = 3000) -> Figure:
    """Draw how Adam goes to the worst point of Reddi's online problem and AMSGrad to the best, and why.

    Parameters
    ----------
    steps : int, default 3000
        How long both run; see `reddi_run` for the setting.
    """
    runs = {method: reddi_run(method, steps) for method in METHODS}
    figure = titled_figure(
        13.6, 3.6 + HEADER, "Where Adam goes wrong, and AMSGrad does not",
        "One step in three costs 3x, the two others −x: −1 is the best point of [−1, 1]. Adam's root forgets the large "
        "gradient at once, so that the two small ones outweigh it; AMSGrad's root remembers it.",
    )  # fmt: skip
    where, regret, why = (plain(axes) for axes in figure.subplots(1, 3))
    for method, run in runs.items():
        look = {"color": COLORS[method], "linewidth": 1.8, "label": method}
        where.plot(range(1, steps + 1), run.x[1:], **look)
        regret.plot(range(1, steps + 1), run.regret, **look)
        where.annotate(
            method, (steps, run.x[-1]), xytext=(-4, -12 if run.x[-1] > 0 else 12), textcoords="offset points",
            ha="right", va="center", fontsize=10, fontweight="bold", color=COLORS[method],
        )  # fmt: skip
    for axes, title, note in (
        (where, "Where they go", f"β₁ = 0, β₂ = {BETAS[1]:g}, η = {ALPHA:g}/√t"),
        (regret, "Average regret", "what x = −1 would have saved"),
        (why, "The last cycle", "moves in units of η"),
    ):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
        axes.set_title(note, loc="right", fontsize=8.5, color=QUIET, pad=4)
    for axes in (where, regret):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("step t", fontsize=8.5, color=INK, labelpad=1)
    where.set_ylim(-1.15, 1.15)
    where.set_yticks([-1, 0, 1], ["best  −1", "x = 0", "worst  1"])
    stays = 2 * (C - 2) / 3
    regret.axhline(stays, color=QUIET, linestyle=":", linewidth=1)
    regret.annotate(
        "who stays at 1 pays 2/3 a step", (steps, stays), xytext=(0, 5), textcoords="offset points", ha="right",
        fontsize=8, color=QUIET,
    )  # fmt: skip
    _cycle(why, runs, steps)
    return figure


def _cycle(axes: Any, runs: dict[str, OnlineRun], steps: int) -> None:
    """Show the moves of the last whole cycle, and their sum."""
    end = steps - steps % 3
    for side, (method, run) in zip((-0.2, 0.2), runs.items(), strict=True):
        moves = run.moves[end - 3 : end]
        for place, height in enumerate([*moves, moves.sum()]):
            axes.bar(place + side, height, 0.36, color=COLORS[method], alpha=1.0 if place == 3 else 0.6)
            axes.annotate(
                f"{height:+.2f}".replace("-", "−"), (place + side, height), xytext=(0, 3 if height > 0 else -3),
                textcoords="offset points", ha="center", va="bottom" if height > 0 else "top", fontsize=8, color=INK,
            )  # fmt: skip
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(2.5, color=QUIET, linestyle=":", linewidth=1)
    axes.set_xticks(range(4), ["gradient 3", "gradient −1", "gradient −1", "together"])
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.12)
