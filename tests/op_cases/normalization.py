"""Samples of normalizations."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from minidl import ops
from minidl.backend import asarray

from op_cases.samples import Case, Sample


def batch_norm(data, rng):
    size = data.draw(st.sampled_from([(4, 3), (5, 1), (2, 3, 2, 3), (3, 1, 1, 2)]))
    channels = size[-1]
    x = 2 * rng.standard_normal(size) + 3
    if data.draw(st.booleans()):
        running = rng.standard_normal(channels), rng.uniform(0.5, 2, channels)
    else:
        running = None
    settings = {"eps": 1e-3, "running": running}
    gamma, beta = rng.standard_normal(channels), rng.standard_normal(channels)
    relu = data.draw(st.booleans())
    while relu and np.abs(ops.batch_norm(x, gamma, beta, **settings).data).min() < 0.01:  # close to the kink
        beta = rng.standard_normal(channels)

    def call(*inputs):
        here = None if running is None else tuple(map(asarray, running))
        return ops.batch_norm(*inputs, eps=1e-3, running=here, relu=relu)

    return Sample(call, (x, gamma, beta))


def standardize(data, rng):
    size, axes = data.draw(
        st.sampled_from([((4, 3), (0,)), ((2, 5), (-1,)), ((2, 3, 2, 3), (1, 2)), ((2, 2, 3, 2, 2), (1, 2, -1))])
    )
    settings = {"eps": data.draw(st.sampled_from([1e-3, 0.5])), "eps_inside": data.draw(st.booleans())}
    return Sample(lambda x: ops.standardize(x, axes, **settings), (2 * rng.standard_normal(size) + 3,))


def spectral_normalize(data, rng):
    size = data.draw(st.sampled_from([(4, 3), (1, 2), (3, 1), (2, 1, 3, 2)]))
    w = rng.standard_normal(size) + 1
    v, _, u = np.linalg.svd(w.reshape(-1, size[-1]), full_matrices=False)
    u, v = (x + 0.2 * rng.uniform(-1, 1, x.shape) for x in (u[0], v[:, 0]))
    sign = data.draw(st.sampled_from([1, 1, -1]))  # vectors that give no positive norm divide by 1

    def call(w):
        return ops.spectral_normalize(w, asarray(u.astype(w.dtype)), asarray(sign * v.astype(w.dtype)))

    return Sample(call, (w,))


CASES: dict[str, Case] = {
    "batch_norm": Case(batch_norm, analytic=True),
    "spectral_normalize": Case(spectral_normalize, analytic=True),
    "standardize": Case(standardize, analytic=True),
}
