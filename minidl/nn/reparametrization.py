"""Layers around a layer, that let it work with a function of its weight instead of the weight itself.

The weight stays what is learned; the gradient reaches it through the function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import kernels, ops
from minidl.backend import default_generator
from minidl.nn.module import Module
from minidl.nn.parameter import Buffer
from minidl.ops.arguments import number, positive_integer
from minidl.tensor import Tensor

WARM_UP = 300  # power iterations on a layer's first weight


class Reparametrization(Module):
    """The base: a layer that computes with `reparametrized(weight)`.

    The layer inside needs a `weight` of shape (…, out) and `apply(x, weight)`, which this one has too, so that they
    nest: the outermost acts on the weight first. `WeightStandardization(SpectralNorm(layer))` standardizes the weight
    and divides the result by its spectral norm.

    Parameters
    ----------
    layer : Module
        `Dense`, `Conv2d`, `ConvTranspose2d`, another of these, or any with the two.

    Raises
    ------
    TypeError
        If the layer lacks one of the two.
    """

    def __init__(self, layer: Module) -> None:
        has_weight = isinstance(layer, Module) and isinstance(getattr(layer, "weight", None), Tensor)
        if not has_weight or not callable(getattr(layer, "apply", None)):
            raise TypeError(
                f"{type(self).__name__}: layer is {type(layer).__name__}, "
                "expected a layer with a weight and apply(x, weight), such as Dense or Conv2d"
            )
        self.layer: Any = layer

    @property
    def weight(self) -> Any:
        """The weight that is learned, of the layer inside."""
        return self.layer.weight

    def reparametrized(self, weight: Any) -> Tensor:
        """Return the weight with which the layer inside works."""
        raise TypeError(f"{type(self).__name__} has no reparametrized method")

    def forward(self, x: Any) -> Tensor:
        return self.apply(x, self.weight)

    def apply(self, x: Any, weight: Any) -> Tensor:
        """Return what the layer inside makes of x with a function of another weight of the same shape."""
        return self.layer.apply(x, self.reparametrized(weight))

    def prepare(self, weight: Any) -> None:
        """Fit to a weight whatever is remembered of it, here and in the layer inside."""
        if isinstance(self.layer, Reparametrization):
            self.layer.prepare(self.reparametrized(weight))


class SpectralNorm(Reparametrization):
    r"""Divide a layer's weight by its largest singular value, so that W stretches no vector.

    .. math:: W \leftarrow \frac{W}{\sigma}, \qquad \sigma = u^T W v \approx \sigma_{max}(W), \qquad
              v \leftarrow \frac{W^T u}{\|W^T u\|}, \quad u \leftarrow \frac{W v}{\|W v\|}

    W is the weight as a matrix of shape (out, rest): in a convolution each row holds one filter. The power iteration
    goes on from where it was, in each training forward; in evaluation u and v stay. The gradient goes through σ with
    u and v as constants (`ops.spectral_normalize`). N §1.1.5; Miyato et al. 2018.

    The notes divide by the largest eigenvalue of the weights' covariance :math:`W W^T`; its square root is the
    spectral norm. For a convolution σ is the norm of the step from one window to one pixel, not of the whole layer.
    σ is an estimate, from below: for random weights within half a percent after construction. Second derivatives, as in
    `ml.hessian`, are those with fixed u and v.

    Parameters
    ----------
    layer : Module
        `Dense`, `Conv2d`, `ConvTranspose2d`, or any with a `weight` of shape (…, out) and `apply(x, weight)`.
    iterations : int, default 1
        Power iterations in each training forward. The estimate follows the weight as long as that moves slowly.
    generator : numpy.random.Generator, optional
        Draws the first u; 300 iterations follow. Default: the thread's generator.

    Attributes
    ----------
    weight : (…, out)
        The layer's own weight, which is learned.
    u : (out,)
    v : (rest,)
        Buffers: the estimates of the left and the right singular vector. After putting another weight into the layer,
        `prepare(layer.weight)` fits them anew. Where they give no σ > 0, as for W = 0, the weight is used as it is.

    Raises
    ------
    TypeError
        If the layer has no weight or no `apply`.
    ValueError
        If `iterations` is not a positive integer.
    """

    def __init__(self, layer: Module, iterations: int = 1, generator: np.random.Generator | None = None) -> None:
        super().__init__(layer)
        self.iterations = positive_integer(iterations, "SpectralNorm", "iterations")
        shape = self.weight.shape
        draw = (generator or default_generator()).standard_normal(shape[-1])
        self.u = Buffer(draw.astype(np.float32))
        self.v = Buffer(np.zeros(int(np.prod(shape[:-1])), np.float32))
        self.prepare(self.weight)

    def prepare(self, weight: Any) -> None:
        self._iterate(weight, WARM_UP)
        super().prepare(weight)

    def reparametrized(self, weight: Any) -> Tensor:
        if self.training:
            self._iterate(weight, self.iterations)
        return ops.spectral_normalize(weight, self.u, self.v)

    def _iterate(self, weight: Any, times: int) -> None:
        W = ops.reshape(weight, (self.v.size, self.u.size)).data.T
        u, v, product = self.u.data, self.v.data, kernels.of(W).matmul.product
        for _ in range(times):
            v = _unit(product(W.T, u), otherwise=v)
            u = _unit(product(W, v), otherwise=u)
        self.u.data, self.v.data = u, v


def _unit(x: Any, otherwise: Any) -> Any:
    """Return x / ‖x‖, and the other vector where x = 0."""
    largest = abs(x).max()
    x = x / np.where(largest > 0, largest, 1)  # so that no square is too large or too small
    norm = np.sqrt((x * x).sum())
    return np.where(norm > 0, x / np.where(norm > 0, norm, 1), otherwise)


class WeightStandardization(Reparametrization):
    r"""Standardize the weights of each output unit before the layer uses them.

    .. math:: \hat W_{i,j} = \frac{W_{i,j} - \mu_{W_i}}{\sigma_{W_i} + \epsilon}

    with the mean and the (biased) standard deviation of the weights j that feed unit i: a filter of a convolution.
    ε stands outside the root. The gradient goes through the mean and the deviation (`ops.standardize`). A unit whose
    weights are all equal gets zeros, and finite gradients of the order of 1 / ε. N §1.1.5; Qiao et al. 2019, who put a
    normalization such as `GroupNorm` behind it, which restores the scale.

    Parameters
    ----------
    layer : Module
        `Dense`, `Conv2d`, `ConvTranspose2d`, or any with a `weight` of shape (…, out) and `apply(x, weight)`.
    eps : float, default 1e-5
        ε.

    Attributes
    ----------
    weight : (…, out)
        The layer's own weight, which is learned.

    Raises
    ------
    TypeError
        If the layer has no weight or no `apply`, or `eps` is not a number.
    ValueError
        If `eps` is not positive.
    """

    def __init__(self, layer: Module, eps: float = 1e-5) -> None:
        super().__init__(layer)
        self.eps = number(eps, "WeightStandardization", "eps", "(0, inf)")
        self.prepare(self.weight)

    def reparametrized(self, weight: Any) -> Tensor:
        return ops.standardize(weight, range(len(weight.shape) - 1), eps=self.eps, eps_inside=False)
