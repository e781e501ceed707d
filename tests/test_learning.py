"""Real networks learn real digits."""

from __future__ import annotations

import math

import pytest

import minidl as ml
from minidl import data, models, nn, optim, training


def train_lenet5(dataset, *, epochs, batch_size, rate, dropout, loss, seed=0):
    """Train LeNet-5 with Adam and a rate that falls along a cosine to zero; return the test accuracy."""
    ml.manual_seed(seed)
    loader = data.Loader(dataset.train_x, dataset.train_y, batch_size, seed=seed)
    model = models.lenet5(dropout=dropout)
    steps = epochs * len(loader)
    optimizer = optim.Adam(model, lr=lambda t: rate * (1 + math.cos(math.pi * t / steps)) / 2)
    trainer = training.Trainer(model, optimizer, loss, progress=False)
    trainer.fit(loader, epochs=epochs)
    return trainer.evaluate((dataset.test_x, dataset.test_y))["accuracy"]


def test_lenet5_learns_the_enlarged_digits_to_98_percent():
    digits = data.load("digits", size=28)
    accuracy = train_lenet5(digits, epochs=25, batch_size=32, rate=0.003, dropout=0.25, loss=nn.LabelSmoothing(0.1))
    assert accuracy >= 0.98


@pytest.mark.data
@pytest.mark.slow
def test_lenet5_learns_mnist_to_98_5_percent_in_3_epochs():
    accuracy = train_lenet5(data.load("mnist"), epochs=3, batch_size=64, rate=0.003, dropout=0, loss=nn.CrossEntropy())
    assert accuracy >= 0.985


@pytest.mark.data
@pytest.mark.slow
def test_lenet5_learns_fashion_mnist_to_88_percent_in_3_epochs():
    fashion = data.load("fashion-mnist")
    accuracy = train_lenet5(fashion, epochs=3, batch_size=32, rate=0.003, dropout=0, loss=nn.CrossEntropy())
    assert accuracy >= 0.88
