"""Layers: shapes, modes, and clear errors."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import models, nn


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (lambda: nn.Dense(3, 4), (2, 3), (2, 4)),
        (lambda: nn.Dense(3, 4, bias=False), (2, 3), (2, 4)),
        (lambda: nn.Conv2d(3, 4, 3), (2, 6, 5, 3), (2, 4, 3, 4)),
        (lambda: nn.Conv2d(3, 4, (3, 1), stride=2, padding="same"), (2, 6, 5, 3), (2, 3, 3, 4)),
        (lambda: nn.Conv2d(3, 4, 3, padding=(1, 0), bias=False), (2, 6, 5, 3), (2, 6, 3, 4)),
        (lambda: nn.ConvTranspose2d(3, 4, 3), (2, 6, 5, 3), (2, 8, 7, 4)),
        (lambda: nn.ConvTranspose2d(3, 4, (4, 3), 2, 1, (0, 1)), (2, 6, 5, 3), (2, 12, 10, 4)),
        (lambda: nn.ConvTranspose2d(3, 4, 3, (3, 2), "same", bias=False), (2, 6, 5, 3), (2, 18, 10, 4)),
        (lambda: nn.MaxPool2d(2), (2, 6, 5, 3), (2, 3, 2, 3)),
        (lambda: nn.AvgPool2d(3, 1), (2, 6, 5, 3), (2, 4, 3, 3)),
        (lambda: nn.Upsample2d(2), (2, 6, 5, 3), (2, 12, 10, 3)),
        (lambda: nn.Upsample2d((1, 3), "bilinear"), (2, 6, 5, 3), (2, 6, 15, 3)),
        (lambda: nn.GlobalAvgPool2d(), (2, 6, 5, 3), (2, 3)),
        (lambda: nn.Flatten(), (2, 6, 5, 3), (2, 90)),
        (lambda: nn.Unflatten((6, 5, 3)), (2, 90), (2, 6, 5, 3)),
        (lambda: nn.BatchNorm(3), (2, 6, 5, 3), (2, 6, 5, 3)),
        (lambda: nn.BatchNorm(3), (2, 3), (2, 3)),
        (lambda: nn.LayerNorm(3), (2, 6, 5, 3), (2, 6, 5, 3)),
        (lambda: nn.LayerNorm(3), (2, 3), (2, 3)),
        (lambda: nn.InstanceNorm(3), (2, 6, 5, 3), (2, 6, 5, 3)),
        (lambda: nn.GroupNorm(2, 4), (2, 6, 5, 4), (2, 6, 5, 4)),
        (lambda: nn.GroupNorm(2, 4, affine=False), (2, 4), (2, 4)),
        (lambda: nn.SwitchableNorm(3), (2, 6, 5, 3), (2, 6, 5, 3)),
        (lambda: nn.SpectralNorm(nn.Dense(3, 4)), (2, 3), (2, 4)),
        (lambda: nn.WeightStandardization(nn.Conv2d(3, 4, 3)), (2, 6, 5, 3), (2, 4, 3, 4)),
        (lambda: nn.Dropout(), (2, 3), (2, 3)),
        (lambda: nn.SpatialDropout2d(), (2, 6, 5, 3), (2, 6, 5, 3)),
        (lambda: nn.GaussianDropout(), (2, 3), (2, 3)),
        (lambda: nn.AlphaDropout(), (2, 6, 5, 3), (2, 6, 5, 3)),
        (lambda: nn.PoolingDropout(2, 0.3, stride=1), (2, 6, 5, 3), (2, 5, 4, 3)),
        (lambda: nn.PoolingDropout((2, 3), kind="avg"), (2, 6, 5, 3), (2, 3, 1, 3)),
        (lambda: nn.MaxDrop(2), (2, 6, 5, 3), (2, 3, 2, 3)),
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
        (nn.GELU, ml.ops.gelu),
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
        (lambda: nn.MaxPool2d(0), "MaxPool2d: size is 0"),
        (lambda: nn.AvgPool2d(2, -1), "AvgPool2d: stride is -1"),
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


def test_unflatten_undoes_flatten(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    np.testing.assert_array_equal(nn.Unflatten((3, 4, 5))(nn.Flatten()(x)).data, x)
    with pytest.raises(ValueError, match=r"Unflatten: x has shape \(2, 60\), expected \(N, 20\)"):
        nn.Unflatten((4, 5))(nn.Flatten()(x))
    with pytest.raises(ValueError, match=r"Unflatten: shape\[1\] is 0"):
        nn.Unflatten((4, 0))
