"""Losses: the mean over the batch unless `reduction` says otherwise."""

from __future__ import annotations

import numpy as np

from minidl import kernels
from minidl.backend import array_module, asarray_like
from minidl.forward import value
from minidl.tensor import differentiable

REDUCTIONS = ("mean", "sum", "none")


@differentiable
def cross_entropy(logits, labels, label_smoothing=0.0, *, reduction="mean"):
    r"""Cross entropy between the softmax of the logits and the labels.

    .. math:: L_i = -\sum_j q_{ij} \ln \mathrm{softmax}(x_i)_j, \qquad
              q_{ij} = (1-\epsilon)\,p_{ij} + \epsilon / M, \qquad p_{ij} = [j = y_i]

    With the mean over a batch of m samples, :math:`\partial L / \partial x = (\mathrm{softmax}(x) - q) / m`.

    Parameters
    ----------
    logits : (N, M)
        Raw outputs; the softmax is taken here, in a form that cannot overflow.
    labels : (N,) integers in [0, M), or (N, M) floating-point numbers
        The classes; or the share p of each class in each sample, not negative and 1 in sum, as blended images have.
    label_smoothing : float in [0, 1], default 0
        ε: the share of the target that is spread evenly over the M classes.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over the batch; "none" returns one loss a sample.

    Raises
    ------
    ValueError, TypeError
        Wrong shapes, an empty batch, labels that are neither integers nor shares, or out of range. To look at labels
        that lie on a GPU already would mean to wait for it: there a sample whose label is out of range has the loss
        and the gradient NaN.

    Examples
    --------
    >>> logits = ml.Tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    >>> loss = ops.cross_entropy(logits, [0])
    >>> loss.backward()
    >>> print(f"{loss.item():.4f}", logits.grad.round(4))
    0.2395 [[-0.213   0.1065  0.1065]]
    """
    labels = checked_labels(logits, labels, "cross_entropy", "logits")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, expected a number in [0, 1]")
    kernel = kernels.of(logits).losses
    losses, saved = kernel.cross_entropy(logits, labels, label_smoothing)

    def derivative(g):
        return kernel.cross_entropy_gradient(_per_sample(g, len(labels), reduction), saved)

    return _reduce(losses, reduction, "cross_entropy"), derivative


@differentiable
def mse(outputs, targets, *, reduction="mean"):
    """Mean squared error: the mean (or sum) of (outputs − targets)² over all elements.

    Parameters
    ----------
    outputs, targets : arrays of the same shape
    reduction : {"mean", "sum", "none"}, default "mean"

    Raises
    ------
    ValueError
        If the shapes differ (nothing is broadcast) or are empty.

    Examples
    --------
    >>> ops.mse([1.0, 2.0, 4.0], [1.0, 2.0, 1.0])
    Tensor(3., dtype=float64)
    """
    if outputs.shape != np.shape(targets):
        raise ValueError(f"mse: outputs have shape {outputs.shape} and targets {np.shape(targets)}, expected the same")
    if outputs.size == 0:
        raise ValueError(f"mse: outputs have shape {outputs.shape}: the batch is empty")
    difference = outputs - targets

    def derivative(g):
        return 2 * difference * _per_sample(g, outputs.size, reduction)

    return _reduce(difference * difference, reduction, "mse"), (derivative, lambda g: -derivative(g))


def _reduce(losses, reduction, who):
    if reduction not in REDUCTIONS:
        raise ValueError(f"{who}: reduction is {reduction!r}, expected one of {', '.join(map(repr, REDUCTIONS))}")
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def _per_sample(g, count, reduction):
    """Return the gradient of each single loss, given that of the reduced one."""
    return g / count if reduction == "mean" else g


def checked_labels(outputs, labels, who, name="outputs"):
    """Return the labels as an array beside the outputs; raise, in the name of `who`, unless they fit them.

    They have one axis if they are class indices, and two if they are shares of the classes. Of labels on a GPU, the
    shape and the dtype are checked, and not the values, for which the host would have to wait.
    """
    on_host = array_module(labels) is np
    labels = np.asarray(labels) if on_host else labels
    if outputs.ndim != 2:
        raise ValueError(f"{who}: {name} have shape {outputs.shape}, expected (samples, classes)")
    if outputs.shape[1] == 0:
        raise ValueError(f"{who}: {name} have shape {outputs.shape}, which leaves no class")
    if outputs.dtype.kind != "f":
        raise TypeError(f"{who}: {name} have dtype {outputs.dtype}, expected floating-point numbers")
    shares = labels.ndim == 2 and labels.shape == outputs.shape and labels.dtype.kind == "f"
    if not shares and labels.shape != outputs.shape[:1]:
        raise ValueError(f"{who}: labels have shape {labels.shape}, expected {outputs.shape[:1]}")
    if labels.size == 0:
        raise ValueError(f"{who}: the batch is empty")
    if not shares and labels.dtype.kind not in "iu":
        raise TypeError(f"{who}: labels have dtype {labels.dtype}, expected integer class indices")
    if on_host:
        _check_shares(labels, who) if shares else _check_classes(labels, outputs.shape[1], who)
    return asarray_like(labels, value(outputs))


def _check_classes(labels, classes, who):
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise ValueError(f"{who}: labels contain {wrong}, expected class indices 0 to {classes - 1}")


def _check_shares(labels, who):
    off = float(abs(labels.sum(axis=1) - 1).max())
    if not (float(labels.min()) >= 0 and off <= 1e-3):  # NaN too
        raise ValueError(f"{who}: labels are shares of the classes, expected none negative and 1 in sum")
