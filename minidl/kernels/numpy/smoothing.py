"""Residual smoothing: each value of a sample moves towards the mean of the others, by a share of its own.

The matrix w of the smoothing layer, 1 − κ_j on the diagonal and κ_j / (M−1) elsewhere, is never built. With the mean μ
of a sample, r = w d is

    r_j = (1 − κ_j) d_j + κ_j / (M−1) (Σ_k d_k − d_j) = d_j − M / (M−1) κ_j (d_j − μ),

which costs O(M) instead of O(M²). Nothing but d is kept for the gradient: to compute κ again in the cache takes less
time than to write it to memory and to read it back.
"""

from __future__ import annotations

import numpy as np

from minidl.forward import value
from minidl.kernels.numpy.blocks import samples


def forward(d, scale, steepness, frozen):
    """Return r for residuals d (N, M). `frozen` says that κ is a constant to derivatives in forward mode."""

    def smooth(d):
        centered, inverse_deviation = _standardization(d, steepness)
        moved = _sigmoid(centered, inverse_deviation, steepness, frozen) * centered
        moved *= _factor(d, scale)
        return d - moved

    return samples(smooth, d)


def gradient(g, d, scale, steepness, frozen):
    """Return the gradient with respect to d, through κ too unless it is frozen."""

    def derivative(g, d):
        centered, inverse_deviation = _standardization(d, steepness)
        sigmoid = _sigmoid(centered, inverse_deviation, steepness, frozen)
        moved = sigmoid * g
        moved *= _factor(d, scale)
        by_d = g - moved
        by_d += _mean(moved)
        if frozen or scale == 0 or steepness == 0:
            return by_d
        x = centered * inverse_deviation
        # The sigmoid S = κ/s of slope α has ∂S/∂d̃ = α S (1 − S).
        by_x = steepness * moved * centered * (sigmoid - 1)  # ∂L/∂κ ∂κ/∂d̃
        return by_d + inverse_deviation * (by_x - _mean(by_x) - x * _mean(by_x * x))

    return samples(derivative, g, d)


def _standardization(d, steepness):
    """Return d − μ and 1 / σ, or 0 where σ is 0, of each sample; no σ where κ does not depend on it."""
    centered = d - d[:, :1]  # equal values become exactly 0, where rounding of μ would leave σ > 0
    centered -= _mean(centered)
    if steepness == 0:
        return centered, None
    variance = _mean(centered * centered)
    varies = variance > 0
    return centered, varies / np.sqrt(np.where(varies, variance, 1))


def _sigmoid(centered, inverse_deviation, steepness, frozen):
    """Return κ / s = 1 / (1 + exp(−α d̃)), written with tanh, which cannot overflow."""
    if steepness == 0:
        return 0.5
    if frozen:
        centered, inverse_deviation = value(centered), value(inverse_deviation)
    sigmoid = centered * (steepness / 2 * inverse_deviation)
    np.tanh(sigmoid, out=sigmoid)
    sigmoid *= 0.5
    sigmoid += 0.5
    return sigmoid


def _factor(d, scale):
    """Return s M / (M−1)."""
    return scale * (d.shape[1] / (d.shape[1] - 1))


def _mean(x):
    return x.sum(axis=1, keepdims=True) / x.shape[1]
