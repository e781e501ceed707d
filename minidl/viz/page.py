"""An optimizer race as one HTML page that needs nothing but a browser: no network, no library, no font."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import zlib
from importlib import resources
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator

from minidl.files import replacing
from minidl.optim.catalogue import NAMES
from minidl.surfaces import Family, Problem, Sweep
from minidl.surfaces.sweep import NEAR, ROUNDING

FLOOR = math.log10(ROUNDING)
LOST = 0xFFFF  # the code of a number that is not finite
TOP = 0xFFFE  # the greatest code of a number

GRID = 240  # samples of the surface along each axis
LEVELS = 15
UNITS = 4000  # width of the contours' integer coordinates
LOW, HIGH = (0xB4, 0xCD, 0xE2), (0xFB, 0xFC, 0xFE)  # the colors of the lowest and the highest band
SYMBOLS = {"beta": "β", "gamma": "γ", "betas": "β₁"}

# Color, dashes and the head's marker for each method, in the catalogue's order. Whom two colors look alike has two
# other signs to go by: methods next to each other in hue differ in dashes, and no two markers are the same.
SOLID, DASHED, DOTTED, MIXED, LONG = "", "7 4", "1.5 3.5", "9 3 2 3", "14 4"
LOOKS = (
    ("#1f2328", SOLID, "circle"),
    ("#0b6fc2", SOLID, "square"),
    ("#2a9ade", DASHED, "triangle"),
    ("#d4500a", SOLID, "diamond"),
    ("#8a4b16", DOTTED, "wedge"),
    ("#07936b", SOLID, "pentagon"),
    ("#7b8a00", DASHED, "cross"),
    ("#c4125c", DASHED, "star"),
    ("#d9629f", DASHED, "hexagon"),
    ("#6a35a8", LONG, "circle-open"),
    ("#cc8400", MIXED, "square-open"),
    ("#8f2f5b", LONG, "triangle-open"),
    ("#2f9f90", LONG, "diamond-open"),
    ("#6b7280", MIXED, "wedge-open"),
    ("#2a2f8f", MIXED, "pentagon-open"),
    ("#176332", LONG, "cross-open"),
    ("#a3342b", MIXED, "star-open"),
)


def look_of(name: str) -> tuple[str, str, str]:
    """Return the color, the dashes and the marker of a method of the catalogue."""
    return LOOKS[NAMES.index(name) % len(LOOKS)]


def race_page(sweep: Sweep) -> str:
    r"""Return a page on which all runs of a sweep can be played, with every setting of its grid.

    The runs were computed by the real optimizers; the page replays them. A coordinate x of a path is kept in 16 bits
    as :math:`\operatorname{arsinh}((x - c)/h)` with the centre c and the half width h of the picture: fine inside the
    picture, and still true in direction a million widths away. Losses are kept as their logarithm.

    Parameters
    ----------
    sweep : Sweep
        From `surfaces.sweep`.

    Returns
    -------
    str
        HTML; about half a megabyte for 15 methods with 17 rates, 6 momenta and 200 steps.
    """
    if not isinstance(sweep, Sweep):
        raise TypeError(f"race_page: sweep is of type {type(sweep).__name__}, expected a Sweep")
    if not sweep.families:
        raise ValueError("race_page: the sweep holds no methods, expected at least one")
    style, script = _source("page.css"), _source("page_drawing.js") + _source("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    problem = sweep.problem
    words = {
        "title": problem.title,
        "equation": problem.equation,
        "minima": "minimum" if len(problem.minima) == 1 else f"{len(problem.minima)} minima",
        "start": f"start ({', '.join(_number(x) for x in sweep.start)})",
        "note": _note(sweep),
        "rate_hint": _rate_hint(sweep),
        "momentum_hint": _momentum_hint(sweep),
    }
    return Template(_source("page.html")).substitute(
        {name: html.escape(text) for name, text in words.items()},
        policy=policy,
        style=style,
        script=script,
        data=_json(_data(sweep)),
    )


def write_race_page(sweep: Sweep, path: str | os.PathLike[str]) -> Path:
    """Write the page of a sweep to a file and return its path."""
    page = race_page(sweep)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _source(name: str) -> str:
    return resources.files("minidl.viz").joinpath(name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _json(data: Any) -> str:
    """Return JSON that can stand inside a script element whatever the texts in it are."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _data(sweep: Sweep) -> dict[str, Any]:
    domain = _box(sweep)
    paths = np.concatenate([family.paths.reshape(-1, sweep.steps + 1, 2) for family in sweep.families])
    losses = np.concatenate([family.losses.reshape(-1, sweep.steps + 1) for family in sweep.families])
    positions, reach = _position_codes(paths, domain)
    values, ceiling = _loss_codes(losses)
    return {
        "steps": sweep.steps,
        "domain": domain.tolist(),
        "start": sweep.start,
        "minima": sweep.problem.minima,
        "reach": reach,
        "loss": [FLOOR, ceiling],
        "every": _every(sweep),
        "tuned": "lr" if any(family.method.tuned == "lr" for family in sweep.families) else "eps",
        "rates": _grid(sweep, "values"),
        "momenta": _grid(sweep, "momenta"),
        "units": [UNITS, _height(domain)],
        "contours": _contours(sweep.problem, domain),
        "families": [_family(family, sweep.problem) for family in sweep.families],
        "codes": _packed(np.stack([positions[..., 0], positions[..., 1], values])),
    }


