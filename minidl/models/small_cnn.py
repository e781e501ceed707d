"""A small convolutional network in which kinds of normalization and of dropout can be compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from minidl import nn
from minidl.nn import initializers
from minidl.ops.arguments import number, pair

GROUPS = 4

NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch": nn.BatchNorm,
    "layer": nn.LayerNorm,
    "instance": nn.InstanceNorm,
    "group": lambda channels: nn.GroupNorm(GROUPS, channels),
    "switchable": nn.SwitchableNorm,
    "weight": lambda channels: nn.GroupNorm(GROUPS, channels),
    "spectral": None,
}
"""The normalization behind a convolution."""

WEIGHTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight": nn.WeightStandardization,
    "spectral": nn.SpectralNorm,
}
"""What is done to a convolution's weight."""

FEATURES: dict[str, Callable[[float], nn.Module]] = {
    "dropout": nn.Dropout,
    "gaussian": nn.GaussianDropout,
    "alpha": nn.AlphaDropout,
}
"""Dropout behind the hidden dense layer."""

MAPS: dict[str, Callable[[float], nn.Module]] = {"spatial": nn.SpatialDropout2d}
"""Dropout before the pooling."""

POOLINGS: dict[str, Callable[[float], nn.Module]] = {
    "max-pooling": lambda p: nn.PoolingDropout(2, p, "max"),
    "average-pooling": lambda p: nn.PoolingDropout(2, p, "avg"),
    "maxdrop": lambda p: nn.MaxDrop(2, sigma=math.sqrt(p * (1 - p))),
}
"""Dropout in place of the pooling."""

NORMALIZATIONS = tuple(NORMS)
DROPOUTS = ("none", *FEATURES, *MAPS, *POOLINGS)
ACTIVATIONS = tuple(name for name in initializers.ACTIVATIONS if name != "softmax")


