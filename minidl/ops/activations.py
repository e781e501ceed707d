"""Activation functions, each with its derivative; softmax and its logarithm act along one axis."""

from __future__ import annotations

import importlib
import math

import numpy as np

from minidl.backend import array_module
from minidl.forward import Dual
from minidl.tensor import differentiable

SELU_SCALE = 1.0507009873554805  # λ of Klambauer et al. 2017
SELU_ALPHA = 1.6732632423543772  # α of the same
GELU_SLOPE = 2 * math.sqrt(2 / math.pi)  # twice √(2/π) of Hendrycks and Gimpel 2016
GELU_CUBIC = 0.044715  # of the same


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
def gelu(x, approximate="none"):
    r"""Return x · Φ(x), where Φ is the distribution function of N(0, 1) (Hendrycks and Gimpel 2016).

    .. math:: y = x\,\Phi(x), \quad \Phi(x) = \tfrac12 \big(1 + \mathrm{erf}(x / \sqrt 2)\big), \qquad
              y' = \Phi(x) + x\,\varphi(x), \quad \varphi(x) = e^{-x^2/2} / \sqrt{2\pi}

    Parameters
    ----------
    x : array
    approximate : {"none", "tanh"}, default "none"
        "tanh" replaces Φ(x) by :math:`\tfrac12 (1 + \tanh u)` with :math:`u = \sqrt{2/\pi}\,(x + 0.044715\,x^3)`,
        which the first transformers were trained with; y then differs by up to 0.0005.

    Raises
    ------
    ValueError
        If `approximate` is neither of the two.
    """
    near = np.maximum(-40.0, np.minimum(x, 40.0))  # beyond, Φ is 0 or 1 and φ is 0, and x² or x³ could overflow
    if checked_approximation(approximate, "gelu") == "none":
        phi = _normal_distribution(near)
        return x * phi, lambda g: g * (phi + x * _normal_density(near))
    u2 = GELU_SLOPE * (near + GELU_CUBIC * near**3)  # 2u, because (1 + tanh u) / 2 is the sigmoid of 2u
    phi = _sigmoid(u2)
    return x * phi, lambda g: g * (phi + x * phi * _sigmoid(-u2) * (GELU_SLOPE * (1 + 3 * GELU_CUBIC * near**2)))


def checked_approximation(approximate, who):
    """Return "none" or "tanh"; raise in the name of `who` if it is neither."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"{who}: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return approximate


def _normal_distribution(x):
    """Return Φ(x), precise in both tails."""
    if isinstance(x, Dual):
        return Dual(_normal_distribution(x.value), _normal_density(x.value) * x.tangents)
    # imported here, because it takes longer to import than all the rest
    special = importlib.import_module("scipy.special" if array_module(x) is np else "cupyx.scipy.special")
    return special.ndtr(x)


def _normal_density(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


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
