"""Diffusion on images: against the five-point operator of a padded image, the exact solution, and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import ops
from minidl.kernels.numpy import blocks


def step(u, kappa):
    """One step by the five-point operator, where beyond the border lies the mirror image."""
    p = np.pad(u, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")
    around = p[:, 2:, 1:-1] + p[:, :-2, 1:-1] + p[:, 1:-1, 2:] + p[:, 1:-1, :-2]
    return u + kappa * (around - 4 * u)


@pytest.mark.parametrize("size", [(2, 5, 4, 3), (1, 1, 6, 1), (3, 4, 1, 2), (1, 1, 1, 1), (0, 3, 3, 1)])
@pytest.mark.parametrize("shape", [(), "u", "samples"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_five_point_operator(rng, size, shape, steps):
    u = rng.standard_normal(size)
    kappa = rng.uniform(0, 0.25, {"u": size, "samples": (size[0], 1, 1, 1)}.get(shape, shape))
    expected = u
    for _ in range(steps):
        expected = step(expected, kappa)
    np.testing.assert_allclose(ops.diffuse2d(u, kappa, steps).data, expected, rtol=1e-13, atol=1e-15)


def test_cosines_decay_as_they_must():
    """cos(π k (p + ½) / H) is an eigenvector of the operator with this border; its eigenvalue is 2 cos(π k / H) − 2."""
    height, width = 7, 5
    p, q = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    for k, m in ((0, 0), (1, 0), (2, 3), (6, 4)):
        u = (np.cos(np.pi * k * p / height) * np.cos(np.pi * m * q / width))[None, :, :, None]
        decay = 1 + 0.2 * (2 * np.cos(np.pi * k / height) + 2 * np.cos(np.pi * m / width) - 4)
        np.testing.assert_allclose(ops.diffuse2d(u, 0.2, 5).data, decay**5 * u, rtol=1e-12, atol=1e-14)


def test_nothing_leaves_the_image_and_no_extreme_grows(rng):
    u = rng.uniform(0, 1, (3, 6, 7, 2))
    even = ops.diffuse2d(u, 0.25, 20).data
    np.testing.assert_allclose(even.sum((1, 2)), u.sum((1, 2)), rtol=1e-13)
    assert even.std((1, 2)).max() < 0.2 * u.std((1, 2)).min()
    own = ops.diffuse2d(u, rng.uniform(0, 0.25, u.shape), 20).data
    assert own.min() >= u.min()
    assert own.max() <= u.max()
    np.testing.assert_array_equal(ops.diffuse2d(u, 0, 20).data, u)


def test_gradients_equal_pytorch(torch, rng):
    u, kappa, g = (
        rng.standard_normal((2, 4, 5, 3)),
        rng.uniform(0, 0.25, (2, 4, 5, 3)),
        rng.standard_normal((2, 4, 5, 3)),
    )
    ours = [ml.Tensor(u, requires_grad=True), ml.Tensor(kappa, requires_grad=True)]
    y = ops.diffuse2d(*ours, 3)
    y.backward(g)
    theirs = [torch.tensor(x, requires_grad=True) for x in (u, kappa)]
    z = theirs[0]
    for _ in range(3):
        p = torch.nn.functional.pad(z.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1)
        z = z + theirs[1] * (p[:, 2:, 1:-1] + p[:, :-2, 1:-1] + p[:, 1:-1, 2:] + p[:, 1:-1, :-2] - 4 * z)
    z.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-12)
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own.grad, other.grad.numpy(), rtol=1e-11, atol=1e-13)


def test_large_batches_are_computed_in_pieces_that_make_no_difference(rng, monkeypatch):
    u = rng.standard_normal((90, 40, 41, 2)).astype(np.float32)
    results = []
    for count in (1, 3):
        ml.set_threads(count)
        results.append(ops.diffuse2d(u, 0.2, 2).data)
    ml.set_threads(None)
    monkeypatch.setattr(blocks, "BLOCK", 2**40)  # the formula on the whole array
    results.append(ops.diffuse2d(u, 0.2, 2).data)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


U = np.zeros((2, 3, 3, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((U[0], 0.1), r"u has shape \(3, 3, 1\), expected \(N, H, W, C\)"),
        ((U, 0.3), r"kappa has values from 0.3 to 0.3, expected all in \[0, 1/4\]"),
        ((U, -0.1), "kappa has values from -0.1 to -0.1"),
        ((U, np.nan), "kappa has values from nan"),
        ((U, np.linspace(0, 0.26, 18).reshape(U.shape)), "kappa has values from 0.0 to 0.26"),
        ((U, np.zeros((3, 3))), r"kappa has shape \(3, 3\), which does not broadcast to u's, \(2, 3, 3, 1\)"),
        ((U, np.zeros((1, *U.shape))), "kappa has shape .*, which does not broadcast"),
        ((U, 0.1, 0), "steps is 0, expected a positive integer"),
        ((U, 0.1, 1.5), "steps is 1.5, expected a positive integer"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"diffuse2d: {message}"):
        ops.diffuse2d(*arguments)
