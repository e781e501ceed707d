"""Transposed convolution: PyTorch's values and gradients, the adjoint of conv2d, sizes, and clear errors."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import minidl as ml
from minidl import nn, ops

sizes = st.integers(1, 3)
pairs = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))
seeds = st.integers(0, 2**31)
with_oracle = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


def extents(shape, size, stride, padding, extra):
    return [(n - 1) * s + k - 2 * p + e for n, k, s, p, e in zip(shape[1:3], size, stride, padding, extra, strict=True)]


@with_oracle
@given(
    batch=sizes, extent=pairs(1, 5), channels=sizes, filters=sizes, size=pairs(1, 4), stride=pairs(1, 3),
    padding=pairs(0, 3), share=pairs(0, 2), bias=st.booleans(), seed=seeds,
)  # fmt: skip
def test_values_and_gradients_equal_pytorchs(
    torch, batch, extent, channels, filters, size, stride, padding, share, bias, seed
):
    extra = tuple(more % step for more, step in zip(share, stride, strict=True))
    shape = (batch, *extent, channels)
    expected_extents = extents(shape, size, stride, padding, extra)
    assume(min(expected_extents) >= 1)
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal(shape), rng.standard_normal((*size, channels, filters))]
    inputs += [rng.standard_normal(filters)] if bias else []
    tensors = [ml.Tensor(values, requires_grad=True) for values in inputs]
    twins = [torch.tensor(values, requires_grad=True) for values in inputs]
    images, weight, offset = *twins[:2], twins[2] if bias else None
    settings = {"stride": stride, "padding": padding, "output_padding": extra}
    y = ops.conv_transpose2d(*tensors, **settings)
    z = torch.nn.functional.conv_transpose2d(
        images.permute(0, 3, 1, 2), weight.permute(2, 3, 0, 1).contiguous(), offset, **settings
    ).permute(0, 2, 3, 1)
    assert y.shape == (batch, *expected_extents, filters)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-10, atol=1e-10)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    for tensor, twin in zip(tensors, twins, strict=True):
        np.testing.assert_allclose(tensor.grad, twin.grad.numpy(), rtol=1e-10, atol=1e-10)


@given(
    extent=pairs(1, 9), channels=sizes, filters=sizes, size=pairs(1, 4), stride=pairs(1, 3),
    padding=st.sampled_from(["same", "valid", 1, (0, 2), (3, 1)]), seed=seeds,
)  # fmt: skip
def test_it_is_the_adjoint_of_conv2d(extent, channels, filters, size, stride, padding, seed):
    """⟨conv2d(x, v), y⟩ = ⟨x, conv_transpose2d(y, w)⟩ for every x, and the output padding says which height x had."""
    rng = np.random.default_rng(seed)
    x, v = rng.standard_normal((2, *extent, channels)), rng.standard_normal((*size, channels, filters))
    whole = padding == "same"
    if whole:  # of the sizes that conv2d makes equally large, the one that the stride divides
        x = rng.standard_normal((2, *(n * s for n, s in zip(extent, stride, strict=True)), channels))
    zeros = {"same": (9, 9), "valid": (0, 0), 1: (1, 1)}.get(padding, padding)
    assume(all(n + 2 * p >= k for n, p, k in zip(extent, zeros, size, strict=True)))
    convolved = ops.conv2d(x, v, stride=stride, padding=padding).data
    y = rng.standard_normal(convolved.shape)
    more = (0, 0) if whole else [(n + 2 * p - k) % s for n, p, k, s in zip(extent, zeros, size, stride, strict=True)]
    back = ops.conv_transpose2d(y, v.swapaxes(2, 3), stride=stride, padding=padding, output_padding=tuple(more)).data
    assert back.shape == x.shape
    np.testing.assert_allclose((convolved * y).sum(), (x * back).sum(), rtol=1e-10, atol=1e-10)


def test_it_equals_the_sum_in_its_definition(rng):
    x, w, b = rng.standard_normal((2, 3, 2, 3)), rng.standard_normal((3, 2, 3, 4)), rng.standard_normal(4)
    y = ops.conv_transpose2d(x, w, b, stride=(2, 3), padding=(1, 0), output_padding=(1, 2)).data
    spread = np.zeros((2, 8, 7, 4))
    for r, t, i, j in np.ndindex(3, 2, 3, 2):
        spread[:, 2 * r + i, 3 * t + j] += x[:, r, t] @ w[i, j]
    np.testing.assert_allclose(y, spread[:, 1:7] + b, rtol=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 3, (2, 3)])
@pytest.mark.parametrize("size", [1, 2, 3, 4, (1, 5)])
def test_same_padding_makes_the_image_larger_by_the_stride(stride, size):
    layer = nn.ConvTranspose2d(2, 3, size, stride, "same")
    down, across = (stride, stride) if isinstance(stride, int) else stride
    assert layer(np.ones((1, 4, 5, 2), np.float32)).shape == (1, 4 * down, 5 * across, 3)


def test_a_window_that_the_stride_divides_spreads_evenly_and_another_leaves_a_pattern():
    x = np.ones((1, 6, 6, 1), np.float32)
    ones = nn.initializers.constant(1)
    even, uneven = (nn.ConvTranspose2d(1, 1, size, 2, init=ones)(x).data for size in (4, 3))
    assert np.ptp(even[0, 2:-2, 2:-2]) == 0
    assert set(np.unique(uneven[0, 2:-2, 2:-2])) == {1, 2, 4}


def test_another_weight_of_the_same_shape_can_be_applied(rng):
    layer = nn.ConvTranspose2d(2, 3, 3, 2, 1, 1, generator=rng)
    x = rng.standard_normal((2, 4, 4, 2)).astype(np.float32)
    doubled = layer.apply(ml.Tensor(x), ml.Tensor(2 * layer.weight.data))
    np.testing.assert_allclose(doubled.data, 2 * layer(x).data, rtol=1e-6)
    normed = nn.SpectralNorm(nn.ConvTranspose2d(2, 3, 3, 2, bias=False))
    normed.eval()
    W = normed.weight.data.reshape(-1, 3)
    np.testing.assert_allclose(normed(x).data, normed.layer(x).data / np.linalg.norm(W, 2), rtol=1e-3, atol=1e-5)


def test_the_layer_says_what_it_is():
    layer = nn.ConvTranspose2d(2, 3, (3, 2), 2, "same")
    assert repr(layer) == ("ConvTranspose2d(2, 3, size=(3, 2), stride=(2, 2), padding='same', output_padding=(0, 0))")
    assert layer.weight.shape == (3, 2, 2, 3)
    assert nn.ConvTranspose2d(2, 3, 3, bias=False).bias is None


def zeros(*shape):
    return ml.Tensor(np.zeros(shape))


def op(*args, **settings):
    return lambda: ops.conv_transpose2d(*args, **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (op(zeros(1, 5, 5, 3), zeros(3, 3, 16, 4)), "conv_transpose2d: x has 3 channels, w expects 16"),
        (op(zeros(5, 5, 3), zeros(3, 3, 3, 4)), r"conv_transpose2d: x has shape \(5, 5, 3\)"),
        (op(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), zeros(3)), r"b has shape \(3,\), expected \(4,\)"),
        (op(zeros(1, 5, 5, 3), zeros(0, 3, 3, 4)), "at least 1 × 1"),
        (op(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), stride=0), "conv_transpose2d: stride is 0"),
        (op(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), padding="full"), "conv_transpose2d: padding is 'full'"),
        (op(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), padding=-1), "conv_transpose2d: padding is -1"),
        (op(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), output_padding=-1), "output_padding is -1"),
        (
            op(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), stride=(2, 3), output_padding=2),
            r"conv_transpose2d: output_padding is \(2, 2\), expected less than the stride, which is \(2, 3\)",
        ),
        (
            op(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), stride=2, padding="same", output_padding=1),
            r"output_padding is \(1, 1\), expected 0 where padding is 'same'",
        ),
        (op(zeros(1, 1, 1, 3), zeros(2, 2, 3, 4), padding=1), r"padding \(\(1, 1\), \(1, 1\)\) leaves nothing"),
        (lambda: nn.ConvTranspose2d(0, 1, 3), "ConvTranspose2d: inputs is 0"),
        (lambda: nn.ConvTranspose2d(1, 1, 0), "ConvTranspose2d: size is 0"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, 2, "smae"), "ConvTranspose2d: padding is 'smae'"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, 2, 0, 2), r"ConvTranspose2d: output_padding is \(2, 2\)"),
    ],
)
def test_bad_input_is_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
