"""Layers with weights, and the ones that only move or pool values."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.backend import default_generator
from minidl.nn import initializers
from minidl.nn.module import Module
from minidl.nn.parameter import Parameter
from minidl.ops.arguments import checked_padding, pair, positive_integer
from minidl.tensor import Tensor


class Dense(Module):
    """Fully connected layer: y = x W + b.

    Parameters
    ----------
    inputs, outputs : int
        Features in and out; x is (N, inputs), y is (N, outputs).
    bias : bool, default True
    init : str or callable, default "he_normal"
        Initial weights (`nn.initializers`); biases start at 0.
    generator : numpy.random.Generator, optional
        Draws the initial weights. Default: the thread's generator.

    Attributes
    ----------
    weight : (inputs, outputs)
    bias : (outputs,) or None
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        init: str | initializers.Initializer = "he_normal",
        generator: np.random.Generator | None = None,
    ) -> None:
        shape = positive_integer(inputs, "Dense", "inputs"), positive_integer(outputs, "Dense", "outputs")
        self.weight = Parameter(initializers.get(init)(shape, generator or default_generator()))
        self.bias = Parameter(np.zeros(outputs, np.float32)) if bias else None

    def forward(self, x: Any) -> Tensor:
        if x.shape[-1:] != self.weight.shape[:1]:
            raise ValueError(f"Dense: x has shape {x.shape}, expected (N, {self.weight.shape[0]})")
        y = ops.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias

    def describe(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class Conv2d(Module):
    """Convolution of images, channels last (`ops.conv2d`).

    Parameters
    ----------
    inputs, outputs : int
        Channels in and out; x is (N, H, W, inputs).
    size : int or (height, width)
        The window.
    stride : int or pair, default 1
    padding : int, pair, "same" or "valid", default 0
    bias : bool, default True
    init : str or callable, default "he_normal"
        Initial weights (`nn.initializers`); biases start at 0.
    generator : numpy.random.Generator, optional
        Draws the initial weights. Default: the thread's generator.

    Attributes
    ----------
    weight : (height, width, inputs, outputs)
    bias : (outputs,) or None
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        *,
        bias: bool = True,
        init: str | initializers.Initializer = "he_normal",
        generator: np.random.Generator | None = None,
    ) -> None:
        channels = positive_integer(inputs, "Conv2d", "inputs"), positive_integer(outputs, "Conv2d", "outputs")
        shape = (*pair(size, "Conv2d", "size", 1), *channels)
        self.weight = Parameter(initializers.get(init)(shape, generator or default_generator()))
        self.bias = Parameter(np.zeros(outputs, np.float32)) if bias else None
        self.stride = pair(stride, "Conv2d", "stride", 1)
        self.padding = checked_padding(padding, "Conv2d")

    def forward(self, x: Any) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)

    def describe(self) -> str:
        kh, kw, inputs, outputs = self.weight.shape
        return f"{inputs}, {outputs}, size={(kh, kw)}, stride={self.stride}, padding={self.padding!r}"


class MaxPool2d(Module):
    """The largest value of each window (`ops.max_pool2d`); `stride` defaults to the size."""

    def __init__(self, size: int | tuple[int, int], stride: int | tuple[int, int] | None = None) -> None:
        self.size = pair(size, "MaxPool2d", "size", 1)
        self.stride = self.size if stride is None else pair(stride, "MaxPool2d", "stride", 1)

    def forward(self, x: Any) -> Tensor:
        return ops.max_pool2d(x, self.size, self.stride)

    def describe(self) -> str:
        return f"size={self.size}, stride={self.stride}"


class AvgPool2d(Module):
    """The mean of each window (`ops.avg_pool2d`); `stride` defaults to the size."""

    def __init__(self, size: int | tuple[int, int], stride: int | tuple[int, int] | None = None) -> None:
        self.size = pair(size, "AvgPool2d", "size", 1)
        self.stride = self.size if stride is None else pair(stride, "AvgPool2d", "stride", 1)

    def forward(self, x: Any) -> Tensor:
        return ops.avg_pool2d(x, self.size, self.stride)

    def describe(self) -> str:
        return f"size={self.size}, stride={self.stride}"


class GlobalAvgPool2d(Module):
    """The mean of each channel over the image: (N, H, W, C) becomes (N, C)."""

    def forward(self, x: Any) -> Tensor:
        if len(x.shape) != 4:
            raise ValueError(f"GlobalAvgPool2d: x has shape {x.shape}, expected (N, H, W, C)")
        return ops.mean(x, (1, 2))


class Flatten(Module):
    """Each sample as one row: (N, H, W, C) becomes (N, H·W·C)."""

    def forward(self, x: Any) -> Tensor:
        if len(x.shape) < 2:
            raise ValueError(f"Flatten: x has shape {x.shape}, expected (N, …)")
        return ops.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))
