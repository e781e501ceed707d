"""The convolutional network of the CIFAR-10 optimizer study."""

from __future__ import annotations

from collections.abc import Sequence

from minidl import nn
from minidl.ops.arguments import pair

HIDDEN = 128


def cifar_cnn(
    classes: int = 10,
    channels: int = 3,
    size: int | tuple[int, int] = 32,
    batch_norm: bool = False,
    dropout: float = 0.0,
    widths: Sequence[int] = (32, 64),
) -> nn.Sequential:
    """Return the network of the CIFAR-10 optimizer study (P): convolutions, pooling, dropout, dense layers.

    For each width two 3 × 3 convolutions with so many filters, which keep the image's size, a ReLU after each, 2 × 2
    maximum pooling and dropout; then a dense layer of 128 with ReLU and dropout, and the dense layer of the logits.
    P ends in a softmax: here that is inside the loss (`nn.CrossEntropy`).

    Parameters
    ----------
    classes : int, default 10
    channels : int, default 3
    size : int or (height, width), default 32
        Of the images: x is (N, height, width, channels).
    batch_norm : bool, default False
        Batch normalization before each ReLU; the layer before it then has no bias, which would be subtracted again.
    dropout : float in [0, 1], default 0
        The probability of dropping, after each pooling and after the hidden dense layer.
    widths : sequence of int, default (32, 64)
        The filters of each pair of convolutions, each of which ends at half the image's size.

    Raises
    ------
    ValueError
        If the image is too small to be halved so often, or another argument is out of range.

    Notes
    -----
    P leaves open the widths, the windows, how many layers there are, the kind of pooling, and the rates of dropout
    ("typically between 0.2 and 0.5"). The defaults are the smallest of the usual kind with two convolutions between
    poolings, so that an epoch on a laptop takes minutes: 591,274 parameters for CIFAR-10, 25.0 million multiplications
    an image. `cifar_cnn()` stands for P's baseline (there 70.71 % after 10 epochs); batch normalization and dropout are
    among the adjustments of its Table 1.
    """
    if not isinstance(widths, Sequence) or not widths:
        raise ValueError(f"cifar_cnn: widths is {widths!r}, expected the filters of at least one pair of convolutions")
    height, width = pair(size, "cifar_cnn", "size", 2 ** len(widths))

    def rectified(i: int, features: int) -> dict[str, nn.Module]:
        """Return what follows the i-th layer with weights."""
        return {f"norm{i}": nn.BatchNorm(features, relu=True)} if batch_norm else {f"relu{i}": nn.ReLU()}

    network: dict[str, nn.Module] = {}
    inputs, bias = channels, not batch_norm
    for block, outputs in enumerate(widths, 1):
        second = 2 * block
        first = second - 1
        network |= {
            f"conv{first}": nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias),
            **rectified(first, outputs),
            f"conv{second}": nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias),
            **rectified(second, outputs),
            f"pool{block}": nn.MaxPool2d(2),
            f"dropout{block}": nn.Dropout(dropout),
        }
        inputs, height, width = outputs, height // 2, width // 2
    return nn.Sequential(
        **network,
        flatten=nn.Flatten(),
        dense1=nn.Dense(height * width * inputs, HIDDEN, bias=bias),
        **rectified(2 * len(widths) + 1, HIDDEN),
        **{f"dropout{len(widths) + 1}": nn.Dropout(dropout)},
        dense2=nn.Dense(HIDDEN, classes),
    )
