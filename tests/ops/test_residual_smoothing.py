"""Residual smoothing against its matrix form, and what a constant diffusivity means for derivatives."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import ops
from minidl.kernels.numpy import blocks


def diffusivity(d, scale, steepness):
    """κ of a single sample, as in the equations."""
    deviation = d.std()
    normalized = (d - d.mean()) / deviation if deviation > 0 else 0 * d
    return scale / (1 + np.exp(-steepness * normalized))


def matrix(kappa):
    """The weights w of the smoothing layer of a single sample."""
    M = len(kappa)
    w = np.empty((M, M))
    for j in range(M):
        for k in range(M):
            w[j, k] = 1 - kappa[j] if j == k else kappa[j] / (M - 1)
    return w


def run(d, *settings, g=None, **more):
    x = ml.Tensor(d, requires_grad=True)
    r = ops.residual_smoothing(x, *settings, **more)
    r.backward(np.ones(r.shape) if g is None else g)
    return r.data, x.grad


@given(
    size=st.tuples(st.integers(0, 4), st.integers(2, 7)),
    scale=st.floats(0, 1),
    steepness=st.sampled_from([0, 0.3, 1, 5, 50]),
    seed=st.integers(0, 100),
)
def test_the_matrix_form(size, scale, steepness, seed):
    rng = np.random.default_rng(seed)
    d, g = rng.uniform(0, 1, size), rng.standard_normal(size)
    r, gradient = run(d, scale, steepness, g=g)
    for i in range(size[0]):
        w = matrix(diffusivity(d[i], scale, steepness))
        np.testing.assert_allclose(r[i], w @ d[i], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gradient[i], w.T @ g[i], rtol=1e-12, atol=1e-14)
    single, single_gradient = run(d.astype(np.float32), scale, steepness, g=g)
    assert single.dtype == single_gradient.dtype == np.float32
    np.testing.assert_allclose(single, r, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(single_gradient, gradient, rtol=1e-4, atol=2e-5)


def test_the_global_form_moves_everybody_by_half_of_s():
    d = np.array([[1.0, 0, 0, 0]])
    r, _ = run(d, 0.6, 0)
    np.testing.assert_allclose(r, [[0.7, 0.1, 0.1, 0.1]], rtol=1e-15)
    np.testing.assert_array_equal(run(d, 0, 3)[0], d)


def test_the_sum_stays_where_the_diffusivity_is_one_for_all_and_large_residuals_are_smoothed_more(rng):
    d = rng.uniform(0, 1, (5, 8))
    np.testing.assert_allclose(run(d, 0.7, 0)[0].sum(1), d.sum(1), rtol=1e-14)
    r, _ = run(d, 0.7, 3)
    moved = np.abs(r - d) / np.abs(d - d.mean(1, keepdims=True))
    np.testing.assert_array_equal(np.argsort(moved, axis=1), np.argsort(d, axis=1))


@pytest.mark.parametrize("follow", [False, True])
def test_equal_residuals_have_no_deviation_and_stay_as_they_are(follow):
    """0.1 and 0.7 have no exact mean: a σ of rounding errors must not pass for a deviation."""
    for dtype in (np.float32, np.float64):
        for value in (0.0, 0.1, 0.7):
            for M in (2, 3, 7, 1000):
                d = np.full((3, M), value, dtype)
                g = np.linspace(-1, 1, M, dtype=dtype) * np.ones((3, 1), dtype)
                r, gradient = run(d, 0.8, 2, g=g, differentiate_diffusivity=follow)
                np.testing.assert_array_equal(r, d)
                expected = g[0] @ matrix(np.full(M, 0.4)) if M < 100 else g[0] * (1 - 0.4 * M / (M - 1))
                np.testing.assert_allclose(gradient[0], expected, rtol=1e-4, atol=1e-6)


def test_a_sample_of_two_and_extreme_settings_are_finite():
    d = np.array([[0.0, 1.0], [1e-30, 0.0], [1.0, 1.0]])
    for steepness in (1e-9, 1, 1e6):
        with np.errstate(all="raise", under="ignore"):
            r, gradient = run(d, 1, steepness, differentiate_diffusivity=True)
        assert np.isfinite(r).all()
        assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(run(d, 1, 1e6)[0], [[0, 0], [0, 0], [1, 1]])  # κ is 0 or 1


def test_one_residual_that_is_not_a_number_spoils_its_sample_and_no_other(rng):
    d = rng.uniform(0, 1, (3, 4))
    d[1, 2] = np.nan
    r, gradient = run(d, 0.5)
    assert np.isnan(r[1]).all()
    assert np.isnan(gradient[1]).all()
    assert np.isfinite(r[[0, 2]]).all()


@pytest.mark.parametrize("steepness", [0, 1, 4])
def test_gradients_with_the_diffusivity_frozen(rng, steepness):
    """Central differences of the matrix form, whose weights do not move."""
    d, g = rng.uniform(0, 1, (2, 5)), rng.standard_normal((2, 5))
    _, gradient = run(d, 0.8, steepness, g=g)
    for i in range(2):
        w = matrix(diffusivity(d[i], 0.8, steepness))
        numeric = [(g[i] @ (w @ (d[i] + h)) - g[i] @ (w @ (d[i] - h))) / 2e-5 for h in 1e-5 * np.eye(5)]
        np.testing.assert_allclose(gradient[i], numeric, rtol=1e-8, atol=1e-9)


def test_gradients_through_the_diffusivity(rng):
    """Central differences of the matrix form, whose weights move; they differ from those of the frozen one."""
    d, g = rng.uniform(0, 1, (2, 5)), rng.standard_normal((2, 5))
    _, gradient = run(d, 0.8, 2, g=g, differentiate_diffusivity=True)
    value = lambda d, g: g @ (matrix(diffusivity(d, 0.8, 2)) @ d)
    for i in range(2):
        numeric = [(value(d[i] + h, g[i]) - value(d[i] - h, g[i])) / 2e-5 for h in 1e-5 * np.eye(5)]
        np.testing.assert_allclose(gradient[i], numeric, rtol=1e-7, atol=1e-8)
    assert np.abs(gradient - run(d, 0.8, 2, g=g)[1]).max() > 0.05


def test_a_frozen_diffusivity_is_a_constant_in_forward_mode_and_in_second_derivatives(rng):
    d = rng.uniform(0, 1, (1, 4))
    w = matrix(diffusivity(d[0], 0.8, 2))
    x = ml.Tensor(d, requires_grad=True)
    J = ml.jacobian(lambda: ops.residual_smoothing(x, 0.8, 2).reshape(-1), [x])
    tall = np.zeros(20)  # many rows, so that forward mode is chosen
    forward = ml.jacobian(lambda: ops.concatenate([ops.residual_smoothing(x, 0.8, 2).reshape(-1), tall]), [x])[:4]
    H = ml.hessian(lambda: (ops.residual_smoothing(x, 0.8, 2) ** 2).sum(), [x])
    np.testing.assert_allclose(J, w, rtol=1e-12)
    np.testing.assert_allclose(forward, w, rtol=1e-12)
    np.testing.assert_allclose(H, 2 * w.T @ w, rtol=1e-10)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("size", [(3, 100_003), (40_001, 5), (700, 301)])
def test_large_batches_are_computed_in_pieces_that_do_not_depend_on_the_threads(rng, monkeypatch, size, follow):
    d, g = rng.uniform(0, 1, size).astype(np.float32), rng.standard_normal(size).astype(np.float32)
    results = []
    for count in (1, 2, 3):
        ml.set_threads(count)
        results.append(run(d, 0.9, 2, g=g, differentiate_diffusivity=follow))
        run(g, 0.5, g=d)  # other work, in the memory that was freed
    ml.set_threads(None)
    monkeypatch.setattr(blocks, "BLOCK", 2**40)  # the formula on the whole array
    results.append(run(d, 0.9, 2, g=g, differentiate_diffusivity=follow))
    monkeypatch.undo()
    results.append(run(d[:, ::-1][:, ::-1], 0.9, 2, g=g, differentiate_diffusivity=follow))
    results.append(run(np.asfortranarray(d), 0.9, 2, g=g, differentiate_diffusivity=follow))
    for r, gradient in results[1:-1]:
        np.testing.assert_array_equal(r, results[0][0])
        np.testing.assert_array_equal(gradient, results[0][1])
    np.testing.assert_allclose(results[-1][0], results[0][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("d", "settings", "message"),
    [
        (np.zeros((3, 1)), (0.5,), r"d has shape \(3, 1\): a sample needs at least 2 values"),
        (np.zeros((3, 0)), (0.5,), r"d has shape \(3, 0\): a sample needs at least 2 values"),
        (np.zeros(4), (0.5,), r"d has shape \(4,\), expected \(samples, values\)"),
        (np.zeros((3, 2, 2)), (0.5,), r"d has shape \(3, 2, 2\), expected"),
        (np.zeros((3, 2)), (1.5,), r"scale is 1.5, expected a number in \[0, 1\]"),
        (np.zeros((3, 2)), (0.5, -1), r"steepness is -1, expected a number in"),
        (np.zeros((3, 2)), (0.5, np.nan), "steepness is nan"),
    ],
)
def test_what_is_refused(d, settings, message):
    with pytest.raises(ValueError, match=f"residual_smoothing: {message}"):
        ops.residual_smoothing(d, *settings)


def test_a_setting_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="residual_smoothing: scale is 'half'"):
        ops.residual_smoothing(np.zeros((3, 2)), "half")
