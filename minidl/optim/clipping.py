"""Limits for the gradient.

Coupled penalties are part of the loss, so what is clipped is the gradient of both, before the update sees it. (PyTorch
clips before its optimizers add their weight decay, which is then not limited.) Decoupled penalties pull after the
update and are not clipped.

On a GPU the host does not wait to look at a gradient. One that is no number is not refused there: the weights become
NaN, and so does the loss of the next step, which a `Trainer` notices.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.backend import array_module
from minidl.kernels.numpy.blocks import elementwise
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
        From `step`, if an element of g is NaN; nothing has moved then. Not on a GPU.

    Notes
    -----
    PyTorch's `clip_grad_value_`, which clips before weight decay is added.
    """

    def __init__(self, limit: float) -> None:
        self.limit = number(limit, "ClipValue", "limit", "(0, inf)")

    def __call__(self, g: Any) -> Any:
        if array_module(g) is np and (nan := int(np.isnan(g).sum())):
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
        moved then. Not on a GPU, where it does.

    Notes
    -----
    Pascanu et al. 2013. PyTorch's `clip_grad_norm_` adds 1e-6 to the norm, and clips before weight decay is added.

    Examples
    --------
    >>> optim.ClipNorm(1.0)(np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """

    def __init__(self, limit: float) -> None:
        self.limit = number(limit, "ClipNorm", "limit", "(0, inf)")

    def __call__(self, g: Any) -> Any:
        if array_module(g) is not np:
            return self._on_device(g)
        largest = float(np.abs(g).max())
        if not math.isfinite(largest):
            lost = int((~np.isfinite(g)).sum())
            raise ArithmeticError(f"ClipNorm: {lost} of the {g.size} elements of the gradient are NaN or infinite")
        if largest == 0:
            return g
        direction = g / largest  # ‖g‖ itself may overflow
        norm = math.sqrt(float(np.square(direction).sum(dtype=np.float64)))
        return g if norm <= self.limit / largest else direction * (self.limit / norm)

    def _on_device(self, g: Any) -> Any:
        """Return the same by arrays of shape () in place of numbers."""
        limit, tiny = self.limit, np.finfo(g.dtype).tiny
        largest = np.maximum(np.abs(g).max(), tiny)  # so that 0 is divided by something
        squares = elementwise(lambda g, largest: np.square(g / largest), g, largest)
        norm = np.sqrt(squares.sum(dtype=np.float64)).astype(g.dtype)

        def clipped(g: Any, largest: Any, norm: Any) -> Any:
            return np.where(norm <= limit / largest, g, g / largest * (limit / norm))

        return elementwise(clipped, g, largest, norm)