def _box(sweep: Sweep) -> Any:
    """Return what the picture shows: the domain, widened to hold the start and to be neither very flat nor tall."""
    (low, high), start = np.array(sweep.problem.domain, dtype=float).T, np.array(sweep.start)
    margin = 0.05 * (high - low)
    low, high = np.minimum(low, start - margin), np.maximum(high, start + margin)
    width, height = high - low
    missing = np.maximum((height / 1.25 - width, 0.5 * width - height), 0)
    return np.stack([low - missing / 2, high + missing / 2], axis=1)


def _family(family: Family, problem: Problem) -> dict[str, Any]:
    rows, columns = family.losses.shape[:2]
    places = [(i, j) for i in range(rows) for j in range(columns)]
    color, dashes, marker = look_of(family.method.name)
    return {
        "name": family.method.name,
        "label": family.method.label,
        "shape": [rows, columns],
        "best": [int(i) for i in family.best],
        "tunable": _tunable(family),
        "settings": [family.setting(place) for place in places] if _tunable(family) else [""],
        "reached": family.arrivals(problem.minima).ravel().tolist(),
        "look": [color, dashes, marker],
    }


def _tunable(family: Family) -> bool:
    return family.values != (None,) or family.momenta != (None,)


def _grid(sweep: Sweep, name: str) -> list[str]:
    """Return the numbers that a slider goes through; of the rates those of a method with a rate, if there is one."""
    families = sorted(sweep.families, key=lambda family: family.method.tuned != "lr")
    grids = (getattr(family, name) for family in families)
    return next(([f"{value:.2g}" for value in grid] for grid in grids if grid[0] is not None), [])


def _position_codes(paths: Any, domain: Any) -> tuple[Any, float]:
    """Return the positions (…, 2) as codes, and arsinh of the farthest, measured in half widths from the centre."""
    centre, half = domain.mean(axis=1), np.ptp(domain, axis=1) / 2
    far = np.arcsinh((paths - centre) / half)
    reach = float(np.nanmax(np.abs(far), initial=1e-9))
    return _codes(far / reach / 2 + 0.5), reach


def _loss_codes(losses: Any) -> tuple[Any, float]:
    logs = np.log10(np.maximum(losses, 10**FLOOR))
    ceiling = float(np.nanmax(logs, initial=FLOOR + 1))
    return _codes((logs - FLOOR) / (ceiling - FLOOR)), ceiling


def _codes(shares: Any) -> Any:
    return np.where(np.isfinite(shares), np.rint(np.nan_to_num(shares) * TOP), LOST).astype(np.uint16)


def _packed(codes: Any) -> str:
    """Return the codes as text: steps instead of places, all high bytes before all low bytes, zlib, base64.

    Steps are small and alike, so that this is about a fifth of the codes themselves.
    """
    steps = np.diff(codes, axis=-1, prepend=np.zeros((*codes.shape[:-1], 1), np.uint16))  # modulo 2¹⁶
    planes = steps.astype(">u2").view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def _height(domain: Any) -> int:
    width, height = np.ptp(domain, axis=1)
    return round(UNITS * height / width)


