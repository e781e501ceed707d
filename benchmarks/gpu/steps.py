"""Whole training steps: made one kernel after the other, and as captured graphs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import networks
from benchmarks.gpu.bench import Bench, Target, compared, on_cpu, reason_of
from minidl import backend, nn, ops, optim
from minidl.training.captured import CapturedSteps
from minidl.training.diagnosis import Rewind

NOTE = """Forward, backward and gradient descent with momentum in float32 (TF32 off), on batches that lie on the device,
by the host's clock. Captured: as `Trainer(capture=True)` makes them, with the loss fetched after each step; PyTorch's
graph and eager steps fetch nothing. PyTorch's SGD is fused, its images in both memory layouts, of which the faster one
counts. The target is the speed of captured steps over PyTorch's eager ones. Error: of the way that the weights go in
four steps without dropout, against the CPU in float64."""

NETWORKS = {"LeNet-5": networks.LENET5, "ResNet-20": networks.RESNET20}
STEPS = 4  # that are compared; the third with batches of a shape is the first that only launches a graph
LIMIT = 2e-2  # as in benchmarks.networks: single values next to the kink of ReLU can be on either side of it

Run = Callable[[int], Any]  # makes so many steps


def cases(bench: Bench) -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    for name, batch, target in bench.plan.networks:
        yield f"{name}, batch {batch}", partial(rows, bench, name, batch, target)


def rows(bench: Bench, name: str, batch: int, least: float) -> list[dict[str, Any]]:
    """Check and time the steps of a network; return a row for each way of making them."""
    network, case = NETWORKS[name], f"{name}, batch {batch}"
    errors, failed = check(network, batch)
    data = [backend.asarray(array) for array in network.batches(batch)]
    ours = {how: MAKERS[how](on_device(network), *data) for how in errors}
    twins, graph = {}, {}
    if bench.peer is not None:
        twins = {how: theirs(bench.peer, network, how, data) for how in ("channels last", "channels first")}
        try:
            graph = {"CUDA graph": theirs_captured(bench.peer, network, data)}
        except Exception as error:  # whatever it is, the other rows can be measured
            failed["PyTorch's CUDA graph"] = reason_of(error)
    plan = bench.plan
    times = bench.stopwatch.steps({**ours, **twins, **graph}, plan.rounds, plan.step_seconds)

    def row(how: str, note: str, others: Iterable[str], target: Target | None = None) -> dict[str, Any]:
        own = {"minidl": times[how]} | {other: times[other] for other in others}
        return compared(own, target) | {"case": f"{case}, {how}{note}", "error": errors[how]}

    found = [row(how, "", twins, Target("speed", least) if how == "captured" else None) for how in ours]
    if "captured" in ours and graph:
        found.append(row("captured", ", beside PyTorch's CUDA graph", graph))
    return found + [{"case": f"{case}, {how}", "failed": reason} for how, reason in failed.items()]


def on_device(network: networks.Network) -> Any:
    return network.make().to(backend.device())


# ---------------------------------------------------------------- ours


def repeated(step: Callable[[], Any]) -> Run:
    """Return a function that makes so many steps."""

    def run(count: int) -> None:
        for _ in range(count):
            step()

    return run


def eager(model: Any, x: Any, labels: Any) -> Run:
    return repeated(networks.ours(model, x, labels))


def captured(model: Any, x: Any, labels: Any) -> Run:
    """Return a function that makes steps as `Trainer` does with capture=True."""
    optimizer = optim.HeavyBall(model, lr=networks.RATE, beta=networks.MOMENTUM)
    loss = lambda outputs, labels, progress: ops.cross_entropy(nn.main_output(outputs), labels)
    steps = CapturedSteps(model, optimizer, loss, Rewind(model))
    batches = itertools.cycle(zip(x, labels, strict=True))

    def run(count: int) -> None:
        with steps.in_stream(), backend.capturable():
            for _ in range(count):
                x, labels = next(batches)
                step = steps.find(x, labels)
                if step is None:
                    optimizer.zero_grad()
                    loss(model(x), labels, 0.0).backward()
                    optimizer.step()
                else:
                    step.gradients(x, labels, 0.0)
                    step.update()

    return run


MAKERS: dict[str, Callable[..., Run]] = {"eager": eager, "captured": captured}


def check(network: networks.Network, batch: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return the error of each way of making steps that is right, and why the others are not measured."""

    def way(make: Callable[..., Run], model: Any, data: list[Any]) -> Any:
        for _, module in model.named_modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        before = weights_of(model)
        make(model, *data)(STEPS)
        return weights_of(model) - before

    data = network.batches(batch, STEPS)
    with on_cpu():
        expected = way(eager, network.make().astype(np.float64), [data[0].astype(np.float64), data[1]])
    errors, failed = {}, {}
    for how, make in MAKERS.items():
        try:
            found = way(make, on_device(network), [backend.asarray(array) for array in data])
            apart = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
            if not apart <= LIMIT:
                raise ArithmeticError(f"wrong: the weights go another way, error {apart:.2g}; not timed")
            errors[how] = apart
        except Exception as error:  # whatever it is, the other rows can be measured
            failed[how] = reason_of(error)
    return errors, failed


def weights_of(model: Any) -> Any:
    return np.concatenate([parameter.numpy().astype(np.float64).ravel() for parameter in model.parameters()])


# ---------------------------------------------------------------- theirs


class Twin:
    """A network, an optimizer and batches in PyTorch, in a memory layout."""

    def __init__(self, peer: Any, network: networks.Network, how: str, data: list[Any]) -> None:
        torch = peer.torch
        with on_cpu():
            model = network.make_twin(network.make())
        layout = torch.channels_last if how == "channels last" else torch.contiguous_format
        self.peer, self.model = peer, model.to(peer.device).to(memory_format=layout)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=networks.RATE, momentum=networks.MOMENTUM, fused=True
        )
        images = [peer.tensor(x) for x in data[0]]
        self.x = [x.permute(0, 3, 1, 2).contiguous(memory_format=layout) if x.ndim == 4 else x for x in images]
        self.labels = [peer.tensor(labels) for labels in data[1]]
        self.batches = itertools.cycle(zip(self.x, self.labels, strict=True))

    def step(self, x: Any, labels: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.peer.F.cross_entropy(self.model(x), labels).backward()
        self.optimizer.step()


def theirs(peer: Any, network: networks.Network, how: str, data: list[Any]) -> Run:
    twin = Twin(peer, network, how, data)
    return repeated(lambda: twin.step(*next(twin.batches)))


def theirs_captured(peer: Any, network: networks.Network, data: list[Any]) -> Run:
    """Return PyTorch's step as one CUDA graph."""
    torch = peer.torch
    twin = Twin(peer, network, "channels last", data)
    x, labels = twin.x[0].clone(), twin.labels[0].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            twin.step(x, labels)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        twin.step(x, labels)

    def step() -> None:
        for static, batch in zip((x, labels), next(twin.batches), strict=True):
            static.copy_(batch)
        graph.replay()

    return repeated(step)
