"""The box filter, against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl import data
from minidl.data import sharpening

PADDING = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap", "constant": "constant"}


def by_definition(x, n, mode):
    """Return the mean over the window from i − n // 2 on, of n rows and n columns, one shift after the other."""
    x = x.astype(np.float64)
    before, after = n // 2, n - 1 - n // 2
    padded = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), mode=PADDING[mode])
    height, width = x.shape[1:3]
    shifts = [padded[:, i : i + height, j : j + width] for i in range(n) for j in range(n)]
    return sum(shifts) / n**2


@given(
    n=st.integers(1, 5),
    size=st.tuples(st.integers(5, 8), st.integers(5, 8)),
    channels=st.sampled_from([1, 3]),
    mode=st.sampled_from(sharpening.MODES),
    seed=st.integers(0, 100),
)
def test_each_pixel_is_the_mean_of_its_window(n, size, channels, mode, seed):
    x = np.random.default_rng(seed).random((2, *size, channels))
    before = x.copy()
    blurred = data.sharpening.blur(x, n, mode)
    np.testing.assert_allclose(blurred, by_definition(x, n, mode), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(blurred, x)


@pytest.mark.parametrize("mode", sharpening.MODES)
def test_no_mean_is_outside_of_the_values(mode, rng):
    x = (rng.random((40, 9, 9, 1)) * (rng.random((40, 9, 9, 1)) < 0.2)).astype(np.float32)
    for n in (2, 3, 5):
        blurred = sharpening.blur(x, n, mode)
        assert 0 <= blurred.min() <= blurred.max() <= x.max()
    assert sharpening.blur(x[:0], 3, mode).shape == (0, 9, 9, 1)
    assert sharpening.blur(x + 1, 3, "constant").min() < 1


def test_an_even_window_reaches_further_up_and_to_the_left():
    x = np.zeros((1, 5, 5, 1))
    x[0, 2, 2, 0] = 4
    np.testing.assert_array_equal(np.argwhere(data.sharpening.blur(x, 2)[0, ..., 0]), [[2, 2], [2, 3], [3, 2], [3, 3]])
    np.testing.assert_array_equal(np.argwhere(data.sharpening.blur(x, 3)[0, ..., 0])[[0, -1]], [[1, 1], [3, 3]])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_bytes_become_floats_from_0_to_1(n):
    x = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 3), dtype=np.uint8)  # more than a block
    blurred = data.sharpening.blur(x, n)
    assert blurred.dtype == np.float32
    np.testing.assert_allclose(blurred, by_definition(x / 255, n, "reflect"), rtol=1e-5)
    assert blurred.min() >= 0
    assert blurred.max() <= 1
    np.testing.assert_array_equal(blurred, data.sharpening.blur(x.astype(np.float32) / np.float32(255), n))


def test_kernel_1_is_the_identity_and_keeps_the_dtype():
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(0).standard_normal((3, 4, 5, 2)).astype(dtype)
        assert data.sharpening.blur(x, 1).dtype == data.sharpening.blur(x, 3).dtype == dtype
        np.testing.assert_array_equal(data.sharpening.blur(x, 1), x)


def test_the_mean_stays_and_an_even_image_stays():
    x = np.random.default_rng(0).random((4, 6, 6, 1))
    for n in (3, 5):  # with reflection every pixel counts as often as any other
        np.testing.assert_allclose(data.sharpening.blur(x, n).mean(), x.mean(), rtol=1e-12)
    gray = np.full((2, 7, 9, 3), np.float32(0.3))
    for n in range(1, 8):
        np.testing.assert_array_equal(data.sharpening.blur(gray, n), gray)
    assert data.sharpening.blur(x[:0], 3).shape == (0, 6, 6, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 4, 1)), 3), r"blur: x has shape \(4, 4, 1\) and dtype float64, expected images \(N, H, W, C\)"),
        ((np.zeros((1, 4, 4, 1), int), 3), "dtype int64, expected images"),
        (([[1.0]], 3), "blur: x has type list, expected images"),
        ((np.zeros((1, 4, 6, 1)), 0), "blur: n is 0, expected an integer from 1 to the images' smaller side, 4"),
        ((np.zeros((1, 4, 6, 1)), 5), "blur: n is 5, expected an integer from 1 to"),
        ((np.zeros((1, 4, 6, 1)), 2.0), "blur: n is 2.0"),
        ((np.zeros((1, 4, 6, 1)), 2, "edge"), "blur: mode is 'edge', expected one of 'reflect', 'constant'"),
    ],
)
def test_bad_arguments_are_clear_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.sharpening.blur(*arguments)


@pytest.mark.gpu
def test_the_gpu_blurs_the_same():
    import cupy

    x = np.random.default_rng(0).integers(0, 256, (5, 9, 8, 3), dtype=np.uint8)
    for n in (1, 2, 3, 4):
        for mode in sharpening.MODES:
            blurred = data.sharpening.blur(cupy.asarray(x), n, mode)
            assert isinstance(blurred, cupy.ndarray)
            np.testing.assert_allclose(blurred.get(), data.sharpening.blur(x, n, mode), rtol=1e-5, atol=1e-6)
