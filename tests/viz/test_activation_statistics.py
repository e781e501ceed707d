"""Activations layer by layer: the numbers drawn are those of the layers, and the networks stay as they were."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import nn, viz

X = np.random.default_rng(0).standard_normal((32, 10)).astype(np.float32)


def network(norm=None, depth=5):
    ml.manual_seed(0)
    layers = []
    for _ in range(depth):
        layers += [nn.Dense(10, 10), *([norm(10)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers)


def test_means_and_deviations_are_those_of_the_outputs():
    plain, normed = network(), network(nn.BatchNorm, depth=3)
    figure = viz.activation_statistics({"plain": plain, "batch": normed}, X)
    means, spreads = figure.axes
    h, expected = X, []
    dense = list(plain.parameters())
    for W, b in zip(dense[::2], dense[1::2], strict=True):
        h = np.maximum(h @ W.data + b.data, 0)
        expected.append((h.mean(), h.std()))
    drawn = np.stack([means.lines[0].get_ydata(), spreads.lines[0].get_ydata()], axis=1)
    np.testing.assert_allclose(drawn, expected, rtol=1e-5)
    assert [len(line.get_xdata()) for line in means.lines] == [5, 3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "batch"]


def test_other_layers_can_be_asked_for():
    figure = viz.activation_statistics({"batch": network(nn.BatchNorm)}, X, layers=nn.BatchNorm)
    means, spreads = (axes.lines[0].get_ydata() for axes in figure.axes)
    np.testing.assert_allclose(means, 0, atol=1e-6)
    np.testing.assert_allclose(spreads, 1, rtol=1e-3)


def test_the_networks_are_afterwards_as_before():
    model = network(nn.BatchNorm).eval()
    before = model.state_dict()
    viz.activation_statistics({"batch": model}, X)
    after = model.state_dict()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert not any(module.training for _, module in model.named_modules())


def test_exploding_and_dead_networks_can_be_drawn():
    exploding, dead = network(), network()
    for parameter in exploding.parameters():
        parameter.data = parameter.data * np.float32(1e4)
    for parameter in dead.parameters():
        parameter.data = parameter.data * 0
    figure = viz.activation_statistics({"exploding": exploding, "dead": dead}, X)
    means, spreads = figure.axes
    assert means.get_yscale() == "symlog"
    assert spreads.lines[1].get_ydata().min() > 0
    figure.canvas.draw()


def test_what_is_refused():
    with pytest.raises(ValueError, match="0 networks"):
        viz.activation_statistics({}, X)
    with pytest.raises(ValueError, match="7 networks"):
        viz.activation_statistics(dict.fromkeys("abcdefg", network()), X)
    with pytest.raises(ValueError, match="'one' has no layers"):
        viz.activation_statistics({"one": network()}, X, layers=nn.Conv2d)
