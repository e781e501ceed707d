"""Convolution in CUDA against the NumPy twin in float64, on the emulator."""

from __future__ import annotations

import importlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import backend, emulator, ops
from minidl.kernels.cuda import conv, sums, tiles
from minidl.kernels.numpy import conv as twin

from standin import launches, transfers

pytestmark = pytest.mark.usefixtures("standin")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
PLAIN = (1, 1), ((0, 0), (0, 0))  # stride and padding
SAME = (1, 1), ((1, 1), (1, 1))
LIMIT = {"f": 5e-7, "d": 1e-14}  # of the distance to float64, relative to the norm


def device(x):
    return importlib.import_module("cupy").asarray(x)


def problem(rng, shape, kernel, stride, padding, dtype):
    """Return x, w, b, and g for the output."""
    normal = lambda *shape: rng.standard_normal(shape).astype(dtype)
    x, w = normal(*shape), normal(*kernel)
    return x, w, normal(kernel[3]), normal(*twin.forward(x, w, stride, padding).shape)


def everything(conv, x, w, b, g, stride, padding):
    return conv.affine(x, w, b, stride, padding), *conv.gradients(x, w, g, stride, padding), conv.bias_gradient(g)


def compare(arrays, stride, padding, limit=None):
    """Return what the kernels compute, which must be the twin's, and the same in whatever order the threads run."""
    exact = [array.astype(np.float64) for array in arrays]
    expected = everything(twin, *exact, stride, padding)
    scales = everything(twin, *map(abs, exact), stride, padding)  # of what is added up
    first = None
    for order in emulator.settings.ORDERS:
        with emulator.order(order):
            results = [result.get() for result in everything(conv, *map(device, arrays), stride, padding)]
        first = first or results
        for result, other, wanted, scale in zip(results, first, expected, scales, strict=True):
            np.testing.assert_array_equal(result, other)
            assert (result.dtype, result.shape) == (arrays[0].dtype, wanted.shape)
            near(result, wanted, limit, scale)
    return first


def near(result, wanted, limit=None, scale=None):
    assert distance(result, wanted, scale) <= (limit or LIMIT[result.dtype.char])


def distance(result, wanted, scale=None):
    return np.linalg.norm(result - wanted) / max(np.linalg.norm(wanted if scale is None else scale), 1e-300)


@st.composite
def layers(draw):
    """Draw the shape of x and of the kernel, the stride and the padding."""
    pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
    size, stride = draw(st.tuples(st.integers(1, 5), st.integers(1, 5))), draw(pairs)
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 6), st.integers(0, 6))] * 2))  # also beyond the window
    least = [max(1, window - sum(both)) for window, both in zip(size, padding, strict=True)]
    extents = [draw(st.integers(extent, extent + 7)) for extent in least]
    channels, filters = draw(st.tuples(*[st.sampled_from([1, 2, 3, 4, 5, 8])] * 2))
    return (draw(st.integers(1, 3)), *extents, channels), (*size, channels, filters), stride, padding


@dtypes
@given(layer=layers(), seed=st.integers(0, 2**32 - 1))
def test_equals_the_twin(layer, dtype, seed):
    shape, kernel, stride, padding = layer
    compare(problem(np.random.default_rng(seed), shape, kernel, stride, padding, dtype), stride, padding)


LAYERS = {  # shape of x, kernel, stride, padding
    "a stride beyond the window": ((2, 9, 11, 4), (2, 1, 4, 4), (3, 4), ((0, 0), (0, 0))),
    "a stride beyond the image": ((2, 3, 2, 4), (2, 2, 4, 4), (5, 4), ((0, 0), (0, 0))),
    "a padding beyond the window": ((2, 3, 4, 4), (2, 2, 4, 8), (1, 1), ((4, 1), (0, 5))),
    "an image as large as the window": ((3, 5, 3, 4), (5, 3, 4, 4), *PLAIN),
    "1 × 1": ((2, 5, 7, 8), (1, 1, 8, 4), *PLAIN),
    "1 × 1, stride 2": ((2, 5, 7, 8), (1, 1, 8, 4), (2, 2), ((0, 0), (0, 0))),
    "one pixel, one channel, one filter": ((1, 1, 1, 1), (1, 1, 1, 1), *PLAIN),
    "many columns": ((1, 4, 4, 3), (3, 3, 3, 70), *SAME),
    "many channels": ((1, 3, 3, 37), (3, 3, 37, 2), *SAME),
}


@dtypes
@pytest.mark.parametrize("name", LAYERS)
def test_odd_layers(name, dtype, rng):
    shape, kernel, stride, padding = LAYERS[name]
    compare(problem(rng, shape, kernel, stride, padding, dtype), stride, padding)


# ---------------------------------------------------------------- every tile

