"""Layers without weights that pool, enlarge or move the values of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl import ops
from minidl.nn.module import Module
from minidl.ops.arguments import pair, positive_integer
from minidl.ops.upsampling import checked_mode
from minidl.tensor import Tensor


class MaxPool2d(Module):
    """The largest value of each window (`ops.max_pool2d`); `stride` defaults to the size.

    Examples
    --------
    >>> nn.MaxPool2d(2)(x).shape
    (100, 4, 4, 1)
    """

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


class Upsample2d(Module):
    """Images enlarged by a whole number, "nearest" or "bilinear" (`ops.upsample2d`)."""

    def __init__(self, scale: int | tuple[int, int], mode: str = "nearest") -> None:
        self.scale = pair(scale, "Upsample2d", "scale", 1)
        self.mode = checked_mode(mode, "Upsample2d")

    def forward(self, x: Any) -> Tensor:
        return ops.upsample2d(x, self.scale, self.mode)

    def describe(self) -> str:
        return f"scale={self.scale}, mode={self.mode!r}"


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


class Unflatten(Module):
    """Each row as an array of this shape, the inverse of `Flatten`: (N, H·W·C) becomes `(N, *shape)`.

    Examples
    --------
    >>> nn.Unflatten((4, 4, 4))(np.zeros((5, 64), np.float32)).shape
    (5, 4, 4, 4)
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(positive_integer(size, "Unflatten", f"shape[{i}]") for i, size in enumerate(shape))

    def forward(self, x: Any) -> Tensor:
        if len(x.shape) != 2 or x.shape[1] != math.prod(self.shape):
            raise ValueError(f"Unflatten: x has shape {x.shape}, expected (N, {math.prod(self.shape)})")
        return ops.reshape(x, (x.shape[0], *self.shape))

    def describe(self) -> str:
        return str(self.shape)
