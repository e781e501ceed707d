r"""Initial weights, and which of them suit which activation.

Every function here returns an *initializer*: it takes a shape and a generator and returns a float32 array. `init=` of a
layer is an initializer (`init=initializers.orthogonal(gain=1.4)`), a function of your own of that kind, or the name of
one of these functions, for its defaults (`init="orthogonal"`).

A weight of shape (…, in, out) feeds each output from `fan_in` = (… · in) inputs and each input into `fan_out` =
(… · out) outputs; for a convolution the dots are the window's size.

**Why the variance is g² / fan_in.** A layer's output :math:`z = \sum_i w_i x_i` is a sum of fan_in independent terms,
so with weights of mean 0 and variance v it has :math:`E[z^2] = \mathrm{fan_{in}}\,v\,E[x^2]` and is close to normally
distributed. The next layer sees x = f(z). If :math:`E[z^2] = 1`, that is :math:`E[x^2] = E[f(\xi)^2]` with
:math:`\xi \sim N(0, 1)`, and the next z has the second moment 1 again if

.. math:: v = \frac{g^2}{\mathrm{fan_{in}}}, \qquad g^2 = \frac{1}{E[f(\xi)^2]}.

With another v the signal of a deep network dies out or grows: with ReLU by the factor v · fan_in / 2 in every layer.
`for_activation` computes g² for any activation, and `nn.initialize` draws a whole model's weights by it:

===================  ============  ====================================================================================
activation behind    g²            \
===================  ============  ====================================================================================
none, softmax        1             `lecun_normal`; the softmax comes only once, behind the last layer
SELU                 1             `lecun_normal`; its λ and α are made for it (Klambauer et al. 2017)
ReLU                 2             `he_normal`: half of the second moment is cut off (He et al. 2015)
LeakyReLU, slope a   2 / (1 + a²)  `he_normal(a)`: a² of that half is left
ELU, α = 1           1.551         with 2, He's, E[z²] grows to 12 in 20 layers
GELU                 2.352         with 2, He's, it falls to 0.00003 in 20 layers
Softplus             1.085         with 2, He's, it grows to 13 in 20 layers
Tanh                 2.536         with 1, Glorot's, it falls to 1 / (2 · layers)
Sigmoid              3.409         the outputs' mean, 1/2, holds it up with any g; the gradients vanish all the same
===================  ============  ====================================================================================

Data of second moment 1 make the first z as large as g², not 1. ReLU and LeakyReLU keep that; with the others the layers
behind it bring E[z²] back to 1, except with GELU, whose balance is unstable: it goes on growing, by 1.1 a layer.

Backward the same argument gives :math:`v = 1 / (\mathrm{fan_{out}}\,E[f'(\xi)^2])`. Only with ReLU and LeakyReLU, and
fan_in = fan_out, do both agree. `glorot_normal` takes the mean of both fans, a compromise between the two directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minidl.backend import check_generator, default_generator
from minidl.nn.activations import ELU, GELU, SELU, LeakyReLU, ReLU, Sigmoid, Softmax, Softplus, Tanh
from minidl.ops.arguments import number
from minidl.tensor import Tensor

__all__ = [
    "Scaled",
    "constant",
    "draw",
    "fans",
    "for_activation",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "zeros",
]

Initializer: TypeAlias = Callable[[tuple[int, ...], np.random.Generator], Any]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight of shape (…, in, out)."""
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


@dataclass(frozen=True)
class Scaled:
    r"""Independent weights of mean 0 and variance g² / fan; an initializer.

    Parameters
    ----------
    g2 : float
        g².
    uniform : bool, default False
        U(−a, a) with :math:`a = \sqrt{3 g^2 / fan}` in place of the normal distribution.
    both : bool, default False
        fan = (fan_in + fan_out) / 2 in place of fan_in.
    """

    g2: float
    uniform: bool = False
    both: bool = False

    def __call__(self, shape: tuple[int, ...], generator: np.random.Generator, gaps: int = 1) -> Any:
        fan_in, fan_out = fans(shape)
        fan = fan_in / gaps
        if self.both:
            fan = (fan + fan_out) / 2
        if self.uniform:
            limit = math.sqrt(3 * self.g2 / fan)
            return generator.uniform(-limit, limit, shape).astype(np.float32)
        return (math.sqrt(self.g2 / fan) * generator.standard_normal(shape)).astype(np.float32)


def lecun_normal() -> Initializer:
    r"""N(0, σ²) with :math:`\sigma = \sqrt{1 / fan_{in}}`. LeCun et al. 1998; for SELU, Klambauer et al. 2017."""
    return Scaled(1.0)


def lecun_uniform() -> Initializer:
    r"""U(−a, a) with :math:`a = \sqrt{3 / fan_{in}}`. LeCun et al. 1998."""
    return Scaled(1.0, uniform=True)


def he_normal(slope: float = 0.0) -> Initializer:
    r"""N(0, σ²) with :math:`\sigma = \sqrt{2 / ((1 + a^2)\,fan_{in})}`; a is the slope of LeakyReLU. He et al. 2015."""
    return Scaled(2 / (1 + number(slope, "he_normal", "slope", "(-inf, inf)") ** 2))


