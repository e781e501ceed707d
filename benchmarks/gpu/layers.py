"""Pooling, batch normalization, cross entropy, dropout: what moves memory rather than computes; and small products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu.bench import Bench, Case, worst
from minidl import backend, kernels
from minidl.kernels import numpy as plain

NOTE = """Forward and backward by themselves. The floor counts each input read once and each result written once; batch
normalization has to read its input twice where that does not fit into the cache. Places of maxima are bytes here and
64-bit numbers in PyTorch. PyTorch in both memory layouts, of which the faster one counts. Products of matrices are our
own kernel's here, which captured steps use, beside cuBLAS in PyTorch."""

WINDOW = (2, 2)
P, EPS = 0.5, 1e-5
LIMIT = 1e-5
KINK_LIMIT = 2e-3  # where ReLU follows: single values next to its kink can be on either side of it


def cases(bench: Bench) -> Iterator[tuple[str, Callable[[], Case]]]:
    images, logits = ("×".join(map(str, shape)) for shape in (bench.plan.images, bench.plan.logits))
    for backward in (False, True):
        way = "backward" if backward else "forward"
        yield f"max pool 2×2, {images}: {way}", partial(max_pool, bench, backward)
        for relu in (False, True):
            name = "batch norm + ReLU" if relu else "batch norm"
            yield f"{name}, {images}: {way}", partial(batch_norm, bench, backward, relu)
        yield f"softmax cross entropy, {logits}: {way}", partial(cross_entropy, bench, backward)
    yield f"dropout, {images}: forward", partial(dropout, bench)
    for rows, depth, columns in bench.plan.products:
        yield f"product of matrices, {rows}×{depth}×{columns}", partial(product, bench, rows, depth, columns)


def rotated(function: Callable[..., Any], *arrays: list[Any]) -> Callable[[int], Any]:
    """Return a function that calls `function` with the i-th of each list, from the first again after the last."""
    return lambda i: function(*(own[i % len(own)] for own in arrays))


def wide(array: Any) -> Any:
    """Return an array in float64 on the host, for the reference."""
    return backend.to_numpy(array).astype(np.float64)


def in_layouts(bench: Bench, make: Callable[[list[Any], list[Any]], Any], x: list[Any], g: list[Any]) -> dict[str, Any]:
    """Return make(images, gradients) in PyTorch's memory layouts, by their names."""
    if bench.peer is None:
        return {}
    layouts = zip(bench.peer.layouts(x), bench.peer.layouts(g), strict=True)
    return {name: make(images, gradients) for (name, images), (_, gradients) in layouts}


def backwards(bench: Bench, function: Callable[..., Any], x: list[Any], g: list[Any], *others: Any) -> Any:
    """Return a call of PyTorch's backward pass of function(x, *others) for each of the inputs x."""
    runs = [bench.peer.backward(function, each, *others, g=own) for each, own in zip(x, g, strict=True)]
    return lambda i: runs[i % len(runs)]()


