"""Activation functions, each with its derivative; softmax and its logarithm act along one axis."""

from __future__ import annotations

import numpy as np

from minidl.tensor import differentiable

SELU_SCALE = 1.0507009873554805  # λ of Klambauer et al. 2017
SELU_ALPHA = 1.6732632423543772  # α of the same


@differentiable
def relu(x):
    """max(x, 0). The derivative at 0 is 0."""
    y = np.maximum(0, x)  # among equals the first counts, in forward mode too
    return y, lambda g: g * (y > 0)


@differentiable
def leaky_relu(x, slope=0.01):
    """Return x where x > 0 and slope · x elsewhere. The derivative at 0 is the slope."""
    return np.where(x > 0, x, slope * x), lambda g: np.where(x > 0, g, slope * g)


@differentiable
def elu(x, alpha=1.0):
    """Return x where x > 0 and α (eˣ − 1) elsewhere. The derivative at 0 is α."""
    bent = alpha * np.expm1(np.minimum(x, 0))
    return np.where(x > 0, x, bent), lambda g: g * np.where(x > 0, 1, bent + alpha)


@differentiable
def selu(x):
    """λ · ELU(x) with α and λ such that mean 0 and variance 1 are a fixed point (Klambauer et al. 2017).

    The derivative at 0 is λα.
    """
    bent = SELU_ALPHA * np.expm1(np.minimum(x, 0))
    return SELU_SCALE * np.where(x > 0, x, bent), lambda g: g * (SELU_SCALE * np.where(x > 0, 1, bent + SELU_ALPHA))


@differentiable
def sigmoid(x):
    """1 / (1 + e⁻ˣ), computed from e^−|x|, which cannot overflow and keeps small values exact."""
    y = _sigmoid(x)
    return y, lambda g: g * y * _sigmoid(-x)


@differentiable
def softplus(x):
    """ln(1 + eˣ), computed without overflow."""
    return np.logaddexp(x, 0), lambda g: g * _sigmoid(x)


def _sigmoid(x):
    z = np.exp(-np.maximum(x, -x))  # e^−|x|, but smooth at 0 together with the choice below
    return np.where(x >= 0, 1, z) / (1 + z)


@differentiable
def softmax(x, axis=-1):
    r"""Return :math:`y_j = e^{x_j} / \sum_k e^{x_k}` along the axis; the largest x is subtracted first.

    :math:`\partial L/\partial x_j = y_j \big(g_j - \sum_k g_k y_k\big)`.
    """
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return y, lambda g: y * (g - (g * y).sum(axis=axis, keepdims=True))


@differentiable
def log_softmax(x, axis=-1):
    r"""Return :math:`x_j - \ln \sum_k e^{x_k}` along the axis; the largest x is subtracted first.

    :math:`\partial L/\partial x_j = g_j - \mathrm{softmax}(x)_j \sum_k g_k`.
    """
    shifted = x - x.max(axis=axis, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return y, lambda g: g - np.exp(y) * g.sum(axis=axis, keepdims=True)
