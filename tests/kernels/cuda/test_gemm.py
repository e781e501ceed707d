"""Products of matrices in CUDA against NumPy's in float64, on the emulator."""

from __future__ import annotations

import importlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import backend, emulator, ops
from minidl.kernels.cuda import matmul, tiles

from standin import launches, transfers

pytestmark = pytest.mark.usefixtures("standin")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LIMIT = {"f": 5e-7, "d": 1e-14}  # of the distance to float64, relative to the norm
LAYOUTS = "xy", "x yT", "xT y", "xT yT", "views"


def device(x):
    return importlib.import_module("cupy").asarray(x)


def laid(x, y, layout):
    """Return the same matrices, lying in memory in another way."""
    if layout == "views":
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
        wide[..., ::2] = x
        return device(wide)[..., ::2], device(y[..., ::-1].copy())[..., ::-1]
    turned = lambda z: device(np.ascontiguousarray(z.swapaxes(-1, -2))).swapaxes(-1, -2)
    return turned(x) if "xT" in layout else device(x), turned(y) if "yT" in layout else device(y)


def near(result, x, y, limit=None):
    """The result is x @ y, up to rounding of what is added up, and of the right dtype."""
    exact, scale = (np.matmul(f(x.astype(np.float64)), f(y.astype(np.float64))) for f in (np.positive, np.abs))
    assert (result.dtype, result.shape) == (np.result_type(x, y), exact.shape)
    limit = limit or LIMIT[result.dtype.char]
    assert np.linalg.norm(result.get() - exact) <= limit * np.linalg.norm(scale)


def matrices(rng, shapes, dtype):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


sizes = st.one_of(st.integers(1, 9), st.sampled_from([16, 36, 64, 68, 100]))


@dtypes
@given(n=sizes, k=sizes, m=sizes, layout=st.sampled_from(LAYOUTS), seed=st.integers(0, 2**32 - 1))
def test_products_of_matrices(n, k, m, layout, dtype, seed):
    x, y = matrices(np.random.default_rng(seed), [(n, k), (k, m)], dtype)
    near(matmul.product(*laid(x, y, layout)), x, y)


