"""What is timed: cases, each of which makes two functions that do the same work, minidl's and PyTorch's.

To add one, add a line to `OPS` or to `networks.STEPS`. Each library gets its natural layout, channels-last here and
channels-first there. When a case is made, the results of the two are compared, so that no ratio stands for two
different things.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import minidl as ml
from benchmarks import networks
from benchmarks.twins import channels_first, outputs_first
from minidl import ops, optim

NODES = 1000
TOLERANCE = 5e-3  # of the norm: single values next to the kink of ReLU can be on either side of it

Pair = tuple[Callable[[], Any], Callable[[], Any]]
rng = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return np.asarray(rng.standard_normal(shape, dtype=np.float32))


# ---------------------------------------------------------------- ops


def op(ours: Callable[..., Any], theirs: Callable[..., Any], x: Any, *weights: Any) -> Pair:
    """An op forward and backward, from a random gradient of its output to those of x and the weights."""
    inputs = [ml.Tensor(array, requires_grad=True) for array in (x, *weights)]
    twins = [twin.requires_grad_() for twin in (channels_first(x), *map(outputs_first, weights))]
    g = normal(*ours(*inputs).shape)

    def run(function: Callable[..., Any], tensors: list[Any], g: Any) -> list[Any]:
        for tensor in tensors:
            tensor.grad = None
        y = function(*tensors)
        y.backward(g)
        return [y, *(tensor.grad for tensor in tensors)]

    twin_g = channels_first(g)
    return lambda: run(ours, inputs, g), lambda: run(theirs, twins, twin_g)


def conv(images: tuple[int, ...], outputs: int, size: int = 3, stride: int = 1) -> Pair:
    settings: dict[str, Any] = {"stride": stride, "padding": size // 2}
    w = normal(size, size, images[-1], outputs) / np.float32(size * images[-1] ** 0.5)
    return op(partial(ops.conv2d, **settings), partial(F.conv2d, **settings), normal(*images), w, normal(outputs))


def twin_batch_norm(x: Any, gamma: Any, beta: Any) -> Any:
    return F.batch_norm(x, None, None, gamma, beta, training=True)


def batch_norm(*images: int) -> Pair:
    return op(ops.batch_norm, twin_batch_norm, normal(*images), normal(images[-1]), normal(images[-1]))


def dense(samples: int, inputs: int, outputs: int) -> Pair:
    w = normal(inputs, outputs) / np.float32(inputs**0.5)
    return op(lambda x, w, b: x @ w + b, F.linear, normal(samples, inputs), w, normal(outputs))


def cross_entropy(samples: int, classes: int) -> Pair:
    labels = rng.integers(classes, size=samples)
    twin = torch.from_numpy(labels)
    return op(lambda x: ops.cross_entropy(x, labels), lambda x: F.cross_entropy(x, twin), normal(samples, classes))


def chain() -> Pair:
    """Multiplications of 16 elements by a constant, one after the other: the time is the engine's."""

    def multiply(x: Any, factor: Any) -> Any:
        for _ in range(NODES):
            x = x * factor
        return x

    factor, twin = ml.Tensor(np.full(16, 1.001, np.float32)), torch.full((16,), 1.001)
    return op(lambda x: multiply(x, factor), lambda x: multiply(x, twin), normal(16))


def adam(network: networks.Network) -> Pair:
    """A step of Adam, whose gradients are always the same, without the pass through the network."""
    model = network.make()
    twin = network.make_twin(model)
    optimizer, twin_optimizer = optim.Adam(model, lr=1e-4), torch.optim.Adam(twin.parameters(), lr=1e-4)
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        parameter.grad = normal(*parameter.shape)
        other.grad = outputs_first(parameter.grad).reshape(other.shape)

    def step(optimizer: Any, bias: Any) -> list[Any]:
        optimizer.step()
        return [bias]

    first_bias = next(i for i, parameter in enumerate(model.parameters()) if parameter.ndim == 1)
    ours, theirs = list(model.parameters())[first_bias], list(twin.parameters())[first_bias]
    return lambda: step(optimizer, ours), lambda: step(twin_optimizer, theirs)


