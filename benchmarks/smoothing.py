"""Residual smoothing: `python -m benchmarks.smoothing [--quick] [--out DIR]`, from the repository's root.

What it costs over plain training by least squares, in a step of ResNet-20 with 10 and with 1,000 classes; and how the
layer's time grows with their number, beside that of the matrix form of the paper. About a minute on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import minidl as ml
from benchmarks import report
from benchmarks.paired import compare
from minidl import memory, models, nn, ops, optim
from minidl.files import writable_folder
from minidl.viz.style import ACCENT, HEADER, OTHER, QUIET, plain, save, titled_figure

RESULTS = Path("benchmarks/results")
BATCH, IMAGES = 128, 512
LIMITS = {10: 0.01, 1_000: 0.02}  # of a step, by the number of classes
SIZES = (10, 100, 1_000, 10_000, 100_000)
FEW = 4  # samples for the matrix form from M = 10,000 on, so that it takes seconds
SMOOTHING = nn.ResidualSmoothing(nn.LogisticAnnealing(0.3), steepness=1.0)  # as it is slowest: the global form has no σ
PROGRESS = 0.6
STEPS = f"""A step of ResNet-20 on {BATCH} images 32×32×3 in float32, by gradient descent with momentum, with
`ResidualSmoothing` and with `SquaredResidual`. "ratio": of whole steps in turn, the median and [least, largest], which
the machine's own unrest widens. "loss": the forward and backward pass of the loss alone, on given outputs. The cost is
the difference of the two losses as a part of the plain step."""
GROWTH = f"""Forward and backward of `ops.residual_smoothing` on {BATCH} samples of M values in float32, and of the
matrix form: for each sample its M × M weights, r = w d and the gradient wᵀ g. The time of a sample. Where there is
none, the matrix does not fit into memory."""


def step(classes: int, loss: nn.Loss) -> Callable[[], Any]:
    """Return a function that makes a training step on the next of some batches."""
    ml.manual_seed(0)
    model, rng = models.resnet(20, classes=classes), np.random.default_rng(0)
    optimizer = optim.HeavyBall(model, lr=0.001)
    x = rng.standard_normal((IMAGES // BATCH, BATCH, 32, 32, 3), dtype=np.float32)
    batches = itertools.cycle(zip(x, rng.integers(classes, size=(len(x), BATCH)), strict=True))

    def go() -> None:
        images, labels = next(batches)
        optimizer.zero_grad()
        loss(model(images), labels, PROGRESS).backward()
        optimizer.step()

    return go


def alone(classes: int, loss: nn.Loss) -> Callable[[], Any]:
    """Return a function that computes the loss of given outputs and its gradient."""
    rng = np.random.default_rng(0)
    outputs = ml.Tensor(rng.standard_normal((BATCH, classes), dtype=np.float32), requires_grad=True)
    labels = rng.integers(classes, size=BATCH)

    def go() -> None:
        outputs.grad = None
        loss(outputs, labels, PROGRESS).backward()

    return go


def costs(pairs: int, seconds: float) -> tuple[report.Table, list[dict[str, Any]]]:
    rows, lines = [], []
    for classes in LIMITS:
        losses = SMOOTHING, nn.SquaredResidual()
        whole = compare(*(step(classes, loss) for loss in losses), pairs=pairs, block_seconds=seconds)
        part = compare(*(alone(classes, loss) for loss in losses), pairs=pairs, block_seconds=seconds / 5)
        cost = (part["ours"] - part["theirs"]) / whole["theirs"]
        rows.append({"classes": classes, "cost": cost, "limit": LIMITS[classes], "step": whole, "loss": part})
        lines.append(
            [
                f"{classes:,}", *(report.duration(row[side]) for row in (whole, part) for side in ("ours", "theirs")),
                f"{whole['median']:.3f} [{whole['min']:.3f}, {whole['max']:.3f}]", f"{cost:.2%}",
            ]
        )  # fmt: skip
    columns = ["classes", "smoothed step", "plain step", "smoothed loss", "plain loss", "ratio", "cost"]
    return report.Table("The cost in a training step", " ".join(STEPS.split()), columns, lines), rows


def layer(d: Any, g: Any) -> tuple[Any, Any]:
    """Return the smoothed residuals and the gradient with respect to d."""
    x = ml.Tensor(d, requires_grad=True)
    r = ops.residual_smoothing(x, 0.8, 1.0)
    r.backward(g)
    return r.data, x.grad


def matrix_form(d: Any, g: Any) -> tuple[Any, Any]:
    """Return the same by the weights of the layer, a sample at a time."""
    M = d.shape[1]
    r, by_d = np.empty_like(d), np.empty_like(d)
    for i, residual in enumerate(d):
        kappa = np.float32(0.8) / (1 + np.exp((residual.mean() - residual) / residual.std()))
        w = np.repeat(kappa[:, None] / (M - 1), M, axis=1)
        np.fill_diagonal(w, 1 - kappa)
        r[i], by_d[i] = w @ residual, g[i] @ w
    return r, by_d


def growth(sizes: Sequence[int], pairs: int, seconds: float) -> tuple[report.Table, list[dict[str, Any]]]:
    rng, rows = np.random.default_rng(0), []
    for M in sizes:
        d, g = rng.random((BATCH, M), dtype=np.float32), rng.standard_normal((BATCH, M), dtype=np.float32)
        count = FEW if M >= 10_000 else BATCH
        ours, theirs = (lambda d=d, g=g: layer(d, g)), (lambda d=d[:count], g=g[:count]: matrix_form(d, g))
        fits = 3 * M * M * d.itemsize < memory.available()
        if fits:
            for own, other in zip(layer(d[:FEW], g[:FEW]), matrix_form(d[:FEW], g[:FEW]), strict=True):
                if not np.allclose(own, other, rtol=1e-3, atol=1e-4):
                    raise RuntimeError(f"the layer and its matrix form differ at M = {M}")
        row = compare(ours, theirs if fits else ours, pairs=pairs, block_seconds=seconds, budget=5)
        by_matrix = row["theirs"] / count if fits else None
        rows.append({"M": M, "layer": row["ours"] / BATCH, "matrix": by_matrix})
    lines = []
    for row in rows:
        by_value, there = 1e9 * row["layer"] / row["M"], row["matrix"] is not None
        other = [report.duration(row["matrix"]), f"{row['matrix'] / row['layer']:,.1f}"] if there else ["—", "—"]
        lines.append([f"{row['M']:,}", report.duration(row["layer"]), f"{by_value:,.1f} ns", *other])
    columns = ["M", "layer", "layer, by value", "matrix form", "matrix form / layer"]
    return report.Table("Growth with the number of classes", " ".join(GROWTH.split()), columns, lines), rows


def exponent(rows: Sequence[dict[str, Any]], name: str, beyond: int = 1_000) -> float:
    """Return the p of time ∝ M^p, a straight line through the logarithms of the times from M = `beyond` on."""
    points = [(math.log(row["M"]), math.log(row[name])) for row in rows if row["M"] >= beyond and row[name]]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else math.nan


def draw(rows: Sequence[dict[str, Any]], facts: dict[str, str]) -> Figure:
    """Return the picture of the growth."""
    subtitle = f"Of a sample, forward and backward. {facts['processor']}, {facts['date']}"
    figure = titled_figure(7.4, 3.6 + HEADER, "Residual smoothing: time by the number of classes", subtitle)
    axes = plain(figure.add_subplot())
    for name, label, colour in (("matrix", "matrix form", OTHER), ("layer", "layer", ACCENT)):
        own = [(row["M"], 1e3 * row[name]) for row in rows if row[name]]
        axes.plot(*zip(*own, strict=True), "o-", color=colour, markersize=4, linewidth=1.5)
        p = exponent(rows, name)
        grows = "" if math.isnan(p) else f", ∝ M$^{{{p:.2f}}}$ from 1,000 on"
        axes.annotate(
            label + grows, own[-1], (-8, 8), textcoords="offset points", ha="right", color=colour, fontsize=8.5
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("M, classes", fontsize=8.5, color=QUIET)
    axes.set_ylabel("milliseconds a sample", fontsize=8.5, color=QUIET)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoothing", description="The cost of smoothing.")
    parser.add_argument("--quick", action="store_true", help="a rough look; writes nothing by default")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"folder for the results (default: {RESULTS})")
    options = parser.parse_args(arguments)
    folder = options.out or (None if options.quick else RESULTS)
    if folder is not None:
        writable_folder(folder, "--out")
    growing, by_size = growth(SIZES[:3] if options.quick else SIZES, *((3, 0.02) if options.quick else (5, 0.1)))
    steps, by_classes = costs(*((3, 0.1) if options.quick else (5, 0.6)))
    for table in (steps, growing):
        report.show(table)
    for row in by_classes:
        verdict = "within" if row["cost"] < row["limit"] else "NOT within"
        print(f"{row['classes']:,} classes: {row['cost']:.2%} of a step, {verdict} {row['limit']:.0%}")
    print(f"from 1,000 classes on the layer's time grows as M^{exponent(by_size, 'layer'):.2f}")
    if folder is not None:
        facts = report.environment("benchmarks.smoothing", {})
        content = {"costs": by_classes, "growth": by_size}
        stem = folder / "smoothing"
        paths = report.write(stem, "The cost of residual smoothing", [steps, growing], facts, content)
        picture = report.dated(stem, facts["date"], "png")
        save(draw(by_size, facts), picture)
        print("wrote", *paths, picture)


if __name__ == "__main__":
    main()
