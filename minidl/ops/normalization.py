"""Normalization as ops."""

from __future__ import annotations

import math

import numpy as np

from minidl import kernels
from minidl.graph import Joint
from minidl.ops.arguments import number
from minidl.ops.reductions import checked_axes, total
from minidl.tensor import differentiable


def _mean(x, axes):
    return total(x, axes) / math.prod(x.shape[axis] for axis in axes)


def _deviations(x, axes):
    """Return x − mean, without what rounding took from the mean: 1 / √ε would blow it up."""
    deviations = x - _along_rows(_mean(x, axes), x, axes)
    return deviations - _along_rows(_mean(deviations, axes), x, axes)


def _along_rows(mean, x, axes):
    """Return the mean repeated along all axes but the first two, so that NumPy's loops are as long as rows."""
    return np.copy(np.broadcast_to(mean, (len(x), 1, *x.shape[2:]))) if 1 in axes and x.ndim > 2 else mean


@differentiable
def batch_norm(x, gamma, beta, *, eps=1e-5, running=None, observe=None, relu=False):
    r"""Normalize each channel over the batch (and the image), then scale and shift it.

    .. math:: y = \gamma\,\hat x + \beta, \qquad \hat x = \frac{x-\mu_B}{\sqrt{\sigma_B^2+\epsilon}}

    with the mean :math:`\mu_B` and the biased variance :math:`\sigma_B^2 = \frac1m\sum(x-\mu_B)^2` of the m values of
    a channel. Both depend on x, so with :math:`s = \gamma / \sqrt{\sigma_B^2+\epsilon}`

    .. math:: \frac{\partial L}{\partial x} = s\,\big(g - \overline{g} - \hat x\,\overline{g \hat x}\big),
              \quad \frac{\partial L}{\partial \gamma} = \sum g \hat x, \quad \frac{\partial L}{\partial \beta} = \sum g

    where the bar is the mean over the batch. With `relu` y is the positive part of that, :math:`\max(0,
    \gamma\,\hat x + \beta)`, and g counts where y is positive.

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
    relu : bool, default False
        Whether a ReLU follows: the same as `ops.relu` of the result, without a pass over the memory of its own.

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
    x = x.astype(np.result_type(x.dtype, gamma.dtype, beta.dtype), copy=False)
    norm = kernels.of(x, gamma, beta).norm
    y, mean, variance, saved = norm.forward(x, gamma, beta, eps, running, relu)
    if running is None and observe is not None:
        observe(mean, variance)
    return y, Joint(lambda g, needed: norm.gradients(g, saved, needed))


@differentiable
def standardize(x, axes, *, eps=1e-5, eps_inside=True):
    r"""Shift and scale x to mean 0 and variance 1 over the axes: the core of layer, instance and group normalization.

    .. math:: \hat x = \frac{x-\mu}{s}, \qquad s = \sqrt{\sigma^2+\epsilon} \quad\text{or}\quad s = \sigma+\epsilon

    with the mean :math:`\mu` and the biased variance :math:`\sigma^2` over the axes. Both depend on x:

    .. math:: \frac{\partial L}{\partial x} = \frac1s \big(g - \overline{g} - d\,\overline{g \hat x}\big),
              \qquad d = \frac{\partial s}{\partial x}\,m

    where the bar is the mean over the m values along the axes; :math:`d = \hat x` with ε inside the root, and
    :math:`d = (x-\mu)/\sigma` with ε outside.

    Parameters
    ----------
    x : array
    axes : int or sequence of int
        The axes over which mean and variance are taken.
    eps : float, default 1e-5
        ε. Values that are all equal, or alone, become 0 and get finite gradients.
    eps_inside : bool, default True
        Whether ε stands inside the root. Outside, at σ = 0, d counts as 0, which is the exact derivative.

    Raises
    ------
    ValueError
        If x is empty or has no such axes.

    Notes
    -----
    N §1.1.5. ε is inside for activations (Ioffe and Szegedy 2015) and outside for weights (Qiao et al. 2019).
    """
    if x.size == 0:
        raise ValueError(f"standardize: x has shape {x.shape}, so there is nothing to average")
    axes, eps = checked_axes(axes, x.ndim, "standardize"), number(eps, "standardize", "eps")

    def forward(x):
        centered = _deviations(x, axes)
        variance = _mean(centered * centered, axes)
        if eps_inside:
            deviation = s = np.sqrt(variance + eps)
        else:
            varies = variance > 0
            deviation = np.sqrt(np.where(varies, variance, 1))  # 1 stands in for 0, where the root has no derivative
            s = deviation * varies + eps
        return centered * _along_rows(1 / s, x, axes), s, deviation

    def backward(g, x_hat, s, deviation):
        slope = _mean(g * x_hat, axes) / deviation  # x̂ / deviation is d / s
        return (g - _along_rows(_mean(g, axes), g, axes)) * _along_rows(1 / s, g, axes) - x_hat * _along_rows(
            slope, g, axes
        )

    norm = kernels.of(x).norm
    by_samples = norm.by_samples if x.ndim and 0 not in axes else lambda function, *arrays: function(*arrays)
    x_hat, s, deviation = by_samples(forward, x)
    return x_hat, lambda g: by_samples(lambda *arrays: (backward(*arrays),), g, x_hat, s, deviation)[0]


@differentiable
def spectral_normalize(w, u, v):
    r"""Divide a weight by its spectral norm, the largest singular value of its matrix.

    .. math:: y = \frac{w}{\sigma}, \qquad \sigma = v^T w\,u, \qquad
              \frac{\partial L}{\partial w} = \frac1\sigma \Big(g - \big(\textstyle\sum g \odot y\big)\, v u^T\Big)

    u and v are unit vectors and count as constants. If they are the singular vectors, the gradient is nevertheless the
    full one, because σ is stationary in them; second derivatives are not, they leave out how the vectors turn with w.

    Parameters
    ----------
    w : (…, out)
        Seen as the matrix of shape (rest, out).
    u : (out,)
    v : (rest,)
        Estimates of the right and left singular vectors. Where they give no σ > 0, as for w = 0, y is w itself.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Miyato et al. 2018, equations 8 and 12, who write the transposed matrix.
    """
    shape, outputs = w.shape, w.shape[-1:]
    if not shape:
        raise ValueError("spectral_normalize: w has shape (), expected at least one axis")
    if u.shape != outputs or v.shape != (math.prod(shape[:-1]),):
        raise ValueError(
            f"spectral_normalize: w has shape {shape}, u {u.shape} and v {v.shape}; "
            f"expected u of shape {outputs} and v of shape {(math.prod(shape[:-1]),)}"
        )
    product = kernels.of(w).matmul.product
    sigma = product(product(v, w.reshape(len(v), *outputs)), u)
    positive = sigma > 0
    sigma = np.where(positive, sigma, 1)
    y = w / sigma

    def by_w(g):
        return (g - positive * (g * y).sum() * (v[:, None] * u).reshape(shape)) / sigma

    return y, by_w