IMAGES = 64, 32, 32, 16
OPS: dict[str, Callable[[], Pair]] = {
    "conv2d 3×3, 16 → 16, 32×32": lambda: conv((64, 32, 32, 16), 16),
    "conv2d 3×3, 32 → 32, 16×16": lambda: conv((64, 16, 16, 32), 32),
    "conv2d 3×3, 64 → 64, 8×8": lambda: conv((64, 8, 8, 64), 64),
    "conv2d 3×3, stride 2, 16 → 32": lambda: conv((64, 32, 32, 16), 32, stride=2),
    "conv2d 1×1, 96 → 48, 16×16": lambda: conv((64, 16, 16, 96), 48, size=1),
    "conv2d 5×5, 6 → 16, 12×12": lambda: conv((128, 12, 12, 6), 16, size=5),
    "max_pool2d 2×2": lambda: op(lambda x: ops.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), normal(*IMAGES)),
    "avg_pool2d 2×2": lambda: op(lambda x: ops.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), normal(*IMAGES)),
    "batch_norm": lambda: batch_norm(*IMAGES),
    "relu": lambda: op(ops.relu, F.relu, normal(*IMAGES)),
    "cross_entropy 128×1000": lambda: cross_entropy(128, 1000),
    "dense 128×512 → 512": lambda: dense(128, 512, 512),
    "Adam step, LeNet-5": lambda: adam(networks.LENET5),
    "Adam step, CIFAR CNN": lambda: adam(networks.CIFAR_CNN),
    "engine, one node": chain,
}
PER_CALL = {"engine, one node": NODES}  # a call does the work so often; the times are for one


# ---------------------------------------------------------------- how the ratio grows


def block(batch: int, size: int, channels: int) -> Pair:
    """A convolution, batch normalization and ReLU, as in a residual network."""

    def ours(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
        return ops.relu(ops.batch_norm(ops.conv2d(x, w, padding=1), gamma, beta))

    def theirs(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
        return F.relu(twin_batch_norm(F.conv2d(x, w, padding=1), gamma, beta))

    w = normal(3, 3, channels, channels) / np.float32(3 * channels**0.5)
    return op(ours, theirs, normal(batch, size, size, channels), w, normal(channels), normal(channels))


BASE = {"batch": 64, "size": 16, "channels": 32}
GROWING = {"batch": (8, 16, 32, 64, 128, 256), "channels": (8, 16, 32, 64, 128), "size": (8, 16, 32, 64)}
GROWTH: dict[str, Callable[[], Pair]] = {
    f"growth, {what} {value}": partial(block, **BASE | {what: value})
    for what, values in GROWING.items()
    for value in values
}


# ---------------------------------------------------------------- all of them

QUICK = (*OPS, "LeNet-5 step, batch 1", "LeNet-5 step, batch 8", "LeNet-5 step, batch 128", "ResNet-20 step, batch 16")


def make(name: str) -> Pair:
    """Return the two functions of a case; raise RuntimeError if they compute different results."""
    if name in networks.STEPS:
        return networks.pair(name)
    pair = (OPS | GROWTH)[name]()
    check(name, *pair)
    return pair


def check(name: str, ours: Callable[[], list[Any]], theirs: Callable[[], list[Any]]) -> None:
    """Raise if the results of the third calls, (y, gradient of x, gradients of the weights), differ beyond rounding."""
    for _ in range(3):
        results, expected = ours(), theirs()
    for i, (result, twin) in enumerate(zip(results, expected, strict=True)):
        a = torch.from_numpy(np.array(result.numpy() if isinstance(result, ml.Tensor) else result))
        b = twin.detach()
        if a.ndim == 4:
            a = a.movedim(-1, 1) if i < 2 else a.permute(3, 2, 0, 1)
        elif i >= 2 and a.ndim == 2:
            a = a.T
        apart = float((a - b).norm() / b.norm())
        if not apart <= TOLERANCE:
            raise RuntimeError(f"{name}: minidl and PyTorch computed different results, {apart:.2g} apart")
