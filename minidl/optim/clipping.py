"""Limits for the gradient.

Coupled penalties are part of the loss, so what is clipped is the gradient of both, before the update sees it. (PyTorch
clips before its optimizers add their weight decay, which is then not limited.) Decoupled penalties pull after the
update and are not clipped.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.ops.arguments import number


class Clip:
    """The base: a function of the gradient vector g that returns the limited one."""

    def __call__(self, g: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no __call__ method")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class ClipValue(Clip):
    r"""Each element of the gradient into an interval.

    .. math:: g_i \leftarrow \min(\max(g_i, -c), c)

    The direction of g changes. What is clipped is the gradient of the loss and its coupled penalties. An infinite
    element becomes the limit.

    Parameters
    ----------
    limit : float
        c, positive.

    Raises
    ------
    ArithmeticError
        From `step`, if an element of g is NaN; nothing has moved then.

    Notes
    -----
    PyTorch's `clip_grad_value_`, which clips before weight decay is added.
    """

    def __init__(self, limit: float) -> None:
        self.limit = number(limit, "ClipValue", "limit", "(0, inf)")

    def __call__(self, g: Any) -> Any:
        nan = int(np.isnan(g).sum())
        if nan:
            raise ArithmeticError(f"ClipValue: {nan} of the {g.size} elements of the gradient are NaN")
        return np.clip(g, -self.limit, self.limit)


class ClipNorm(Clip):
    r"""The gradient as a whole to a largest Euclidean norm.

    .. math:: g \leftarrow g \min\Big(1, \frac{c}{\|g\|_2}\Big)

    The norm is that of the whole vector, over all parameters, so the direction of g stays. What is clipped is the
    gradient of the loss and its coupled penalties.

    Parameters
    ----------
    limit : float
        c, positive.

    Raises
    ------
    ArithmeticError
        From `step`, if an element of g is NaN or infinite, since the norm would spread it over all weights; nothing has
        moved then.

    Notes
    -----
    Pascanu et al. 2013. PyTorch's `clip_grad_norm_` adds 1e-6 to the norm, and clips before weight decay is added.
    """

    def __init__(self, limit: float) -> None:
        self.limit = number(limit, "ClipNorm", "limit", "(0, inf)")

    def __call__(self, g: Any) -> Any:
        largest = float(np.abs(g).max())
        if not math.isfinite(largest):
            lost = int((~np.isfinite(g)).sum())
            raise ArithmeticError(f"ClipNorm: {lost} of the {g.size} elements of the gradient are NaN or infinite")
        if largest == 0:
            return g
        direction = g / largest  # ‖g‖ itself may overflow
        norm = math.sqrt(float(np.square(direction).sum(dtype=np.float64)))
        return g if norm <= self.limit / largest else direction * (self.limit / norm)
