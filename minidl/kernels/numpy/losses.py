"""Softmax and cross entropy of rows, one a sample: the softmax is never written down for its own sake."""

from __future__ import annotations

import numpy as np

from minidl.backend import array_module


def cross_entropy(logits, labels, label_smoothing):
    """Return the loss of each sample, (N,), and what the gradient needs.

    Parameters
    ----------
    logits : (N, M)
    labels : (N,) integers, or (N, M) shares of the classes
    label_smoothing : float
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    if labels.ndim == 2:
        labels = labels.astype(logits.dtype, copy=False)
        expected = (labels * np.where(labels > 0, shifted, 0)).sum(axis=1)  # a share of 0 also of −∞
    else:
        expected = shifted[_rows(labels), labels]  # Σⱼ qᵢⱼ xᵢⱼ, up to the shift
    if label_smoothing:
        expected = (1 - label_smoothing) * expected + label_smoothing * shifted.mean(axis=1)
    powers = np.exp(shifted, out=shifted)  # in the memory of `shifted`, which nobody needs any more
    total = powers.sum(axis=1)
    return np.log(total) - expected, (powers, total, labels, label_smoothing)


def cross_entropy_gradient(g, saved):
    """Return the gradient with respect to the logits. g: of each loss (N,), or one number () for all of them."""
    powers, total, labels, label_smoothing = saved
    gradient = powers * (g / total)[:, None]  # g · softmax
    if labels.ndim == 2:
        gradient -= ((1 - label_smoothing) * g)[..., None] * labels
    else:
        gradient[_rows(labels), labels] -= (1 - label_smoothing) * g
    if label_smoothing:
        gradient -= (label_smoothing / powers.shape[1] * g)[..., None]
    return gradient


def targets(labels, like, label_smoothing):
    """Return the target (1 − ε) y + ε / M of each sample, y one-hot or shares, in shape and dtype of `like` (N, M)."""
    if labels.ndim == 2:
        y = labels.astype(like.dtype, copy=False)
    else:
        y = np.zeros_like(like)
        y[_rows(labels), labels] = 1
    return (1 - label_smoothing) * y + label_smoothing / y.shape[1] if label_smoothing else y


def _rows(labels):
    return array_module(labels).arange(len(labels))
