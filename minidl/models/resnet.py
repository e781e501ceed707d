"""The residual networks for small images."""

from __future__ import annotations

from typing import Any

from minidl import nn, ops
from minidl.ops.arguments import positive_integer
from minidl.tensor import Tensor

WIDTHS = (16, 32, 64)


def resnet(depth: int, classes: int = 10, channels: int = 3) -> nn.Sequential:
    r"""Return a residual network for small images, such as ResNet-20 or ResNet-56.

    A 3 × 3 convolution with 16 filters, then three stages of n blocks with 16, 32 and 64 filters, where the first block
    of the second and of the third stage halves the image by its stride of 2; then the mean of each channel over the
    image, and one dense layer. A block is two 3 × 3 convolutions, each with batch normalization and without a bias:

    .. math:: y = \mathrm{relu}\big(F(x) + S(x)\big), \qquad
              F = \mathrm{norm}_2 \circ \mathrm{conv}_2 \circ \mathrm{relu} \circ \mathrm{norm}_1 \circ \mathrm{conv}_1

    S is the identity, or where the shape changes every second pixel with the new channels zero (the paper's option A),
    so that no shortcut has anything to learn. With the dense layer that makes 6n + 2 layers with weights.

    Parameters
    ----------
    depth : int
        6n + 2; the paper's are 20 (269,722 parameters), 32 (464,154), 44 (658,586), 56 (853,018) and 110 (1,727,962).
    classes : int, default 10
    channels : int, default 3
        Of the images: x is (N, H, W, channels), of any size. The outputs are logits, (N, classes).

    Raises
    ------
    ValueError
        If `depth` is not 6n + 2.

    Notes
    -----
    He et al. 2016, §4.2; R trains 20 and 56 layers. Weights start as in He et al. 2015, with the fan-in. The paper
    leaves open where option A puts the zeros: here after the channels there are. Its recipe: SGD with momentum 0.9,
    rate 0.1 (at 110 layers 0.01 until the training error is below 80 %), weight decay 1e-4, batches of 128. In the
    first dozens of steps the running statistics of the normalization lag behind, and the validation accuracy with them.
    """
    blocks, rest = divmod(positive_integer(depth, "resnet", "depth") - 2, 6)
    if rest or not blocks:
        raise ValueError(
            f"resnet: depth is {depth}, expected 6n + 2: 8, 14, 20, 26, 32, …; the paper's are 20, 32, 44, 56 and 110"
        )
    first, middle, last = WIDTHS
    return nn.Sequential(
        conv=nn.Conv2d(channels, first, 3, padding=1, bias=False),
        norm=nn.BatchNorm(first, relu=True),
        stage1=_stage(blocks, first, first, stride=1),
        stage2=_stage(blocks, first, middle, stride=2),
        stage3=_stage(blocks, middle, last, stride=2),
        pool=nn.GlobalAvgPool2d(),
        dense=nn.Dense(last, classes),
    )


def _stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return so many blocks, of which the first changes the shape."""
    first = {"block1": BasicBlock(inputs, outputs, stride)}
    return nn.Sequential(**first, **{f"block{i}": BasicBlock(outputs, outputs) for i in range(2, blocks + 1)})


class BasicBlock(nn.Module):
    """Two convolutions and a way around them; see `resnet`."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm(outputs, relu=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm(outputs)
        same = (inputs, stride) == (outputs, 1)
        self.shortcut = nn.Identity() if same else PaddingShortcut(outputs - inputs, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Any) -> Tensor:
        y = self.norm1(self.conv1(x))
        y = self.norm2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class PaddingShortcut(nn.Module):
    """Every stride-th pixel of each row and column, and further channels of zeros: option A of He et al. 2016."""

    def __init__(self, added: int, stride: int) -> None:
        self.added, self.stride = added, stride

    def forward(self, x: Any) -> Tensor:
        return ops.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (0, self.added)))

    def describe(self) -> str:
        return f"added={self.added}, stride={self.stride}"
