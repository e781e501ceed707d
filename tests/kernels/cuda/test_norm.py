"""Batch norm in CUDA against the NumPy twin's plain form in float64, on the emulator."""

from __future__ import annotations

import importlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import emulator, nn, ops
from minidl.forward import Dual
from minidl.kernels.cuda import launch, norm
from minidl.kernels.numpy import norm as twin

from standin import launches, transfers

pytestmark = pytest.mark.usefixtures("standin")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EPS = 1e-5
ALL = [True, True, True]


def device(x):
    return importlib.import_module("cupy").asarray(x)


def problem(rng, shape, dtype, mean=1.0, evaluation=False):
    """Return x, γ, β and g, and running values or None."""
    x = rng.standard_normal(shape) + mean * rng.standard_normal(shape[-1])
    arrays = x, rng.standard_normal(shape[-1]) + 2, rng.standard_normal(shape[-1]), rng.standard_normal(shape)
    running = None
    if evaluation:
        running = x.reshape(-1, shape[-1])[0].astype(dtype), rng.uniform(0.5, 2, shape[-1]).astype(dtype)
    return [array.astype(dtype) for array in arrays], running


def on_device(x, gamma, beta, g, running=None, relu=False, needed=ALL):
    """Return y, the gradients that are needed, and mean and variance where they are computed."""
    *arrays, g = map(device, (x, gamma, beta, g))
    y, mean, variance, saved = norm.forward(*arrays, EPS, running and tuple(map(device, running)), relu)
    results = y, *norm.gradients(g, saved, needed), mean, variance
    return [result.get() for result in results if result is not None]


def plain(x, gamma, beta, g, running=None, relu=False):
    """Return the same by the twin's plain form, in float64."""
    x, gamma, beta, g = (array.astype(np.float64) for array in (x, gamma, beta, g))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "SMALL", np.inf)
        y, mean, variance, saved = twin.forward(x, gamma, beta, EPS, running, relu)
        results = y, *twin.gradients(g, saved, ALL), mean, variance
    return [result for result in results if result is not None]


def agree(results, expected, rtol):
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, other, rtol=rtol, atol=rtol * (1 + np.abs(other).max()))


def in_every_order(arrays, *settings):
    """Return what the kernels compute, which must not depend on the order in which the threads run."""
    first = None
    for order in emulator.settings.ORDERS:
        with emulator.order(order):
            results = on_device(*arrays, *settings)
        first = first or results
        for result, other in zip(results, first, strict=True):
            np.testing.assert_array_equal(result, other)
    return first


shapes = st.one_of(
    st.tuples(st.integers(1, 80), st.integers(1, 20)),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(250, 530)),
)


