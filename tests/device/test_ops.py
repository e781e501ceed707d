"""Every op on the device: the values and gradients of the CPU, finite differences in float64, float32 near float64."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest

import minidl as ml
from minidl import backend, ops

from devices import devices_of, examples, mostly_on_a_gpu, on, on_host
from op_cases import CASES

RANDOM = {"alpha_dropout", "dropout", "gaussian_dropout"}  # whose masks are others on a GPU
every_op = pytest.mark.parametrize("name", sorted(CASES))


def draw(name, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    with on("cpu"):
        return CASES[name].draw(data, rng), rng


def run(sample, dtype=np.float64, v=None):
    """Return the result and the gradients, as NumPy arrays; and the weights v of the result, drawn if not given."""
    tensors = [ml.Tensor(x.astype(dtype), requires_grad=True) for x in sample.inputs]
    y = sample.call(*tensors)
    v = np.random.default_rng(0).standard_normal(y.shape) if v is None else v
    y.backward(v)
    assert devices_of(y.data, *(tensor.grad for tensor in tensors)) == {ml.device()}
    assert {y.dtype, *(tensor.grad.dtype for tensor in tensors)} == {np.dtype(dtype)}
    return on_host(y.data, *(tensor.grad for tensor in tensors)), v


@pytest.mark.parametrize("name", sorted(set(CASES) - RANDOM))
def test_values_and_gradients_are_those_of_the_cpu(name, device_library, example_count):
    def check(data):
        sample, _ = draw(name, data)
        got, v = run(sample)
        with on("cpu"):
            expected, _ = run(sample, v=v)
        for result, other in zip(got, expected, strict=True):
            scale = 1 + np.abs(other).max(initial=0)
            np.testing.assert_allclose(result, other, rtol=1e-9, atol=1e-12 * scale)

    examples(example_count, check)


@every_op
def test_derivatives_agree_with_central_differences(name, device_library, example_count):
    def check(data):
        sample, rng = draw(name, data)
        ml.check_gradients(sample.call, *sample.inputs, generator=rng)

    examples(example_count, check)


@mostly_on_a_gpu
@every_op
def test_float32_agrees_with_float64(name, device_library, example_count):
    def check(data):
        sample, _ = draw(name, data)
        exact, v = run(sample)
        single, _ = run(sample, np.float32, v)
        for i, (result, other) in enumerate(zip(single, exact, strict=True)):
            scale = 1 + np.abs(other).max(initial=0)
            np.testing.assert_allclose(result, other, rtol=1e-3, atol=(1e-4 if i else 1e-5) * scale)

    examples(example_count, check)


@every_op
def test_forward_mode_agrees_with_reverse_mode(name, device_library, example_count):
    def check(data):
        sample, _ = draw(name, data)
        tensors = [ml.Tensor(x, requires_grad=True) for x in sample.inputs]
        tall = backend.asarray(np.zeros(sum(x.size for x in sample.inputs)))  # many rows: forward mode is chosen
        J = ml.jacobian(lambda: ops.concatenate([sample.call(*tensors).reshape(-1), tall]), tensors)
        (y, *gradients), v = run(sample)
        expected = np.concatenate([gradient.reshape(-1) for gradient in gradients])
        np.testing.assert_allclose(v.reshape(-1) @ backend.to_numpy(J)[: y.size], expected, rtol=1e-9, atol=1e-9)

    examples(example_count and 3, check)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_come_every_time(dtype, device_library):
    rng = np.random.default_rng(0)
    x, w, gamma = rng.standard_normal((4, 9, 9, 5)), rng.standard_normal((3, 3, 5, 6)), rng.standard_normal(6)

    def once():
        leaves = [ml.Tensor(each.astype(dtype), requires_grad=True) for each in (x, w, gamma, gamma)]
        y = ops.conv2d(*leaves[:2], padding=1)
        y = ops.max_pool2d(ops.batch_norm(y, *leaves[2:], relu=True), 3, 2).reshape(4, -1)
        loss = ops.cross_entropy(ops.residual_smoothing(y, 0.5, 1.0), np.arange(4))
        loss.backward()
        return on_host(loss.data, *(leaf.grad for leaf in leaves))

    first = once()
    for _ in range(2):
        for result, other in zip(once(), first, strict=True):
            np.testing.assert_array_equal(result, other)


# ---------------------------------------------------------------- random masks


def dropped(op, size=40_000, seed=1, dtype=np.float32, x=None):
    """Return x, y and the gradient of Σy, of an op with a generator of this seed."""
    x = np.random.default_rng(5).standard_normal(size) if x is None else x
    leaf = ml.Tensor(x.astype(dtype), requires_grad=True)
    y = op(leaf, generator=np.random.default_rng(seed))
    y.sum().backward()
    return on_host(leaf.data, y.data, leaf.grad)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_the_gradient_has_the_same_mask(p, device_library):
    x, y, gradient = dropped(lambda x, generator: ops.dropout(x, p, generator=generator))
    kept = y != 0
    assert abs(kept.mean() - (1 - p)) < 5 * (p * (1 - p) / x.size) ** 0.5
    np.testing.assert_allclose(y, kept * x / np.float32(1 - p), rtol=1e-6)
    np.testing.assert_allclose(gradient, kept / np.float32(1 - p), rtol=1e-6)
    lag = kept[:-1] == kept[1:]  # neighbours are independent
    assert abs(lag.mean() - (p**2 + (1 - p) ** 2)) < 6 * (0.25 / x.size) ** 0.5


def test_gaussian_dropout_has_its_moments_and_the_gradient_has_the_same_noise(device_library):
    x, y, gradient = dropped(lambda x, generator: ops.gaussian_dropout(x, 0.5, 0.8, generator=generator))
    assert abs(gradient.mean() - 0.8) < 5 * 0.5 / x.size**0.5
    assert abs(gradient.std() - 0.5) < 5 * 0.5 / (2 * x.size) ** 0.5
    np.testing.assert_allclose(y, gradient * x, rtol=1e-6, atol=1e-6)


def test_alpha_dropout_keeps_mean_and_variance(device_library):
    x, y, gradient = dropped(lambda x, generator: ops.alpha_dropout(x, 0.3, generator=generator))
    assert abs(y.mean() - x.mean()) < 0.05
    assert abs(y.var() - x.var()) < 0.05
    assert abs((gradient != 0).mean() - 0.7) < 5 * (0.21 / x.size) ** 0.5
    assert len(np.unique(y[gradient == 0])) == 1


@pytest.mark.parametrize(
    "op",
    [
        lambda x, generator: ops.dropout(x, 0.5, generator=generator),
        lambda x, generator: ops.gaussian_dropout(x, 0.5, generator=generator),
        lambda x, generator: ops.alpha_dropout(x, 0.5, generator=generator),
    ],
    ids=["dropout", "gaussian", "alpha"],
)
def test_masks_depend_on_the_generator_alone(op, device_library):
    _, _, first = dropped(op, 1000)
    np.testing.assert_array_equal(dropped(op, 1000)[2], first)
    assert (dropped(op, 1000, seed=2)[2] != first).any()
    np.testing.assert_allclose(dropped(op, 1000, dtype=np.float64)[2], first, rtol=1e-4, atol=1e-6)


def test_dropout_of_all_and_of_nothing(device_library):
    x, y, _ = dropped(lambda x, generator: ops.dropout(x, 0.0, generator=generator), 100)
    np.testing.assert_array_equal(y, x)
    _, y, gradient = dropped(lambda x, generator: ops.dropout(x, 1.0, generator=generator), 100)
    assert not y.any()
    assert not gradient.any()
