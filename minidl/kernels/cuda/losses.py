"""Softmax and cross entropy of rows, one a sample: the launches of `losses.cu`."""

from __future__ import annotations

import numpy as np

from minidl import buffers
from minidl.backend import array_module
from minidl.forward import multilinear
from minidl.kernels.cuda import launch, rows

VARIANTS = rows.variants("losses.cu")


def cross_entropy(logits, labels, label_smoothing):
    """Return the loss of each sample, (N,), and what the gradient needs.

    Parameters
    ----------
    logits : (N, M)
    labels : (N,) integers, or (N, M) shares of the classes
        The loss and the gradient are NaN of a sample whose label is no class, or with shares that are negative or not
        1 in sum.
    label_smoothing : float
    """
    launch.check_size("cross_entropy", logits=logits)
    logits = array_module(logits).ascontiguousarray(logits)
    target = (*_labels(labels, logits.dtype), float(label_smoothing))
    losses, largest, totals = (buffers.empty(logits.shape[:1], logits) for _ in range(3))
    rows.run("losses.cu", "cross_entropy", logits, logits, *target, *logits.shape, losses, largest, totals)
    return losses, (logits, target, largest, totals)


@multilinear(0)
def cross_entropy_gradient(g, saved):
    """Return the gradient with respect to the logits. g: of each loss (N,), or one number () for all of them."""
    logits, target, *sums = saved
    g, by_logits = array_module(logits).ascontiguousarray(g), buffers.empty(logits.shape, logits)
    single = g.size == 1  # also of shape (1,), for one sample
    args = (g, single, logits, *target, *sums, *logits.shape, by_logits)
    rows.run("losses.cu", "cross_entropy_gradient", logits, *args)
    return by_logits


def targets(labels, like, label_smoothing):
    """Return the target (1 − ε) y + ε / M of each sample, y one-hot or shares, in shape and dtype of `like` (N, M).

    It is NaN where the label is no class, or the shares are negative or not 1 in sum.
    """
    result = buffers.empty(like.shape, like)
    target = (*_labels(labels, like.dtype), float(label_smoothing))
    rows.run("losses.cu", "targets", like, *target, *like.shape, result, kept=0)
    return result


def _labels(labels, dtype):
    """Return labels as the kernels take them: classes and None, or None and shares."""
    xp = array_module(labels)
    if labels.ndim == 2:
        return None, xp.ascontiguousarray(labels.astype(dtype, copy=False))
    return xp.ascontiguousarray(labels.astype(np.int64, copy=False)), None
