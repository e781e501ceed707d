"""What the pictures of a race on a surface share: the ground, the runs on it, and where they leave the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm

from minidl.optim.catalogue import Method
from minidl.surfaces import Family, Problem, Sweep
from minidl.surfaces.sweep import ROUNDING
from minidl.viz.page import look_of
from minidl.viz.style import FAINT, INK

LEVELS = 13
GROUND = LinearSegmentedColormap.from_list("ground", ("#c9d5e3", "#dde5ee", "#edf1f6", "#fafbfd"))

MARKERS = {
    "circle": "o", "square": "s", "triangle": "^", "diamond": "D", "wedge": "v", "pentagon": "p", "cross": "P",
    "star": "*", "hexagon": "h",
}  # fmt: skip

START: dict[str, Any] = {
    "marker": "o", "markersize": 7, "markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.5,
    "linestyle": "none",
}  # fmt: skip
MINIMUM: dict[str, Any] = {
    "marker": "*", "markersize": 13, "markerfacecolor": "#ffd23f", "markeredgecolor": INK, "markeredgewidth": 1,
    "linestyle": "none",
}  # fmt: skip
DIVERGED: dict[str, Any] = {
    "marker": "X",
    "markersize": 7.5,
    "color": INK,
    "markerfacecolor": INK,
    "markeredgecolor": "white",
}

Box = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Run:
    """The run of one method at its best setting, and how it looks among the others.

    Attributes
    ----------
    method : catalogue.Method
    setting : str
    path : (steps + 1, 2)
    losses : (steps + 1,)
    end : float
        The median loss of the last quarter; the last loss of a run that stopped.
    at_edge : bool
        Whether the setting is the grid's first or last.
    met : int or None
        The step from which on it stays near a minimum.
    stopped : int or None
        The first step with no value.
    diverged : bool
        If not, a run that stopped is one that could not go on: second-order methods may have no next step.
    look : dict
        Its line and its marker, for Matplotlib.
    """

    method: Method
    setting: str
    path: np.ndarray[Any, Any]
    losses: np.ndarray[Any, Any]
    end: float
    at_edge: bool
    met: int | None
    stopped: int | None
    diverged: bool
    look: dict[str, Any]

    @property
    def name(self) -> str:
        return self.method.label

    @property
    def color(self) -> str:
        return self.look["color"]

    @property
    def line(self) -> dict[str, Any]:
        """Its look without the marker."""
        return {name: self.look[name] for name in ("color", "linestyle")}

    @property
    def last(self) -> int:
        """The last step with a value."""
        return len(self.losses) - 1 if self.stopped is None else self.stopped - 1

    @property
    def fate(self) -> str:
        """What happened to a run that stopped."""
        return f"diverged at step {self.stopped}" if self.diverged else f"ends at step {self.last}"


def best_runs(sweep: Sweep) -> list[Run]:
    """Return the best run of each method, the one that ends lowest first; runs that diverged come last."""
    if not all(np.isfinite(family.losses[:, :, 0]).all() for family in sweep.families):
        raise ValueError(f"best_runs: {sweep.problem.name} is not finite at the start {sweep.start}")

    def order(run: Run) -> tuple[float, ...]:
        end = max(run.end, ROUNDING)
        came = int(np.argmax(run.losses <= end))  # among equals the first to come there is the best
        return (1, -run.last, end) if run.diverged else (0, end, came)

    return sorted((_run(family, sweep.problem) for family in sweep.families), key=order)


def _run(family: Family, problem: Problem) -> Run:
    path, losses = family.paths[family.best], family.losses[family.best]
    stops = np.flatnonzero(np.isnan(losses) | np.isnan(path).any(axis=1))
    stopped = int(stops[0]) if len(stops) else None
    arrival = int(family.arrivals(problem.minima)[family.best])
    return Run(
        family.method, family.setting(), path, losses,
        end=float(losses[stopped - 1] if stopped else family.ends[family.best]),
        at_edge=family.at_edge,
        met=None if arrival < 0 else arrival,
        stopped=stopped,
        diverged=stopped is not None and not (family.method.tuned is None and losses[stopped - 1] <= losses[0]),
        look=_look(family.method.name),
    )  # fmt: skip


def _look(name: str) -> dict[str, Any]:
    """Return the look that the method has on the interactive page, in Matplotlib's words."""
    color, dashes, marker = look_of(name)
    shape, _, hollow = marker.partition("-")
    lengths = [float(length) / 2 for length in dashes.split()]  # of a line two pixels wide
    return {
        "color": color, "linestyle": (0, lengths) if lengths else "-", "marker": MARKERS[shape],
        "markerfacecolor": "white" if hollow else color, "markeredgecolor": color if hollow else "white",
        "markersize": 11 if shape == "star" else 7,
    }  # fmt: skip


