"""LeNet-5."""

from __future__ import annotations

from minidl import nn


def lenet5(classes: int = 10, dropout: float = 0.5, channels: int = 1) -> nn.Sequential:
    """Return LeNet-5 with ReLU and dropout between its dense layers, for images of 28 × 28 (44,426 parameters).

    Parameters
    ----------
    classes : int, default 10
    dropout : float in [0, 1], default 0.5
        The probability of dropping, twice; 0 leaves LeNet-5 without it.
    channels : int, default 1
        Of the images: x is (N, 28, 28, channels).

    Notes
    -----
    LeCun et al. 1998, with the dropout and the shapes of the progressive-sharpening paper's model summary. That paper
    does not name the activation; ReLU is used here, and He initialization with it.

    Examples
    --------
    >>> model = models.lenet5()
    >>> sum(parameter.size for parameter in model.parameters())
    44426
    """
    return nn.Sequential(
        conv1=nn.Conv2d(channels, 6, 5),
        relu1=nn.ReLU(),
        pool1=nn.AvgPool2d(2),
        conv2=nn.Conv2d(6, 16, 5),
        relu2=nn.ReLU(),
        pool2=nn.AvgPool2d(2),
        flatten=nn.Flatten(),
        dense1=nn.Dense(256, 120),
        relu3=nn.ReLU(),
        dropout1=nn.Dropout(dropout),
        dense2=nn.Dense(120, 84),
        relu4=nn.ReLU(),
        dropout2=nn.Dropout(dropout),
        dense3=nn.Dense(84, classes),
    )
