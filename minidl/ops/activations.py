"""Activation functions, each with its derivative; softmax and its logarithm act along one axis."""

from __future__ import annotations

import importlib
import math

import numpy as np

from minidl.backend import array_module
from minidl.forward import Dual
from minidl.kernels.numpy.blocks import apply, combine, elementwise, samples
from minidl.ops.reductions import checked_axes
from minidl.tensor import differentiable

SELU_SCALE = 1.0507009873554805  # λ of Klambauer et al. 2017
SELU_ALPHA = 1.6732632423543772  # α of the same
GELU_SLOPE = 2 * math.sqrt(2 / math.pi)  # twice √(2/π) of Hendrycks and Gimpel 2016
GELU_CUBIC = 0.044715  # of the same


@differentiable
def relu(x):
    """max(x, 0). The derivative at 0 is 0.

    Examples
    --------
    >>> x = ml.Tensor([-1.0, 0.0, 2.0], requires_grad=True)
    >>> y = ops.relu(x)
    >>> y.backward(np.ones(3))
    >>> y.numpy(), x.grad
    (array([0., 0., 2.], dtype=float32), array([0., 0., 1.], dtype=float32))
    """
    y = apply(_ramp, x)
    return y, lambda g: apply(_passed, g, y)


@differentiable
def leaky_relu(x, slope=0.01):
    """Return x where x > 0 and slope · x elsewhere: max(x, 0) + slope · min(x, 0). The derivative at 0 is the slope."""

    def derivative(g, x):
        passed = _passed(g, x)
        return passed + slope * (g - passed)

    y = elementwise(lambda x: _ramp(x) + slope * _below(x), x)
    return y, lambda g: elementwise(derivative, g, x)


@differentiable
def elu(x, alpha=1.0):
    """Return x where x > 0 and α (eˣ − 1) elsewhere. The derivative at 0 is α."""

    def derivative(g, x):  # 1 where x > 0 and α eˣ elsewhere
        passed = _passed(g, x)
        return passed + (g - passed) * (alpha * np.exp(_below(x)))

    y = elementwise(lambda x: _ramp(x) + alpha * np.expm1(_below(x)), x)
    return y, lambda g: elementwise(derivative, g, x)


@differentiable
def selu(x):
    """λ · ELU(x) with α and λ such that mean 0 and variance 1 are a fixed point (Klambauer et al. 2017).

    The derivative at 0 is λα.
    """

    def derivative(g, x):  # λ where x > 0 and λα eˣ elsewhere
        passed = _passed(g, x)
        return SELU_SCALE * (passed + (g - passed) * (SELU_ALPHA * np.exp(_below(x))))

    y = elementwise(lambda x: SELU_SCALE * (_ramp(x) + SELU_ALPHA * np.expm1(_below(x))), x)
    return y, lambda g: elementwise(derivative, g, x)


def _ramp(x, out=None):
    """max(x, 0). In forward mode, among equals the first counts, here 0 and below x."""
    if _clipped_faster(x):
        return np.clip(x, 0, np.inf, out=out)
    return np.maximum(0, x) if out is None else np.maximum(0, x, out=out)


def _below(x):
    """min(x, 0)."""
    return np.clip(x, -np.inf, 0) if _clipped_faster(x) else np.minimum(x, 0)


def _clipped_faster(x):
    """Say whether np.clip is the faster way: it begins slowly, but has vector code for one number and many."""
    return type(x) is np.ndarray and x.dtype.kind == "f" and x.size > 2**12


def _passed(g, x, out=None):
    """Return g where x > 0 and 0 elsewhere."""
    return g * (x > 0) if out is None else np.multiply(g, x > 0, out=out)  # np.where would guess each branch


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
    if checked_approximation(approximate, "gelu") == "none":
        phi = elementwise(lambda x: _normal_distribution(_limited(x)), x)
        y = combine(np.multiply, x, phi)
        return y, lambda g: elementwise(lambda g, x, phi: g * (phi + x * _normal_density(_limited(x))), g, x, phi)

    def logit(x):  # 2u, because (1 + tanh u) / 2 is the sigmoid of 2u
        return GELU_SLOPE * (x + GELU_CUBIC * (x * x * x))

    def derivative(g, x):
        near = _limited(x)
        phi, rest = _sigmoid(logit(near)), _sigmoid(-logit(near))
        return g * (phi + x * phi * rest * (GELU_SLOPE * (1 + 3 * GELU_CUBIC * (near * near))))

    y = elementwise(lambda x: x * _sigmoid(logit(_limited(x))), x)
    return y, lambda g: elementwise(derivative, g, x)


def checked_approximation(approximate, who):
    """Return "none" or "tanh"; raise in the name of `who` if it is neither."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"{who}: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return approximate


def _limited(x):
    """Limit x to [−40, 40]: beyond, Φ is 0 or 1 and φ is 0, and x² or x³ could overflow."""
    return np.maximum(-40.0, np.minimum(x, 40.0))


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
    y = elementwise(_sigmoid, x)
    return y, lambda g: elementwise(lambda g, x, y: g * y * _sigmoid(-x), g, x, y)


@differentiable
def softplus(x):
    """ln(1 + eˣ), computed without overflow as max(x, 0) + ln(1 + e^−|x|)."""
    y = elementwise(lambda x: _ramp(x) + np.log1p(np.exp(np.minimum(x, -x))), x)
    return y, lambda g: elementwise(lambda g, x: g * _sigmoid(x), g, x)


def _sigmoid(x):
    z = np.exp(np.minimum(x, -x))  # e^−|x|, but smooth at 0 together with the numerator, which is 1 or z
    return np.exp(_below(x)) / (1 + z)


@differentiable
def softmax(x, axis=-1):
    r"""Return :math:`y_j = e^{x_j} / \sum_k e^{x_k}` along the axis; the largest x is subtracted first.

    :math:`\partial L/\partial x_j = y_j \big(g_j - \sum_k g_k y_k\big)`.

    Examples
    --------
    >>> ops.softmax([0.0, np.log(3.0)]).numpy()
    array([0.25, 0.75], dtype=float32)
    """

    def formula(x):
        y = np.exp(x - x.max(axis=axis, keepdims=True))
        y /= y.sum(axis=axis, keepdims=True)
        return y

    if x.size == 0:
        return x.copy(), lambda g: g
    by_rows = _rows(x, axis, "softmax")
    y = by_rows(formula, x)
    return y, lambda g: by_rows(lambda g, y: y * (g - (g * y).sum(axis=axis, keepdims=True)), g, y)


@differentiable
def log_softmax(x, axis=-1):
    r"""Return :math:`x_j - \ln \sum_k e^{x_k}` along the axis; the largest x is subtracted first.

    :math:`\partial L/\partial x_j = g_j - \mathrm{softmax}(x)_j \sum_k g_k`.
    """

    def formula(x):
        shifted = x - x.max(axis=axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))

    if x.size == 0:
        return x.copy(), lambda g: g
    by_rows = _rows(x, axis, "log_softmax")
    y = by_rows(formula, x)
    return y, lambda g: by_rows(lambda g, y: g - np.exp(y) * g.sum(axis=axis, keepdims=True), g, y)


def _rows(x, axis, who):
    """Return `samples` where x can be cut along the first axis, because the formula sums along others."""
    cut = x.ndim > 1 and 0 not in checked_axes(axis, x.ndim, who)
    return samples if cut else lambda formula, *arrays: formula(*arrays)
