"""Upsampling: PyTorch's values and gradients, the matrix form, and clear errors."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import minidl as ml
from minidl import nn, ops

with_oracle = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@with_oracle
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)),
    scale=st.tuples(st.integers(1, 5), st.integers(1, 5)), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_values_and_gradients_equal_pytorchs(torch, mode, shape, scale, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    x, twin = ml.Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y = nn.Upsample2d(scale, mode)(x)
    corners = {"align_corners": False} if mode == "bilinear" else {}
    images = twin.permute(0, 3, 1, 2)
    z = torch.nn.functional.interpolate(images, scale_factor=scale, mode=mode, **corners).permute(0, 2, 3, 1)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    np.testing.assert_allclose(x.grad, twin.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_a_row_of_pixels():
    x = np.array([0.0, 4, 8]).reshape(1, 1, 3, 1)
    nearest, bilinear = (ops.upsample2d(x, (1, 2), mode).data[0, 0, :, 0] for mode in ("nearest", "bilinear"))
    np.testing.assert_array_equal(nearest, [0, 0, 4, 4, 8, 8])
    np.testing.assert_allclose(bilinear, [0, 1, 3, 5, 7, 8])


def test_bilinear_keeps_constants_and_planes(rng):
    rows, columns = np.mgrid[:5, :7]
    plane = (2 * rows - 3 * columns + 1.0)[None, :, :, None]
    y = ops.upsample2d(plane, 4, "bilinear").data[0, 2:-2, 2:-2, 0]
    up, across = np.mgrid[:16, :24] / 4 + 0.125
    np.testing.assert_allclose(y, 2 * up - 3 * across + 1, rtol=1e-12)
    np.testing.assert_allclose(ops.upsample2d(np.full((1, 2, 3, 1), 7.0), 3, "bilinear").data, 7, rtol=1e-15)


def test_nearest_copies_exactly_and_keeps_an_infinite_pixel_where_it_is():
    x = np.array([[0.1, np.inf], [-0.3, 0.7]], np.float32).reshape(1, 2, 2, 1)
    expected = np.repeat(np.repeat(x[0, :, :, 0], 3, 0), 3, 1)
    np.testing.assert_array_equal(ops.upsample2d(x, 3).data[0, :, :, 0], expected)


def test_images_of_bytes():
    x = np.array([[200, 100]], np.uint8).reshape(1, 1, 2, 1)
    assert ops.upsample2d(x, 2).dtype == np.uint8
    y = ops.upsample2d(x, (1, 2), "bilinear")
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data.reshape(-1), [200, 175, 125, 100])


def test_the_layer_says_what_it_is():
    assert repr(nn.Upsample2d(2, "bilinear")) == "Upsample2d(scale=(2, 2), mode='bilinear')"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.upsample2d(ml.Tensor(np.zeros((2, 2))), 2), r"upsample2d: x has shape \(2, 2\), expected \(N"),
        (lambda: ops.upsample2d(ml.Tensor(np.zeros((1, 2, 2, 1))), 0), "upsample2d: scale is 0"),
        (lambda: ops.upsample2d(ml.Tensor(np.zeros((1, 2, 2, 1))), 1.5), "upsample2d: scale is 1.5"),
        (lambda: ops.upsample2d(ml.Tensor(np.zeros((1, 2, 2, 1))), 2, "cubic"), "upsample2d: mode is 'cubic'"),
        (lambda: nn.Upsample2d((2, 0)), r"Upsample2d: scale is \(2, 0\)"),
        (lambda: nn.Upsample2d(2, "linear"), "Upsample2d: mode is 'linear', expected 'nearest' or 'bilinear'"),
    ],
)
def test_bad_input_is_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
