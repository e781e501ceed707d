"""Residual smoothing where all residuals are equal, or nearly, where M is 2, and at the limits of κ."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import nn, ops


def exact(d, g, s, alpha, differentiate):
    """Return r and the gradient of g·r with respect to d, by the matrix of the paper in long doubles."""
    d, g = d.astype(np.longdouble), g.astype(np.longdouble)
    M = len(d)
    sigma = d.std() if np.ptp(d) else 0
    x = (d - d.mean()) / sigma if sigma else 0 * d
    S = 1 / (1 + np.exp(-np.clip(alpha * x, -11000, 11000)))
    spread = (np.ones((M, M)) - np.eye(M)) / np.longdouble(M - 1) - np.eye(
        M
    )  # of 1 − κ on the diagonal, κ/(M−1) off it
    J = np.eye(M) + np.diag(s * S) @ spread
    if differentiate and sigma:
        by_x = np.diag(s * alpha * S * (1 - S) * (spread @ d))
        J = J + by_x @ (np.eye(M) - np.ones((M, M)) / np.longdouble(M) - np.outer(x, x) / M) / sigma
    return d + s * S * (spread @ d), g @ J


CASES = {
    "equal": [0.25, 0.25, 0.25, 0.25],
    "nearly equal": [0.25, 0.25, 0.25, 0.25 + 2.0**-20],
    "equal and huge": [1e18, 1e18, 1e18],
    "two": [0.25, 0.75],
    "two, equal": [0.1, 0.1],
    "zero": [0, 0, 0],
    "one of many": [1, *[0] * 99],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("alpha", [0, 1, 4, 1e4])
@pytest.mark.parametrize("s", [0, 1e-300, 0.5, 1])
def test_against_the_matrix(case, s, alpha, dtype, rng):
    d = np.array([CASES[case]], dtype)
    g = rng.standard_normal(d.shape).astype(dtype)
    eps = np.finfo(dtype).eps
    for differentiate in (False, True):
        leaf = ml.Tensor(d, requires_grad=True)
        r = ops.residual_smoothing(leaf, s, alpha, differentiate_diffusivity=differentiate)
        r.backward(g)
        expected, gradient = exact(d[0], g[0], s, alpha, differentiate)
        np.testing.assert_allclose(r.numpy()[0], expected.astype(float), rtol=20 * eps, atol=20 * eps * d.max())
        conditioning = 1 + s * alpha * (d.max() / np.ptp(d) if np.ptp(d) else 0)  # rounding of d̃ where d nearly agree
        np.testing.assert_allclose(
            leaf.grad[0], gradient.astype(float), atol=100 * eps * min(conditioning, 1e6), rtol=0
        )


@pytest.mark.parametrize("differentiate", [False, True])
def test_the_loss_when_annealing_has_fallen_below_float32(differentiate):
    """With μ at 120 of 160 epochs and b = 0.9, s begins as e⁻¹³³, which float32 cannot tell from 0."""
    annealing = nn.LaplaceAnnealing(0.9, unit="epoch", epochs=160)
    assert 0 < annealing(0) < 1e-45
    loss = nn.ResidualSmoothing(annealing, 4, differentiate_diffusivity=differentiate)
    outputs = np.random.default_rng(0).standard_normal((8, 10)).astype(np.float32)
    gradients = []
    for each in (loss, nn.SquaredResidual()):
        leaf = ml.Tensor(outputs, requires_grad=True)
        each(leaf, np.arange(8), 0.0).backward()
        gradients.append(leaf.grad)
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_saturated_outputs():
    """A network that is certain: every residual is exactly 0 or 1."""
    logits = np.zeros((2, 5), np.float32)
    logits[:, 3] = 1e4
    for differentiate in (False, True):
        leaf = ml.Tensor(logits, requires_grad=True)
        loss = nn.ResidualSmoothing(1.0, 4, differentiate_diffusivity=differentiate)(leaf, np.array([3, 0]))
        loss.backward()
        assert np.isfinite(loss.item())
        np.testing.assert_array_equal(leaf.grad, 0)  # the softmax is flat there
