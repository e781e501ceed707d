"""Diffusion on images, channels last: explicit steps of the heat equation.

What flows between two neighbouring pixels is the difference of their values; nothing flows across the border.
"""

from __future__ import annotations

import numpy as np

from minidl.forward import multilinear
from minidl.kernels.numpy.blocks import samples


def forward(u, kappa, steps):
    """Return u after a number of steps u ← u + κ Δu."""
    for _ in range(steps):
        u = u + kappa * laplacian(u)
    return u


def gradient(g, kappa, steps):
    """Return the gradient with respect to u. Δ is symmetric."""
    for _ in range(steps):
        g = g + laplacian(kappa * g)
    return g


def gradient_of_diffusivity(g, u, kappa, steps):
    """Return the gradient with respect to κ, in the shape of u. The values between the steps are computed again."""
    flows = []
    for _ in range(steps):
        flows.append(laplacian(u))
        u = u + kappa * flows[-1]
    total = g * flows.pop()
    while flows:
        g = g + laplacian(kappa * g)
        total += g * flows.pop()
    return total


@multilinear(0)
def laplacian(u):
    """Return Δu: the sum of the differences of each pixel's neighbours, inside the image, from the pixel."""
    return samples(_sums_of_differences, u)


def _sums_of_differences(u):
    total = np.zeros_like(u)
    down = u[:, 1:] - u[:, :-1]
    total[:, :-1] += down
    total[:, 1:] -= down
    across = u[:, :, 1:] - u[:, :, :-1]
    total[:, :, :-1] += across
    total[:, :, 1:] -= across
    return total
