"""The dropout family: layers that disturb values at random in training and do not in evaluation.

Everywhere p is the probability of dropping. Each layer draws its masks from the generator that it was given, or else
from the thread's (`ml.manual_seed`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl import ops
from minidl.backend import check_generator
from minidl.nn.module import Module
from minidl.ops.arguments import number, pair
from minidl.ops.dropout import checked_dropout


class Dropout(Module):
    r"""Drop each value with probability p in training.

    Training: :math:`y = x \odot b`, :math:`b \sim \mathrm{Bernoulli}(1-p)`; "inverted" divides by 1 − p.
    Evaluation: the identity ("inverted") or :math:`(1-p)\,x` ("eval"). N §1.1.4; Srivastava et al. 2014.

    Parameters
    ----------
    p : float in [0, 1], default 0.5
        The probability of dropping.
    scaling : {"inverted", "eval"}, default "inverted"
        When the values are scaled to make up for the dropped ones.
    generator : numpy.random.Generator, optional
        Draws the masks. Default: the thread's generator.

    Examples
    --------
    >>> layer = nn.Dropout(0.5, generator=np.random.default_rng(0))
    >>> layer(np.ones(8, np.float32)).numpy()
    array([0., 2., 2., 2., 2., 2., 0., 2.], dtype=float32)
    >>> layer.eval()(np.ones(8, np.float32))
    array([1., 1., 1., 1., 1., 1., 1., 1.], dtype=float32)
    """

    shared: tuple[int, ...] = ()  # axes along which values are dropped together

    def __init__(self, p: float = 0.5, scaling: str = "inverted", generator: np.random.Generator | None = None) -> None:
        self.p, self.scaling = checked_dropout(p, scaling, type(self).__name__)
        self.generator = check_generator(generator, type(self).__name__)

    def forward(self, x: Any) -> Any:
        if self.p == 0:
            return x
        if self.training:
            return ops.dropout(x, self.p, scaling=self.scaling, shared=self.shared, generator=self.generator)
        return x if self.scaling == "inverted" else ops.multiply(x, 1 - self.p)

    def describe(self) -> str:
        return f"p={self.p}"


class SpatialDropout2d(Dropout):
    r"""Drop whole feature maps with probability p in training.

    Training: :math:`y_{nijc} = x_{nijc}\, b_{nc}`, :math:`b_{nc} \sim \mathrm{Bernoulli}(1-p)`, one for each sample and
    channel; "inverted" divides by 1 − p. Evaluation: the identity ("inverted") or :math:`(1-p)\,x` ("eval").

    Neighbouring pixels say nearly the same: if one of them is dropped, the others still tell the next layer its value.
    Without the whole map the network must do without the feature. N §1.1.4 (2D spatial dropout); Tompson et al. 2015.

    Parameters
    ----------
    p : float in [0, 1], default 0.5
        The probability of dropping a map.
    scaling : {"inverted", "eval"}, default "inverted"
        When the values are scaled to make up for the dropped ones.
    generator : numpy.random.Generator, optional
        Draws the masks. Default: the thread's generator.

    Raises
    ------
    ValueError
        In both modes if x is not (N, H, W, C).
    """

    shared = (1, 2)

    def forward(self, x: Any) -> Any:
        if len(x.shape) != 4:
            raise ValueError(f"SpatialDropout2d: x has shape {x.shape}, expected (N, H, W, C)")
        return super().forward(x)


class GaussianDropout(Module):
    r"""Multiply each value by normal noise of mean 1 in training.

    Training: :math:`y = x \odot n`, :math:`n \sim N\big(1,\, p(1-p)\big)`, where p(1 − p) is the variance.
    Evaluation: the identity. N §1.1.4; Srivastava et al. 2014, §10.

    No value is lost, so every weight learns at every step. The notes' variance p(1 − p) is that of Bernoulli dropout
    without rescaling: it is largest at p = 0.5, and the noise vanishes at p = 0 and at p = 1. Srivastava's p / (1 − p)
    is the variance of inverted dropout and grows without bound.

    Parameters
    ----------
    p : float in [0, 1], default 0.5
        The rate of the Bernoulli dropout that the noise stands for; below 1 with "srivastava".
    variance : {"notes", "srivastava"}, default "notes"
        p(1 − p) or p / (1 − p).
    generator : numpy.random.Generator, optional
        Draws the noise. Default: the thread's generator.
    """

    def __init__(self, p: float = 0.5, variance: str = "notes", generator: np.random.Generator | None = None) -> None:
        if variance not in ("notes", "srivastava"):
            raise ValueError(f"GaussianDropout: variance is {variance!r}, expected 'notes' or 'srivastava'")
        self.p = number(p, "GaussianDropout", "p", "[0, 1]" if variance == "notes" else "[0, 1)")
        self.variance, self.generator = variance, check_generator(generator, "GaussianDropout")
        self.sigma = math.sqrt(self.p * (1 - self.p) if variance == "notes" else self.p / (1 - self.p))

    def forward(self, x: Any) -> Any:
        if not self.training or self.sigma == 0:
            return x
        return ops.gaussian_dropout(x, self.sigma, generator=self.generator)

    def describe(self) -> str:
        return f"p={self.p}, variance={self.variance!r}"


class AlphaDropout(Module):
    r"""Set values to SELU's saturation value with probability p in training, keeping mean 0 and variance 1.

    Training: :math:`y = a\,\big(x \odot d + \alpha'(1-d)\big) + b`, :math:`d \sim \mathrm{Bernoulli}(1-p)`, where
    :math:`\alpha' = -\lambda\alpha \approx -1.758` and

    .. math:: a = \big((1-p)(1 + p\alpha'^2)\big)^{-1/2}, \qquad b = -a\,p\,\alpha'

    give y mean 0 and variance 1 if x has them (`ops.alpha_dropout` derives it). Evaluation: the identity.

    After SELU only: other activations do not saturate there, and mean 0 and variance 1 are not their fixed point.
    Klambauer et al. 2017. N §1.1.4 sets dropped values to −α: it leaves out λ and the affine map.

    Parameters
    ----------
    p : float in [0, 1), default 0.5
        The probability of dropping. With p = 1 no affine map could restore the variance.
    generator : numpy.random.Generator, optional
        Draws the masks. Default: the thread's generator.
    """

    def __init__(self, p: float = 0.5, generator: np.random.Generator | None = None) -> None:
        self.p = number(p, "AlphaDropout", "p", "[0, 1)")
        self.generator = check_generator(generator, "AlphaDropout")

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        return ops.alpha_dropout(x, self.p, generator=self.generator)

    def describe(self) -> str:
        return f"p={self.p}"


class PoolingDropout(Module):
    r"""Drop elements of each pooling window with probability p in training.

    Training: :math:`y = \mathrm{pool}(x \odot M)`, :math:`M \sim \mathrm{Bernoulli}(1-p)`, drawn anew for each element
    of each window, so that a pixel in two overlapping windows can be dropped in one and kept in the other.
    Evaluation: :math:`y = (1-p)\,\mathrm{pool}(x)`. N §1.1.4.

    For the average this is the mean of the training output. N gives pool(x) there, which is 1 / (1 − p) times too
    large; here both kinds are scaled.

    For the largest value it is N's approximation. If :math:`x_{(1)} \ge x_{(2)} \ge \dots \ge 0` are the values of a
    window, the mean in training is :math:`\sum_k (1-p)\,p^{k-1} x_{(k)}` (Wu and Gu 2015), of which evaluation is the
    first term. A dropped element counts as 0, so use it after an activation that is not negative.

    Parameters
    ----------
    size : int or (height, width)
        The window. Rows and columns that do not fill a last window are left out.
    p : float in [0, 1], default 0.5
        The probability of dropping.
    kind : {"max", "avg"}, default "max"
        What is taken of a window: the largest value or the mean.
    stride : int or (vertical, horizontal), optional
        Default: the size, so that windows do not overlap.
    generator : numpy.random.Generator, optional
        Draws the masks. Default: the thread's generator.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        p: float = 0.5,
        kind: str = "max",
        stride: int | tuple[int, int] | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        if kind not in ("max", "avg"):
            raise ValueError(f"PoolingDropout: kind is {kind!r}, expected 'max' or 'avg'")
        self.size = pair(size, "PoolingDropout", "size", 1)
        self.stride = self.size if stride is None else pair(stride, "PoolingDropout", "stride", 1)
        self.p = number(p, "PoolingDropout", "p", "[0, 1]")
        self.kind, self.generator = kind, check_generator(generator, "PoolingDropout")

    def forward(self, x: Any) -> Any:
        if self.training and self.p > 0:
            windows = ops.windows2d(x, self.size, self.stride)
            kept = ops.dropout(windows, self.p, scaling="eval", generator=self.generator)
            return ops.max(kept, 3) if self.kind == "max" else ops.mean(kept, 3)
        pool = ops.max_pool2d if self.kind == "max" else ops.avg_pool2d
        pooled = pool(x, self.size, self.stride)
        return pooled if self.p == 0 else ops.multiply(pooled, 1 - self.p)

    def describe(self) -> str:
        return f"size={self.size}, p={self.p}, kind={self.kind!r}, stride={self.stride}"


class MaxDrop(Module):
    r"""Multiply the elements of each pooling window by normal noise in training and take the largest.

    Training: :math:`y = \max(x \odot M)`, :math:`M \sim N(\mu, \sigma^2)`, drawn anew for each element of each window.
    Evaluation: :math:`y = \mu \max(x)`. N §1.1.4.

    Evaluation is N's approximation: the largest of several noisy values lies above the noise's mean on average. For two
    equal values x > 0 the mean in training is :math:`(\mu + \sigma/\sqrt\pi)\,x`.

    Parameters
    ----------
    size : int or (height, width)
        The window. Rows and columns that do not fill a last window are left out.
    mu : float, positive, default 1
        The mean of the noise.
    sigma : float, not negative, default 0.5
        Its standard deviation. N gives no value; 0.5 is that of `GaussianDropout` at p = 0.5, where p(1 − p) = 0.25.
    stride : int or (vertical, horizontal), optional
        Default: the size, so that windows do not overlap.
    generator : numpy.random.Generator, optional
        Draws the noise. Default: the thread's generator.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        mu: float = 1.0,
        sigma: float = 0.5,
        stride: int | tuple[int, int] | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.size = pair(size, "MaxDrop", "size", 1)
        self.stride = self.size if stride is None else pair(stride, "MaxDrop", "stride", 1)
        self.mu = number(mu, "MaxDrop", "mu", "(0, inf)")
        self.sigma = number(sigma, "MaxDrop", "sigma", "[0, inf)")
        self.generator = check_generator(generator, "MaxDrop")

    def forward(self, x: Any) -> Any:
        if not self.training:
            return ops.multiply(ops.max_pool2d(x, self.size, self.stride), self.mu)
        windows = ops.windows2d(x, self.size, self.stride)
        return ops.max(ops.gaussian_dropout(windows, self.sigma, self.mu, generator=self.generator), 3)

    def describe(self) -> str:
        return f"size={self.size}, mu={self.mu}, sigma={self.sigma}, stride={self.stride}"
