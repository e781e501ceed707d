"""Smoothing: of residuals those settings whose derivative is that of the function, as κ is constant or followed."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from scipy import special

from minidl import ops

from op_cases.samples import REAL, Case, Domain, Edge, Kink, images


def by_matrix(d, scale, steepness=1.0, differentiate_diffusivity=False):
    """r = w d with 1 − κ_j on the diagonal of w and κ_j / (M − 1) elsewhere, sample by sample."""
    r = np.empty(d.shape)
    for i, sample in enumerate(d):
        deviation = sample.std()
        kappa = scale * special.expit(steepness * (sample - sample.mean()) / (deviation or 1))
        w = np.tile((kappa / (sample.size - 1))[:, None], sample.size)
        np.fill_diagonal(w, 1 - kappa)
        r[i] = w @ sample
    return r


def residual_smoothing(data, rng):
    size = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 6))
    steepness, follow = data.draw(st.sampled_from([(0.0, False), (0.0, True), (0.5, True), (1.0, True), (4.0, True)]))
    settings = {"scale": data.draw(st.sampled_from([0.0, 0.3, 1.0])), "steepness": steepness}
    return (rng.uniform(0, 1, size) + 0.5 * np.arange(size[1]),), {**settings, "differentiate_diffusivity": follow}


def five_point_steps(u, kappa, steps=1):
    """What flows between two neighbours leaves the one and comes to the other; nothing passes the border."""
    for _ in range(steps):
        inflow = np.zeros(u.shape)
        for axis in (1, 2):
            flow = np.diff(u, axis=axis)
            rest = [(0, 0)] * 4
            rest[axis] = (0, 1)
            inflow += np.pad(flow, rest) if u.shape[axis] else 0
            rest[axis] = (1, 0)
            inflow -= np.pad(flow, rest) if u.shape[axis] else 0
        u = u + kappa * inflow
    return u


def diffuse2d(data, rng):
    u = images(data, rng)
    size = data.draw(st.sampled_from([(), u.shape, (len(u), 1, 1, 1)]))
    return (u, DIFFUSIVITY(rng, size)), {"steps": data.draw(st.integers(1, 3))}


DIFFUSIVITY = Domain(0, 0.25)
HALF = {"scale": 0.5}

CASES: dict[str, Case] = {
    "diffuse2d": Case(
        ops.diffuse2d,
        five_point_steps,
        diffuse2d,
        (
            Edge(((1, 1, 1, 1), ())),
            Edge(((1, 1, 1, 1), (1, 1, 1, 1))),
            Edge(((0, 3, 3, 1), ())),
            Edge(((0, 3, 3, 1), (0, 1, 1, 1)), {"steps": 2}),
            Edge(((2, 0, 3, 1), ())),
            Edge(((2, 3, 3, 0), (2, 1, 1, 1))),
            Edge(((0, 3, 3), ()), refused=r"u has shape \(0, 3, 3\), expected \(N, H, W, C\)"),
        ),
        (Kink(([[[[1.0], [3.0]]]], [0.25]), [[[[1.5], [2.5]]]], ([[[[1], [1]]]], [0])),),
        domains=(REAL, DIFFUSIVITY),
        analytic=True,
    ),
    "residual_smoothing": Case(
        ops.residual_smoothing,
        by_matrix,
        residual_smoothing,
        (
            Edge(((1, 2),), HALF),
            Edge(((0, 3),), HALF),
            Edge(((0, 3),), {**HALF, "differentiate_diffusivity": True}),
            Edge(((1, 1),), HALF, refused="a sample needs at least 2 values"),
            Edge(((2, 0),), HALF, refused="a sample needs at least 2 values"),
        ),
        # equal residuals have no deviation: they stay as they are, and κ is s / 2
        tuple(
            Kink(([[0.1, 0.1, 0.1]],), [[0.1] * 3], ([[1] * 3],), {**HALF, "differentiate_diffusivity": follow})
            for follow in (False, True)
        ),
    ),
}
