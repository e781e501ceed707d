"""Residual smoothing in CUDA against the NumPy twin, on the emulator."""

from __future__ import annotations

import importlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import emulator, nn, ops
from minidl.kernels.cuda import launch, rows, smoothing
from minidl.kernels.numpy import smoothing as twin

from standin import transfers

pytestmark = pytest.mark.usefixtures("standin")

SHORT = [2, 3, 10, 15, 16, 17, 31, 64]
SIZES = [*SHORT, 65, 100, 128, 129, 255, 256, 257, 1024, 1025, 8192, 8193]  # on both sides of where the layout changes
STEEPNESS = [0.0, 0.25, 1.0, 4.0, 1000.0]


def device(x, dtype=None):
    return importlib.import_module("cupy").asarray(x, dtype)


def residuals(rng, n, m, dtype=np.float64):
    d = rng.standard_normal((n, m)) + rng.choice([0, 5], (n, 1))
    d[rng.random(n) < 0.1] = 0.1  # in which no value differs from the others
    return d.astype(dtype), rng.standard_normal((n, m)).astype(dtype)


def both(kernels, d, g, settings):
    return kernels.forward(d, *settings), kernels.gradient(g, d, *settings)


def compare(d, g, settings):
    """Hold the kernels to the twin, and to the same bits in whatever order the threads run."""
    first = None
    for order in emulator.settings.ORDERS:
        with emulator.order(order):
            results = [result.get() for result in both(smoothing, device(d), device(g), settings)]
        first = first or results
        for result, other in zip(results, first, strict=True):
            assert (result.dtype, result.shape) == (d.dtype, d.shape)
            np.testing.assert_array_equal(result, other)
    exact = both(twin, d.astype(np.float64), g.astype(np.float64), settings)
    for result, wanted in zip(first, exact, strict=True):
        if d.dtype == np.float64:
            np.testing.assert_allclose(result, wanted, rtol=1e-12, atol=1e-12)
        else:
            assert np.linalg.norm(result - wanted) <= 1e-6 * np.linalg.norm(wanted)
    return first