# Several tiles down and across, steps of the depth that are not full, parts; strides with phases of different sizes.
LARGE = {
    "stride 1": ((2, 13, 11, 20), (3, 3, 20, 68), *SAME),
    "stride 2": ((3, 13, 10, 20), (3, 5, 20, 36), (2, 2), ((1, 0), (2, 1))),
}
every_tile = pytest.mark.parametrize("tile", tiles.TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")


@pytest.fixture
def only(monkeypatch):
    """Let there be only one tile."""

    def choose(tile):
        plan = tiles._plan
        monkeypatch.setattr(tiles, "_plan", lambda *args: plan(*args[:-1], (tile,) if args[0] else args[-1]))

    return choose


@every_tile
@pytest.mark.parametrize("layer", LARGE)
def test_every_tile(tile, layer, only, rng):
    only(tile)
    shape, kernel, stride, padding = LARGE[layer]
    compare(problem(rng, shape, kernel, stride, padding, np.float32), stride, padding)


def to_tf32(x):
    """Round to 11 significant bits, halves away from zero."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.sign(mantissa) * np.floor(np.abs(mantissa) * 2**11 + 0.5) / 2**11, exponent)


@every_tile
@pytest.mark.parametrize("layer", LARGE)
def test_tf32_rounds_the_factors_and_nothing_else(tile, layer, only, rng, monkeypatch):
    monkeypatch.setattr(backend, "_tf32", True)
    only(tile)
    shape, kernel, stride, padding = LARGE[layer]
    x, w, b, g = problem(rng, shape, kernel, stride, padding, np.float32)
    results = compare((x, w, b, g), stride, padding, limit=1e-3)
    rounded = everything(twin, *map(to_tf32, (x, w, np.zeros_like(b), g)), stride, padding)
    exact = everything(twin, x, w, np.zeros_like(b), g, stride, padding)
    for result, wanted, other in zip((results[0] - b, *results[1:3]), rounded, exact, strict=False):
        near(result, wanted)
        assert distance(wanted, other) > 1e-5


def test_tf32_only_where_the_gpu_and_the_layer_can(rng, monkeypatch):
    monkeypatch.setattr(backend, "_tf32", True)
    compare(problem(rng, (1, 5, 5, 3), (3, 3, 3, 8), *SAME, np.float32), *SAME)
    compare(problem(rng, (1, 5, 5, 4), (3, 3, 4, 8), *SAME, np.float64), *SAME)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.import_module("cupy").cuda.Device, "compute_capability", "75")
        tiles.has_tf32.cache_clear()
        compare(problem(rng, (1, 5, 5, 4), (3, 3, 4, 8), *SAME, np.float32), *SAME)
    tiles.has_tf32.cache_clear()


def test_the_layers_of_resnet_and_vgg_get_tiles_that_fit():
    def tile(rows, columns, depth, **more):
        plan = tiles.plan(np.float32, True, rows, columns, depth, **more)
        assert plan.parts * plan.length >= depth > (plan.parts - 1) * plan.length
        return plan.tile.rows, plan.tile.columns

    for count, extent, channels, wanted in [
        (128, 32, 16, (128, 16)),
        (128, 16, 32, (64, 32)),
        (128, 8, 64, (64, 32)),
        (64, 56, 64, (128, 64)),
        (64, 28, 128, (128, 64)),
        (64, 14, 256, (128, 64)),
    ]:
        pixels = count * extent**2
        assert tile(pixels, channels, 9 * channels) == wanted
        assert tile(9 * channels, channels, pixels, cut=True)[1] <= max(channels, 16)


# ---------------------------------------------------------------- transposed convolution, other arrays, nothing


@dtypes
@given(layer=layers(), more=st.tuples(st.integers(0, 3), st.integers(0, 3)), seed=st.integers(0, 2**32 - 1))
def test_input_gradient_of_a_shape_with_pixels_that_no_window_reads(layer, more, dtype, seed):
    shape, kernel, stride, padding = layer
    x, w, _, g = problem(np.random.default_rng(seed), shape, kernel, stride, padding, dtype)
    more = [min(extra, step - 1) for extra, step in zip(more, stride, strict=True)]
    oh, ow = g.shape[1:3]
    shape = (
        len(x),
        *(
            max(1, (o - 1) * step + window - sum(both) + extra)
            for o, step, window, both, extra in zip((oh, ow), stride, kernel[:2], padding, more, strict=True)
        ),
        kernel[2],
    )
    result = conv.input_gradient(device(g), device(w), shape, stride, padding).get()
    g, w = g.astype(np.float64), w.astype(np.float64)
    wanted, scale = (twin.input_gradient(*of, shape, stride, padding) for of in ((g, w), (abs(g), abs(w))))
    assert result.shape == shape
    near(result, wanted, scale=scale)


@dtypes
def test_views(dtype, rng):
    x, w, b, g = problem(rng, (4, 6, 6, 8), (3, 3, 8, 8), *SAME, dtype)
    expected = everything(twin, x[::2, :, ::-1], w.swapaxes(2, 3), b[::-1], g[::2], *SAME)
    views = device(x)[::2, :, ::-1], device(w).swapaxes(2, 3), device(b)[::-1], device(g)[::2]
    for result, wanted in zip(everything(conv, *views, *SAME), expected, strict=True):
        near(result.get(), wanted)


def test_weights_that_lie_askew_in_a_vector(rng):
    x, w, b, g = problem(rng, (2, 5, 5, 4), (3, 3, 4, 8), *SAME, np.float32)
    expected = everything(twin, x, w, b, g, *SAME)
    for offset in range(4):
        vector = device(np.concatenate([np.zeros(offset, np.float32), w.ravel(), b]))
        of_w, of_b = vector[offset : offset + w.size].reshape(w.shape), vector[offset + w.size :]
        for result, wanted in zip(everything(conv, device(x), of_w, of_b, device(g), *SAME), expected, strict=True):
            near(result.get(), wanted)


def test_mixed_dtypes(rng):
    x, w, b, g = problem(rng, (2, 5, 5, 4), (3, 3, 4, 8), *SAME, np.float64)
    x32, g32 = x.astype(np.float32), g.astype(np.float32)
    expected = everything(twin, x32, w, b, g32, *SAME)
    for result, wanted in zip(
        everything(conv, device(x32), device(w), device(b), device(g32), *SAME), expected, strict=True
    ):
        assert result.dtype == wanted.dtype
        near(result.get(), wanted)


@dtypes
@pytest.mark.parametrize("zero", ["images", "channels", "filters"])
def test_nothing(zero, dtype):
    count, channels, filters = (0 if zero == name else 3 for name in ("images", "channels", "filters"))
    x, w = np.ones((count, 4, 4, channels), dtype), np.ones((3, 3, channels, filters), dtype)
    b, g = np.arange(filters, dtype=dtype), np.ones((count, 4, 4, filters), dtype)
    y = np.broadcast_to(b, g.shape)
    expected = y, np.zeros_like(x), np.zeros_like(w), g.sum(axis=(0, 1, 2))
    for result, wanted in zip(everything(conv, *map(device, (x, w, b, g)), *SAME), expected, strict=True):
        assert result.dtype == dtype
        np.testing.assert_array_equal(result.get(), wanted)


@pytest.mark.parametrize("channels", [3, 4])
def test_nan_reaches_the_windows_that_see_it_and_no_others(channels, rng):
    x, w, b, _ = problem(rng, (2, 8, 8, channels), (3, 3, channels, 4), *SAME, np.float32)
    x[1, 4, 5, 0] = np.nan
    y = conv.affine(device(x), device(w), device(b), *SAME).get()
    seen = np.zeros((2, 8, 8, 1), bool)
    seen[1, 3:6, 4:7] = True
    np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(seen, y.shape))


def test_arrays_that_a_kernel_cannot_count_are_refused():
    cupy = importlib.import_module("cupy")
    x = cupy.broadcast_to(device(np.zeros((1, 1, 1, 1), np.float32)), (2**11, 2**10, 2**10, 1))
    w = device(np.zeros((1, 1, 1, 1), np.float32))
    with pytest.raises(ValueError, match=r"conv2d: x has shape \(2048, 1024, 1024, 1\)"):
        conv.forward(x, w, *PLAIN)
    with pytest.raises(ValueError, match="conv2d: g has shape"):
        conv.input_gradient(x, w, (1, 1, 1, 1), *PLAIN)
    with pytest.raises(ValueError, match="conv2d: g has shape"):
        conv.weight_gradient(w, x, (1, 1), *PLAIN)


# ---------------------------------------------------------------- sums


@dtypes
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (64, 64), (65, 1), (1000, 10), (70, 300), (40000, 2), (3000, 257)])
def test_sums_of_columns(shape, dtype, rng):
    matrix = rng.standard_normal(shape).astype(dtype)
    near(sums.column_sums(device(matrix)).get(), matrix.sum(axis=0, dtype=np.float64), 2 * LIMIT[np.dtype(dtype).char])


@dtypes
@pytest.mark.parametrize("number", [1, 2, 3, 4, 7, 8, 31, 128, 300])
def test_sums_of_parts(number, dtype, rng):
    parts = rng.standard_normal((number, 9, 31)).astype(dtype)
    near(sums.add_parts(device(parts)).get(), parts.sum(axis=0, dtype=np.float64))


# ---------------------------------------------------------------- as an op


@dtypes
@pytest.mark.parametrize("op", [ops.conv2d, ops.conv_transpose2d])
def test_the_ops_run_on_these_kernels(op, dtype, rng, monkeypatch):
    shapes = (2, 6, 5, 4), (3, 3, 4, 8), (8,)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]

    def run(convert, g=None):
        tensors = [ml.Tensor(convert(array), requires_grad=True) for array in arrays]
        y = op(*tensors, stride=2, padding=1)
        g = convert(rng.standard_normal(y.shape).astype(dtype) if g is None else g)
        transfers.clear()
        launches.clear()
        y.backward(g)
        assert not transfers
        return g, y.data, *(tensor.grad for tensor in tensors)

    g, *results = (array.get() for array in run(device))
    assert {"weight_gradient", "column_sums", "input_gradient" if op is ops.conv2d else "forward"} < set(launches)
    with monkeypatch.context() as patched:
        patched.setattr(backend, "_device", "cpu")
        _, *expected = run(np.asarray, g)
    for result, wanted in zip(results, expected, strict=True):
        near(result, wanted, 1e-6)
