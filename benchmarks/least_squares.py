"""Least squares against SciPy: `python -m benchmarks.least_squares [--out DIR]`, from the repository's root.

Two measurements. How many digits are right in the worst parameter, in all 54 runs of NIST's non-linear regression set
(27 problems, two starts each): Levenberg–Marquardt with exact Jacobians and its default settings, beside SciPy's
MINPACK with finite differences. And the time of one step on 1,000 residuals of a network with 50 parameters.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.optimize
from rich.progress import track

import minidl as ml
from benchmarks import report
from minidl import nn, optim, surfaces
from minidl.files import writable_folder
from minidl.surfaces import Regression

RESULTS = Path("benchmarks/results")
STEPS = 10_000
SCIPY_CALLS = 100_000
ENOUGH = 6
HEADINGS = ("run", "minidl", "steps", "SciPy", "calls", "SciPy, scaled", "calls")


def ours(problem: Regression, start: int) -> tuple[float, int]:
    """Return the digits and the steps of LevenbergMarquardt with its default settings, until W stays where it is."""
    b = ml.Tensor(np.array(problem.starts[start]), requires_grad=True)
    optimizer = optim.LevenbergMarquardt([b])
    for _ in range(STEPS):
        before = optimizer.weights
        optimizer.step(lambda: problem.residuals(b))
        if (np.abs(optimizer.weights - before) <= 1e-15 * np.abs(before)).all():
            break
    return problem.digits(optimizer.weights), optimizer.t


def theirs(problem: Regression, start: int, x_scale: Any) -> tuple[float, int]:
    """Return the digits and the function calls of SciPy's MINPACK with default differences, all tolerances 1e-15."""

    def residuals(b: Any) -> Any:
        return problem.residuals(ml.Tensor(b)).data

    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = scipy.optimize.least_squares(
                residuals, problem.starts[start], method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15,
                max_nfev=SCIPY_CALLS, x_scale=x_scale,
            )  # fmt: skip
    except ValueError:  # residuals that are not finite
        return -np.inf, 0
    return problem.digits(found.x), int(found.nfev)


def milliseconds_of_a_step() -> list[float]:
    """Return the times of steps on 1,000 residuals × 50 parameters."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1000, 5))
    y = np.sin(3 * x).sum(axis=1)
    ml.manual_seed(0)
    model = nn.Sequential(nn.Dense(5, 7), nn.Tanh(), nn.Dense(7, 1)).astype(np.float64)
    assert sum(parameter.size for parameter in model.parameters()) == 50
    optimizer = optim.LevenbergMarquardt(model)
    times = []
    for _ in range(60):
        began = time.perf_counter()
        optimizer.step(lambda: model(x).reshape(-1) - y)
        times.append(1e3 * (time.perf_counter() - began))
    return times[10:]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.least_squares", description="minidl against SciPy.")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder for the results")
    options = parser.parse_args(arguments)
    folder = writable_folder(options.out, "--out")
    times = milliseconds_of_a_step()
    step = f"median {statistics.median(times):.1f} ms, min {min(times):.1f}, max {max(times):.1f}"
    environment = report.environment("benchmarks.least_squares", {"SciPy": scipy.__version__})
    environment["a step on 1,000 residuals × 50 parameters"] = step
    rows = []
    for name in track(surfaces.strd_names(), "fitting", transient=True):
        problem = surfaces.strd(name)
        for start in (0, 1):
            fits = ours(problem, start), theirs(problem, start, 1.0), theirs(problem, start, "jac")
            rows.append({"run": f"{name}, start {start + 1}", "fits": fits})
    lines = [
        [row["run"], *(cell for digits, calls in row["fits"] for cell in (_digits(digits), f"{calls:,}"))]
        for row in rows
    ]
    counts = [sum(row["fits"][i][0] >= ENOUGH for row in rows) for i in range(3)]
    note = (
        f"At least {ENOUGH} digits are right in every parameter in {counts[0]} of {len(rows)} runs by minidl's "
        f"LevenbergMarquardt (default settings, exact Jacobians), in {counts[1]} by SciPy's least_squares(method='lm', "
        f"x_scale=1) (default differences, tolerances 1e-15), in {counts[2]} with x_scale='jac'. The columns show the "
        "digits of the worst parameter, at most 11, and the steps, or the function calls without those for differences."
    )
    table = report.Table("least squares", note, HEADINGS, lines)
    report.show(table)
    print(f"a step on 1,000 residuals × 50 parameters: {step}")
    content = {
        "step_milliseconds": times,
        "runs": [
            {
                "run": row["run"],
                "digits": [_finite(digits) for digits, _ in row["fits"]],
                "calls": [calls for _, calls in row["fits"]],
            }
            for row in rows
        ],
    }
    for path in report.write(folder / "least-squares", "Least squares against SciPy", [table], environment, content):
        print(f"wrote {path}")


def _digits(digits: float) -> str:
    return f"{max(digits, 0):.1f}" if np.isfinite(digits) else "failed"


def _finite(digits: float) -> float | None:
    return round(digits, 2) if np.isfinite(digits) else None


if __name__ == "__main__":
    main()
