"""Normalization as ops."""

from __future__ import annotations

import numpy as np

from minidl.tensor import differentiable


@differentiable
def batch_norm(x, gamma, beta, *, eps=1e-5, running=None, observe=None):
    r"""Normalize each channel over the batch (and the image), then scale and shift it.

    .. math:: y = \gamma\,\hat x + \beta, \qquad \hat x = \frac{x-\mu_B}{\sqrt{\sigma_B^2+\epsilon}}

    with the mean :math:`\mu_B` and the biased variance :math:`\sigma_B^2 = \frac1m\sum(x-\mu_B)^2` of the m values of
    a channel. Both depend on x, so with :math:`s = \gamma / \sqrt{\sigma_B^2+\epsilon}`

    .. math:: \frac{\partial L}{\partial x} = s\,\big(g - \overline{g} - \hat x\,\overline{g \hat x}\big),
              \quad \frac{\partial L}{\partial \gamma} = \sum g \hat x, \quad \frac{\partial L}{\partial \beta} = \sum g

    where the bar is the mean over the batch.

    Parameters
    ----------
    x : (N, H, W, C) or (N, C)
    gamma, beta : (C,)
    eps : float, default 1e-5
        ε, inside the root.
    running : (mean, variance), optional
        Evaluation: use these two arrays of shape (C,) instead of the batch's; they count as constants.
    observe : callable, optional
        Called with the batch's mean and biased variance, from which a layer updates its running values.

    Raises
    ------
    ValueError
        If the shapes do not fit or the batch is empty.

    Notes
    -----
    N §1.1.5; Ioffe and Szegedy 2015.
    """
    channels = x.shape[-1:]
    if x.ndim < 2 or gamma.shape != channels or beta.shape != channels:
        raise ValueError(
            f"batch_norm: x has shape {x.shape}, gamma {gamma.shape} and beta {beta.shape}; "
            "expected x with at least 2 axes, channels last, and one gamma and beta a channel"
        )
    if x.size == 0:
        raise ValueError(f"batch_norm: x has shape {x.shape}: the batch is empty")
    axes = tuple(range(x.ndim - 1))
    if running is None:
        mean = x.mean(axis=axes)
        centered = x - mean
        variance = (centered * centered).mean(axis=axes)
        if observe is not None:
            observe(mean, variance)
    else:
        mean, variance = running
        centered = x - mean
    inverse_deviation = 1 / np.sqrt(variance + eps)
    x_hat = centered * inverse_deviation

    def by_x(g):
        scale = gamma * inverse_deviation
        if running is not None:
            return g * scale
        return scale * (g - g.mean(axis=axes) - x_hat * (g * x_hat).mean(axis=axes))

    return gamma * x_hat + beta, (
        by_x,
        lambda g: (g * x_hat).sum(axis=axes),
        lambda g: g.sum(axis=axes),
    )
