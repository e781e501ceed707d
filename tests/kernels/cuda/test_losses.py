"""Cross entropy in CUDA against the NumPy twin, on the emulator."""

from __future__ import annotations

import importlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import emulator, nn, ops
from minidl.kernels.cuda import launch, losses, rows
from minidl.kernels.numpy import losses as twin

from standin import transfers

pytestmark = pytest.mark.usefixtures("standin")

SIZES = [1, 2, 10, 16, 100, 300]  # laid out in three ways; test_smoothing.py has rows of all lengths


def device(x, dtype=None):
    return importlib.import_module("cupy").asarray(x, dtype)


def problem(rng, n, m, shares, dtype=np.float64, spread=3.0):
    logits = (spread * rng.standard_normal((n, m))).astype(dtype)
    if not shares:
        return logits, rng.integers(0, m, n)
    p = rng.dirichlet(np.full(m, 0.3), n)
    p[rng.random((n, m)) < 0.3] = 0
    p[:, 0] += 1 - p.sum(axis=1)
    return logits, np.abs(p).astype(dtype)


def both(kernels, logits, labels, g, smoothing):
    """Return the losses, their gradients and the targets."""
    values, saved = kernels.cross_entropy(logits, labels, smoothing)
    return values, kernels.cross_entropy_gradient(g, saved), kernels.targets(labels, logits, smoothing)


def compare(logits, labels, g, smoothing):
    """Hold the kernels to the twin, and to the same bits in whatever order the threads run."""
    first = None
    for order in emulator.settings.ORDERS:
        with emulator.order(order):
            results = [x.get() for x in both(losses, device(logits), device(labels), device(g), smoothing)]
        first = first or results
        for result, other in zip(results, first, strict=True):
            assert result.dtype == logits.dtype
            np.testing.assert_array_equal(result, other)
    double = lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x
    exact = both(twin, double(logits), double(labels), double(g), smoothing)
    for result, wanted in zip(first, exact, strict=True):
        assert result.shape == wanted.shape
        if logits.dtype == np.float64:
            np.testing.assert_allclose(result, wanted, rtol=1e-12, atol=1e-12)
        else:
            assert np.linalg.norm(result - wanted) <= 1e-6 * np.linalg.norm(wanted)
    return first


@given(
    n=st.integers(1, 70),
    m=st.sampled_from(SIZES),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    shares=st.booleans(),
    single=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_equals_the_twin(n, m, smoothing, shares, single, seed):
    rng = np.random.default_rng(seed)
    g = rng.standard_normal(() if single else n)
    compare(*problem(rng, n, m, shares), np.asarray(g), smoothing)


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("m", [10, 100])
def test_single_precision(m, shares, rng):
    compare(*problem(rng, 50, m, shares, np.float32), rng.standard_normal(50).astype(np.float32), 0.1)


@pytest.mark.parametrize("shares", [False, True])
def test_rows_that_do_not_fit_into_shared_memory_are_read_again(shares, rng, monkeypatch):
    monkeypatch.setattr(rows, "_shared_memory", lambda: 0)
    compare(*problem(rng, 3, 300, shares), np.array(1.0), 0.1)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64, np.uint64])
def test_labels_of_any_integers(dtype, rng):
    logits, labels = problem(rng, 9, 10, shares=False)
    compare(logits, labels.astype(dtype), np.array(1.0), 0.0)


@pytest.mark.parametrize("shift", [-1e4, 1e4, 1e30])
def test_large_logits_neither_overflow_nor_lose_the_difference(shift, rng):
    logits, labels = problem(rng, 9, 10, shares=False, dtype=np.float32)
    logits = np.round(logits) + np.float32(shift)
    compare(logits, labels, np.array(1.0, np.float32), 0.0)
    compare(np.where(logits == logits.max(), np.float32(3e38), logits), labels, np.array(1.0, np.float32), 0.0)


def test_a_logit_of_minus_infinity_is_a_probability_of_zero(rng):
    logits, p = problem(rng, 3, 10, shares=True)
    logits[:, 4], p[:, 0], p[:, 4] = -np.inf, p[:, 0] + p[:, 4], 0
    value, gradient, _ = compare(logits, p, np.array(1.0), 0.0)
    assert np.isfinite(value).all()
    assert (gradient[:, 4] == 0).all()