@given(
    n=st.integers(1, 70),
    m=st.sampled_from(SHORT),
    scale=st.floats(0, 1),
    steepness=st.sampled_from(STEEPNESS),
    frozen=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_the_twin(n, m, scale, steepness, frozen, seed):
    d, g = residuals(np.random.default_rng(seed), n, m)
    compare(d, g, (scale, steepness, frozen))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("m", [10, 100])
def test_single_precision(m, frozen, rng):
    d, g = residuals(rng, 50, m, np.float32)
    compare(d, g, (0.7, 1.0, frozen))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("m", SIZES)
def test_rows_of_every_length(m, frozen, rng):
    for n in (1, 5) if m < 1000 else (2,):
        d, g = residuals(rng, n, m)
        compare(d, g, (0.7, 1.0, frozen))


@pytest.mark.parametrize("room", [0, 8 * 300, 2 * 8 * 300])
def test_rows_that_do_not_fit_into_shared_memory_are_read_again(room, rng, monkeypatch):
    """At the second size the row of the forward pass does, and the two of the derivative do not."""
    monkeypatch.setattr(rows, "_shared_memory", lambda: room)
    d, g = residuals(rng, 3, 300)
    compare(d, g, (0.7, 1.0, False))


def test_where_rows_are_kept():
    """A row of 10,000 numbers of float32 is read once, also where g is read with it."""
    layout = lambda m, kept=1, size=4: rows.layout_of(m, kept * m * size)
    assert layout(10) == ({"LANES": 2, "ITEMS": 8}, 0)
    assert layout(256) == ({"LANES": 32, "ITEMS": 8}, 0)
    assert layout(1024) == ({"LANES": 64, "ITEMS": 0, "KEEP": 1}, 4096)
    assert layout(10_000, 2) == ({"LANES": 512, "ITEMS": 0, "KEEP": 1}, 80_000)
    assert layout(10_000, 2, 8) == ({"LANES": 512, "ITEMS": 0, "KEEP": 0}, 0)


@pytest.mark.parametrize("m", [2, 10, 100])
@pytest.mark.parametrize("value", [0, 0.1, 1e20, -7.3])
def test_equal_values_stay_as_they_are(m, value):
    d, g = np.full((3, m), value, np.float32), np.ones((3, m), np.float32)
    r, by_d = both(smoothing, device(d), device(g), (1.0, 1.0, False))
    np.testing.assert_array_equal(r.get(), d)
    np.testing.assert_allclose(by_d.get(), 1, rtol=1e-6)


def test_without_diffusion_nothing_moves(rng):
    d, g = residuals(rng, 20, 10)
    for steepness in STEEPNESS:
        r, by_d = compare(d, g, (0.0, steepness, False))
        np.testing.assert_array_equal(r, d)
        np.testing.assert_array_equal(by_d, g)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_scale_may_lie_on_the_device(dtype, rng):
    d, g = map(device, residuals(rng, 7, 12, dtype))
    by_value = both(smoothing, d, g, (0.3, 2.0, False))
    transfers.clear()
    scale = importlib.import_module("cupy").full((), 0.3, np.float64)
    by_address = both(smoothing, d, g, (scale, 2.0, False))
    assert not transfers
    for one, other in zip(by_value, by_address, strict=True):
        np.testing.assert_array_equal(one.get(), other.get())


def test_arrays_may_lie_in_memory_as_they_like(rng):
    d, g = residuals(rng, 9, 10)
    expected = both(smoothing, device(d), device(g), (0.5, 1.0, False))
    turned = [device(np.asfortranarray(x).T.copy()).T for x in (d, g)]
    shifted = [device(np.append(0, x))[1:].reshape(x.shape) for x in (d, g)]
    for layout in turned, shifted:
        for result, wanted in zip(both(smoothing, *layout, (0.5, 1.0, False)), expected, strict=True):
            np.testing.assert_array_equal(result.get(), wanted.get())


def test_an_empty_batch():
    d = device(np.zeros((0, 10)))
    assert [x.shape for x in both(smoothing, d, d, (0.5, 1.0, False))] == [(0, 10), (0, 10)]


def test_an_array_that_is_too_large_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(launch, "LARGEST", 100)
    with pytest.raises(ValueError, match=r"residual_smoothing: d has shape \(11, 10\)"):
        ops.residual_smoothing(device(np.zeros((11, 10))), 0.5)


# ---------------------------------------------------------------- ops and losses


def value_and_gradient(function, x, g=None):
    x = ml.Tensor(x, requires_grad=True)
    value = function(x)
    value.backward(g)
    return value, x.grad


def on_both(function, *arrays):
    """Return loss and gradient on the device, where nothing may be copied to the host, and those of the twin."""
    on_device = [device(x) for x in arrays]
    transfers.clear()
    value, gradient = value_and_gradient(lambda x: function(x, *on_device[1:]), on_device[0])
    assert not transfers["to host"]
    results = value.item(), gradient.get()
    ml.backend._device = "cpu"
    value, gradient = value_and_gradient(lambda x: function(x, *arrays[1:]), arrays[0])
    ml.backend._device = "gpu"
    return results, (value.item(), gradient)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("outputs", ["probabilities", "raw"])
@pytest.mark.parametrize("annealing", [nn.LogisticAnnealing(0.3), nn.LaplaceAnnealing(5, unit="epoch", epochs=20)])
@pytest.mark.parametrize("mode", ["both", "global"])
def test_the_loss_with_a_progress_on_the_device(follow, outputs, annealing, mode, rng):
    loss = nn.ResidualSmoothing(annealing, 2.0, mode, outputs=outputs, differentiate_diffusivity=follow)
    x, labels, progress = rng.standard_normal((6, 10)), rng.integers(0, 10, 6), np.array(0.4)
    got, expected = on_both(loss, x, labels, progress)
    for result, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("mode", ["both", "global"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_smoothing_of_images_with_a_progress_on_the_device(mode, dtype, rng):
    loss = nn.DiffusionSmoothing2d(nn.LogisticAnnealing(0.3), 1.0, mode, steps=2)
    x, y, progress = rng.random((2, 5, 4, 3)).astype(dtype), rng.random((2, 5, 4, 3)).astype(dtype), np.array(0.6)
    got, expected = on_both(loss, x, y, progress)
    assert got[1].dtype == dtype
    for result, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e4 * np.finfo(dtype).eps, atol=1e3 * np.finfo(dtype).eps)


def test_a_captured_step_reads_the_progress_anew(standin, rng):
    loss = nn.ResidualSmoothing(nn.LogisticAnnealing(0.3))
    x, labels, progress = device(rng.standard_normal((6, 10))), device(rng.integers(0, 10, 6)), device(0.2)
    one = device(1.0)
    step = lambda: value_and_gradient(lambda x: loss(x, labels, progress), x, one)
    with standin.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        value, gradient = step()
        graph = stream.end_capture()
    for now in (0.5, 0.75):
        progress[...] = now
        graph.launch()
        expected = step()
        assert value.item() == expected[0].item()
        np.testing.assert_array_equal(gradient.get(), expected[1].get())


def test_a_scale_or_a_diffusivity_on_the_host_is_checked(rng):
    with pytest.raises(ValueError, match="scale is 1.5"):
        ops.residual_smoothing(device(rng.random((2, 3))), 1.5)
    with pytest.raises(ValueError, match="kappa has values from 0.3"):
        ops.diffuse2d(device(rng.random((1, 3, 3, 1))), 0.3)
    with pytest.raises(ValueError, match="kappa has shape"):
        ops.diffuse2d(device(rng.random((1, 3, 3, 1))), device(rng.random((2, 2))))
