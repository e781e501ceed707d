"""Whole training steps, in minidl and in PyTorch: cross entropy, backward, gradient descent with momentum.

`OURS` and `THEIRS` make one side alone, so that the memory of each can be measured in a process that never imports the
other. Both start from the same weights and see the same batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minidl as ml
from minidl import models, nn, ops, optim

RATE, MOMENTUM = 0.001, 0.9
DROPOUT = 0.5
IMAGES = 2048  # on a single batch units die, and their momentum slows the processor as it underflows

Step = Callable[[], Any]


@dataclass(frozen=True)
class Network:
    """A model, the name of its twin in `twins`, and what both are called with."""

    model: Callable[..., nn.Sequential]
    twin: str
    arguments: tuple[Any, ...]
    image: tuple[int, ...]
    flattened: tuple[int, int, int] | None = None  # (height, width, channels) before the first dense layer

    def make(self) -> nn.Sequential:
        ml.manual_seed(0)
        return self.model(*self.arguments)

    def make_twin(self, model: nn.Sequential) -> Any:
        """Return the model in PyTorch, with the same weights."""
        from benchmarks import twins

        twin = getattr(twins, self.twin)(*self.arguments)
        for parameter, w in zip(twin.parameters(), twins.weights_of(model, self.flattened), strict=True):
            assert parameter.shape == w.shape
            parameter.data = w
        return twin

    def batches(self, batch: int, count: int | None = None) -> tuple[Any, Any]:
        """Return random images (count, batch, …) and labels (count, batch)."""
        rng, count = np.random.default_rng(0), count or IMAGES // batch
        x = rng.standard_normal((count, batch, *self.image), dtype=np.float32)
        return x, rng.integers(10, size=(count, batch))


LENET5 = Network(lambda p: models.lenet5(dropout=p), "lenet5", (DROPOUT,), (28, 28, 1), (4, 4, 16))
CIFAR_CNN = Network(lambda p: models.cifar_cnn(dropout=p), "cifar_cnn", (DROPOUT,), (32, 32, 3), (8, 8, 64))
MLP = Network(lambda *sizes: models.mlp(sizes), "mlp", (784, 512, 256, 10), (784,))
RESNET20 = Network(models.resnet, "resnet", (20,), (32, 32, 3))
DENSENET = Network(models.densenet_bc, "densenet_bc", (100, 12), (32, 32, 3))

STEPS: dict[str, tuple[Network, int]] = {
    "LeNet-5 step, batch 1": (LENET5, 1),
    "LeNet-5 step, batch 8": (LENET5, 8),
    "LeNet-5 step, batch 128": (LENET5, 128),
    "MLP 784-512-256-10 step, batch 128": (MLP, 128),
    "CIFAR CNN step, batch 64": (CIFAR_CNN, 64),
    "ResNet-20 step, batch 16": (RESNET20, 16),
    "ResNet-20 step, batch 128": (RESNET20, 128),
    "DenseNet-BC-100 step, batch 64": (DENSENET, 64),
}


def ours(model: nn.Sequential, x: Any, labels: Any) -> Step:
    """Return a function that does a step on the next of the batches, from the first again after the last."""
    return _steps(model, optim.HeavyBall(model, lr=RATE, beta=MOMENTUM), ops.cross_entropy, x, labels)


def theirs(twin: Any, x: Any, labels: Any) -> Step:
    import torch
    import torch.nn.functional as F

    optimizer = torch.optim.SGD(twin.parameters(), lr=RATE, momentum=MOMENTUM)
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 2) if x.ndim == 5 else x))
    return _steps(twin, optimizer, F.cross_entropy, x, torch.from_numpy(labels))


def _steps(model: Any, optimizer: Any, cross_entropy: Callable[..., Any], x: Any, labels: Any) -> Step:
    batches = itertools.cycle(zip(x, labels, strict=True))

    def step() -> Any:
        x, labels = next(batches)
        optimizer.zero_grad()
        loss = cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def pair(name: str) -> tuple[Step, Step]:
    """Return the steps of both sides, once they are known to do the same."""
    network, batch = STEPS[name]
    check(name, network, min(batch, 8))
    model = network.make()
    data = network.batches(batch)
    return ours(model, *data), theirs(network.make_twin(model), *data)


def check(name: str, network: Network, batch: int, steps: int = 3) -> None:
    """Raise if without dropout, in three steps, the losses or the ways that the weights go differ beyond rounding."""
    from benchmarks import twins

    model = network.make()
    twin = network.make_twin(model)
    for _, module in (*model.named_modules(), *twin.named_modules()):
        if type(module).__name__ == "Dropout":
            module.p = 0
    before = twins.weights_of(model, network.flattened)
    data = network.batches(batch, steps)
    step, twin_step = ours(model, *data), theirs(twin, *data)
    losses = np.array([(step().item(), twin_step().item()) for _ in range(steps)])
    after = twins.weights_of(model, network.flattened)
    way = _length(a - b for a, b in zip(after, before, strict=True))
    apart = _length(a - b.detach() for a, b in zip(after, twin.parameters(), strict=True))
    if not (np.abs(losses[:, 0] - losses[:, 1]).max() <= 1e-3 and apart <= 0.02 * way):
        raise RuntimeError(
            f"{name}: minidl and PyTorch went different ways: losses {losses.tolist()}, the weights moved by {way:.3g} "
            f"and are {apart:.3g} apart"
        )


def _length(vectors: Any) -> float:
    return sum(float((v**2).sum()) for v in vectors) ** 0.5
