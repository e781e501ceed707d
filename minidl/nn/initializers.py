r"""Initial weights. Each initializer takes a shape and a generator and returns a float32 array.

A weight of shape (…, in, out) feeds each output from `fan_in` = (… · in) inputs and each input into `fan_out` =
(… · out) outputs; for a convolution the dots are the window's size. Weights of variance 1 / fan_in keep the variance of
the values as they pass a linear layer forward, 1 / fan_out that of the gradients backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Initializer: TypeAlias = Callable[[tuple[int, ...], np.random.Generator], Any]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight of shape (…, in, out)."""
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def glorot_uniform(shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    r"""U(−a, a) with :math:`a = \sqrt{6 / (fan_{in} + fan_{out})}`: the compromise between both directions.

    For tanh and sigmoid. Glorot and Bengio 2010.
    """
    limit = math.sqrt(6 / sum(fans(shape)))
    return generator.uniform(-limit, limit, shape).astype(np.float32)


def glorot_normal(shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    r"""N(0, σ²) with :math:`\sigma = \sqrt{2 / (fan_{in} + fan_{out})}`. Glorot and Bengio 2010."""
    return (math.sqrt(2 / sum(fans(shape))) * generator.standard_normal(shape)).astype(np.float32)


def he_uniform(shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    r"""U(−a, a) with :math:`a = \sqrt{6 / fan_{in}}`. He et al. 2015."""
    limit = math.sqrt(6 / fans(shape)[0])
    return generator.uniform(-limit, limit, shape).astype(np.float32)


def he_normal(shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    r"""N(0, σ²) with :math:`\sigma = \sqrt{2 / fan_{in}}`: twice 1 / fan_in, because ReLU drops half of the values.

    He et al. 2015.
    """
    return (math.sqrt(2 / fans(shape)[0]) * generator.standard_normal(shape)).astype(np.float32)


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
}


def get(init: str | Initializer) -> Initializer:
    """Return the initializer of this name; a callable is returned as it is."""
    if callable(init):
        return init
    if init not in INITIALIZERS:
        raise ValueError(f"init is {init!r}, expected one of {', '.join(INITIALIZERS)} or a callable")
    return INITIALIZERS[init]