def he_uniform(slope: float = 0.0) -> Initializer:
    r"""U(−a, a) of the same variance as `he_normal`: for ReLU, :math:`a = \sqrt{6 / fan_{in}}`. He et al. 2015."""
    return Scaled(2 / (1 + number(slope, "he_uniform", "slope", "(-inf, inf)") ** 2), uniform=True)


def glorot_normal() -> Initializer:
    r"""N(0, σ²) with :math:`\sigma = \sqrt{2 / (fan_{in} + fan_{out})}`. Glorot and Bengio 2010."""
    return Scaled(1.0, both=True)


def glorot_uniform() -> Initializer:
    r"""U(−a, a) with :math:`a = \sqrt{6 / (fan_{in} + fan_{out})}`. Glorot and Bengio 2010."""
    return Scaled(1.0, uniform=True, both=True)


def orthogonal(gain: float = 1.0) -> Initializer:
    r"""Return the initializer of orthogonal weights, with which a linear network keeps every length (Saxe et al. 2014).

    The weight, reshaped to (…, out), has orthonormal columns, or orthonormal rows where there are fewer of them, times
    the gain: Q of a normally distributed matrix :math:`A = QR`, each column with the sign of its element on the
    diagonal of R, so that Q is uniformly distributed over all orthogonal matrices.
    """
    gain = number(gain, "orthogonal", "gain", "(-inf, inf)")

    def draw(shape: tuple[int, ...], generator: np.random.Generator) -> Any:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        Q, R = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
        Q *= np.where(np.diag(R) < 0, -1, 1)
        return (gain * (Q if rows >= columns else Q.T)).reshape(shape).astype(np.float32)

    return draw


def constant(value: float) -> Initializer:
    """Return the initializer that gives all weights the same value."""
    value = number(value, "constant", "value", "(-inf, inf)")
    return lambda shape, generator: np.full(shape, value, np.float32)


def zeros() -> Initializer:
    """All weights 0."""
    return constant(0.0)


NAMES: dict[str, Callable[[], Initializer]] = {
    function.__name__: function
    for function in (
        glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal, orthogonal, zeros,
    )
}  # fmt: skip

ACTIVATIONS: dict[str, type[Any]] = {
    "elu": ELU, "gelu": GELU, "leaky_relu": LeakyReLU, "relu": ReLU, "selu": SELU, "sigmoid": Sigmoid,
    "softmax": Softmax, "softplus": Softplus, "tanh": Tanh,
}  # fmt: skip


def for_activation(activation: Any) -> Initializer:
    r"""Return the initializer for a layer with this activation behind it: normal, of variance g² / fan_in.

    .. math:: g^2 = 1 / E[f(\xi)^2], \quad \xi \sim N(0, 1)

    Parameters
    ----------
    activation : str, class, callable or None
        A name ("leaky_relu"), a layer (`nn.LeakyReLU(0.2)`) or its class, or any function of Tensors that works on
        each element by itself; None is linear. Softmax, which does not, counts as linear too: g² = 1.

    Raises
    ------
    ValueError
        If there is no activation of this name.
    TypeError
        If `activation` is nothing of the above, does not work on each element by itself, or returns only zeros.
    """
    f = ACTIVATIONS.get(activation, activation) if isinstance(activation, str) else activation
    if isinstance(f, str):
        raise ValueError(f"for_activation: activation is {f!r}, expected one of {', '.join(ACTIVATIONS)}")
    f = f() if isinstance(f, type) else f
    if f is None or isinstance(f, Softmax):
        return Scaled(1.0)
    if not callable(f):
        raise TypeError(f"for_activation: activation is {f!r}, expected a name, an activation layer, or None")
    xi = np.linspace(-12, 12, 2401)  # the trapezoidal rule, which is nearly exact for functions that end like e^−ξ²/2
    density = np.exp(-(xi**2) / 2)
    try:
        moment = float((density * f(Tensor(xi)).numpy() ** 2).sum() / density.sum())
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(f"for_activation: {f!r} does not work on each element by itself: {error}") from error
    if not 0 < moment < math.inf:
        raise TypeError(f"for_activation: {f!r} has E[f(ξ)²] = {moment} for normal ξ, no weights could make up for it")
    return Scaled(1 / moment)


def get(init: str | Initializer | Callable[[], Initializer]) -> Initializer:
    """Return the initializer of this name; one of this file's functions means its defaults, as its name does."""
    if not callable(init):
        if init not in NAMES:
            raise ValueError(f"init is {init!r}, expected one of {', '.join(NAMES)} or a callable")
        init = NAMES[init]
    return init() if init in NAMES.values() else init  # type: ignore[call-arg, return-value]


def draw(
    init: str | Initializer, shape: tuple[int, ...], generator: np.random.Generator | None = None, gaps: int = 1
) -> Any:
    """Return initial weights of this shape.

    Parameters
    ----------
    init : str or callable
    shape : tuple of int
    generator : numpy.random.Generator, optional
        Default: the thread's generator.
    gaps : int, default 1
        Of a transposed convolution, the product of its strides: only one in so many of the fan_in inputs reaches each
        output, and the variance makes up for it where it follows fan_in.
    """
    initializer, generator = get(init), check_generator(generator, "init") or default_generator()
    return initializer(shape, generator, gaps) if isinstance(initializer, Scaled) else initializer(shape, generator)
