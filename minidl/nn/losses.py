"""Losses as objects. `loss(outputs, labels, progress)`: progress is the share of the training done, in [0, 1].

Losses that change while training goes on read `progress`; the others ignore it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl import ops
from minidl.ops.arguments import number
from minidl.tensor import Tensor


class Loss:
    """The base: write `each`, or `__call__`, which returns a Tensor of shape (). It is the mean of `each`."""

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return self.each(outputs, labels, progress).mean()

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        """Return the loss of each sample, a Tensor of shape (N,)."""
        raise TypeError(f"{type(self).__name__} has no each method: it does not tell the losses of single samples")


class CrossEntropy(Loss):
    """Softmax cross entropy between logits (N, M) and integer labels (N,); see `ops.cross_entropy`.

    Examples
    --------
    >>> loss = nn.CrossEntropy()
    >>> loss.each(np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([0, 1])).numpy().round(3)
    array([0.127, 2.127])
    """

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return ops.cross_entropy(single_output(outputs, self), labels)

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return ops.cross_entropy(single_output(outputs, self), labels, reduction="none")


class LabelSmoothing(Loss):
    r"""Cross entropy with the targets :math:`(1-\epsilon)\,y + \epsilon / M`, y one-hot.

    Parameters
    ----------
    eps : float in [0, 1], default 0.1
        ε. Szegedy et al. 2016; R compares with it.

    Examples
    --------
    >>> logits, labels = ml.Tensor([[4.0, 0.0, 0.0]]), np.array([0])
    >>> loss, smoothed = nn.CrossEntropy()(logits, labels), nn.LabelSmoothing(0.1)(logits, labels)
    >>> print(f"{loss.item():.4f} {smoothed.item():.4f}")
    0.0360 0.3026
    """

    def __init__(self, eps: float = 0.1) -> None:
        if not 0 <= eps <= 1:
            raise ValueError(f"LabelSmoothing: eps is {eps}, expected a number in [0, 1]")
        self.eps = eps

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return ops.cross_entropy(single_output(outputs, self), labels, self.eps)

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return ops.cross_entropy(single_output(outputs, self), labels, self.eps, reduction="none")


class MSE(Loss):
    """Mean squared error between outputs and targets of the same shape; see `ops.mse`."""

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return ops.mse(single_output(outputs, self), labels)

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        squares = ops.mse(single_output(outputs, self), labels, reduction="none")
        return squares.mean(axis=tuple(range(1, squares.ndim))) if squares.ndim > 1 else squares


class WithAuxiliary(Loss):
    r"""A loss of the output and, weighted, of the auxiliary ones: :math:`L(y) + w \sum_k L(y_k)`.

    Parameters
    ----------
    loss : Loss
        L; it sees each output alone, with the same labels.
    weight : float, default 0.3
        w, that of Szegedy et al. 2015. In evaluation a model has no auxiliary outputs, and this is the loss itself.
    """

    def __init__(self, loss: Loss, weight: float = 0.3) -> None:
        if not isinstance(loss, Loss):
            raise TypeError(f"WithAuxiliary: loss is {type(loss).__name__}, expected a Loss")
        self.loss, self.weight = loss, number(weight, "WithAuxiliary", "weight")

    def __call__(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return self._total(self.loss, outputs, labels, progress)

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return self._total(self.loss.each, outputs, labels, progress)

    def _total(self, loss: Callable[..., Tensor], outputs: Any, labels: Any, progress: float) -> Tensor:
        output, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        total = loss(output, labels, progress)
        for other in auxiliary:
            total = total + self.weight * loss(other, labels, progress)
        return total


def single_output(outputs: Any, loss: Loss) -> Any:
    """Return the outputs; raise if they are a tuple, those of a model with auxiliary heads."""
    if isinstance(outputs, tuple):
        kind = type(loss).__name__
        raise TypeError(
            f"{kind}: outputs is a tuple, expected one Tensor; for auxiliary outputs use WithAuxiliary({kind}())"
        )
    return outputs
