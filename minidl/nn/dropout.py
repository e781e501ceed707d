"""The dropout family: layers that drop values in training and do not in evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn.module import Module


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
    """

    def __init__(self, p: float = 0.5, scaling: str = "inverted", generator: np.random.Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p is {p}, expected a probability in [0, 1]")
        if scaling not in ("inverted", "eval"):
            raise ValueError(f"Dropout: scaling is {scaling!r}, expected 'inverted' or 'eval'")
        self.p, self.scaling, self.generator = p, scaling, generator

    def forward(self, x: Any) -> Any:
        if self.p == 0:
            return x
        if self.training:
            return ops.dropout(x, self.p, scaling=self.scaling, generator=self.generator)
        return x if self.scaling == "inverted" else ops.multiply(x, 1 - self.p)

    def describe(self) -> str:
        return f"p={self.p}"