def max_pool(bench: Bench, backward: bool) -> Case:
    shape = bench.plan.images
    result = (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
    size, out = 4 * int(np.prod(shape)), 4 * int(np.prod(result))
    count = bench.sets(size + out)
    x, g = [bench.random(*shape) for _ in range(count)], [bench.random(*result) for _ in range(count)]
    pool = kernels.of(x[0]).pool
    y, chosen = plain.pool.max_forward(wide(x[0]), WINDOW, WINDOW)
    if not backward:
        ours = rotated(lambda x: pool.max_forward(x, WINDOW, WINDOW), x)
        indexed = lambda x: bench.peer.F.max_pool2d(x, 2, return_indices=True)  # as it must for a gradient
        theirs = in_layouts(bench, lambda x, g: rotated(indexed, x), x, g)
        moved, error = size + out + out // 4, lambda: worst([(ours(0)[0], y)])
    else:
        places = [pool.max_forward(each, WINDOW, WINDOW)[1] for each in x]
        ours = rotated(lambda g, places: pool.max_gradient(g, places, shape, WINDOW, WINDOW), g, places)
        reference = plain.pool.max_gradient(wide(g[0]), chosen, shape, WINDOW, WINDOW)
        pooled = lambda x: bench.peer.F.max_pool2d(x, 2)
        theirs = in_layouts(bench, lambda x, g: backwards(bench, pooled, x, g), x, g)
        moved, error = size + out + out // 4, lambda: worst([(ours(0), reference)])
    return Case(ours, error, LIMIT, moved, theirs=theirs, sets=count)


def batch_norm(bench: Bench, backward: bool, relu: bool) -> Case:
    shape = bench.plan.images
    size = 4 * int(np.prod(shape))
    count = bench.sets(2 * size)
    x, g = ([bench.random(*shape) for _ in range(count)] for _ in range(2))
    gamma, beta = bench.random(shape[-1]), bench.random(shape[-1])
    norm = kernels.of(x[0]).norm
    forward = lambda x: norm.forward(x, gamma, beta, EPS, None, relu)
    y, mean, variance, saved = plain.norm.forward(wide(x[0]), wide(gamma), wide(beta), EPS, None, relu)
    if backward:
        kept = [forward(each)[3] for each in x]
        ours = rotated(lambda g, saved: norm.gradients(g, saved, [True] * 3), g, kept)
        references = plain.norm.gradients(wide(g[0]), saved, [True] * 3)
    else:
        ours = rotated(forward, x)
        references = y, mean, variance

    def error() -> float:
        return worst(list(zip(ours(0)[:3], references, strict=True)))

    def twin(x: Any, gamma: Any, beta: Any) -> Any:
        y = bench.peer.F.batch_norm(x, None, None, gamma, beta, True, 0.0, EPS)
        return bench.peer.F.relu(y) if relu else y

    def make(x: list[Any], g: list[Any]) -> Any:
        vectors = bench.peer.tensor(gamma), bench.peer.tensor(beta)
        return backwards(bench, twin, x, g, *vectors) if backward else rotated(lambda x: twin(x, *vectors), x)

    theirs = in_layouts(bench, make, x, g)
    limit = KINK_LIMIT if relu and backward else LIMIT
    return Case(ours, error, limit, (3 if backward else 2) * size, theirs=theirs, sets=count)


def cross_entropy(bench: Bench, backward: bool) -> Case:
    samples, classes = bench.plan.logits
    count = bench.sets(4 * samples * classes)
    x = [bench.random(samples, classes) for _ in range(count)]
    for logits in x:
        logits *= 3
    labels = np.random.default_rng(0).integers(0, classes, samples)
    own = backend.asarray(labels)
    losses = kernels.of(x[0]).losses
    reference, kept = plain.losses.cross_entropy(wide(x[0]), labels, 0.0)
    if backward:
        g, saved = bench.random(samples), [losses.cross_entropy(each, own, 0.0)[1] for each in x]
        ours = rotated(lambda saved: losses.cross_entropy_gradient(g, saved), saved)
        reference = plain.losses.cross_entropy_gradient(wide(g), kept)
        error = lambda: worst([(ours(0), reference)])
    else:
        ours = rotated(lambda x: losses.cross_entropy(x, own, 0.0), x)
        error = lambda: worst([(ours(0)[0], reference)])
    theirs = {}
    if bench.peer is not None:
        twins, target = [bench.peer.tensor(each) for each in x], bench.peer.tensor(own)
        twin = lambda x: bench.peer.F.cross_entropy(x, target, reduction="none")
        if backward:
            theirs["logits"] = backwards(bench, twin, twins, [bench.peer.tensor(g)] * count)
        else:
            theirs["logits"] = rotated(twin, twins)
    moved = 4 * samples * classes * (2 if backward else 1)
    return Case(ours, error, LIMIT, moved, theirs=theirs, sets=count)


def dropout(bench: Bench) -> Case:
    shape = bench.plan.images
    size = 4 * int(np.prod(shape))
    count = bench.sets(size)
    x = [bench.random(*shape) for _ in range(count)]
    drops, scale = kernels.of(x[0]).dropout, 1 / (1 - P)

    def drop(x: Any) -> Any:
        return drops.drop(x, drops.coins(x.shape, P, backend.default_generator(), x), scale)

    def error() -> float:
        """The mask is random: each value must be 0 or scaled, and of so many half are 0, up to six deviations."""
        values, y = wide(x[0]), wide(drop(x[0]))
        share, deviation = float((y == 0).mean()), 0.5 / values.size**0.5
        apart = worst([(y, np.where(y == 0, 0, scale * values))])
        return apart if abs(share - P) < 6 * deviation else 1.0

    theirs = {}
    if bench.peer is not None:
        twins = [bench.peer.tensor(each) for each in x]
        theirs["as it lies"] = rotated(lambda x: bench.peer.F.dropout(x, P, True), twins)
    return Case(rotated(drop, x), error, LIMIT, 2 * size, theirs=theirs, sets=count)


def product(bench: Bench, rows: int, depth: int, columns: int) -> Case:
    count = bench.sets(4 * (rows * depth + depth * columns + rows * columns))
    x, y = [bench.random(rows, depth) for _ in range(count)], [bench.random(depth, columns) for _ in range(count)]
    multiply = kernels.of(x[0]).matmul.product

    def own(x: Any, y: Any) -> Any:
        with backend.capturable():  # large ones would be cuBLAS's otherwise
            return multiply(x, y)

    theirs = {}
    if bench.peer is not None:
        twins = [[bench.peer.tensor(each) for each in arrays] for arrays in (x, y)]
        theirs["cuBLAS"] = rotated(bench.peer.torch.matmul, *twins)
    return Case(
        rotated(own, x, y),
        lambda: worst([(own(x[0], y[0]), x[0].astype(np.float64) @ y[0].astype(np.float64))]),
        LIMIT,
        4 * (rows * depth + depth * columns + rows * columns),
        2 * rows * depth * columns,
        theirs=theirs,
        sets=count,
    )
