"""Convolutions and their gradients, in float32 and with factors rounded to TF32, beside cuDNN."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu.bench import Bench, Case, Target, apart
from benchmarks.gpu.plan import Layer
from minidl import kernels

NOTE = """Layers of ResNet-20 and of a network like VGG. "forward", "by x", "by w": the convolution, and its gradient
with respect to the images and to the weights. PyTorch chooses among cuDNN's algorithms by trying (cudnn.benchmark), in
both memory layouts, of which the faster one counts. In float32: TF32 is off on both sides."""
TF32_NOTE = "As above, with TF32 on both sides (`ml.use_device('gpu', tf32=True)`, `allow_tf32`)."

DIRECTIONS = ("forward", "by x", "by w")
LIMITS = {False: 1e-4, True: 3e-3}  # of the error, without and with TF32
PIECE = 16  # images that the reference takes at a time


def cases(bench: Bench, tf32: bool) -> Iterator[tuple[str, Callable[[], Case]]]:
    for layer, direction in itertools.product(bench.plan.layers, DIRECTIONS):
        yield (
            f"{layer}{', TF32' if tf32 else ''}: {direction}",
            lambda layer=layer, direction=direction: case(bench, layer, direction, tf32),
        )


def case(bench: Bench, layer: Layer, direction: str, tf32: bool) -> Case:
    sizes = {"x": layer.images, "w": layer.kernel, "y": layer.result}
    bytes_of = {name: 4 * math.prod(shape) for name, shape in sizes.items()}
    count = bench.sets(sum(bytes_of.values()))
    scale = 1 / math.sqrt(math.prod(layer.kernel[:3]))
    x, w, g = ([bench.random(*sizes[name]) for _ in range(count)] for name in "xwy")
    for weights in w:
        weights *= scale
    return Case(
        ours=ours(layer, direction, x, w, g),
        error=lambda: error(layer, direction, x[-1], w[-1], g[-1]),
        limit=LIMITS[tf32],
        bytes=sum(bytes_of.values()),
        operations=2 * math.prod(layer.result) * math.prod(layer.kernel[:3]),
        theirs=theirs(bench, layer, direction, x, w, g),
        target=Target("speed", 0.5 if tf32 else 1.0 if layer.few_channels else 0.7),
        sets=count,
        tf32=tf32,
    )


def ours(layer: Layer, direction: str, x: list[Any], w: list[Any], g: list[Any]) -> Callable[[int], Any]:
    conv = kernels.of(x[0]).conv
    stride, padding = (layer.stride,) * 2, ((layer.padding,) * 2,) * 2
    n = len(x)
    return {
        "forward": lambda i: conv.forward(x[i % n], w[i % n], stride, padding),
        "by x": lambda i: conv.input_gradient(g[i % n], w[i % n], layer.images, stride, padding),
        "by w": lambda i: conv.weight_gradient(x[i % n], g[i % n], layer.kernel[:2], stride, padding),
    }[direction]


def theirs(
    bench: Bench, layer: Layer, direction: str, x: list[Any], w: list[Any], g: list[Any]
) -> dict[str, Callable[[int], Any]]:
    if bench.peer is None:
        return {}
    torch = bench.peer.torch
    stride, padding = [layer.stride] * 2, [layer.padding] * 2
    mask = [direction == "by x", direction == "by w", False]

    def make(x: list[Any], w: list[Any], g: list[Any]) -> Callable[[int], Any]:
        n = len(x)
        if direction == "forward":
            return lambda i: bench.peer.F.conv2d(x[i % n], w[i % n], None, stride, padding)
        backward, rest = torch.ops.aten.convolution_backward, (None, stride, padding, [1, 1], False, [0, 0], 1, mask)
        return lambda i: backward(g[i % n], x[i % n], w[i % n], *rest)

    found = {}
    for (name, images), (_, gradients) in zip(bench.peer.layouts(x), bench.peer.layouts(g), strict=True):
        found[name] = make(images, [bench.peer.weights(each, images[0]) for each in w], gradients)
    return found


# ---------------------------------------------------------------- the reference


def error(layer: Layer, direction: str, x: Any, w: Any, g: Any) -> float:
    """Return how far the result is from the definition in float64, computed one place of the kernel after the other."""
    result = ours(layer, direction, [x], [w], [g])(0)
    reference = {"forward": forward, "by x": by_x, "by w": by_w}[direction]
    return apart(result, reference(layer, x, w, g))


def forward(layer: Layer, x: Any, w: Any, g: Any) -> Any:
    """y(n, i, j) = Σ x(n, i·s + a − p, j·s + b − p) w(a, b)."""
    y, wide = _zeros(g, layer.result), w.astype("float64")
    for images in _pieces(layer):
        padded = _padded(layer, x[images])
        for (a, b), there in _places(layer):
            y[images] += padded[there] @ wide[a, b]
    return y


def by_x(layer: Layer, x: Any, w: Any, g: Any) -> Any:
    gradient, wide = _zeros(g, layer.images), w.astype("float64")
    p = layer.padding
    inner = slice(p, -p or None)
    for images in _pieces(layer):
        padded, own = _padded(layer, gradient[images]), g[images].astype("float64")
        for (a, b), there in _places(layer):
            padded[there] += own @ wide[a, b].T
        gradient[images] = padded[:, inner, inner]
    return gradient


def by_w(layer: Layer, x: Any, w: Any, g: Any) -> Any:
    gradient = _zeros(g, layer.kernel)
    for images in _pieces(layer):
        padded = _padded(layer, x[images])
        own = g[images].astype("float64").reshape(-1, layer.outputs)
        for (a, b), there in _places(layer):
            gradient[a, b] += padded[there].reshape(-1, layer.images[3]).T @ own
    return gradient


def _zeros(like: Any, shape: tuple[int, ...]) -> Any:
    from minidl.backend import array_module

    return array_module(like).zeros(shape, dtype="float64")


def _pieces(layer: Layer) -> Iterator[slice]:
    return (slice(start, start + PIECE) for start in range(0, layer.images[0], PIECE))


def _padded(layer: Layer, x: Any) -> Any:
    """Return images in float64 with zeros around them."""
    count, height, width, channels = x.shape
    p = layer.padding
    padded = _zeros(x, (count, height + 2 * p, width + 2 * p, channels))
    padded[:, p : p + height, p : p + width] = x
    return padded


def _places(layer: Layer) -> Iterator[tuple[tuple[int, int], tuple[slice, ...]]]:
    """Yield each place (a, b) of the kernel, and which padded pixels it meets."""
    _, height, width, _ = layer.result
    s = layer.stride
    for a, b in itertools.product(range(layer.size), repeat=2):
        yield (a, b), (slice(None), slice(a, a + s * height, s), slice(b, b + s * width, s))
