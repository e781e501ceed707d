"""The update of each optimizer beside the copy bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import minidl as ml
from benchmarks.gpu.bench import Bench, Case, Target, apart, on_cpu
from benchmarks.gpu.layers import wide
from minidl import optim

NOTE = """One parameter in float32. The fewest bytes: W and each vector of the state are read and written, g is read;
Nesterov's look-ahead, which begins a step, also reads W and v and writes the place where the gradient is taken. The
target is a part of the copy bandwidth. PyTorch with `fused=True` or `foreach=True`, whichever is faster; its method of
that name is not always the same sequence."""

TWINS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "HeavyBall": ("SGD", {"momentum": 0.9}),
    "Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "AdaGrad": ("Adagrad", {}),
    "RMSProp": ("RMSprop", {"alpha": 0.9}),
    "Adadelta": ("Adadelta", {"rho": 0.95}),
    "Adam": ("Adam", {}),
    "AdaMax": ("Adamax", {}),
    "Nadam": ("NAdam", {}),
    "AMSGrad": ("Adam", {"amsgrad": True}),
}
WAYS = ("fused", "foreach")
STEPS, CHECKED = 3, 10_000  # steps and weights that are compared with those of the CPU in float64
LIMIT = 1e-4  # of the way that the weights went


def cases(bench: Bench) -> Iterator[tuple[str, Callable[[], Case]]]:
    for name in bench.plan.optimizers:
        yield f"{name}, {bench.plan.weights:,} weights", partial(case, bench, name)


def stepping(optimizer: Any, parameter: Any, g: list[Any]) -> Callable[[int], Any]:
    """Return a function that makes a step, with the i-th gradient."""

    def step(i: int) -> None:
        optimizer.zero_grad()
        parameter.grad = g[i % len(g)]
        optimizer.step()

    return step


def case(bench: Bench, name: str) -> Case:
    count = bench.plan.weights
    start, g = bench.random(count), [bench.random(count) for _ in range(STEPS)]
    make = getattr(optim, name)
    parameter = ml.Tensor(start, requires_grad=True)
    optimizer = make([parameter])
    vectors = 3 + 2 * len(optimizer.state) + (3 if name == "Nesterov" else 0)

    def error() -> float:
        step = stepping(optimizer, parameter, g)
        some = slice(0, min(CHECKED, count))
        before = wide(optimizer.weights[some])
        for i in range(STEPS):
            step(i)
        way = wide(optimizer.weights[some]) - before
        return apart(way, reference(make, before, [wide(each[some]) for each in g]))

    theirs = {}
    if bench.peer is not None:
        twin, settings = TWINS[name]
        for how in WAYS:
            made = twin_of(bench, getattr(bench.peer.torch.optim, twin), settings, how, start, g)
            if made is not None:
                theirs[how] = made
    target = Target("copy", 0.8)
    return Case(stepping(optimizer, parameter, g), error, LIMIT, 4 * vectors * count, theirs=theirs, target=target)


def reference(make: Callable[..., Any], start: Any, g: list[Any]) -> Any:
    """Return how far the weights go on the CPU, in float64."""
    with on_cpu():
        parameter = ml.Tensor(start, requires_grad=True)
        optimizer = make([parameter])
        step = stepping(optimizer, parameter, g)
        for i in range(len(g)):
            step(i)
        return optimizer.weights - start


def twin_of(bench: Bench, method: Any, settings: dict[str, Any], how: str, start: Any, g: list[Any]) -> Any:
    """Return a step of PyTorch's method, done in this way; None if it cannot."""
    peer = bench.peer
    weights = peer.torch.nn.Parameter(peer.tensor(start))
    try:
        optimizer = method([weights], lr=1e-3, **settings, **{how: True})
    except (TypeError, RuntimeError):
        return None
    gradients = [peer.tensor(each) for each in g]

    def step(i: int) -> None:
        weights.grad = gradients[i % len(gradients)]
        optimizer.step()

    return step
