"""What happens inside a step, and what rate it comes to for each parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from minidl.derivatives import hessian
from minidl.optim import Optimizer, catalogue
from minidl.surfaces import Problem
from minidl.tensor import Tensor
from minidl.viz.sensitivity import in_sentence
from minidl.viz.style import ACCENT, FAINT, HEADER, INK, OTHER, QUIET, plain, titled_figure

METHODS = ("sgd", "heavyball", "nesterov", "adagrad", "rmsprop", "adam", "amsgrad")
COLUMNS = 4
WINDOW = 11  # steps that a bold line of `effective_steps` looks at together
ROUNDING = 1000 * np.finfo(float).eps  # a coordinate that moves by less than this part of itself has converged
SHARE = 0.01  # default η of a method that divides by a root, in widths of the domain …
SHARES = {"adagrad": 0.03, "amsgrad": 0.003}  # … AdaGrad's steps soon shrink; AMSGrad's, biased, start long


@dataclass(frozen=True)
class Step:
    r"""One step of an optimizer in its parts.

    Attributes
    ----------
    path : (step, n)
        The way there: :math:`W^0, \dots, W^{t-1}`.
    g : (n,)
        The gradient that it used; Nesterov's is that of the look-ahead point.
    lr : float
        η.
    carried : (n,)
        :math:`\beta v_{t-1}`, what heavy ball and Nesterov keep of the last step; 0 for the others.
    mean : (n,)
        Adam's :math:`\hat m_t`, AMSGrad's :math:`m_t`; g for a method that does not average it.
    root : (n,)
        What that is divided by, with its ε: :math:`\sqrt{G_t}`, :math:`\sqrt{E_t}`, :math:`\sqrt{\hat v_t}`; or 1.
    update : (n,)
        :math:`W^t - W^{t-1} = \beta v_{t-1} - \eta\,\text{mean} / \text{root}`.
    """

    path: np.ndarray[Any, Any]
    g: np.ndarray[Any, Any]
    lr: float
    carried: np.ndarray[Any, Any]
    mean: np.ndarray[Any, Any]
    root: np.ndarray[Any, Any]
    update: np.ndarray[Any, Any]


def dissect(problem: Problem, method: str, step: int = 10, lr: float | None = None) -> Step:
    """Run an optimizer on a surface from the problem's start, and return its step of this number in parts.

    Parameters
    ----------
    problem : Problem
    method : str
        A name of `optim.catalogue`: SGD, heavy ball, Nesterov, AdaGrad, RMSProp, Adam, AdaMax or AMSGrad.
    step : int, default 10
        The first is 1.
    lr : float, optional
        η; default: `default_rate`.
    """
    catalogue.pick([method], NAMES)
    _checked_count("dissect", "step", step)
    lr = default_rate(problem, method) if lr is None else lr
    run = _Run(problem, method, lr)
    for _ in range(step - 1):
        run.step()
    optimizer = run.optimizer
    before = {name: getattr(optimizer, name).copy() for name in optimizer.state}
    run.step()
    g, path = run.gradients[-1], np.array(run.path)
    parts = ANATOMY[method](optimizer, before, g)
    carried, mean, root = (np.broadcast_to(part, g.shape) for part in parts)
    return Step(path[:-1], g, float(lr), carried, mean, root, path[-1] - path[-2])


def effective_rates(
    problem: Problem, method: str, steps: int = 100, lr: float | None = None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    r"""Run an optimizer and return how far each coordinate moved, :math:`|W^t_i - W^{t-1}_i|`, and :math:`|g_i|`.

    Their quotient is the rate that a coordinate effectively has. Both are (steps, n), and both 0 where a coordinate has
    converged, so that what moves it is rounding. The arguments are those of `dissect`.
    """
    catalogue.pick([method], NAMES)
    _checked_count("effective_rates", "steps", steps)
    run = _Run(problem, method, default_rate(problem, method) if lr is None else lr)
    for _ in range(steps):
        run.step()
    moved = np.abs(np.diff(run.path, axis=0))
    converged = moved < ROUNDING * np.abs(run.path[1:])
    return np.where(converged, 0.0, moved), np.where(converged, 0.0, np.abs(run.gradients))


def default_rate(problem: Problem, method: str) -> float:
    """Return the η that these pictures use unless another is given, rounded to one digit.

    For SGD, heavy ball and Nesterov it is half the inverse of the largest curvature at the start. A method that divides
    by a root steps about η whatever the gradient is: 1 % of the domain's width (AdaGrad 3, AMSGrad 0.3).
    """
    if method in ("sgd", "heavyball", "nesterov"):
        W = Tensor(np.array(problem.start, dtype=float), requires_grad=True)
        lr = 0.5 / np.abs(np.linalg.eigvalsh(hessian(lambda: problem(W), W))).max()
    else:
        lr = SHARES.get(method, SHARE) * max(high - low for low, high in problem.domain)
    return float(f"{lr:.1g}")


def inside_one_step(
    problem: Problem, methods: Sequence[str] | str = METHODS, step: int = 10, rates: Mapping[str, float] | None = None
) -> Figure:
    """Draw one step of several optimizers in its parts, as arrows over the contours of the surface.

    Parameters
    ----------
    problem : Problem
        In two dimensions.
    methods : sequence of str or str
        Names, as for `dissect`.
    step : int, default 10
        Which step; the first is 1.
    rates : mapping from names to floats, optional
        η of some methods; the others have their `default_rate`.
    """
    picked = _checked("inside_one_step", problem, methods, rates)
    steps = [dissect(problem, method.name, step, (rates or {}).get(method.name)) for method in picked]
    figure, cells = _grid(
        len(picked), 3.2,
        f"Inside step {step}: what becomes of the gradient on {in_sentence(problem.title)}",
        "Momentum adds an arrow. Dividing by a root stretches the dashed box, with sides as the roots, to the square, "
        "and the arrow with it.",
    )  # fmt: skip
    for cell, method, parts in zip(cells, picked, steps, strict=False):
        axes = _panel(figure, cell, method.label, parts.lr)
        _draw_step(axes, problem, parts)
    _key(figure.add_subplot(cells[-1]))
    return figure


def effective_steps(
    problem: Problem, methods: Sequence[str] | str = METHODS, steps: int = 100, rates: Mapping[str, float] | None = None
) -> Figure:
    r"""Draw the rate that each coordinate effectively has, :math:`|W^t_i - W^{t-1}_i| / |g_i|`, step by step.

    The last panel shows the quotient of the two coordinates' rates. `surfaces.quadratic(100)` shows best how the
    adaptive methods make up for a bad scale.

    Parameters
    ----------
    problem : Problem
        In two dimensions.
    methods : sequence of str or str
        Names, as for `dissect`.
    steps : int, default 100
    rates : mapping from names to floats, optional
        η of some methods; the others have their `default_rate`.
    """
    picked = _checked("effective_steps", problem, methods, rates)
    lrs = [(rates or {}).get(method.name, default_rate(problem, method.name)) for method in picked]
    runs = [effective_rates(problem, m.name, steps, lr) for m, lr in zip(picked, lrs, strict=True)]
    figure, cells = _grid(
        len(picked), 2.5,
        f"The rate that each coordinate really has on {in_sentence(problem.title)}",
        f"|ΔW| / |g| of x and of y: thin for each step, bold for {WINDOW} steps together. Spikes: the gradient passes "
        "0. A line that ends: converged.",
    )  # fmt: skip
    bold = [[_together(moved[:, i], slope[:, i]) for i in range(2)] for moved, slope in runs]
    drawn = np.concatenate([line[line > 0] for lines in bold for line in lines])
    limits = drawn.min() / 4, drawn.max() * 4
    for cell, method, lr, run, lines in zip(cells, picked, lrs, runs, bold, strict=False):
        axes = _panel(figure, cell, method.label, lr)
        for i, color in enumerate((ACCENT, OTHER)):
            moved, slope = run[0][:, i], run[1][:, i]
            each = np.divide(moved, slope, out=np.full(steps, np.nan), where=slope > 0)
            axes.plot(range(1, steps + 1), each, color=color, linewidth=0.7, alpha=0.5)
            axes.plot(range(1, steps + 1), lines[i], color=color, linewidth=2 if i == 0 else 1.6, label="xy"[i])
        axes.set_yscale("log")
        axes.set(xlim=(0, steps + 1), ylim=limits)
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("step", fontsize=8.5, color=INK, labelpad=1)
    figure.axes[0].legend(loc="upper left", ncols=2, fontsize=8.5, frameon=False, labelcolor=INK)
    _quotients(plain(figure.add_subplot(cells[-1])), [method.label for method in picked], runs)
    return figure


def _averaged(o: Any) -> tuple[Any, Any]:
    """Return Adam's m̂ and v̂, corrected for their start at zero."""
    return o.m / (1 - o.beta1**o.t), getattr(o, "v", 0.0) / (1 - o.beta2**o.t)


