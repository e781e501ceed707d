"""The multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from minidl import nn


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Return a multilayer perceptron: dense layers with ReLU between them; images are flattened first.

    Parameters
    ----------
    sizes : sequence of int
        Features in, of each hidden layer, and out: `mlp([784, 128, 10])`.
    """
    if len(sizes) < 2:
        raise ValueError(f"mlp: sizes is {list(sizes)}, expected at least the number of inputs and of outputs")
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Dense(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
