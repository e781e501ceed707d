"""Activations as layers; each is the op of its name in `minidl.ops`."""

from __future__ import annotations

from typing import Any

from minidl import ops
from minidl.nn.module import Module
from minidl.ops.activations import checked_approximation
from minidl.ops.arguments import number
from minidl.tensor import Tensor


class Activation(Module):
    """The base of activations: `nn.initialize` chooses a layer's weights by the one that follows it."""


class ReLU(Activation):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Activation):
    """x where x > 0, slope · x elsewhere; slope 0.01 by default."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = number(slope, "LeakyReLU", "slope", "(-inf, inf)")

    def forward(self, x: Any) -> Tensor:
        return ops.leaky_relu(x, self.slope)

    def describe(self) -> str:
        return f"slope={self.slope}"


class ELU(Activation):
    """x where x > 0, α (eˣ − 1) elsewhere; α is 1 by default."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(alpha, "ELU", "alpha", "(-inf, inf)")

    def forward(self, x: Any) -> Tensor:
        return ops.elu(x, self.alpha)

    def describe(self) -> str:
        return f"alpha={self.alpha}"


class SELU(Activation):
    """λ · ELU(x) with the α and λ that keep mean 0 and variance 1 (Klambauer et al. 2017)."""

    def forward(self, x: Any) -> Tensor:
        return ops.selu(x)


class GELU(Activation):
    """x · Φ(x), Φ the distribution function of N(0, 1); approximate="tanh" for the tanh form (`ops.gelu`)."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = checked_approximation(approximate, "GELU")

    def forward(self, x: Any) -> Tensor:
        return ops.gelu(x, self.approximate)

    def describe(self) -> str:
        return f"approximate={self.approximate!r}"


class Sigmoid(Activation):
    """1 / (1 + e⁻ˣ)."""

    def forward(self, x: Any) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Activation):
    """tanh x."""

    def forward(self, x: Any) -> Tensor:
        return ops.tanh(x)


class Softplus(Activation):
    """ln(1 + eˣ)."""

    def forward(self, x: Any) -> Tensor:
        return ops.softplus(x)


class Softmax(Activation):
    """Probabilities along an axis, the last by default; the losses take logits, so no classifier needs it to train."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        return ops.softmax(x, self.axis)