# each takes the optimizer after the step, its state before, and g, and returns what is carried, the mean and the root
ANATOMY: dict[str, Callable[[Any, Mapping[str, Any], Any], tuple[Any, Any, Any]]] = {
    "sgd": lambda o, before, g: (0.0, g, 1.0),
    "heavyball": lambda o, before, g: (o.beta * before["v"], g, 1.0),
    "nesterov": lambda o, before, g: (o.beta * before["v"], g, 1.0),
    "adagrad": lambda o, before, g: (0.0, g, np.sqrt(o.G + o.eps)),
    "rmsprop": lambda o, before, g: (0.0, g, np.sqrt(o.E + o.eps)),
    "adam": lambda o, before, g: (0.0, _averaged(o)[0], np.sqrt(_averaged(o)[1]) + o.eps),
    "adamax": lambda o, before, g: (0.0, _averaged(o)[0], o.u + (o.u == 0)),
    "amsgrad": lambda o, before, g: (0.0, o.m, np.sqrt(o.v_hat) + o.eps),
}
NAMES = tuple(ANATOMY)


class _Run:
    """An optimizer on its way over a surface, with its path W⁰, W¹, … and its gradients."""

    def __init__(self, problem: Problem, method: str, lr: float) -> None:
        self.problem = problem
        self.W = Tensor(np.array(problem.start), requires_grad=True)
        self.optimizer: Optimizer = catalogue.pick([method])[0].make([self.W], lr)
        self.path: list[Any] = [self.optimizer.weights]
        self.gradients: list[Any] = []

    def step(self) -> None:
        with np.errstate(all="ignore"):
            self.optimizer.step(self._loss)
        self.path.append(self.optimizer.weights)
        if not np.isfinite(self.path[-1]).all():
            raise ValueError(f"{self.optimizer!r} diverges on {self.problem.name}, expected a smaller rate")
        self.gradients.append(self.W.grad.copy())

    def _loss(self) -> Tensor:
        loss = self.problem(self.W)
        loss.backward()
        return loss


