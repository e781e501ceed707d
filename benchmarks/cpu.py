"""minidl against PyTorch on the CPU: `python -m benchmarks.cpu [--quick] [--out DIR]`, from the repository's root.

A case makes two functions that do the same work, minidl's and PyTorch's; to add one, add a line to `CASES`. Each
library gets its natural layout, channels-last here and channels-first there. Before a case is timed, the results of the
two are compared, so that no ratio stands for two different things.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import minidl as ml
from benchmarks import report
from benchmarks.paired import compare
from minidl import models, ops, optim
from minidl.files import writable_folder

try:
    import torch
    import torch.nn.functional as F
except ModuleNotFoundError:
    torch = None

THREADS = 2
NODES = 1000
IMAGES = (64, 32, 32, 16)
RESULTS = Path("benchmarks/results")

Pair = tuple[Callable[[], Any], Callable[[], Any]]
rng = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return np.asarray(rng.standard_normal(shape, dtype=np.float32))


def channels_first(x: Any) -> Any:
    """Return images (N, H, W, C) as PyTorch's (N, C, H, W); anything else as it is."""
    return torch.tensor(np.moveaxis(x, -1, 1) if x.ndim == 4 else x)


def outputs_first(w: Any) -> Any:
    """Return weights (kh, kw, in, out) as PyTorch's (out, in, kh, kw), or (in, out) as (out, in)."""
    return torch.tensor(w.transpose(3, 2, 0, 1) if w.ndim == 4 else w.T)


# ---------------------------------------------------------------- the same work for both


def op(ours: Callable[..., Any], theirs: Callable[..., Any], x: Any, *weights: Any) -> Pair:
    """An op forward and backward, from a random gradient of its output to those of x and the weights."""
    inputs = [ml.Tensor(array, requires_grad=True) for array in (x, *weights)]
    twins = [twin.requires_grad_() for twin in (channels_first(x), *map(outputs_first, weights))]
    g = normal(*ours(*inputs).shape)

    def run(function: Callable[..., Any], tensors: list[Any], g: Any) -> Any:
        for tensor in tensors:
            tensor.grad = None
        function(*tensors).backward(g)
        return tensors[0].grad

    twin_g = channels_first(g)
    return lambda: run(ours, inputs, g), lambda: run(theirs, twins, twin_g)


def lenet5() -> tuple[Any, Any]:
    """LeNet-5 in both libraries with the same weights, and with dropout 0, so that they can be compared."""
    nn, model = torch.nn, models.lenet5(dropout=0)
    twin = nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Dropout(0), nn.Linear(120, 84), nn.ReLU(), nn.Dropout(0)),
        nn.Linear(84, 10),
    )
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        first = parameter is model.dense1.weight  # it meets the pixels in another order there
        w = parameter.numpy().reshape(4, 4, 16, 120) if first else parameter.numpy()
        other.data = outputs_first(w).reshape(other.shape)
    return model, twin


