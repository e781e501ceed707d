"""Losses: the mean over the batch unless `reduction` says otherwise."""

from __future__ import annotations

import numpy as np

from minidl.backend import array_module
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
        Wrong shapes, an empty batch, labels that are neither integers nor shares, or out of range.
    """
    xp = array_module(logits)
    labels = xp.asarray(labels)
    shares = check_labels(logits, labels, "cross_entropy", "logits")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, expected a number in [0, 1]")
    count, classes = logits.shape
    rows = xp.arange(count)

    shifted = logits - logits.max(axis=1, keepdims=True)
    if shares:
        labels = labels.astype(logits.dtype, copy=False)
        expected = (labels * xp.where(labels > 0, shifted, 0)).sum(axis=1)  # a share of 0 also of −∞
    else:
        expected = shifted[rows, labels]  # Σⱼ qᵢⱼ xᵢⱼ, up to the shift
    if label_smoothing:
        expected = (1 - label_smoothing) * expected + label_smoothing * shifted.mean(axis=1)
    powers = np.exp(shifted, out=shifted)  # in the memory of `shifted`, which nobody needs any more
    total = powers.sum(axis=1)
    losses = np.log(total) - expected

    def derivative(g):
        g = _per_sample(g, count, reduction)
        gradient = powers * (g / total)[:, None]  # g · softmax
        if shares:
            gradient -= ((1 - label_smoothing) * g)[..., None] * labels
        else:
            gradient[rows, labels] -= (1 - label_smoothing) * g
        if label_smoothing:
            gradient -= (label_smoothing / classes * g)[..., None]
        return gradient

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


def check_labels(outputs, labels, who, name="outputs"):
    """Raise, in the name of `who`, unless the labels fit the outputs; return whether they are shares of the classes."""
    if outputs.ndim != 2:
        raise ValueError(f"{who}: {name} have shape {outputs.shape}, expected (samples, classes)")
    if outputs.dtype.kind != "f":
        raise TypeError(f"{who}: {name} have dtype {outputs.dtype}, expected floating-point numbers")
    if labels.ndim == 2 and labels.shape == outputs.shape and labels.dtype.kind == "f":
        _check_shares(labels, who)
        return True
    if labels.shape != outputs.shape[:1]:
        raise ValueError(f"{who}: labels have shape {labels.shape}, expected {outputs.shape[:1]}")
    if labels.size == 0:
        raise ValueError(f"{who}: the batch is empty")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{who}: labels have dtype {labels.dtype}, expected integer class indices")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= outputs.shape[1]:
        wrong = low if low < 0 else high
        raise ValueError(f"{who}: labels contain {wrong}, expected class indices 0 to {outputs.shape[1] - 1}")
    return False


def _check_shares(labels, who):
    if labels.size == 0:
        raise ValueError(f"{who}: the batch is empty")
    off = float(abs(labels.sum(axis=1) - 1).max())
    if not (float(labels.min()) >= 0 and off <= 1e-3):  # NaN too
        raise ValueError(f"{who}: labels are shares of the classes, expected none negative and 1 in sum")
