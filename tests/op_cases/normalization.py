"""Samples of normalizations."""

from __future__ import annotations

import hypothesis.strategies as st

from minidl import ops

from op_cases.samples import Case, Sample


def batch_norm(data, rng):
    size = data.draw(st.sampled_from([(4, 3), (5, 1), (2, 3, 2, 3), (3, 1, 1, 2)]))
    channels = size[-1]
    x = 2 * rng.standard_normal(size) + 3
    if data.draw(st.booleans()):
        running = rng.standard_normal(channels), rng.uniform(0.5, 2, channels)
    else:
        running = None
    call = lambda *a: ops.batch_norm(*a, eps=1e-3, running=running)
    return Sample(call, (x, rng.standard_normal(channels), rng.standard_normal(channels)))


CASES: dict[str, Case] = {
    "batch_norm": Case(batch_norm, analytic=True),
}