def training_step(batch: int) -> Pair:
    """Steps over 2,048 images: on a single batch units die, and their momentum slows the processor as it underflows."""
    model, twin = lenet5()
    x, labels = normal(2048 // batch, batch, 28, 28, 1), rng.integers(10, size=(2048 // batch, batch))
    twin_x, twin_labels = torch.tensor(x).movedim(-1, 2), torch.tensor(labels)
    optimizer = optim.HeavyBall(model, lr=0.001, beta=0.9)
    twin_optimizer = torch.optim.SGD(twin.parameters(), lr=0.001, momentum=0.9)

    def steps(model: Any, optimizer: Any, cross_entropy: Callable[..., Any], *data: Any) -> Callable[[], Any]:
        batches = itertools.cycle(zip(*data, strict=True))

        def step() -> Any:
            x, labels = next(batches)
            optimizer.zero_grad()
            loss = cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        return step

    return (
        steps(model, optimizer, ops.cross_entropy, x, labels),
        steps(twin, twin_optimizer, F.cross_entropy, twin_x, twin_labels),
    )


def adam_step() -> Pair:
    model, twin = lenet5()
    optimizer, twin_optimizer = optim.Adam(model), torch.optim.Adam(twin.parameters())
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        parameter.grad = normal(*parameter.shape)
        other.grad = outputs_first(parameter.grad).reshape(other.shape)

    def step(optimizer: Any, weights: Any) -> Any:
        optimizer.step()
        return weights

    return lambda: step(optimizer, model.conv1.bias), lambda: step(twin_optimizer, twin[0].bias)


def cross_entropy(samples: int, classes: int) -> Pair:
    labels = rng.integers(classes, size=samples)
    twin = torch.tensor(labels)
    return op(lambda x: ops.cross_entropy(x, labels), lambda x: F.cross_entropy(x, twin), normal(samples, classes))


def chain() -> Pair:
    """Multiplications of 16 elements by a constant, one after the other: the time is the engine's."""

    def multiply(x: Any, factor: Any) -> Any:
        for _ in range(NODES):
            x = x * factor
        return x

    factor, twin = ml.Tensor(np.full(16, 1.001, np.float32)), torch.full((16,), 1.001)
    return op(lambda x: multiply(x, factor), lambda x: multiply(x, twin), normal(16))


def batch_norm(x: Any, gamma: Any, beta: Any) -> Any:
    return F.batch_norm(x, None, None, gamma, beta, training=True)


CASES: dict[str, Callable[[], Pair]] = {
    "LeNet-5 step, batch 1": lambda: training_step(1),
    "LeNet-5 step, batch 8": lambda: training_step(8),
    "LeNet-5 step, batch 128": lambda: training_step(128),
    "conv2d 3×3, 16 → 16": lambda: op(
        partial(ops.conv2d, padding=1), partial(F.conv2d, padding=1), normal(*IMAGES), normal(3, 3, 16, 16), normal(16)
    ),
    "max_pool2d 2×2": lambda: op(lambda x: ops.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), normal(*IMAGES)),
    "avg_pool2d 2×2": lambda: op(lambda x: ops.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), normal(*IMAGES)),
    "batch_norm": lambda: op(ops.batch_norm, batch_norm, normal(*IMAGES), normal(16), normal(16)),
    "relu": lambda: op(ops.relu, F.relu, normal(*IMAGES)),
    "cross_entropy 128×1000": lambda: cross_entropy(128, 1000),
    "dense 128×512 → 512": lambda: op(
        lambda x, w, b: x @ w + b, F.linear, normal(128, 512), normal(512, 512), normal(512)
    ),
    "Adam step, LeNet-5": adam_step,
    "engine, one node": chain,
}
PER_CALL = {"engine, one node": NODES}  # a call does the work so often; the times are for one


# ---------------------------------------------------------------- the command


def check_same_work(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Raise if the results of the third calls differ by more than rounding."""
    for _ in range(3):
        result, expected = ours(), theirs().detach()
    result = result.numpy() if isinstance(result, ml.Tensor) else result
    expected = (expected.movedim(1, -1) if expected.ndim == 4 else expected).numpy()
    if not np.abs(result - expected).max() <= 1e-4 * np.abs(expected).max():
        raise RuntimeError(f"{name}: minidl and PyTorch computed different results")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, print the table and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description="Time minidl against PyTorch.")
    parser.add_argument("--quick", action="store_true", help="a rough look in half a minute; writes nothing by default")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder for the Markdown and JSON files (default: {RESULTS})"
    )
    options = parser.parse_args(arguments)
    if torch is None:
        sys.exit('benchmarks.cpu: PyTorch is not installed: pip install ".[bench]"')
    folder = options.out or (None if options.quick else RESULTS)
    try:
        if folder is not None:
            writable_folder(folder, "--out")
    except OSError as error:
        parser.error(str(error))

    torch.set_num_threads(THREADS)
    effort = {"pairs": 3, "block_seconds": 0.03} if options.quick else {"pairs": 15, "block_seconds": 0.15}
    settings = {"PyTorch": f"{torch.__version__}, {THREADS} threads", "images": IMAGES} | effort
    environment = report.environment("benchmarks.cpu", settings)
    rows = []
    for name, make in track(CASES.items(), "measuring", transient=True):
        ours, theirs = make()
        check_same_work(name, ours, theirs)
        rows.append({"case": name} | compare(ours, theirs, per_call=PER_CALL.get(name, 1), **effort))
    report.show(rows)
    if folder is not None:
        report.write(folder / "cpu", environment, rows)


if __name__ == "__main__":
    main()
