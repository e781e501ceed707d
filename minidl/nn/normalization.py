"""The normalization family."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn.module import Module
from minidl.nn.parameter import Buffer, Parameter
from minidl.ops.arguments import positive_integer
from minidl.tensor import Tensor


class BatchNorm(Module):
    r"""Normalize each channel with the batch's mean and variance, then scale and shift it (`ops.batch_norm`).

    Training uses the batch and updates :math:`\mu \leftarrow (1-w)\mu + w\mu_B`, and the same for the (biased)
    variance; evaluation uses these running values. N §1.1.5; Ioffe and Szegedy 2015. PyTorch keeps the unbiased
    variance instead, larger by m / (m − 1).

    Parameters
    ----------
    channels : int
        C; x is (N, H, W, C) or (N, C).
    momentum : float in [0, 1], default 0.1
        w, the weight of the newest batch.
    eps : float, default 1e-5
        ε, inside the root.

    Attributes
    ----------
    gamma, beta : (C,)
        Scale and shift, learned; 1 and 0 at first.
    running_mean, running_variance : (C,)
        Buffers; 0 and 1 at first.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"BatchNorm: momentum is {momentum}, expected a number in [0, 1]")
        if not eps > 0:
            raise ValueError(f"BatchNorm: eps is {eps}, expected a positive number")
        channels = positive_integer(channels, "BatchNorm", "channels")
        self.gamma = Parameter(np.ones(channels, np.float32))
        self.beta = Parameter(np.zeros(channels, np.float32))
        self.running_mean = Buffer(np.zeros(channels, np.float32))
        self.running_variance = Buffer(np.ones(channels, np.float32))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Any) -> Tensor:
        if self.training:
            return ops.batch_norm(x, self.gamma, self.beta, eps=self.eps, observe=self._update)
        running = self.running_mean.data, self.running_variance.data
        return ops.batch_norm(x, self.gamma, self.beta, eps=self.eps, running=running)

    def _update(self, mean: Any, variance: Any) -> None:
        w = self.momentum
        self.running_mean.data = (1 - w) * self.running_mean.data + w * mean
        self.running_variance.data = (1 - w) * self.running_variance.data + w * variance

    def describe(self) -> str:
        return f"{self.gamma.size}, momentum={self.momentum}, eps={self.eps}"
