"""Samples of losses."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from minidl import ops

from op_cases.samples import Case, Sample, shape


def cross_entropy(data, rng):
    count, classes = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    shares = data.draw(st.booleans())
    labels = rng.dirichlet(np.ones(classes), count) if shares else rng.integers(0, classes, count)
    smoothing = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]))
    call = lambda x: ops.cross_entropy(x, labels, smoothing, reduction=reduction)
    return Sample(call, (3 * rng.standard_normal((count, classes)),))


def mse(data, rng):
    size = shape(data)
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]))
    call = lambda x, y: ops.mse(x, y, reduction=reduction)
    return Sample(call, (rng.standard_normal(size), rng.standard_normal(size)))


CASES: dict[str, Case] = {
    "cross_entropy": Case(cross_entropy),
    "mse": Case(mse, analytic=True),
}
