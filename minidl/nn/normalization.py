"""The normalization family: layers that shift and scale values to mean 0 and variance 1.

They differ in what they average over: a channel of the whole batch (`BatchNorm`), a sample (`LayerNorm`), a channel of
a sample (`InstanceNorm`), a group of channels of a sample (`GroupNorm`), or a learned mixture (`SwitchableNorm`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn.module import Module
from minidl.nn.parameter import Buffer, Parameter
from minidl.ops.arguments import number, positive_integer
from minidl.tensor import Tensor


class _Normalization(Module):
    """What all have: ε, and a scale γ and a shift β for each channel."""

    images_only = False

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        who = type(self).__name__
        self.channels = positive_integer(channels, who, "channels")
        self.eps = number(eps, who, "eps", "(0, inf)")
        self.gamma = Parameter(np.ones(self.channels, np.float32)) if affine else None
        self.beta = Parameter(np.zeros(self.channels, np.float32)) if affine else None

    def _checked(self, x: Any) -> Any:
        """Return the input, an array in the dtype of the parameters."""
        if len(x.shape) not in ((4,) if self.images_only else (2, 4)) or x.shape[-1] != self.channels:
            features = "" if self.images_only else f" or (N, {self.channels})"
            raise ValueError(
                f"{type(self).__name__}: x has shape {x.shape}, expected (N, H, W, {self.channels}){features}"
            )
        if isinstance(x, Tensor):
            return x
        return x.astype(np.result_type(np.float32, x.dtype) if self.gamma is None else self.gamma.dtype, copy=False)

    def _scaled(self, x_hat: Tensor) -> Tensor:
        return x_hat if self.gamma is None else self.gamma * x_hat + self.beta

    def describe(self) -> str:
        return f"{self.channels}, eps={self.eps}"


# ---------------------------------------------------------------- statistics of the batch


class _RunningNorm(_Normalization):
    """What uses the batch in training, and in evaluation the running values that it has kept of it."""

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        self.momentum = number(momentum, type(self).__name__, "momentum", "[0, 1]")
        self.running_mean = Buffer(np.zeros(self.channels, np.float32))
        self.running_variance = Buffer(np.ones(self.channels, np.float32))

    def _update(self, mean: Any, variance: Any) -> None:
        w = self.momentum
        self.running_mean.data = (1 - w) * self.running_mean.data + w * mean
        self.running_variance.data = (1 - w) * self.running_variance.data + w * variance

    def describe(self) -> str:
        return f"{self.channels}, momentum={self.momentum}, eps={self.eps}"


class BatchNorm(_RunningNorm):
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
    relu : bool, default False
        Whether a ReLU follows. It is the same as a layer `ReLU` behind this one, and faster, because it takes no pass
        over the memory of its own.

    Attributes
    ----------
    gamma, beta : (C,)
        Scale and shift, learned; 1 and 0 at first.
    running_mean, running_variance : (C,)
        Buffers; 0 and 1 at first.

    Notes
    -----
    A batch of one row of features has variance 0: in training all its outputs are β, and nothing before it learns.

    Examples
    --------
    >>> norm = nn.BatchNorm(2)
    >>> y = norm(np.array([[1.0, 10.0], [3.0, 30.0]], np.float32)).numpy()
    >>> y.round(3)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    >>> norm.running_mean.numpy()
    array([0.2, 2. ], dtype=float32)
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5, relu: bool = False) -> None:
        super().__init__(channels, momentum, eps)
        if not isinstance(relu, (bool, np.bool_)):
            raise TypeError(f"BatchNorm: relu is {relu!r}, expected True or False")
        self.relu = bool(relu)

    def forward(self, x: Any) -> Tensor:
        if self.training:
            return ops.batch_norm(x, self.gamma, self.beta, eps=self.eps, observe=self._update, relu=self.relu)
        running = self.running_mean.data, self.running_variance.data
        return ops.batch_norm(x, self.gamma, self.beta, eps=self.eps, running=running, relu=self.relu)

    def describe(self) -> str:
        return super().describe() + (", relu=True" if self.relu else "")


class SwitchableNorm(_RunningNorm):
    r"""Normalize images with learned mixtures of the instance's, the layer's and the batch's statistics.

    .. math:: y = \gamma\,\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}} + \beta, \qquad
              \mu = \sum_k w_k \mu_k, \quad \sigma^2 = \sum_k w'_k \sigma_k^2, \qquad
              w = \mathrm{softmax}(\lambda), \quad w' = \mathrm{softmax}(\lambda')

    for k = instance (H, W of a sample's channel), layer (H, W, C of a sample) and batch (N, H, W of a channel), all
    variances biased. Evaluation takes the batch's part from running values, as `BatchNorm` does; the other two are
    those of the input. N §1.1.5; Luo et al. 2018, who average over some training batches instead of keeping running
    values. An instance of features (N, C) has a single value, so these are refused.

    Parameters
    ----------
    channels : int
        C; x is (N, H, W, C).
    momentum : float in [0, 1], default 0.1
        The weight of the newest batch in the running values.
    eps : float, default 1e-5
        ε, inside the root.

    Attributes
    ----------
    gamma, beta : (C,)
        Scale and shift, learned; 1 and 0 at first.
    mean_logits, variance_logits : (3,)
        λ and λ' for (instance, layer, batch), learned; 0 at first, which mixes all three equally. After training
        `ops.softmax(layer.mean_logits)` shows what the layer has chosen.
    running_mean, running_variance : (C,)
        Buffers; 0 and 1 at first.

    Raises
    ------
    ValueError
        In the forward pass, if x is not of shape (N, H, W, C).
    """

    images_only = True

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(channels, momentum, eps)
        self.mean_logits = Parameter(np.zeros(3, np.float32))
        self.variance_logits = Parameter(np.zeros(3, np.float32))

    def forward(self, x: Any) -> Tensor:
        x = self._checked(x)
        mean_i = ops.mean(x, (1, 2), keepdims=True)
        mean_i = mean_i + ops.mean(x - mean_i, (1, 2), keepdims=True)  # what rounding took from it
        centered = x - mean_i
        variance_i = ops.mean(centered * centered, (1, 2), keepdims=True)
        mean_l, variance_l = _united(mean_i, variance_i, axis=3)
        if self.training:
            mean_b, variance_b = _united(mean_i, variance_i, axis=0)
            self._update(mean_b.data.reshape(-1), variance_b.data.reshape(-1))
        else:
            mean_b, variance_b = self.running_mean, self.running_variance
        w, w_ = ops.softmax(self.mean_logits), ops.softmax(self.variance_logits)
        mean = w[0] * mean_i + w[1] * mean_l + w[2] * mean_b
        variance = w_[0] * variance_i + w_[1] * variance_l + w_[2] * variance_b
        return (x - mean) * (self.gamma / ops.sqrt(variance + self.eps)) + self.beta


def _united(mean: Tensor, variance: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of equally large parts together: the variance within them and that between them."""
    united = ops.mean(mean, axis, keepdims=True)
    apart = mean - united
    return united, ops.mean(variance + apart * apart, axis, keepdims=True)


# ---------------------------------------------------------------- statistics of each sample alone, in both modes


class LayerNorm(_Normalization):
    r"""Normalize each sample with the mean and variance of all its values, then scale and shift each channel.

    .. math:: y = \gamma\,\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}} + \beta

    with the mean and the biased variance over H, W and C of a sample (over C of features), in training and in
    evaluation alike. N §1.1.5; Ba et al. 2016.

    γ and β are one number a channel, as in Wu and He 2018, so that images may have any size. PyTorch's
    `LayerNorm((C, H, W))` has one for each element: it equals this layer where they do not vary over H and W, as at the
    start; for features the two are the same. PyTorch's `GroupNorm(1, C)` is this layer.

    Parameters
    ----------
    channels : int
        C; x is (N, H, W, C) or (N, C).
    eps : float, default 1e-5
        ε, inside the root.
    affine : bool, default True
        Whether there are γ and β.

    Attributes
    ----------
    gamma, beta : (C,) or None
        Scale and shift, learned; 1 and 0 at first.
    """

    def forward(self, x: Any) -> Tensor:
        x = self._checked(x)
        return self._scaled(ops.standardize(x, range(1, len(x.shape)), eps=self.eps))


class InstanceNorm(_Normalization):
    r"""Normalize each channel of each image with its own mean and variance, then scale and shift it.

    .. math:: y = \gamma\,\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}} + \beta

    with the mean and the biased variance over H and W, in training and in evaluation alike: an automatic contrast,
    for style transfer. N §1.1.5, which keeps running values for evaluation; here, as in Ulyanov et al. 2016, the image
    is normalized with its own.

    Parameters
    ----------
    channels : int
        C; x is (N, H, W, C).
    eps : float, default 1e-5
        ε, inside the root.
    affine : bool, default True
        Whether there are γ and β.

    Attributes
    ----------
    gamma, beta : (C,) or None
        Scale and shift, learned; 1 and 0 at first.
    """

    images_only = True

    def forward(self, x: Any) -> Tensor:
        return self._scaled(ops.standardize(self._checked(x), (1, 2), eps=self.eps))


class GroupNorm(_Normalization):
    r"""Normalize each group of neighbouring channels of each sample, then scale and shift each channel.

    .. math:: y = \gamma\,\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}} + \beta

    with the mean and the biased variance over H, W and the C / groups channels of a group, in training and in
    evaluation alike, so that the size of the batch does not matter. One group is `LayerNorm`, groups of one channel are
    `InstanceNorm`. N §1.1.5; Wu and He 2018.

    Parameters
    ----------
    groups : int
        The number of groups, a divisor of `channels`.
    channels : int
        C; x is (N, H, W, C) or (N, C).
    eps : float, default 1e-5
        ε, inside the root.
    affine : bool, default True
        Whether there are γ and β.

    Attributes
    ----------
    gamma, beta : (C,) or None
        Scale and shift, learned; 1 and 0 at first.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(channels, eps, affine)
        self.groups = positive_integer(groups, "GroupNorm", "groups")
        if self.channels % self.groups:
            raise ValueError(f"GroupNorm: groups is {groups}, expected a divisor of channels, which is {channels}")

    def forward(self, x: Any) -> Tensor:
        x = self._checked(x)
        grouped = ops.reshape(x, (*x.shape[:-1], self.groups, self.channels // self.groups))
        axes = (*range(1, len(x.shape) - 1), -1)
        return self._scaled(ops.standardize(grouped, axes, eps=self.eps).reshape(x.shape))

    def describe(self) -> str:
        return f"{self.groups}, {super().describe()}"
