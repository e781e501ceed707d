"""Samples of smoothing: of residuals those whose derivative is that of the function, as κ is constant or followed."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from minidl import ops

from op_cases.samples import Case, Sample, images


def residual_smoothing(data, rng):
    size = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 6))
    steepness, follow = data.draw(st.sampled_from([(0.0, False), (0.0, True), (0.5, True), (1.0, True), (4.0, True)]))
    scale = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    call = lambda d: ops.residual_smoothing(d, scale, steepness, differentiate_diffusivity=follow)
    return Sample(call, (rng.uniform(0, 1, size) + 0.5 * np.arange(size[1]),))


def diffuse2d(data, rng):
    u, steps = images(data, rng), data.draw(st.integers(1, 3))
    size = data.draw(st.sampled_from([(), u.shape, (len(u), 1, 1, 1)]))
    return Sample(lambda u, kappa: ops.diffuse2d(u, kappa, steps), (u, rng.uniform(0.01, 0.24, size)))


CASES: dict[str, Case] = {
    "diffuse2d": Case(diffuse2d, analytic=True),
    "residual_smoothing": Case(residual_smoothing, analytic=True),
}
