"""Layers with weights.

Each says in `apply(x, weight)` what it does with its input and a weight, which may be its own or what another layer
made of it: `SpectralNorm` and `WeightStandardization` are built on that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn import initializers
from minidl.nn.module import Module
from minidl.nn.parameter import Parameter
from minidl.ops.arguments import checked_padding, pair, positive_integer
from minidl.ops.convolution import checked_output_padding
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

    Examples
    --------
    >>> layer = nn.Dense(3, 2)
    >>> layer(np.ones((5, 3), np.float32)).shape
    (5, 2)
    >>> [(name, parameter.shape) for name, parameter in layer.named_parameters()]
    [('weight', (3, 2)), ('bias', (2,))]
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
        self.weight = Parameter(initializers.draw(init, shape, generator))
        self.bias = Parameter(np.zeros(outputs, np.float32)) if bias else None

    def forward(self, x: Any) -> Tensor:
        return self.apply(x, self.weight)

    def apply(self, x: Any, weight: Any) -> Tensor:
        """Return x W + b with another W of the same shape."""
        if x.shape[-1:] != weight.shape[:1]:
            raise ValueError(f"Dense: x has shape {x.shape}, expected (N, {weight.shape[0]})")
        y = ops.matmul(x, weight)
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

    Examples
    --------
    >>> layer = nn.Conv2d(3, 16, 3, stride=2, padding=1)
    >>> layer(np.zeros((8, 32, 32, 3), np.float32)).shape
    (8, 16, 16, 16)
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
        self.weight = Parameter(initializers.draw(init, shape, generator))
        self.bias = Parameter(np.zeros(outputs, np.float32)) if bias else None
        self.stride = pair(stride, "Conv2d", "stride", 1)
        self.padding = checked_padding(padding, "Conv2d")

    def forward(self, x: Any) -> Tensor:
        return self.apply(x, self.weight)

    def apply(self, x: Any, weight: Any) -> Tensor:
        """Return the convolution of x with another weight of the same shape."""
        return ops.conv2d(x, weight, self.bias, stride=self.stride, padding=self.padding)

    def describe(self) -> str:
        kh, kw, inputs, outputs = self.weight.shape
        return f"{inputs}, {outputs}, size={(kh, kw)}, stride={self.stride}, padding={self.padding!r}"


class ConvTranspose2d(Module):
    """Transposed convolution of images, channels last: the adjoint of `Conv2d` (`ops.conv_transpose2d`).

    Parameters
    ----------
    inputs, outputs : int
        Channels in and out; x is (N, H, W, inputs).
    size : int or (height, width)
        The window. One that the stride divides spreads evenly; any other leaves a chequered pattern.
    stride : int or pair, default 1
        By how much y is larger than x.
    padding : int, pair, "same" or "valid", default 0
        How much is cut off on each side; "same": y is H · stride × W · stride.
    output_padding : int or pair, default 0
        Rows and columns that y has more at the bottom and right; less than the stride.
    bias : bool, default True
    init : str or callable, default "he_normal"
        Initial weights (`nn.initializers`); biases start at 0. With a stride of 2 in both directions an output gets
        only a quarter of the height · width · inputs products: the variance is four times as large to make up for it.
    generator : numpy.random.Generator, optional
        Draws the initial weights. Default: the thread's generator.

    Attributes
    ----------
    weight : (height, width, inputs, outputs)
    bias : (outputs,) or None

    Examples
    --------
    >>> layer = nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1)
    >>> layer(np.zeros((8, 16, 16, 16), np.float32)).shape
    (8, 32, 32, 3)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        output_padding: int | tuple[int, int] = 0,
        *,
        bias: bool = True,
        init: str | initializers.Initializer = "he_normal",
        generator: np.random.Generator | None = None,
    ) -> None:
        who = "ConvTranspose2d"
        channels = positive_integer(inputs, who, "inputs"), positive_integer(outputs, who, "outputs")
        shape = (*pair(size, who, "size", 1), *channels)
        self.stride = pair(stride, who, "stride", 1)
        self.padding = checked_padding(padding, who)
        self.output_padding = checked_output_padding(output_padding, self.stride, padding, who)
        self.weight = Parameter(initializers.draw(init, shape, generator, self.gaps))
        self.bias = Parameter(np.zeros(outputs, np.float32)) if bias else None

    @property
    def gaps(self) -> int:
        """Of so many products of an output, one is not with a zero between the spread pixels."""
        return self.stride[0] * self.stride[1]

    def forward(self, x: Any) -> Tensor:
        return self.apply(x, self.weight)

    def apply(self, x: Any, weight: Any) -> Tensor:
        """Return the transposed convolution of x with another weight of the same shape."""
        settings = {"stride": self.stride, "padding": self.padding, "output_padding": self.output_padding}
        return ops.conv_transpose2d(x, weight, self.bias, **settings)

    def describe(self) -> str:
        kh, kw, inputs, outputs = self.weight.shape
        moves = f"stride={self.stride}, padding={self.padding!r}, output_padding={self.output_padding}"
        return f"{inputs}, {outputs}, size={(kh, kw)}, {moves}"
