"""The residual-smoothing layer beside the copy bandwidth, and beside the matrix form of the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu.bench import Bench, Case, Target, worst
from benchmarks.gpu.layers import rotated, wide
from minidl import kernels
from minidl.kernels import numpy as plain

NOTE = """Samples of M values, in float32. Forward reads d and writes r; backward reads g and d and writes the gradient.
The target is a part of the copy bandwidth. The matrix form makes the M × M weights of each sample, r = w d and wᵀ g, in
CuPy and in PyTorch: the faster one counts, and the target is how often the layer is as fast, forward and backward."""

SCALE, STEEPNESS = 0.8, 1.0
LIMIT = 1e-5
CHECKED, FEW = 64, 8  # samples at each end; and where the reference is made of matrices


def cases(bench: Bench) -> Iterator[tuple[str, Callable[[], Case]]]:
    for M in bench.plan.classes:
        for backward in (False, True):
            way = "backward" if backward else "forward"
            yield f"smoothing, M = {M:,}: {way}", partial(layer, bench, M, backward)
    samples, M = bench.plan.matrix_form
    yield f"smoothing of {samples} samples, M = {M:,}, beside the matrix form", partial(beside_matrix, bench)


def ends(*arrays: Any) -> list[Any]:
    """Return the first and the last samples of arrays."""
    return [np.concatenate([wide(array[:CHECKED]), wide(array[-CHECKED:])]) for array in arrays]


def layer(bench: Bench, M: int, backward: bool) -> Case:
    samples = max(2, bench.plan.residuals // M)
    size = 4 * samples * M
    count = bench.sets((3 if backward else 2) * size)
    d, g = ([bench.random(samples, M) for _ in range(count)] for _ in range(2))
    smoothing = kernels.of(d[0]).smoothing
    settings = SCALE, STEEPNESS, False
    if backward:
        ours = rotated(lambda g, d: smoothing.gradient(g, d, *settings), g, d)
    else:
        ours = rotated(lambda d: smoothing.forward(d, *settings), d)

    def error() -> float:
        some_g, some_d = ends(g[0], d[0])
        reference = (
            plain.smoothing.gradient(some_g, some_d, *settings)
            if backward
            else plain.smoothing.forward(some_d, *settings)
        )
        return worst([(ends(ours(0))[0], reference)])

    return Case(ours, error, LIMIT, (3 if backward else 2) * size, target=Target("copy", 0.8), sets=count)


def matrix_form(xp: Any, d: Any, g: Any) -> tuple[Any, Any]:
    """Return r = w d and wᵀ g of each sample by the weights of the layer, in CuPy or in PyTorch."""
    M = d.shape[1]
    mean = d.mean(1)[:, None]
    deviation = ((d - mean) * (d - mean)).mean(1)[:, None] ** 0.5
    kappa = SCALE / (1 + xp.exp(STEEPNESS * (mean - d) / deviation))
    weights = (kappa / (M - 1))[:, :, None] * xp.ones_like(d)[:, None, :]
    places = xp.arange(M) if xp.__name__ != "torch" else xp.arange(M, device=d.device)
    weights[:, places, places] = 1 - kappa
    return xp.matmul(weights, d[:, :, None])[:, :, 0], xp.matmul(g[:, None, :], weights)[:, 0]


def beside_matrix(bench: Bench) -> Case:
    samples, M = bench.plan.matrix_form
    count = bench.sets(4 * 4 * samples * M)
    d, g = ([bench.random(samples, M) for _ in range(count)] for _ in range(2))
    smoothing = kernels.of(d[0]).smoothing

    def both(d: Any, g: Any) -> tuple[Any, Any]:
        # the matrix form takes κ for a constant in the derivative
        return smoothing.forward(d, SCALE, STEEPNESS, True), smoothing.gradient(g, d, SCALE, STEEPNESS, True)

    def error() -> float:
        reference = matrix_form(np, *(wide(own[0][:FEW]) for own in (d, g)))
        found = (result[:FEW] for result in both(d[0], g[0]))
        others = (result[:FEW] for result in matrix_form(bench.cupy, d[0], g[0]))
        return worst([*zip(found, reference, strict=True), *zip(others, reference, strict=True)])

    theirs = {"in CuPy": rotated(partial(matrix_form, bench.cupy), d, g)}
    if bench.peer is not None:
        twins = [[bench.peer.tensor(each) for each in own] for own in (d, g)]
        theirs["in PyTorch"] = rotated(partial(matrix_form, bench.peer.torch), *twins)
    moved = 5 * 4 * samples * M
    return Case(rotated(both, d, g), error, LIMIT, moved, theirs=theirs, target=Target("speed", 20), sets=count)