def in_words(loss: float) -> str:
    """Return a loss with two digits, or that it is rounding."""
    return f"{loss:.2g}" if loss >= ROUNDING else f"below {ROUNDING:g}"


def counted(n: int, noun: str) -> str:
    """Return "1 step" or "2 steps"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def budget(sweep: Sweep) -> str:
    """Return in words what each method could choose from: "17 rates × 6 values of β, γ or β₁", or nothing."""
    values = {family.method.tuned: len(family.values) for family in sweep.families}
    grids = [counted(values["lr"], "rate")] if "lr" in values else []
    if "eps" in values:
        grids.append(f"{counted(values['eps'], 'value')} of ε (Adadelta)")
    momenta = [len(family.momenta) for family in sweep.families if family.method.momentum]
    shares = [f"{counted(n, 'value')} of β, γ or β₁" for n in momenta[:1]]
    return " × ".join([" or ".join(grids)] * bool(grids) + shares)


class Ground:
    """The surface of a sweep, ready to be drawn into many axes.

    Attributes
    ----------
    box : ((x0, x1), (y0, y1))
        What is shown: the problem's domain, widened to hold the start.
    ratio : float
        Height over width.
    """

    def __init__(self, sweep: Sweep, resolution: int = 180):
        self.problem: Problem = sweep.problem
        self.start = sweep.start
        self.box = _box(sweep)
        (x0, x1), (y0, y1) = self.box
        self.ratio = (y1 - y0) / (x1 - x0)
        self._x = np.linspace(x0, x1, resolution)
        self._y = np.linspace(y0, y1, max(2, round(resolution * self.ratio)))
        heights = self.problem(np.stack(np.meshgrid(self._x, self._y), axis=-1)).data
        low, high = max(float(np.quantile(heights, 0.004)), 1e-12), float(heights.max())
        self._heights = np.maximum(heights, low / 2)
        self._levels = np.geomspace(low, high, LEVELS)

    def draw(self, axes: Any) -> None:
        """Draw the contours, spaced evenly in log f, a star at each minimum and a ring at the start."""
        norm = LogNorm(self._levels[0], self._levels[-1])
        axes.contourf(self._x, self._y, self._heights, self._levels, cmap=GROUND, norm=norm, extend="both", zorder=0)
        axes.contour(self._x, self._y, self._heights, self._levels, colors="#b9c5d3", linewidths=0.5, zorder=0.5)
        axes.set_xlim(self.box[0])
        axes.set_ylim(self.box[1])
        for side in axes.spines.values():
            side.set_color(FAINT)
        axes.tick_params(which="both", length=0, labelsize=8, colors=INK)
        for minimum in self.problem.minima:
            axes.plot(*minimum, **MINIMUM, zorder=6)
        axes.plot(*self.start, **START, zorder=9)

    def holds(self, points: Any) -> Any:
        """Return which points (…, 2) lie in the box; NaN does not."""
        low, high = np.transpose(self.box)
        return ((points >= low) & (points <= high)).all(axis=-1)


def exits(path: Any, box: Box) -> list[tuple[int, Any, float]]:
    """Return where a path crosses the box outwards: the step that ends outside, the point on the frame, the angle.

    The angle is that of the segment, in degrees from the x axis. Segments that only pass through the box count, too.
    """
    low, high = np.transpose(box)
    origins, moves = path[:-1], np.diff(path, axis=0)
    with np.errstate(all="ignore"):  # a coordinate that stays
        sides = np.stack([(low - origins) / moves, (high - origins) / moves])
    inside = (origins >= low) & (origins <= high)
    still = moves == 0
    enters = np.where(still, np.where(inside, -np.inf, np.inf), sides.min(axis=0)).max(axis=1)
    leaves = np.where(still, np.where(inside, np.inf, -np.inf), sides.max(axis=0)).min(axis=1)
    found = []
    for t in np.flatnonzero((np.maximum(enters, 0) <= leaves) & (leaves < 1)):
        point = np.clip(origins[t] + leaves[t] * moves[t], low, high)
        found.append((int(t) + 1, point, float(np.degrees(np.arctan2(*moves[t, ::-1])))))
    return found


def arrowhead(angle: float) -> tuple[int, int, float]:
    """Return the marker of a triangle that points this way."""
    return (3, 0, angle - 90)


def _box(sweep: Sweep) -> Box:
    """Return the domain, widened to hold the start with a margin and to be neither very flat nor very tall."""
    low, high = np.transpose(np.asarray(sweep.problem.domain, dtype=float))
    margin = 0.05 * (high - low)
    outside = (sweep.start < low) | (sweep.start > high)
    low = np.where(outside, np.minimum(low, sweep.start - margin), low)
    high = np.where(outside, np.maximum(high, sweep.start + margin), high)
    width, height = high - low
    missing = np.array([max(0.0, height - width * 1.25), max(0.0, 0.5 * width - height)]) / (1.25, 1.0)
    low, high = low - missing / 2, high + missing / 2
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))