def _contours(problem: Problem, domain: Any) -> list[list[str]]:
    """Return [path, color] of the region above each level, from the lowest level up: each covers a part of the last.

    Levels are spaced evenly in log f.
    """
    x, y = (np.linspace(low, high, GRID) for low, high in domain)
    heights = problem(np.stack(np.meshgrid(x, y), axis=-1)).data
    logs = np.log10(np.maximum(heights, np.finfo(float).tiny))
    levels = np.linspace(np.quantile(logs, 0.004), logs.max(), LEVELS + 1)[:-1]
    across, down = np.linspace(0, UNITS, GRID), np.linspace(_height(domain), 0, GRID)
    generator = contour_generator(across, down, logs, fill_type=FillType.OuterOffset)
    bands: list[list[str]] = [[f"M0 0H{UNITS}V{_height(domain)}H0z", _mix(0)]]
    for k, level in enumerate(levels, start=1):
        polygons: Any = zip(*generator.filled(level, np.inf), strict=True)
        rings = (points[a:b] for points, ends in polygons for a, b in pairwise(ends))
        path = "".join(map(_ring, rings))
        bands.append([path, _mix(k / LEVELS)])
    return bands


def _ring(points: Any) -> str:
    """Return a closed line as an SVG path in whole units, relative, which is shortest."""
    corners = np.rint(points[:-1]).astype(int)
    moves = np.diff(corners, axis=0)
    moves = moves[moves.any(axis=1)]
    return f"M{_joined(corners[0])}l{_joined(moves.ravel())}z" if len(moves) > 1 else ""


def _joined(numbers: Any) -> str:
    return " ".join(map(str, numbers.tolist())).replace(" -", "-")


def _mix(share: float) -> str:
    return "#" + "".join(f"{round(low + share * (high - low)):02x}" for low, high in zip(LOW, HIGH, strict=True))


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _labels(families: Any) -> str:
    """Return the methods' names as a list in a sentence."""
    *first, last = [family.method.label for family in families]
    return f"{', '.join(first)} and {last}" if first else last


def _every(sweep: Sweep) -> int:
    """Return after how many steps a path gets another dot."""
    return max(1, sweep.steps // 20)


def _note(sweep: Sweep) -> str:
    rates, momenta = _grid(sweep, "values"), _grid(sweep, "momenta")
    values = f"{len(rates)} rates (Adadelta: of ε)" if _grid_of_eps(sweep) else f"{len(rates)} rates"
    parts = [values] * bool(rates) + [f"{len(momenta)} values of β, γ or β₁"] * bool(momenta)
    without = [family for family in sweep.families if not _tunable(family)]
    text = "The real optimizers computed every path beforehand; the page replays them. "
    if parts:
        text += f"Each method had the same grid, as far as it has these settings: {' × '.join(parts)}; "
        text += "best = least median loss over the last quarter of the steps. "
    if parts and without:
        text += f"{_labels(without)} had no grid: there is nothing to tune. "
    every = _every(sweep)
    text += f"A dot marks every {'step' if every == 1 else f'{every} steps'}. "
    return text + f"A run is at a minimum W* once it stays at ‖W − W*‖ < {NEAR:g}."


def _grid_of_eps(sweep: Sweep) -> bool:
    return {"lr", "eps"} <= {family.method.tuned for family in sweep.families}


def _rate_hint(sweep: Sweep) -> str:
    others = [family for family in sweep.families if family.method.tuned == "eps"]
    if not others or len(others) == len(sweep.families):
        return "the same for all methods"
    return f"the same for all methods; for {_labels(others)}, which has no rate, the slider sets ε"


def _momentum_hint(sweep: Sweep) -> str:
    groups = [
        f"{symbol} of {', '.join(family.method.label for family in group)}"
        for name, symbol in SYMBOLS.items()
        if (group := [family for family in sweep.families if family.method.momentum == name])
    ]
    return "; ".join(groups)
