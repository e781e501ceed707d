"""What must hold for every layer: gradients, dtypes, copies and saved states, in training and in evaluation."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minidl as ml
from minidl import nn

from layer_cases import FURTHER, LAYERS, made, run

every_layer = pytest.mark.parametrize("name", [*LAYERS, *FURTHER])
both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def test_every_layer_of_nn_is_here():
    bases = {nn.Module, nn.Activation}
    public = {
        name for name in nn.__all__ if isinstance(kind := getattr(nn, name), type) and issubclass(kind, nn.Module)
    }
    assert public - {base.__name__ for base in bases} == set(LAYERS)


@both_modes
@every_layer
def test_gradients_agree_with_differences_along_random_directions(name, training):
    layer, x = made(name, training)
    state, rng = layer.state_dict(), np.random.default_rng(3)
    leaves = [ml.Tensor(x, requires_grad=True), *layer.parameters()]
    y = run(layer, state, leaves[0])
    g = rng.standard_normal(y.shape)
    if y.requires_grad:
        y.backward(g)
    at = [leaf.data for leaf in leaves]
    h = 1e-6
    for _ in range(3):
        directions = [rng.standard_normal(leaf.shape) for leaf in leaves]
        values = []
        for step in (h, -h):
            for leaf, place, direction in zip(leaves, at, directions, strict=True):
                leaf.data = place + step * direction
            with ml.no_grad():
                values.append((run(layer, state, leaves[0]).data * g).sum())
        numeric = (values[0] - values[1]) / (2 * h)
        pairs = zip(leaves, directions, strict=True)
        analytic = sum((leaf.grad * direction).sum() for leaf, direction in pairs if leaf.grad is not None)
        assert analytic == pytest.approx(numeric, rel=1e-6, abs=1e-6)


@both_modes
@every_layer
def test_float32_stays_and_the_input_too(name, training):
    layer, x = made(name, training, np.float32)
    before = x.copy()
    y = run(layer, layer.state_dict(), x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(x, before)


@both_modes
@every_layer
def test_a_copy_and_a_loaded_state_give_the_same_bits(name, training):
    layer, x = made(name, training)
    state = layer.state_dict()
    expected = run(layer, state, x).data
    np.testing.assert_array_equal(run(copy.deepcopy(layer), state, x).data, expected)
    other = (LAYERS | FURTHER)[name][0]().astype(np.float64).train(training)
    other.load_state_dict(state)
    np.testing.assert_array_equal(run(other, state, x).data, expected)


@every_layer
def test_evaluation_changes_nothing_and_repeats(name):
    layer, x = made(name, training=False)
    before, generator = layer.state_dict(), ml.backend.default_generator().bit_generator.state
    first = nn.main_output(layer(x))
    second = nn.main_output(layer(x))
    if isinstance(first, ml.Tensor):
        first, second = first.data, second.data
    np.testing.assert_array_equal(first, second)
    assert ml.backend.default_generator().bit_generator.state == generator
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