@given(
    shape=shapes, far=st.booleans(), evaluation=st.booleans(), relu=st.booleans(), most=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_float64_equals_the_plain_form(shape, far, evaluation, relu, most, seed):
    rng = np.random.default_rng(seed)
    arrays, running = problem(rng, shape, np.float64, 100.0 if far else 1.0, evaluation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norm, "MOST", most)  # so that few rows fill several blocks, or several rounds of one
        results = in_every_order(arrays, running, relu)
    alone = arrays[0].size == shape[-1]  # then x̂ is 0, and 1 / √ε enlarges rounding
    agree(results, plain(*arrays, running, relu), 1e-8 if alone else 1e-11 if far else 1e-12)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("shape", [(16, 32, 32, 16), (5, 13, 11, 3), (64, 128), (40, 9, 7, 12), (9, 5, 5, 1028)])
def test_float32_equals_float64(shape, evaluation, relu, rng):
    arrays, running = problem(rng, shape, np.float32, 3.0, evaluation)
    arrays[3][np.abs(plain(*arrays, running)[0]) < 1e-5] = 0  # float32 may be on either side of the kink
    expected = plain(*arrays, running, relu)
    results = in_every_order(arrays, running, relu) if shape == (40, 9, 7, 12) else on_device(*arrays, running, relu)
    for result, other in zip(results, expected, strict=True):
        assert result.dtype == np.float32
        assert np.linalg.norm(result - other) <= 2e-6 * np.linalg.norm(other)


@pytest.mark.parametrize("shape", [(16, 32, 32, 16), (512, 8), (1000, 3)])
@pytest.mark.parametrize("evaluation", [False, True])
def test_a_mean_far_from_zero_costs_no_digits(shape, evaluation, rng):
    arrays, _ = problem(rng, shape, np.float32, 1e4)
    running = None
    if evaluation:
        *_, mean, variance = plain(*arrays)
        running = mean.astype(np.float32), variance.astype(np.float32)
    agree(on_device(*arrays, running), plain(*arrays, running), 5e-6)


@pytest.mark.parametrize("first", [1e3, 1e6])
def test_a_first_value_far_from_all_others_costs_no_digits(first, rng):
    """The sums are of differences from a value that may be this one."""
    arrays, _ = problem(rng, (4000, 4), np.float32)
    arrays[0][0] = first
    agree(on_device(*arrays), plain(*arrays), 2e-6)


@dtypes
@pytest.mark.parametrize("shape", [(16, 12, 12, 16), (7, 3), (33, 7, 5, 30)])
def test_a_constant_becomes_exactly_beta(dtype, shape, rng):
    (x, gamma, beta, g), _ = problem(rng, shape, dtype)
    values = x.reshape(-1, shape[-1])[0]
    x = np.broadcast_to(values, shape).copy()
    y, *_, mean, variance = on_device(x, gamma, beta, g)
    np.testing.assert_array_equal(y, np.broadcast_to(beta, shape))
    np.testing.assert_array_equal(mean, values)
    np.testing.assert_array_equal(variance, 0)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_nan_or_an_infinity_stays_in_its_channel(value, relu, rng):
    (x, gamma, beta, g), _ = problem(rng, (8, 6, 6, 3), np.float32)
    expected = on_device(x, gamma, beta, g, None, relu)
    x[3, 5, 2, 1] = value
    results = on_device(x, gamma, beta, g, None, relu)
    for i, (result, other) in enumerate(zip(results, expected, strict=True)):
        if not (i == 3 or (i == 4 and value == np.inf)):  # β's gradient knows x by the ReLU alone, and the mean is ∞
            assert np.isnan(result[..., 1]).all()
        np.testing.assert_array_equal(result[..., [0, 2]], other[..., [0, 2]])


def test_with_a_relu_a_zero_passes_no_gradient_and_is_positive(rng):
    x = rng.standard_normal((6, 2)).astype(np.float32)
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    y, *gradients, _, _ = on_device(x, zeros, -zeros, np.ones_like(x), None, True)
    np.testing.assert_array_equal(np.signbit(y), False)
    for result in (y, *gradients):
        np.testing.assert_array_equal(result, 0)
    *_, by_beta, _, _ = on_device(x, zeros, ones, np.ones_like(x), None, True)
    np.testing.assert_array_equal(by_beta, 6)


@pytest.mark.parametrize("running", [False, True])
def test_only_what_is_needed_is_computed(running, rng):
    (x, gamma, beta, g), fixed = problem(rng, (5, 3, 3, 4), np.float64, evaluation=running)
    everything = on_device(x, gamma, beta, g, fixed)
    only_x = on_device(x, gamma, beta, g, fixed, False, [True, False, False])
    np.testing.assert_array_equal(only_x[1], everything[1])
    if running:
        assert len(only_x) == 2
        before = launches["gradient_sums"]
        on_device(x, gamma, beta, g, fixed, True, [True, False, False])
        assert launches["gradient_sums"] == before
    others = on_device(x, gamma, beta, g, fixed, False, [False, True, True])
    for result, other in zip(others[1:3], everything[2:4], strict=True):
        np.testing.assert_array_equal(result, other)


@pytest.mark.parametrize("relu", [False, True])
def test_arrays_may_lie_in_memory_as_they_like(relu, rng):
    (x, gamma, beta, g), _ = problem(rng, (5, 3, 3, 8), np.float32)
    expected = on_device(x, gamma, beta, g, None, relu)
    turned = [device(np.moveaxis(array, -1, 0).copy()).transpose(1, 2, 3, 0) for array in (x, g)]
    shifted = [device(np.append(0, array).astype(np.float32))[1:].reshape(array.shape) for array in (x, g)]
    for x, g in turned, shifted:
        y, mean, variance, saved = norm.forward(x, device(gamma), device(beta), EPS, None, relu)
        results = y, *norm.gradients(g, saved, ALL), mean, variance
        for result, other in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result.get(), other)


def test_an_array_that_is_too_large_is_a_clear_error(monkeypatch, rng):
    monkeypatch.setattr(launch, "LARGEST", 100)
    (x, gamma, beta, g), _ = problem(rng, (9, 12), np.float32)
    with pytest.raises(ValueError, match=r"batch_norm: x has shape \(9, 12\), 108 elements"):
        on_device(x, gamma, beta, g)


# ---------------------------------------------------------------- ops and layers on the device


