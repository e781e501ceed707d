"""Samples of the dropout family."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from minidl import ops

from op_cases.samples import Case, Sample, shape


def dropout(data, rng):
    p = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    scaling = data.draw(st.sampled_from(["inverted", "eval"]))
    call = lambda x: ops.dropout(x, p, scaling=scaling, generator=np.random.default_rng(3))
    return Sample(call, (rng.standard_normal(shape(data)),))


CASES: dict[str, Case] = {
    "dropout": Case(dropout),
}
