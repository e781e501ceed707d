"""Layers: shapes, initial weights, modes, and clear errors."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import models, nn
from minidl.nn import initializers


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (lambda: nn.Dense(3, 4), (2, 3), (2, 4)),
        (lambda: nn.Dense(3, 4, bias=False), (2, 3), (2, 4)),
        (lambda: nn.Conv2d(3, 4, 3), (2, 6, 5, 3), (2, 4, 3, 4)),
        (lambda: nn.Conv2d(3, 4, (3, 1), stride=2, padding="same"), (2, 6, 5, 3), (2, 3, 3, 4)),
        (lambda: nn.Conv2d(3, 4, 3, padding=(1, 0), bias=False), (2, 6, 5, 3), (2, 6, 3, 4)),
        (lambda: nn.MaxPool2d(2), (2, 6, 5, 3), (2, 3, 2, 3)),
        (lambda: nn.AvgPool2d(3, 1), (2, 6, 5, 3), (2, 4, 3, 3)),
        (lambda: nn.GlobalAvgPool2d(), (2, 6, 5, 3), (2, 3)),
        (lambda: nn.Flatten(), (2, 6, 5, 3), (2, 90)),
        (lambda: nn.BatchNorm(3), (2, 6, 5, 3), (2, 6, 5, 3)),
        (lambda: nn.Dropout(), (2, 3), (2, 3)),
        (lambda: nn.Softmax(), (2, 3), (2, 3)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_output_shape_and_dtype(layer, shape, expected, training):
    module = layer().train(training)
    y = module(ml.Tensor(np.ones(shape, np.float32)))
    assert y.shape == expected
    assert y.dtype == np.float32


@pytest.mark.parametrize(
    ("layer", "op"),
    [
        (nn.ReLU, ml.ops.relu),
        (nn.LeakyReLU, ml.ops.leaky_relu),
        (nn.ELU, ml.ops.elu),
        (nn.SELU, ml.ops.selu),
        (nn.Sigmoid, ml.ops.sigmoid),
        (nn.Tanh, ml.ops.tanh),
        (nn.Softplus, ml.ops.softplus),
        (nn.Softmax, ml.ops.softmax),
    ],
)
def test_activations_are_their_ops(layer, op, rng):
    x = rng.standard_normal((2, 3))
    np.testing.assert_array_equal(layer()(x).data, op(x).data)


def test_sizes_may_be_numpys_integers():
    assert nn.Conv2d(np.int64(1), 2, np.int64(3))(np.ones((1, 4, 4, 1), np.float32)).shape == (1, 2, 2, 2)


def test_global_average_pooling_is_the_mean_of_each_channel(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    np.testing.assert_allclose(nn.GlobalAvgPool2d()(x).data, x.mean(axis=(1, 2)))


# ---------------------------------------------------------------- initial weights


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", lambda i, o: 2 / (i + o)),
        ("glorot_normal", lambda i, o: 2 / (i + o)),
        ("he_uniform", lambda i, o: 2 / i),
        ("he_normal", lambda i, o: 2 / i),
    ],
)
@pytest.mark.parametrize("shape", [(200, 300), (3, 3, 100, 50)])
def test_initial_weights_have_the_variance_of_their_paper(name, variance, shape):
    weights = initializers.get(name)(shape, np.random.default_rng(0))
    window = int(np.prod(shape[:-2]))
    expected = variance(window * shape[-2], window * shape[-1])
    assert weights.dtype == np.float32
    assert weights.var() == pytest.approx(expected, rel=0.03)
    assert abs(weights.mean()) < 5 * np.sqrt(expected / weights.size)
    if name.endswith("uniform"):
        assert np.abs(weights).max() <= np.sqrt(3 * expected)


def test_an_initializer_can_be_a_callable_and_unknown_names_list_the_known():
    layer = nn.Dense(2, 2, init=lambda shape, generator: np.full(shape, 7, np.float32))
    assert (layer.weight.data == 7).all()
    with pytest.raises(ValueError, match="init is 'magic', expected one of glorot_uniform"):
        nn.Dense(2, 2, init="magic")


def test_he_keeps_the_variance_through_relu_layers():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 400)).astype(np.float32)
    model = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Dense(400, 400, generator=rng), nn.ReLU())])
    assert 0.5 < (model(x).data ** 2).mean() < 2


# ---------------------------------------------------------------- dropout and batch normalization


def test_dropout_drops_in_training_only():
    x = np.ones((100, 100), np.float32)
    layer = nn.Dropout(0.4, generator=np.random.default_rng(0))
    y = layer(x).data
    assert 0.35 < (y == 0).mean() < 0.45
    np.testing.assert_allclose(y[y != 0], 1 / 0.6, rtol=1e-6)
    np.testing.assert_array_equal(layer.eval()(ml.Tensor(x)).data, x)
    late = nn.Dropout(0.4, scaling="eval")
    assert set(np.unique(late(x).data)) == {0, 1}
    np.testing.assert_allclose(late.eval()(x).data, 0.6 * x, rtol=1e-6)


def test_dropout_masks_come_from_the_seeded_generator():
    x = np.ones((4, 4), np.float32)
    layer = nn.Dropout(0.5)
    ml.manual_seed(3)
    first, second = layer(x).data, layer(x).data
    ml.manual_seed(3)
    np.testing.assert_array_equal(layer(x).data, first)
    assert not np.array_equal(first, second)


def test_batch_norm_running_values_follow_their_recursion(rng):
    layer = nn.BatchNorm(2, momentum=0.3)
    mean, variance = np.zeros(2), np.ones(2)
    for _ in range(4):
        x = rng.standard_normal((5, 3, 3, 2)).astype(np.float32) * 2 + 1
        layer(x)
        mean = 0.7 * mean + 0.3 * x.mean(axis=(0, 1, 2))
        variance = 0.7 * variance + 0.3 * x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_variance.data, variance, rtol=1e-5)
    layer.eval()
    x = rng.standard_normal((5, 3, 3, 2)).astype(np.float32)
    np.testing.assert_allclose(layer(x).data, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-5)


def test_batch_norm_training_equals_pytorchs_but_for_the_unbiased_variance(torch, rng):
    layer, twin = nn.BatchNorm(3).astype("float64"), torch.nn.BatchNorm2d(3).double()
    x = rng.standard_normal((4, 5, 5, 3))
    y, z = layer(x), twin(torch.tensor(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(y.data, z.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean.data, twin.running_mean.numpy(), rtol=1e-12)
    biased = (layer.running_variance.data - 0.9) * 100 / 99 + 0.9
    np.testing.assert_allclose(biased, twin.running_var.numpy(), rtol=1e-12)


# ---------------------------------------------------------------- losses


def test_losses_equal_their_ops(rng):
    logits, labels = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    assert nn.CrossEntropy()(logits, labels).item() == ml.ops.cross_entropy(logits, labels).item()
    smoothed = nn.LabelSmoothing(0.2)(logits, labels, 0.5).item()
    assert smoothed == ml.ops.cross_entropy(logits, labels, 0.2).item()
    targets = 0.8 * np.eye(3)[labels] + 0.2 / 3
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert smoothed == pytest.approx(-(targets * log_p).sum(axis=1).mean(), rel=1e-12)
    assert nn.MSE()(logits, np.zeros((4, 3))).item() == pytest.approx((logits**2).mean())


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dense(0, 3), "Dense: inputs is 0"),
        (lambda: nn.Dense(3, 2.5), "Dense: outputs is 2.5"),
        (lambda: nn.Conv2d(3, -1, 3), "Conv2d: outputs is -1"),
        (lambda: nn.Conv2d(3, 1, 0), "Conv2d: size is 0"),
        (lambda: nn.Conv2d(3, 1, (3, 3, 3)), r"Conv2d: size is \(3, 3, 3\)"),
        (lambda: nn.Conv2d(3, 1, 3, padding="smae"), "Conv2d: padding is 'smae'"),
        (lambda: nn.Conv2d(3, 1, True), "Conv2d: size is True"),
        (lambda: nn.BatchNorm(0), "BatchNorm: channels is 0"),
        (lambda: nn.MaxPool2d(0), "MaxPool2d: size is 0"),
        (lambda: nn.AvgPool2d(2, -1), "AvgPool2d: stride is -1"),
        (lambda: nn.Dropout(-0.1), "Dropout: p is -0.1"),
        (lambda: nn.Dropout(0.5, scaling="never"), "scaling is 'never'"),
        (lambda: nn.BatchNorm(3, momentum=2), "BatchNorm: momentum is 2"),
        (lambda: nn.BatchNorm(3, eps=0), "BatchNorm: eps is 0"),
        (lambda: nn.LabelSmoothing(2), "LabelSmoothing: eps is 2"),
        (lambda: models.mlp([3]), r"mlp: sizes is \[3\]"),
        (lambda: nn.Dense(3, 2)(np.ones((1, 4), np.float32)), r"Dense: x has shape \(1, 4\), expected \(N, 3\)"),
        (lambda: nn.Conv2d(3, 2, 1)(np.ones((1, 4, 4, 1), np.float32)), "conv2d: x has 1 channels, w expects 3"),
        (lambda: nn.GlobalAvgPool2d()(np.ones((1, 4))), "GlobalAvgPool2d: x has shape"),
        (lambda: nn.Flatten()(np.ones(3)), "Flatten: x has shape"),
    ],
)
def test_bad_input_is_a_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
