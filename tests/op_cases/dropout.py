"""Samples of the dropout family. The generator is made anew in each call, so that all calls draw the same mask."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from minidl import ops

from op_cases.samples import Case, Sample, images, shape


def dropout(data, rng):
    p = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    scaling = data.draw(st.sampled_from(["inverted", "eval"]))
    size = shape(data)
    shared = data.draw(st.sampled_from([(), (0,), (1, 2)])) if len(size) == 3 else ()
    call = lambda x: ops.dropout(x, p, scaling=scaling, shared=shared, generator=np.random.default_rng(3))
    return Sample(call, (rng.standard_normal(size),))


def gaussian_dropout(data, rng):
    sigma = data.draw(st.sampled_from([0.0, 0.5, 2]))
    mu = data.draw(st.sampled_from([1, 0.7, -1.0]))
    call = lambda x: ops.gaussian_dropout(x, sigma, mu, generator=np.random.default_rng(3))
    return Sample(call, (rng.standard_normal(shape(data)),))


def alpha_dropout(data, rng):
    p = data.draw(st.sampled_from([0.0, 0.3, 0.9]))
    call = lambda x: ops.alpha_dropout(x, p, generator=np.random.default_rng(3))
    return Sample(call, (rng.standard_normal(shape(data)),))


def windows2d(data, rng):
    size = data.draw(st.sampled_from([1, 2, 3, (2, 3)]))
    stride = data.draw(st.sampled_from([None, 1, 2, (2, 1)]))
    return Sample(lambda x: ops.windows2d(x, size, stride), (images(data, rng, least=3),))


CASES: dict[str, Case] = {
    "alpha_dropout": Case(alpha_dropout, analytic=True),
    "dropout": Case(dropout, analytic=True),
    "gaussian_dropout": Case(gaussian_dropout, analytic=True),
    "windows2d": Case(windows2d, analytic=True),
}
