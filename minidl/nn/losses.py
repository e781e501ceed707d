"""Losses as objects. `loss(outputs, labels, progress)`: progress is the share of the training done, in [0, 1].

Losses that change while training goes on read `progress`; the others ignore it.
"""

from __future__ import annotations

from typing import Any

from minidl import ops
from minidl.tensor import Tensor


class Loss:
    """The base: write `__call__`, which returns a Tensor of shape ()."""

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no __call__ method")


class CrossEntropy(Loss):
    """Softmax cross entropy between logits (N, M) and integer labels (N,); see `ops.cross_entropy`."""

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return ops.cross_entropy(outputs, labels)


class LabelSmoothing(Loss):
    r"""Cross entropy with the targets :math:`(1-\epsilon)\,y + \epsilon / M`, y one-hot.

    Parameters
    ----------
    eps : float in [0, 1], default 0.1
        ε. Szegedy et al. 2016; R compares with it.
    """

    def __init__(self, eps: float = 0.1) -> None:
        if not 0 <= eps <= 1:
            raise ValueError(f"LabelSmoothing: eps is {eps}, expected a number in [0, 1]")
        self.eps = eps

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return ops.cross_entropy(outputs, labels, self.eps)


class MSE(Loss):
    """Mean squared error between outputs and targets of the same shape; see `ops.mse`."""

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return ops.mse(outputs, labels)
