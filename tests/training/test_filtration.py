"""Losses of single samples, and the report of the largest."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest

import minidl as ml
from minidl import data, models, nn, ops, optim, training


@pytest.fixture
def trained():
    """Return a small network that knows two clouds of points, the points, and labels of which three are wrong."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    x = (rng.standard_normal((120, 2)) + 5 * y[:, None]).astype(np.float32)
    y[[10, 50, 90]] = 1 - y[[10, 50, 90]]
    model = nn.Sequential(nn.Dense(2, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dropout(0.3), nn.Dense(8, 2))
    trainer = training.Trainer(model, optim.Adam(model, lr=0.02), progress=False)
    trainer.fit(data.Loader(x, y, 20), epochs=10)
    return model, x, y


def one_by_one(model, x, y, loss):
    with nn.evaluating(model):
        return [loss(model(x[i : i + 1]), y[i : i + 1]).item() for i in range(len(x))]


@pytest.mark.parametrize("loss", [None, nn.CrossEntropy(), nn.LabelSmoothing(0.2), ops.cross_entropy])
def test_sample_losses_are_those_of_each_sample_by_itself(trained, loss):
    model, x, y = trained
    losses = training.sample_losses(model, x, y, loss, batch_size=50)
    assert losses.shape == (120,)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, one_by_one(model, x, y, loss or ops.cross_entropy), rtol=1e-4, atol=1e-7)
    trainer = training.Trainer(model, optim.SGD(model), loss, progress=False)
    assert losses.mean() == pytest.approx(trainer.evaluate((x, y))["loss"], rel=1e-5)
    assert model.training


def test_sample_losses_of_regression_and_of_losses_for_each_sample(rng):
    model = models.mlp([3, 2])
    x, y = rng.standard_normal((7, 3)).astype(np.float32), rng.standard_normal((7, 2)).astype(np.float32)
    expected = ((model(x).data - y) ** 2).mean(axis=1)
    np.testing.assert_allclose(training.sample_losses(model, x, y, nn.MSE(), batch_size=3), expected, rtol=1e-5)
    each = lambda outputs, labels: ops.mean((outputs - labels) ** 2, axis=1)
    np.testing.assert_allclose(training.sample_losses(model, x, y, each), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"sample_losses: the loss has shape \(7, 2\), expected \(\) or \(7,\)"):
        training.sample_losses(model, x, y, lambda outputs, labels: (outputs - labels) ** 2)
    with pytest.raises(ValueError, match="batch_size is 0, expected a positive integer"):
        training.sample_losses(model, x, y, batch_size=0)


def test_augment_is_applied_before(trained):
    model, x, y = trained
    shifted = training.sample_losses(model, x - 1, y, augment=lambda x, generator: x + np.float32(1))
    np.testing.assert_allclose(shifted, training.sample_losses(model, x, y), rtol=1e-3, atol=1e-6)


