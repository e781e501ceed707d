"""Every layer on the device: as on the CPU, and its gradients agree with differences."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minidl as ml
from minidl import backend, nn

from devices import devices_of, mostly_on_a_gpu, on, on_host
from layer_cases import FURTHER, LAYERS, made, run

RANDOM = {name for name in [*LAYERS, *FURTHER] if "Drop" in name}  # whose masks are others on a GPU
COMPARED = [(name, mode) for name in [*LAYERS, *FURTHER] for mode in (True, False) if not mode or name not in RANDOM]
every_layer = pytest.mark.parametrize("name", [*LAYERS, *FURTHER])
both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def pair(name, training, dtype=np.float64):
    """Return a layer on the CPU, the same on the device, its state and an input."""
    with on("cpu"):
        layer, x = made(name, training, dtype)
        return layer, copy.deepcopy(layer).to("gpu"), layer.state_dict(), x


def results(layer, state, x, v=None):
    """Return the output and the gradients with respect to input and parameters; and the weights v of the output."""
    leaf = ml.Tensor(x, requires_grad=True)
    for parameter in layer.parameters():
        parameter.grad = None
    y = run(layer, state, leaf)
    v = np.random.default_rng(3).standard_normal(y.shape) if v is None else v
    if y.requires_grad:
        y.backward(v)
    gradients = [each.grad for each in (leaf, *layer.parameters())]
    assert devices_of(y.data, *gradients, *(b.data for _, b in layer.named_buffers())) == {ml.device()}
    return on_host(y.data, *(np.zeros(1) if g is None else g for g in gradients)), v


@pytest.mark.parametrize(("name", "training"), COMPARED)
def test_layers_compute_what_they_compute_on_the_cpu(name, training, device_library):
    layer, twin, state, x = pair(name, training)
    got, v = results(twin, state, x)
    with on("cpu"):
        expected, _ = results(layer, state, x, v)
    for result, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-8, atol=1e-10 * (1 + np.abs(other).max(initial=0)))
    for key, value in twin.state_dict().items():
        np.testing.assert_allclose(value, layer.state_dict()[key], rtol=1e-8, atol=1e-10)


@both_modes
@every_layer
def test_gradients_agree_with_differences_along_random_directions(name, training, device_library):
    _, layer, state, x = pair(name, training)
    (_, *gradients), v = results(layer, state, x)
    rng, h = np.random.default_rng(4), 1e-6
    at = [x, *(parameter.numpy() for parameter in layer.parameters())]
    directions = [rng.standard_normal(place.shape) for place in at]
    values = []
    for step in (h, -h):
        moved, *others = (place + step * u for place, u in zip(at, directions, strict=True))
        for parameter, value in zip(layer.parameters(), others, strict=True):
            parameter.data = value
        with ml.no_grad():
            values.append((run(layer, state, ml.Tensor(moved)).numpy() * v).sum())
    numeric = (values[0] - values[1]) / (2 * h)
    analytic = sum((gradient * u).sum() for gradient, u in zip(gradients, directions, strict=True))
    assert analytic == pytest.approx(numeric, rel=1e-6, abs=1e-6)


@mostly_on_a_gpu
@both_modes
@every_layer
def test_float32_stays_and_a_copy_and_a_loaded_state_give_the_same_bits(name, training, device_library):
    _, layer, state, x = pair(name, training, np.float32)
    expected = run(layer, state, ml.Tensor(x))
    assert expected.dtype == np.float32
    other = (LAYERS | FURTHER)[name][0]().train(training)
    other.load_state_dict(state)
    for twin in (copy.deepcopy(layer), other):
        assert devices_of(*(tensor.data for tensor in twin.parameters())) <= {"gpu"}
        np.testing.assert_array_equal(run(twin, state, ml.Tensor(x)).numpy(), expected.numpy())


def test_weights_made_on_the_device_are_those_made_on_the_cpu(device_library):
    for name, (make, _) in LAYERS.items():
        ml.manual_seed(2)
        here = make()
        with on("cpu"):
            ml.manual_seed(2)
            there = make().state_dict()
        assert devices_of(*(tensor.data for tensor in here.parameters())) <= {"gpu"}, name
        drawn = {key for key, _ in here.named_parameters()}
        for key, value in here.state_dict().items():  # and what is computed from them, but for rounding
            tolerance = 0 if key in drawn else 1e-5
            np.testing.assert_allclose(value, there[key], rtol=tolerance, atol=tolerance, err_msg=f"{name}: {key}")


def test_modules_move_there_and_back(device_library):
    with on("cpu"):
        model = nn.Sequential(conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm(2))
        before = model.state_dict()
    model.to("gpu")
    assert devices_of(*(tensor.data for _, tensor in model._named_state())) == {"gpu"}
    assert model(ml.Tensor(np.ones((1, 4, 4, 1)))).shape == (1, 2, 2, 2)
    model.to("gpu").to("cpu").load_state_dict(before)
    assert devices_of(*(tensor.data for _, tensor in model._named_state())) == {"cpu"}
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(ValueError, match="device is 'tpu', expected 'cpu' or 'gpu'"):
        model.to("tpu")
    optimizer = ml.optim.SGD(model)
    with pytest.raises(RuntimeError, match="to: an optimizer holds conv.weight"):
        model.to("gpu")
    assert optimizer.weights.size
    assert backend.device() == "gpu"
