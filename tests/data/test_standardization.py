"""Standardization: the moments of the training images, in every dtype, and back."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from minidl import data


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_come_out_with_mean_0_and_deviation_1(rng, dtype):
    x = rng.integers(0, 256, (50, 4, 5, 3)) // np.array([1, 2, 5])
    x = x.astype(np.uint8) if dtype == np.uint8 else (x / 255).astype(dtype)
    standardize = data.Standardization(x)
    floats = x / 255 if dtype == np.uint8 else x.astype(np.float64)
    np.testing.assert_allclose(standardize.mean, floats.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(standardize.deviation, floats.std(axis=(0, 1, 2)), rtol=1e-12)
    made = standardize(x)
    assert made.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(made.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(made.std(axis=(0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(standardize.inverse(made), floats, atol=1e-6)


def test_pieces_and_a_large_mean_make_no_difference(rng, monkeypatch):
    monkeypatch.setattr("minidl.data.standardization.PIECE", 100)
    x = (1e4 + rng.random((33, 4, 5, 2))).astype(np.float32)
    standardize = data.Standardization(x)
    np.testing.assert_allclose(standardize.mean, x.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(standardize.deviation, x.std(axis=(0, 1, 2), dtype=np.float64), rtol=1e-9)
    pixels = rng.integers(0, 256, (33, 4, 5, 2)).astype(np.uint8)
    np.testing.assert_allclose(data.Standardization(pixels).mean, pixels.mean(axis=(0, 1, 2)) / 255, rtol=1e-12)


def test_it_knows_nothing_but_what_it_was_fitted_on(rng):
    train, test = rng.random((20, 2, 2, 1)), 5 + rng.random((20, 2, 2, 1))
    standardize = data.Standardization(train)
    before = standardize.mean.copy()
    assert standardize(test).mean() > 5
    np.testing.assert_array_equal(standardize.mean, before)


def test_a_constant_channel_is_only_shifted():
    x = np.zeros((4, 2, 2, 2), np.uint8)
    x[..., 1] = 51
    standardize = data.Standardization(x)
    np.testing.assert_allclose(standardize.mean, [0, 0.2])
    np.testing.assert_array_equal(standardize.deviation, [1, 1])
    assert np.abs(standardize(x)).max() < 1e-7
    floats = data.Standardization(np.full((1000, 2, 2, 1), np.float32(0.1)))
    np.testing.assert_array_equal(floats.deviation, [1])


def test_no_copy_in_floats_is_made(rng):
    x = rng.integers(0, 256, (3000, 32, 32, 3), dtype=np.uint8)  # 9 MB
    tracemalloc.start()
    data.Standardization(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 45e6, "a piece as integers, not 74 MB of float64"


def test_in_a_loader_last(rng):
    x = rng.integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    standardize = data.Standardization(x)
    changes = data.augment.compose(data.augment.flip(), standardize)
    batch = next(iter(data.Loader(x, np.arange(30), 30, augment=changes)))[0]
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    assert repr(standardize).startswith("Standardization(mean (0.")


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((0, 2, 2, 1)), ValueError, r"train_x has shape \(0, 2, 2, 1\)"),
        (np.zeros(5), ValueError, r"train_x has shape \(5,\)"),
        (np.zeros((5, 2), int), TypeError, "train_x has dtype int64"),
        (np.array([[1.0], [np.nan]]), ValueError, "train_x contains NaN or infinite values"),
        (np.array([[1.0], [np.inf]]), ValueError, "train_x contains NaN or infinite values"),
    ],
)
def test_bad_images_are_a_clear_error(x, error, message):
    with pytest.raises(error, match=f"Standardization: {message}"):
        data.Standardization(x)


def test_other_channels_and_dtypes_are_a_clear_error():
    standardize = data.Standardization(np.zeros((2, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"x has shape \(2, 2, 2, 1\), expected 3 channels"):
        standardize(np.zeros((2, 2, 2, 1), np.float32))
    with pytest.raises(TypeError, match="x has dtype int64"):
        standardize(np.zeros((2, 2, 2, 3), int))
