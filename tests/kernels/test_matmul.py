"""Products that are cut into parts against plain ones."""

from __future__ import annotations

import numpy as np
import pytest

from minidl.kernels.numpy import matmul
from minidl.threads import get_threads, set_threads

# Each side of every boundary: small, one thread, rows, columns, the inner axis; odd sizes.
SIZES = [(3, 4, 5), (64, 65, 66), (128, 256, 120), (517, 131, 139), (131, 133, 519), (33, 9001, 31), (300, 200, 301)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", ["", "x", "y", "xy"])
@pytest.mark.parametrize("size", SIZES)
def test_products_of_matrices(size, transposed, dtype, rng):
    n, k, m = size
    x = rng.standard_normal((k, n) if "x" in transposed else (n, k)).astype(dtype)
    y = rng.standard_normal((m, k) if "y" in transposed else (k, m)).astype(dtype)
    x, y = x.T if "x" in transposed else x, y.T if "y" in transposed else y
    before = get_threads()
    results = []
    try:
        for count in (1, 2, 3):
            set_threads(count)
            results.append(matmul.product(x, y))
    finally:
        set_threads(before)
    expected = (
        x.astype(np.longdouble) @ y.astype(np.longdouble) if n * k * m < 1e6 else x.astype(float) @ y.astype(float)
    )
    np.testing.assert_allclose(results[0], expected, atol=8 * np.finfo(dtype).eps * k**0.5 * 4, rtol=0)
    assert results[0].dtype == dtype
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize(
    "shapes", [((70, 50, 60), (70, 60, 40)), ((1, 90, 80), (60, 80, 70)), ((4,), (4, 3)), ((0, 7), (7, 5))]
)
def test_batches_vectors_and_nothing(shapes, rng):
    x, y = (rng.standard_normal(shape) for shape in shapes)
    np.testing.assert_allclose(matmul.product(x, y), x @ y, rtol=1e-12, atol=1e-12)


def test_integers_and_mixed_dtypes_are_numpys_affair():
    x = np.arange(300 * 300).reshape(300, 300)
    np.testing.assert_array_equal(matmul.product(x, x), x @ x)
    assert matmul.product(x.astype(np.float32), x.astype(np.float64)).dtype == np.float64