@pytest.mark.parametrize("m", [3, 100, 300])
@pytest.mark.parametrize("wrong", [-1, "m", 2**40])
def test_a_label_that_is_no_class_gives_nan_for_its_sample_alone(m, wrong, rng):
    logits, labels = problem(rng, 5, m, shares=False)
    expected = both(twin, logits, labels, np.array(1.0), 0.1)
    labels[2] = m if wrong == "m" else wrong
    for result, right in zip(both(losses, device(logits), device(labels), device(1.0), 0.1), expected, strict=True):
        right[2] = np.nan
        np.testing.assert_allclose(result.get(), right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("m", [3, 100, 300])
@pytest.mark.parametrize("wrong", ["negative", "sum", "nan"])
def test_shares_that_are_none_give_nan_for_their_sample_alone(m, wrong, rng):
    logits, p = problem(rng, 5, m, shares=True)
    expected = both(twin, logits, p, np.array(1.0), 0.1)
    p[2, :2] = {"negative": [-0.5, 0.5 + p[2, :2].sum()], "sum": p[2, :2] + 0.01, "nan": [np.nan, 0]}[wrong]
    for result, right in zip(both(losses, device(logits), device(p), device(1.0), 0.1), expected, strict=True):
        right[2] = np.nan
        np.testing.assert_allclose(result.get(), right, rtol=1e-12, atol=1e-12)


def test_arrays_may_lie_in_memory_as_they_like(rng):
    logits, p = problem(rng, 9, 10, shares=True)
    labels, g = rng.integers(0, 10, 9), rng.standard_normal(9)
    twice = lambda x: device(np.repeat(x, 2))[::2]
    turned = lambda x: device(x.T.copy()).T
    for target, turn in (labels, twice), (p, turned):
        expected = both(losses, device(logits), device(target), device(g), 0.1)
        for result, wanted in zip(both(losses, turned(logits), turn(target), twice(g), 0.1), expected, strict=True):
            np.testing.assert_array_equal(result.get(), wanted.get())


def test_an_array_that_is_too_large_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(launch, "LARGEST", 100)
    with pytest.raises(ValueError, match=r"cross_entropy: logits has shape \(11, 10\)"):
        ops.cross_entropy(device(np.zeros((11, 10))), device(np.zeros(11, int)))


# ---------------------------------------------------------------- ops


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shares", [False, True])
def test_the_op_copies_nothing_to_the_host(reduction, shares, rng):
    logits, labels = problem(rng, 6, 10, shares)

    def of(x, labels, g):
        x = ml.Tensor(x, requires_grad=True)
        loss = ops.cross_entropy(x, labels, 0.1, reduction=reduction)
        loss.backward(g)
        return loss.data, x.grad

    g = np.asarray(rng.uniform(1, 2, 6 if reduction == "none" else ()))
    on_device = [device(x) for x in (logits, labels, g)]
    transfers.clear()
    results = of(*on_device)
    assert not transfers
    ml.backend._device = "cpu"
    for result, wanted in zip(results, of(logits, labels, g), strict=True):
        np.testing.assert_allclose(result.get(), wanted, rtol=1e-12, atol=1e-15)


def test_labels_on_the_host_are_checked_there_and_moved(rng):
    logits, labels = problem(rng, 6, 10, shares=False)
    x = ml.Tensor(device(logits))
    transfers.clear()
    loss = ops.cross_entropy(x, labels)
    assert transfers == {"to device": 1}
    assert loss.item() == ops.cross_entropy(x, device(labels)).item()
    labels[3] = 10
    for function in (lambda y: ops.cross_entropy(x, y), nn.SquaredResidual(), nn.ResidualSmoothing(0.5)):
        call = function if not isinstance(function, nn.Loss) else lambda y, function=function: function(x, y)
        with pytest.raises(ValueError, match="labels contain 10, expected class indices 0 to 9"):
            call(labels)
        assert np.isnan(call(device(labels)).item())
    with pytest.raises(ValueError, match="labels are shares of the classes"):
        ops.cross_entropy(x, np.full((6, 10), 0.2))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_copies_nothing_to_the_host(reduction, rng):
    x, y = device(rng.standard_normal((4, 3))), device(rng.standard_normal((4, 3)))
    outputs, g = ml.Tensor(x, requires_grad=True), device(np.ones((4, 3) if reduction == "none" else ()))
    transfers.clear()
    ops.mse(outputs, y, reduction=reduction).backward(g)
    nn.MSE().each(outputs, y)
    assert not transfers
