"""The same ops and steps on a GPU as on the CPU; run with `pytest -m gpu`."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import backend, models, ops, optim

from op_cases import CASES

pytestmark = pytest.mark.gpu


@pytest.fixture
def gpu():
    ml.use_device("gpu")
    yield
    ml.use_device("cpu")


def values_and_gradients(device, sample, g_seed):
    ml.use_device(device)
    try:
        tensors = [ml.Tensor(x, requires_grad=True) for x in sample.inputs]
        y = sample.call(*tensors)
        y.backward(backend.asarray(np.random.default_rng(g_seed).standard_normal(y.shape)))
        return [y.numpy(), *(backend.to_numpy(tensor.grad) for tensor in tensors)]
    finally:
        ml.use_device("cpu")


@pytest.mark.parametrize("name", sorted(CASES))
@given(data=st.data())
def test_every_op_gives_the_same_on_both_devices(name, data):
    sample = CASES[name].draw(data, np.random.default_rng(data.draw(st.integers(0, 2**31))))
    on_gpu, on_cpu = (values_and_gradients(device, sample, 0) for device in ("gpu", "cpu"))
    for got, expected in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    ["SGD", "HeavyBall", "Nesterov", "AdaGrad", "RMSProp", "Adadelta", "Adam", "AdaMax", "Nadam", "AMSGrad"],
)
def test_training_steps_of_lenet5_give_the_same_on_both_devices(name):
    def train(device):
        ml.use_device(device)
        try:
            ml.manual_seed(0)
            model = models.lenet5().astype("float64")
            optimizer = getattr(optim, name)(model)
            rng = np.random.default_rng(1)
            for _ in range(3):
                x, y = rng.random((8, 28, 28, 1)), rng.integers(0, 10, 8)
                optimizer.zero_grad()
                ops.cross_entropy(model(backend.asarray(x)), backend.asarray(y)).backward()
                optimizer.step()
            return backend.to_numpy(optimizer.weights)
        finally:
            ml.use_device("cpu")

    np.testing.assert_allclose(train("gpu"), train("cpu"), rtol=1e-7, atol=1e-9)


def test_new_tensors_are_made_on_the_chosen_device(gpu):
    assert ml.device() == "gpu"
    assert backend.array_module(ml.Tensor([1.0, 2.0]).data).__name__ == "cupy"
    assert isinstance(ml.Tensor([1.0, 2.0]).numpy(), np.ndarray)