def small_cnn(
    classes: int = 10,
    channels: int = 1,
    size: int | tuple[int, int] = 28,
    *,
    widths: Sequence[int] = (16, 32),
    hidden: int = 128,
    normalization: str = "none",
    dropout: str = "none",
    p: float = 0.5,
    activation: str = "relu",
) -> nn.Sequential:
    r"""Return a small convolutional network (206,922 parameters) with a choice of normalization and of dropout.

    For each width a 3 × 3 convolution with so many filters, which keeps the image's size, normalization, activation,
    and 2 × 2 maximum pooling; then a dense layer of `hidden` with its activation, and the dense layer of the logits.

    Normalization acts on the convolutions only, because two of the kinds exist only for images: so all kinds stand in
    the same places, and the dense layers are the same in all. Where a normalization follows, its β takes the place of
    the convolution's bias.

    ============  ============================  ======================
    name          weight of the convolution     behind the convolution
    ============  ============================  ======================
    "none"        as it is                      nothing
    "batch"       as it is                      `BatchNorm`
    "layer"       as it is                      `LayerNorm`
    "instance"    as it is                      `InstanceNorm`
    "group"       as it is                      `GroupNorm`, 4 groups
    "switchable"  as it is                      `SwitchableNorm`
    "weight"      `WeightStandardization`       `GroupNorm`, 4 groups
    "spectral"    `SpectralNorm`                nothing
    ============  ============================  ======================

    Weight standardization alone would multiply the signal by :math:`\sqrt{\mathrm{fan_{in}} / g^2}` in every layer; the
    group normalization is that of Qiao et al. 2019.

    Each kind of dropout stands in the one place that it is made for:

    =================  =========================================  ==========================================
    name               place                                      layer
    =================  =========================================  ==========================================
    "none"
    "dropout"          behind the hidden dense layer              `Dropout(p)`
    "gaussian"         behind the hidden dense layer              `GaussianDropout(p)`
    "alpha"            behind the hidden dense layer              `AlphaDropout(p)`, with SELU only
    "spatial"          before each pooling                        `SpatialDropout2d(p)`
    "max-pooling"      in place of each maximum pooling           `PoolingDropout(2, p, "max")`
    "average-pooling"  in place of each maximum pooling           `PoolingDropout(2, p, "avg")`
    "maxdrop"          in place of each maximum pooling           `MaxDrop(2, sigma=√(p(1 − p)))`
    =================  =========================================  ==========================================

    MaxDrop has no p: its noise gets the variance p(1 − p) that `GaussianDropout` has in the notes. "average-pooling"
    takes means in place of the largest values, with any p.

    Parameters
    ----------
    classes : int, default 10
    channels : int, default 1
    size : int or (height, width), default 28
        Of the images: x is (N, height, width, channels).
    widths : sequence of int, default (16, 32)
        The filters of each convolution, behind which the image has half its size.
    hidden : int, default 128
        The features of the hidden dense layer.
    normalization : str, default "none"
        A name of the first table.
    dropout : str, default "none"
        A name of the second table.
    p : float in [0, 1], default 0.5
        The probability of dropping; below 1 with "alpha". Of no effect with "none".
    activation : str, default "relu"
        "elu", "gelu", "leaky_relu", "relu", "selu", "sigmoid", "softplus" or "tanh". Pooling with dropout counts what
        it drops as 0, so it wants one that is not negative.

    Raises
    ------
    ValueError
        If a name is unknown, dropout is "alpha" without "selu", the image is too small to be halved so often, the
        groups do not divide a width, or another argument is out of range.

    Notes
    -----
    The weights start with the variance that suits the activation (`initializers.for_activation`: He's for ReLU,
    LeCun's for SELU); behind the last layer there is none. No paper's network: it is as small as one can be in which
    every kind of N §1.1.4 and §1.1.5 has its place.

    Examples
    --------
    >>> model = models.small_cnn(classes=10, channels=3, size=32, normalization="batch", dropout="dropout", p=0.3)
    >>> model(np.zeros((4, 32, 32, 3), np.float32)).shape
    (4, 10)
    """
    who = "small_cnn"
    if not isinstance(widths, Sequence) or isinstance(widths, str) or not widths:
        raise ValueError(f"{who}: widths is {widths!r}, expected the filters of at least one convolution")
    for name, value, known in (
        ("normalization", normalization, NORMALIZATIONS),
        ("dropout", dropout, DROPOUTS),
        ("activation", activation, ACTIVATIONS),
    ):
        if value not in known:
            raise ValueError(f"{who}: {name} is {value!r}, expected one of {', '.join(known)}")
    if dropout == "alpha" and activation != "selu":
        raise ValueError(f"{who}: dropout 'alpha' keeps the mean and variance of SELU: expected activation='selu'")
    p = number(p, who, "p", "[0, 1)" if dropout == "alpha" else "[0, 1]")
    height, width = pair(size, who, "size", 2 ** len(widths))

    norm, activate = NORMS[normalization], initializers.ACTIVATIONS[activation]
    init = initializers.for_activation(activation)
    network: dict[str, nn.Module] = {}
    inputs = channels
    for i, outputs in enumerate(widths, 1):
        network[f"conv{i}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm is None, init=init)
        if norm is not None:
            network[f"norm{i}"] = norm(outputs)
        network[f"{activation}{i}"] = activate()
        if dropout in MAPS:
            network[f"dropout{i}"] = MAPS[dropout](p)
        network[f"pool{i}"] = POOLINGS[dropout](p) if dropout in POOLINGS else nn.MaxPool2d(2)
        inputs, height, width = outputs, height // 2, width // 2
    last = len(widths) + 1
    network["flatten"] = nn.Flatten()
    network["dense1"] = nn.Dense(height * width * inputs, hidden, init=init)
    network[f"{activation}{last}"] = activate()
    if dropout in FEATURES:
        network[f"dropout{last}"] = FEATURES[dropout](p)
    network["dense2"] = nn.Dense(hidden, classes, init=initializers.for_activation(None))
    if normalization in WEIGHTS:  # last, since some draw random numbers: so all kinds begin with the same weights
        for i in range(1, last):
            network[f"conv{i}"] = WEIGHTS[normalization](network[f"conv{i}"])
    return nn.Sequential(**network)