def _checked(who: str, problem: Any, methods: Any, rates: Mapping[str, float] | None) -> list[catalogue.Method]:
    if not isinstance(problem, Problem):
        raise TypeError(f"{who}: problem is {type(problem).__name__}, expected a Problem of surfaces")
    if problem.dimension != 2:
        raise ValueError(f"{who}: {problem.name} has {problem.dimension} dimensions, expected 2")
    picked = catalogue.pick(methods, NAMES)
    unknown = sorted(set(rates or {}) - {method.name for method in picked})
    if unknown:
        raise ValueError(f"{who}: rates has {', '.join(unknown)}, expected some of the methods")
    return picked


def _checked_count(who: str, name: str, count: Any) -> None:
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{who}: {name} is {count!r}, expected a positive integer")


def _grid(panels: int, height: float, title: str, subtitle: str) -> tuple[Figure, list[Any]]:
    """Return a figure, and cells for so many panels and one more."""
    columns = min(COLUMNS, panels + 1)
    rows = -(-(panels + 1) // columns)
    figure = titled_figure(max(3.4 * columns, 10.2), height * rows + HEADER, title, subtitle)
    grid = figure.add_gridspec(rows, columns, hspace=0.08)
    return figure, [grid[divmod(i, columns)] for i in range(panels + 1)]


def _panel(figure: Figure, cell: Any, label: str, lr: float) -> Any:
    axes = plain(figure.add_subplot(cell))
    axes.set_title(label, loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    axes.set_title(f"η {lr:g}", loc="right", fontsize=8.5, color=QUIET, pad=4)
    return axes


def _draw_step(axes: Any, problem: Problem, step: Step) -> None:
    W = step.path[-1]
    divided = bool((step.root != 1).any())
    unit = step.lr / step.root.max()  # of gradients in the picture: with it the box of the roots fits into the square
    g, mean, size = -unit * step.g, -unit * step.mean, np.abs(step.update).max()
    reach = 1.2 * max(np.abs(arrow).max() for arrow in (step.update, step.carried, step.carried + g, g, mean))
    reach = min(reach, 3 * size)
    if size <= ROUNDING * (1 + np.abs(W).max()):
        axes.set_title("converged", loc="center", fontsize=8.5, color=QUIET, pad=4)
        reach = 0.05 * max(high - low for low, high in problem.domain)
    _contours(axes, problem, W, reach)
    axes.plot(*step.path[-20:].T, color=QUIET, linewidth=0.9, marker=".", markersize=4, zorder=2)
    if divided:
        for half, dashes in ((np.full(2, size), "-"), (size * step.root / step.root.max(), (0, (4, 2)))):
            axes.add_patch(Rectangle(W - half, *(2 * half), fill=False, edgecolor=INK, linewidth=0.9, linestyle=dashes))
    _arrow(axes, W, step.update, ACCENT, 4)
    _arrow(axes, W + step.carried, g, INK, 1.6)
    if step.carried.any():
        _arrow(axes, W, step.carried, OTHER, 2)
    if (step.mean != step.g).any():
        _arrow(axes, W, mean, OTHER, 2)
    axes.plot(*W, "o", color=INK, markersize=5, zorder=6)


def _contours(axes: Any, problem: Problem, W: Any, reach: float) -> None:
    x, y = (np.linspace(at - reach, at + reach, 80) for at in W)
    heights = problem(np.stack(np.meshgrid(x, y), axis=-1)).data
    axes.contour(x, y, heights, levels=14, colors=FAINT, linewidths=0.7)
    axes.set(aspect="equal", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if reach < 1e-3:  # so near that the coordinates would fill the margins
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(f"a window {2 * reach:.1g} wide", fontsize=8, color=QUIET)
    axes.grid(False)


def _arrow(axes: Any, start: Any, vector: Any, color: str, width: float) -> None:
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 7 + 2.5 * width, "linewidth": width, "color": color}
    if vector.any():
        axes.add_patch(FancyArrowPatch(start, start + vector, shrinkA=0, shrinkB=0, zorder=5 - width / 10, **look))


def _key(axes: Any) -> None:
    """Say what the arrows and boxes are."""
    axes.axis("off")
    axes.set_title("How to read it", loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    arrow: dict[str, Any] = {"marker": ">", "markevery": (1, 2)}
    axes.legend(
        handles=[
            Line2D([], [], color=QUIET, linewidth=0.9, marker=".", label="the way here"),
            Line2D([], [], color=INK, linewidth=1.6, label="−g, straight downhill\n(times η without a root)", **arrow),
            Line2D([], [], color=OTHER, linewidth=2, label="momentum: βv, or with a root −m", **arrow),
            Line2D([], [], color=ACCENT, linewidth=4, label="the step, W$^t$ − W$^{t−1}$", **arrow),
            Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="sides as the roots √G, √E or √v"),
            Line2D([], [], color=INK, linewidth=0.9, label="the same box after the division"),
        ],
        loc="upper left", bbox_to_anchor=(-0.03, 1), fontsize=8.5, frameon=False, labelcolor=INK, labelspacing=1.1,
    )  # fmt: skip


def _together(moved: Any, slope: Any) -> Any:
    """Return, around each step, how far all steps of a window went over the sum of their gradients."""
    window = np.ones(min(WINDOW, len(moved)))
    path, sum_g = np.convolve(moved, window, "same"), np.convolve(slope, window, "same")
    return np.divide(path, sum_g, out=np.full(len(path), np.nan), where=sum_g > 0)


def _quotients(axes: Any, labels: Sequence[str], runs: Sequence[Any]) -> None:
    axes.set_title("x's rate over y's", loc="left", fontsize=11, fontweight="bold", color=INK, pad=4)
    axes.set_title("all steps together", loc="right", fontsize=8.5, color=QUIET, pad=4)
    axes.axvline(1, color=QUIET, linewidth=1, linestyle=":")
    quotients = [np.divide(*(moved.sum(axis=0) / slope.sum(axis=0))) for moved, slope in runs]
    axes.plot(quotients, range(len(labels)), "o", color=ACCENT, markersize=5)
    for row, (label, quotient) in enumerate(zip(labels, quotients, strict=True)):
        beside = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8, "color": INK}
        axes.annotate(f"{quotient:.3g}", (quotient, row), **beside)
        axes.text(0, row, label, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)
    low, high = min(*quotients, 1.0), max(*quotients, 10.0)
    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.55, high * (high / low) ** 0.25)  # the names stand at the left
    axes.set_xticks([10.0**k for k in range(-9, 9) if low <= 10.0**k <= high])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks([])
    axes.set_ylim(len(labels) - 0.4, -0.6)
