"""The densely connected network with bottlenecks and compression."""

from __future__ import annotations

import math
from typing import Any

from minidl import nn, ops
from minidl.ops.arguments import number, positive_integer
from minidl.tensor import Tensor


def densenet_bc(
    depth: int = 100,
    growth: int = 12,
    classes: int = 10,
    channels: int = 3,
    compression: float = 0.5,
    dropout: float = 0.0,
) -> nn.Sequential:
    r"""Return DenseNet-BC for small images: every layer sees what all layers before it in its block made.

    A 3 × 3 convolution with 2k filters, three blocks of n layers, and between the blocks transitions that halve the
    image; then batch normalization, ReLU, the mean of each channel over the image, and one dense layer. A layer adds k
    channels to its input:

    .. math:: y = [\,x,\ H(x)\,], \qquad H = \mathrm{conv}_{3\times3}^{k} \circ \mathrm{relu} \circ \mathrm{norm} \circ
              \mathrm{conv}_{1\times1}^{4k} \circ \mathrm{relu} \circ \mathrm{norm}

    The 1 × 1 convolution is the bottleneck (the B of the name). A transition is batch normalization, ReLU, a 1 × 1
    convolution from m to ⌊θm⌋ channels (the compression, C), and 2 × 2 average pooling. No convolution has a bias.

    Parameters
    ----------
    depth : int, default 100
        6n + 4.
    growth : int, default 12
        k. The paper's depths and growths are 100 and 12 (769,162 parameters), 250 and 24, 190 and 40.
    classes : int, default 10
    channels : int, default 3
        Of the images: x is (N, H, W, channels), at least 4 × 4. The outputs are logits, (N, classes).
    compression : float in (0, 1], default 0.5
        θ.
    dropout : float in [0, 1], default 0
        The probability of dropping, after each convolution but the first; the paper's is 0.2 where images are not
        augmented.

    Raises
    ------
    ValueError
        If `depth` is not 6n + 4, or another argument is out of range.

    Notes
    -----
    Huang et al. 2017; R trains the default. Weights start as in He et al. 2015, with the fan-in, which the paper leaves
    open. Its recipe: SGD with Nesterov's momentum 0.9, weight decay 1e-4, rate 0.1, batches of 64. In the first dozens
    of steps the running statistics lag behind, and the validation accuracy with them.
    """
    layers, rest = divmod(positive_integer(depth, "densenet_bc", "depth") - 4, 6)
    if rest or layers < 1:
        raise ValueError(
            f"densenet_bc: depth is {depth}, expected 6n + 4: 10, 16, 22, 28, 34, …; the paper's are 100, 190 and 250"
        )
    growth = positive_integer(growth, "densenet_bc", "growth")
    number(compression, "densenet_bc", "compression", "(0, 1]")
    features = 2 * growth
    network: dict[str, nn.Module] = {"conv": nn.Conv2d(channels, features, 3, padding=1, bias=False)}
    for i in 1, 2, 3:
        if i > 1:
            kept = math.floor(compression * features)
            if not kept:
                raise ValueError(
                    f"densenet_bc: compression {compression} leaves none of {features} channels, with growth {growth}"
                )
            network[f"transition{i - 1}"] = _transition(features, kept, dropout)
            features = kept
        network[f"block{i}"] = nn.Sequential(
            **{f"layer{j + 1}": _layer(features + j * growth, growth, dropout) for j in range(layers)}
        )
        features += layers * growth
    return nn.Sequential(
        **network,
        norm=nn.BatchNorm(features, relu=True),
        pool=nn.GlobalAvgPool2d(),
        dense=nn.Dense(features, classes),
    )


class DenseLayer(nn.Sequential):
    """Its modules are H; the output is [x, H(x)], joined along the channels."""

    def forward(self, x: Any) -> Tensor:
        return ops.concatenate([x, super().forward(x)], axis=-1)


def _layer(inputs: int, growth: int, dropout: float) -> DenseLayer:
    return DenseLayer(
        norm1=nn.BatchNorm(inputs, relu=True),
        conv1=nn.Conv2d(inputs, 4 * growth, 1, bias=False),
        dropout1=nn.Dropout(dropout),
        norm2=nn.BatchNorm(4 * growth, relu=True),
        conv2=nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        dropout2=nn.Dropout(dropout),
    )


def _transition(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        norm=nn.BatchNorm(inputs, relu=True),
        conv=nn.Conv2d(inputs, outputs, 1, bias=False),
        dropout=nn.Dropout(dropout),
        pool=nn.AvgPool2d(2),
    )