def peak_of(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_the_outputs_of_all_samples_are_never_kept(rng):
    model = models.mlp([3, 500])
    x, classes = rng.random((4000, 3)).astype(np.float32), rng.integers(0, 500, 4000)
    whole = 4000 * 500 * 4  # bytes of the outputs
    assert peak_of(lambda: training.suspects(model, x, classes, batch_size=100)) < whole / 4
    y = np.zeros((4000, 500), np.uint8)
    each = lambda outputs, labels: ops.mean((outputs - labels) ** 2, axis=1)
    assert peak_of(lambda: training.sample_losses(model, x, y, each, batch_size=100)) < whole / 4


def test_wrong_labels_are_found(trained):
    model, x, y = trained
    found = training.suspects(model, x, y, share=3 / 120)
    assert sorted(found.indices) == [10, 50, 90]
    losses = training.sample_losses(model, x, y)
    np.testing.assert_array_equal(found.losses, np.sort(losses)[::-1][:3])
    np.testing.assert_array_equal(found.losses, losses[found.indices])
    np.testing.assert_array_equal(found.labels, y[found.indices])
    np.testing.assert_array_equal(found.predictions, 1 - found.labels)
    np.testing.assert_allclose(-np.log1p(-found.confidences), found.losses, rtol=1e-4)  # of two classes
    assert found.median == np.median(losses)
    assert found.count == 120
    assert found.kept.tolist() == [i for i in range(120) if i not in (10, 50, 90)]


def test_share_and_above(trained):
    model, x, y = trained
    losses = np.sort(training.sample_losses(model, x, y))[::-1]
    for share, number in ((0.5, 60), (1, 120), (1e-9, 1), (0.01, 1), (0.02, 2)):
        np.testing.assert_array_equal(training.suspects(model, x, y, share=share).losses, losses[:number])
    assert len(training.suspects(model, x, y, share=1, above=losses[4]).losses) == 4
    none = training.suspects(model, x, y, above=1000)
    assert len(none.indices) == 0
    assert len(none.kept) == 120
    assert str(none).startswith("suspects: 0 of 120 samples (0.00%)")


def test_the_report(trained):
    model, x, y = trained
    found = training.suspects(model, x, y, share=0.2, classes=("cat", "dog"))
    text = str(found)
    assert text.startswith(f"suspects: 24 of 120 samples (20.00%), median loss of all {found.median:.3g}\n")
    label, prediction = (("cat", "dog")[i] for i in (found.labels[0], found.predictions[0]))
    first = rf"\n +{found.indices[0]} +{found.losses[0]:.3f} +{label} +{prediction} +{found.confidences[0]:.1%}\n"
    assert re.search(first, text)
    wrong = int((found.labels != found.predictions).sum())
    assert text.endswith(f" … 4 more\nof {wrong} the model predicts another class")
    assert " 0 " in str(training.suspects(model, x, y, share=0.2)), "numbers where there are no names"
    for classes in (["cat", "dog"], np.array(["cat", "dog"]), {"cat": 3, "dog": 4}.keys()):
        again = training.suspects(model, x, y, share=0.2, classes=classes)
        assert (str(again), again.classes) == (text, ("cat", "dog"))
    assert training.suspects(model, x, y, classes=range(5, 7)).classes == ("5", "6")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"share": 0}, ValueError, r"suspects: share is 0, expected a number in \(0, 1\]"),
        ({"share": 1.5}, ValueError, "suspects: share is 1.5"),
        ({"above": -1}, ValueError, "suspects: above is -1"),
        ({"y": np.zeros(120)}, ValueError, r"suspects: y has shape \(120,\) and dtype float64, expected class indices"),
        ({"y": np.zeros(7, int)}, ValueError, "expected as many of both"),
    ],
)
def test_bad_arguments_are_clear_errors(trained, settings, error, message):
    model, x, y = trained
    with pytest.raises(error, match=message):
        training.suspects(model, x, **({"y": y} | settings))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_has_diverged_is_named(trained, value):
    model, x, y = trained
    model[4].bias.data = np.full(2, value, np.float32)
    each = lambda outputs, labels: ops.sum(outputs, axis=1)
    with pytest.raises(ValueError, match=f"suspects: the loss of sample 0 is {value}; has the training diverged"):
        training.suspects(model, x, y, loss=each)
    assert model.training


def test_a_model_that_is_no_classifier_is_named(trained):
    _, x, y = trained
    model = nn.Sequential(nn.Dense(2, 6), nn.Unflatten((2, 3)))
    each = lambda outputs, labels: ops.sum(outputs, axis=(1, 2))
    with pytest.raises(ValueError, match=r"the model returned the shape \(50, 2, 3\), expected logits \(N, classes\)"):
        training.suspects(model, x, y, loss=each, batch_size=50)
    assert model.training


def test_planted_wrong_labels_among_digits_are_found_by_networks_that_have_not_seen_them():
    digits = data.load("digits")
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(digits.train_y), 40, replace=False)
    y = digits.train_y.copy()
    y[wrong] = (y[wrong] + rng.integers(1, 10, 40)) % 10
    losses = np.empty(len(y))
    for train, held in data.splits.stratified_k_fold(y, 3):
        ml.manual_seed(0)
        model = models.mlp([64, 64, 10])
        x = digits.train_x.reshape(-1, 64)
        training.Trainer(model, optim.Adam(model, lr=0.01), progress=False).fit(
            data.Loader(x[train], y[train], 64), epochs=10
        )
        losses[held] = training.sample_losses(model, x[held], y[held])
    found = np.argsort(-losses)[:40]
    assert len(np.intersect1d(found, wrong)) >= 30, "by chance it would be one"
