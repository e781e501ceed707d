"""The multilayer perceptron."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from minidl import data, models, nn, ops, optim


def kinds(model):
    return [type(layer).__name__ for layer in model]


def test_layers():
    assert kinds(models.mlp([3, 2])) == ["Flatten", "Dense"]
    assert kinds(models.mlp([3, 4, 2])) == ["Flatten", "Dense", "ReLU", "Dense"]
    model = models.mlp([3, 5, 4, 2], activation=nn.Tanh, batch_norm=True, dropout=0.5)
    assert kinds(model) == ["Flatten", *["Dense", "BatchNorm", "Tanh", "Dropout"] * 2, "Dense"]
    assert model[4].p == 0.5
    assert model[3] is not model[7]


def test_summary_and_counts():
    summary = models.mlp([784, 128, 10]).summary((28, 28, 1))
    assert [(row.output_shape, row.parameters) for row in summary.rows] == [
        ((784,), 0), ((128,), 785 * 128), ((128,), 0), ((10,), 129 * 10),
    ]  # fmt: skip
    assert summary.parameters == 101_770
    normed = models.mlp([6, 5, 4, 3], batch_norm=True).summary((2, 3, 1))
    assert normed.parameters == 6 * 5 + 5 * 4 + 2 * (5 + 4) + 4 * 3 + 3


def test_names():
    assert list(models.mlp([3, 4, 2]).state_dict()) == ["1.weight", "1.bias", "3.weight", "3.bias"]


def test_an_activation_can_have_settings():
    model = models.mlp([2, 3, 2], activation=lambda: nn.LeakyReLU(0.3))
    assert model[2].slope == 0.3


@pytest.mark.parametrize(
    ("activation", "g2"),
    [(nn.ReLU, 2), (nn.SELU, 1), (lambda: nn.LeakyReLU(0.5), 2 / 1.25), (nn.Tanh, 2.536)],
)
def test_weights_start_with_the_variance_for_the_activation_behind_them(activation, g2):
    """Var(w) = g² / fan_in, with g² = 1 / E[f(ξ)²]; 1 / fan_in for the last layer."""
    model = models.mlp([400, 300, 300, 200], activation=activation)
    for index, expected in ((1, g2 / 400), (3, g2 / 300), (5, 1 / 300)):
        weight = model[index].weight.data
        # the variance of n normal values has the relative standard deviation √(2 / n)
        assert weight.var() == pytest.approx(expected, rel=5 * math.sqrt(2 / weight.size) + 1e-3)
        assert not model[index].bias.data.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.mlp([3]), r"mlp: sizes is \[3\], expected at least"),
        (lambda: models.mlp([3, 0, 2]), "Dense: outputs is 0"),
        (lambda: models.mlp(784), "mlp: sizes is 784, expected at least"),
        (lambda: models.mlp([3, 4, 2], dropout=2), "mlp: dropout is 2"),
        (lambda: models.mlp([3, 2], dropout=2), "mlp: dropout is 2"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("activation", ["relu", nn.ReLU(), ops.relu, None, lambda: np.tanh])
def test_an_activation_is_what_makes_a_module(activation):
    with pytest.raises(TypeError, match="mlp: activation is .*, expected what makes a Module when it is called"):
        models.mlp([3, 4, 2], activation=activation)


@pytest.mark.parametrize(
    "settings", [{}, {"batch_norm": True}, {"activation": nn.SELU}, {"activation": nn.Tanh, "dropout": 0.1}]
)
def test_it_learns_digits(settings):
    digits = data.load("digits", size=28)
    model = models.mlp([784, 64, 32, 10], **settings)
    optimizer, losses = optim.Adam(model, lr=0.005), []
    for x, labels in data.Loader(digits.train_x, digits.train_y, 32, seed=0):
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert loss.dtype == np.float32
    assert np.mean(losses[-5:]) < 0.6 < 1.9 < losses[0]
    assert {value.dtype for value in model.state_dict().values()} == {np.dtype(np.float32)}


def test_dropout_drops_in_training_only(rng):
    model, x = models.mlp([4, 50, 2], dropout=0.5), rng.random((3, 4)).astype(np.float32)
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    np.testing.assert_array_equal(model(x).data, model(x).data)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_it_equals_pytorchs(torch, pair, rng, batch_norm):
    """Outputs and all gradients in float64, in training and, after three steps, in evaluation."""
    tn = torch.nn
    sizes = [12, 8, 7, 4]
    parts = [tn.Flatten()]
    for a, b in itertools.pairwise(sizes[:-1]):
        parts += [tn.Linear(a, b, bias=not batch_norm), *([tn.BatchNorm1d(b)] if batch_norm else []), tn.Tanh()]
    twin = tn.Sequential(*parts, tn.Linear(7, 4))
    both = pair(models.mlp(sizes, nn.Tanh, batch_norm).astype("float64"), twin.double())
    both.check_all_modes(rng.standard_normal((5, 12)), np.array([1, 0, 3, 2, 1]))
