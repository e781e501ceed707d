"""Losses."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np

from minidl import ops

from op_cases.samples import Case, Edge, Kink, one_of, shape

REDUCTIONS = {"mean": np.mean, "sum": np.sum, "none": np.asarray}


def entropies(logits, labels, label_smoothing=0.0, reduction="mean"):
    """−Σ q ln p, sample by sample, class by class."""
    count, classes = logits.shape
    losses = np.zeros(count)
    for i in range(count):
        log_sum = math.log(math.fsum(math.exp(x - logits[i].max()) for x in logits[i])) + logits[i].max()
        for j in range(classes):
            share = labels[i, j] if labels.ndim == 2 else float(labels[i] == j)
            q = (1 - label_smoothing) * share + label_smoothing / classes
            losses[i] += q * (log_sum - logits[i, j])
    return REDUCTIONS[reduction](losses)


def cross_entropy(data, rng):
    count, classes = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    shares = data.draw(st.booleans())
    labels = rng.dirichlet(np.ones(classes), count) if shares else rng.integers(0, classes, count)
    settings = one_of(data, label_smoothing=[0.0, 0.1, 1.0], reduction=list(REDUCTIONS))
    return (3 * rng.standard_normal((count, classes)),), {"labels": labels, **settings}


def squares(outputs, targets, reduction="mean"):
    return REDUCTIONS[reduction]((outputs - targets) ** 2)


def mse(data, rng):
    size = shape(data)
    return (rng.standard_normal(size), rng.standard_normal(size)), one_of(data, reduction=list(REDUCTIONS))


FIRST, NONE = np.zeros(1, int), np.zeros(0, int)

CASES: dict[str, Case] = {
    "cross_entropy": Case(
        ops.cross_entropy,
        entropies,
        cross_entropy,
        (
            Edge(((1, 1),), {"labels": FIRST}),
            Edge(((1, 1),), {"labels": np.ones((1, 1)), "reduction": "none"}),
            Edge(((0, 3),), {"labels": NONE}, refused="the batch is empty"),
            Edge(((0, 3),), {"labels": NONE, "reduction": "none"}, refused="the batch is empty"),
            Edge(((1, 0),), {"labels": FIRST}, refused=r"logits have shape \(1, 0\), which leaves no class"),
        ),
        (
            Kink(([[1e4, -1e4, 0.0]],), 0, ([[0, 0, 0]],), {"labels": FIRST}),
            Kink(([[1e4, -1e4, 0.0]],), 2e4, ([[1, -1, 0]],), {"labels": FIRST + 1}),
            Kink(([[0.0, -math.inf]],), 0, ([[0, 0]],), {"labels": FIRST}),
            Kink(([[0.0, -math.inf]],), 0, ([[0, 0]],), {"labels": np.array([[1.0, 0.0]])}),
        ),
    ),
    "mse": Case(
        ops.mse,
        squares,
        mse,
        (
            Edge(((), ())),
            Edge(((1, 1), (1, 1)), {"reduction": "none"}),
            Edge(((0,), (0,)), refused="the batch is empty"),
            Edge(((2, 0), (2, 0)), {"reduction": "none"}, refused="the batch is empty"),
            Edge(((1,), ()), refused=r"shape \(1,\) and targets \(\), expected the same"),
        ),
        analytic=True,
    ),
}