def run(call, x, *parameters):
    """Return the output and all gradients of a call; on the device if x lies there."""
    tensors = [ml.Tensor(array, requires_grad=True) for array in (x, *parameters)]
    copied = transfers["to host"]
    y = call(*tensors)
    y.backward(y.data * y.data)
    assert transfers["to host"] == copied
    return y.numpy(), *(ml.backend.to_numpy(tensor.grad) for tensor in tensors)


def on_both(call, *arrays):
    """Return what a call gives on the device and what on the CPU."""
    found = run(call, *map(device, arrays))
    ml.use_device("cpu")
    return found, run(call, *arrays)


@dtypes
@pytest.mark.parametrize("evaluation", [False, True])
def test_a_fused_relu_is_the_same_as_one_behind(evaluation, dtype, rng):
    (x, gamma, beta, _), running = problem(rng, (6, 5, 5, 12), dtype, evaluation=evaluation)
    running = running and tuple(map(device, running))
    fused = run(lambda *a: ops.batch_norm(*a, running=running, relu=True), *map(device, (x, gamma, beta)))
    composed = run(lambda *a: ops.relu(ops.batch_norm(*a, running=running)), *map(device, (x, gamma, beta)))
    assert 0 < (fused[0] == 0).mean() < 1
    for result, other in zip(fused, composed, strict=True):
        np.testing.assert_array_equal(result, other)


@pytest.mark.parametrize("relu", [False, True])
def test_a_layer_gives_the_same_on_both_devices(relu, rng):
    x, outputs = (3 + rng.standard_normal((6, 5, 5, 4))).astype(np.float64), []
    for name in "gpu", "cpu":
        ml.backend._device = name
        layer = nn.BatchNorm(4, relu=relu).astype(np.float64)
        for parameter in (layer.gamma, layer.beta, layer.running_mean):
            parameter.data = ml.backend.asarray(np.arange(1.0, 5) - 2)
        results = []
        for training in True, True, False:
            tensor = ml.Tensor(ml.backend.asarray(x), requires_grad=True)
            copied = transfers["to host"]
            y = layer.train(training)(tensor)
            y.backward(y.data)
            assert transfers["to host"] == copied
            results += [y.data, tensor.grad, layer.gamma.grad, layer.running_mean.data, layer.running_variance.data]
        outputs.append([ml.backend.to_numpy(result) for result in results])
    agree(*outputs, 1e-12)


def test_parameters_in_another_dtype_and_running_values_in_a_third(rng):
    (x, gamma, beta, _), (mean, variance) = problem(rng, (6, 4), np.float64, evaluation=True)
    running = mean.astype(np.float32), variance.astype(np.float32)
    x = x.astype(np.float32)
    y = ops.batch_norm(device(x), device(gamma), device(beta), running=tuple(map(device, running)))
    expected = ops.batch_norm(*map(np.float64, (x, gamma, beta)), running=tuple(map(np.float64, running)))
    np.testing.assert_allclose(y.numpy(), expected.data, rtol=1e-12)


@pytest.mark.parametrize("axes", [(1, 2, 3), (1, 2), (0,), (3,)])
@pytest.mark.parametrize("eps_inside", [True, False])
def test_standardize_gives_the_same_on_both_devices(axes, eps_inside, rng):
    agree(*on_both(lambda x: ops.standardize(x, axes, eps_inside=eps_inside), rng.standard_normal((5, 4, 3, 6))), 1e-12)


def test_spectral_normalization_gives_the_same_on_both_devices(rng):
    w = rng.standard_normal((3, 3, 2, 4))
    u, v = rng.standard_normal(4), rng.standard_normal(18)

    def call(w):
        ends = (u, v) if isinstance(w.data, np.ndarray) else (device(u), device(v))
        return ops.spectral_normalize(w, *ends)

    agree(*on_both(call, w), 1e-12)


@pytest.mark.parametrize("evaluation", [False, True])
def test_the_gradients_of_a_gradient_with_tangents(evaluation, rng):
    """As of a Hessian with respect to later layers: the forward pass was plain, and the gradient that comes is not."""
    (x, gamma, beta, g), running = problem(rng, (6, 4), np.float64, evaluation=evaluation)
    tangents = rng.standard_normal((3, 6, 4))
    results = []
    for where, module in (device, norm), (np.asarray, twin):
        fixed = running and tuple(map(where, running))
        *_, saved = module.forward(*map(where, (x, gamma, beta)), EPS, fixed, True)
        results.append(module.gradients(Dual(where(g), where(tangents)), saved, ALL))
    for result, other in zip(*results, strict=True):
        np.testing.assert_allclose(result.value.get(), other.value, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(result.tangents.get(), other.tangents, rtol=1e-12, atol=1e-12)
