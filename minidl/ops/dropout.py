"""Dropout as ops: the mask is drawn here and used again by the derivative.

A mask depends on the generator, the shape, p and the kind of device: it is the same for every dtype, and the same again
from the same seed and in a training that is resumed; but it is another on a GPU than on the CPU. On the CPU all random
numbers are NumPy's. A GPU would wait for them longer than it computes: there the generator gives one number, the key of
a random stream (Philox), from which the kernels compute each coin where they need it, in the derivative too.
"""

from __future__ import annotations

import math

import numpy as np

from minidl import kernels
from minidl.backend import default_generator
from minidl.forward import value
from minidl.kernels.numpy.blocks import combine
from minidl.kernels.numpy.dropout import floating
from minidl.ops.activations import SELU_ALPHA, SELU_SCALE
from minidl.ops.arguments import number
from minidl.tensor import differentiable

SATURATION = -SELU_SCALE * SELU_ALPHA  # α′, the value of SELU at −∞


@differentiable
def dropout(x, p=0.5, *, scaling="inverted", shared=(), generator=None):
    r"""Drop each element with probability p: :math:`y = x \odot b`, :math:`b \sim \mathrm{Bernoulli}(1-p)`.

    Parameters
    ----------
    x : array
    p : float in [0, 1], default 0.5
        The probability of dropping.
    scaling : {"inverted", "eval"}, default "inverted"
        "inverted" divides by 1 − p, so that the mean is kept and evaluation is the identity; "eval" leaves the values,
        and evaluation multiplies by 1 − p.
    shared : tuple of int, default ()
        Axes along which all elements have the same b: (1, 2) drops whole feature maps of an image.
    generator : numpy.random.Generator, optional
        Default: the thread's generator (`ml.manual_seed`).

    Notes
    -----
    N §1.1.4; Srivastava et al. 2014. With p = 1 everything is dropped and y = 0 under both scalings.
    """
    p, scaling = checked_dropout(p, scaling, "dropout")
    if any(not 0 <= axis < x.ndim for axis in shared):
        raise ValueError(f"dropout: shared is {shared}, expected axes of x, which has {x.ndim}")
    shape = tuple(1 if axis in shared else extent for axis, extent in enumerate(x.shape))
    scale = 1 / (1 - p) if scaling == "inverted" and p < 1 else 1
    generator = generator or default_generator()
    kernel = kernels.of(value(x)).dropout
    if shared:  # few coins for many elements
        dtype = floating(x)
        mask = kernel.kept(shape, p, generator, value(x)).astype(dtype) * dtype.type(scale)
        return combine(np.multiply, x, mask), lambda g: combine(np.multiply, g, mask)
    coins = kernel.coins(shape, p, generator, x)
    return kernel.drop(x, coins, scale), lambda g: kernel.drop(g, coins, scale)


@differentiable
def gaussian_dropout(x, sigma, mu=1.0, *, generator=None):
    r"""Multiply each element by normal noise: :math:`y = x \odot n`, :math:`n \sim N(\mu, \sigma^2)`.

    Parameters
    ----------
    x : array
    sigma : float, not negative
        The standard deviation of the noise.
    mu : float, default 1
        The mean of the noise.
    generator : numpy.random.Generator, optional
        Default: the thread's generator (`ml.manual_seed`).

    Notes
    -----
    N §1.1.4; Srivastava et al. 2014, §10.
    """
    sigma, mu = number(sigma, "gaussian_dropout", "sigma"), number(mu, "gaussian_dropout", "mu", "(-inf, inf)")
    kernel = kernels.of(value(x)).dropout
    noise = kernel.noise(x.shape, mu, sigma, generator or default_generator(), x)
    return kernel.multiply(x, noise), lambda g: kernel.multiply(g, noise)


@differentiable
def alpha_dropout(x, p=0.5, *, generator=None):
    r"""Set each element to SELU's saturation value with probability p and restore mean 0 and variance 1.

    .. math:: y = a \,\big(x \odot d + \alpha' (1 - d)\big) + b, \qquad d \sim \mathrm{Bernoulli}(1-p)

    with :math:`\alpha' = \mathrm{SELU}(-\infty) = -\lambda\alpha \approx -1.758`.

    Parameters
    ----------
    x : array
    p : float in [0, 1), default 0.5
        The probability of dropping.
    generator : numpy.random.Generator, optional
        Default: the thread's generator (`ml.manual_seed`).

    Notes
    -----
    For x of mean 0 and variance 1, the values before the affine map have mean :math:`p\alpha'` and second moment
    :math:`(1-p) + p\alpha'^2`, hence variance :math:`(1-p) + p\alpha'^2 - p^2\alpha'^2 = (1-p)(1 + p\alpha'^2)`. So

    .. math:: a = \big((1-p)(1 + p\alpha'^2)\big)^{-1/2}, \qquad b = -a\,p\,\alpha'

    bring back mean 0 and variance 1. With p = 1 all values are equal, and no a can.

    Klambauer et al. 2017. N §1.1.4 sets dropped values to −α: it leaves out λ and the affine map.
    """
    p = number(p, "alpha_dropout", "p", "[0, 1)")
    kernel = kernels.of(value(x)).dropout
    coins = kernel.coins(x.shape, p, generator or default_generator(), x)
    a = 1 / math.sqrt((1 - p) * (1 + p * SATURATION**2))
    b = -a * p * SATURATION
    return kernel.saturate(x, coins, a, SATURATION, b), lambda g: kernel.drop(g, coins, a)


def checked_dropout(p, scaling, who):
    """Return the settings of dropout; raise in the name of `who` if they are none."""
    if scaling not in ("inverted", "eval"):
        raise ValueError(f"{who}: scaling is {scaling!r}, expected 'inverted' or 'eval'")
    return number(p, who, "p", "[0, 1]"), scaling