@pytest.mark.parametrize("tile", matmul.TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")
@pytest.mark.parametrize("layout", LAYOUTS[:4])
@pytest.mark.parametrize("tf32", [False, True])
def test_every_tile(tile, layout, tf32, rng, monkeypatch):
    monkeypatch.setattr(matmul, "TILES", (tile,))
    monkeypatch.setattr(backend, "_tf32", tf32)
    results = []
    for shapes in ((140, 36), (36, 68)), ((68, 1300), (1300, 36)):
        x, y = matrices(rng, shapes, np.float32)
        results.append(matmul.product(*laid(x, y, layout)))
        near(results[-1], x, y, 1e-3 if tf32 else None)
        if tf32:
            with pytest.raises(AssertionError):
                near(results[-1], x, y, 1e-5)
        for order in emulator.settings.ORDERS:
            with emulator.order(order):
                np.testing.assert_array_equal(matmul.product(*laid(x, y, layout)).get(), results[-1].get())


def test_a_long_inner_axis_is_cut_into_parts(rng):
    x, y = matrices(rng, [(20, 30_000), (30_000, 12)], np.float32)
    plan = tiles.plan(np.float32, True, 20, 12, 30_000, cut=True, choice=matmul.TILES)
    assert plan.parts > 50
    launches.clear()
    near(matmul.product(device(x), device(y)), x, y)
    assert launches["product"] == launches["add_parts"] == 1


BATCHES = [
    ((3, 5, 7), (3, 7, 4)),
    ((3, 5, 8), (8, 4)),
    ((5, 8), (3, 8, 4)),
    ((1, 5, 8), (3, 8, 4)),
    ((2, 1, 5, 8), (3, 8, 4)),
    ((2, 3, 4, 4), (1, 1, 4, 4)),
    ((7,), (7, 4)),
    ((5, 7), (7,)),
    ((8,), (8,)),
    ((3, 5, 8), (8,)),
    ((8,), (3, 8, 4)),
]


@dtypes
@pytest.mark.parametrize("shapes", BATCHES)
def test_batches_and_vectors(shapes, dtype, rng):
    x, y = matrices(rng, shapes, dtype)
    near(matmul.product(device(x), device(y)), x, y)
    if x.ndim > 2 and y.ndim > 2:
        for layout in LAYOUTS:
            near(matmul.product(*laid(x, y, layout)), x, y)


@pytest.mark.parametrize("shapes", [((0, 7), (7, 5)), ((3, 0), (0, 5)), ((3, 7), (7, 0)), ((0, 3, 4), (0, 4, 5))])
def test_nothing(shapes, rng):
    x, y = matrices(rng, shapes, np.float32)
    np.testing.assert_array_equal(matmul.product(device(x), device(y)).get(), x @ y)


def test_operands_that_lie_askew_and_mixed_dtypes(rng):
    x, y = matrices(rng, [(12, 16), (16, 8)], np.float32)
    for offset in range(4):
        near(matmul.product(device(np.pad(x.ravel(), (offset, 0)))[offset:].reshape(x.shape), device(y)), x, y)
    double = y.astype(np.float64)
    near(matmul.product(device(x), device(double)), x, double)


def test_nan_and_infinity_stay_in_their_row_and_column(rng):
    x, y = matrices(rng, [(70, 37), (37, 40)], np.float32)
    x[3, 36], y[5, 7] = np.nan, np.inf
    np.testing.assert_array_equal(np.isfinite(matmul.product(device(x), device(y)).get()), np.isfinite(x @ y))


def test_integers_are_cupys_affair():
    x = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(matmul.product(device(x), device(x.T)).get(), x @ x.T)


def test_large_products_are_cublas_unless_a_graph_or_tf32_is_wanted(rng, monkeypatch):
    monkeypatch.setattr(matmul, "SMALL", 1000)
    x, y = matrices(rng, [(12, 16), (16, 8)], np.float32)

    def is_ours(x, y):
        launches.clear()
        near(matmul.product(device(x), device(y)), x, y, 1e-3)
        return "product" in launches

    assert not is_ours(x, y)
    assert is_ours(x[:7], y)
    with backend.capturable():
        assert is_ours(x, y)
        assert is_ours(x.astype(np.float64), y.astype(np.float64))
    monkeypatch.setattr(backend, "_tf32", True)
    assert is_ours(x, y)
    assert not is_ours(x.astype(np.float64), y.astype(np.float64))


def test_a_product_in_a_graph_has_the_same_bits(rng):
    x, y = (device(array) for array in matrices(rng, [(12, 300), (300, 8)], np.float32))
    cupy = importlib.import_module("cupy")
    eager = matmul.product(x, y).get()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream, backend.capturable():
        stream.begin_capture()
        result = matmul.product(x, y)
        graph = stream.end_capture()
        graph.launch()
    np.testing.assert_array_equal(result.get(), eager)


@dtypes
def test_a_transposed_operand_is_read_as_it_lies(dtype, rng):
    x, w, g = matrices(rng, [(6, 8), (8, 12), (6, 12)], dtype)
    on_device = [device(array) for array in (x, w, g)]
    launches.clear()
    of_x = matmul.product(on_device[2], on_device[1].T)
    of_w = matmul.product(on_device[0].T, on_device[2])
    assert launches == {"product": 2}  # and no copies
    near(of_x, g, w.T)
    near(of_w, x.T, g)


@dtypes
def test_the_op_runs_on_these_kernels(dtype, rng, monkeypatch):
    arrays = matrices(rng, [(6, 8), (8, 12)], dtype)

    def run(convert):
        x, w = (ml.Tensor(convert(array), requires_grad=True) for array in arrays)
        y = ops.matmul(x, w)
        g = convert(np.linspace(-1, 1, 72).astype(dtype).reshape(6, 12))
        transfers.clear()
        launches.clear()
        y.backward(g)
        return y.data, x.grad, w.grad

    results = [array.get() for array in run(device)]
    assert launches["product"] == 2
    with monkeypatch.context() as patched:
        patched.setattr(backend, "_device", "cpu")
        expected = run(np.asarray)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=0, atol=100 * np.finfo(dtype).eps)
