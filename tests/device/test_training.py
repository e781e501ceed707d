"""Whole trainings on the device: captured and not, their checkpoints on either device, what goes to the host."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import minidl as ml
from minidl import backend, data, models, nn, ops, optim, training

from devices import devices_of, on
from layer_cases import FURTHER, LAYERS

RNG = np.random.default_rng(0)
X, Y = RNG.random((20, 6, 6, 1), dtype=np.float32), RNG.integers(0, 3, 20)


def small_model(dropout=0.3):
    ml.manual_seed(3)
    return nn.Sequential(
        conv=nn.Conv2d(1, 4, 3, padding=1),
        norm=nn.BatchNorm(4, relu=True),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(dropout),
        dense=nn.Dense(36, 3),
    )


def trained(make=optim.Adam, epochs=2, capture=False, callbacks=(), dropout=0.3, dtype="float32", **fit):
    model = small_model(dropout).astype(dtype)
    trainer = training.Trainer(model, make(model), progress=False, capture=capture, callbacks=list(callbacks))
    trainer.fit(data.Loader(X.astype(dtype), Y, 8, seed=1), validation=(X.astype(dtype), Y), epochs=epochs, **fit)
    return trainer


def assert_same(one, other, **tolerance):
    compare = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    compare(one.history.column("loss"), other.history.column("loss"), **tolerance)
    theirs = other.model.state_dict()
    for name, value in one.model.state_dict().items():
        compare(value, theirs[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("make", [optim.SGD, optim.Nesterov, optim.Adam], ids=lambda make: make.__name__)
def test_captured_steps_make_the_same_training(make, device_library):
    with backend.capturable():  # with our own products of matrices, as in captured steps
        assert_same(trained(make, capture=True), trained(make))


@pytest.mark.parametrize("name", [*LAYERS, *FURTHER])
def test_every_layer_can_be_captured(name, device_library):
    make, shape = (LAYERS | FURTHER)[name]
    x = RNG.standard_normal((4 * shape[0], *shape[1:]), dtype=np.float32)

    def run(capture):
        ml.manual_seed(3)
        model = nn.Sequential(first=nn.BatchNorm(shape[-1]), layer=make())
        optimizer = optim.HeavyBall(model)
        square = lambda outputs, labels: (nn.main_output(outputs) * nn.main_output(outputs)).mean()
        trainer = training.Trainer(model, optimizer, square, progress=False, capture=capture)
        trainer.fit(data.Loader(x, np.zeros(len(x), int), shape[0]))
        return trainer

    with backend.capturable():
        assert_same(run(True), run(False))


MODELS = {
    "ResNet-8": (lambda: models.resnet(8), nn.CrossEntropy()),
    "DenseNet-BC": (lambda: models.densenet_bc(10, 4, dropout=0.2), nn.LabelSmoothing(0.1)),
    "CIFAR CNN": (
        lambda: models.cifar_cnn(size=8, widths=(8, 16), dropout=0.2),
        nn.ResidualSmoothing(nn.LaplaceAnnealing(0.3)),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_and_losses_can_be_captured(name, device_library):
    make, loss = MODELS[name]
    x, y = RNG.standard_normal((6, 8, 8, 3), dtype=np.float32), RNG.integers(0, 10, 6)

    def run(capture):
        ml.manual_seed(3)
        model = make()
        trainer = training.Trainer(model, optim.HeavyBall(model), loss, progress=False, capture=capture)
        trainer.fit(data.Loader(x, y, 2))
        return trainer

    with backend.capturable():
        assert_same(run(True), run(False))


def test_captured_steps_are_near_those_with_the_library_products(device_library):
    captured, plain = trained(capture=True), trained()
    assert_same(captured, plain, rtol=1e-2, atol=1e-3)
    assert devices_of(*(tensor.data for tensor in captured.model.parameters())) == {"gpu"}


def test_a_training_is_that_of_the_cpu(device_library):
    here = trained(dropout=0.0, dtype="float64")
    with on("cpu"):
        assert_same(here, trained(dropout=0.0, dtype="float64"), rtol=1e-6, atol=1e-8)


def test_a_step_of_lenet5_is_that_of_the_cpu(device_library):
    def weights():
        ml.manual_seed(0)
        model = models.lenet5(dropout=0.0).astype("float64")
        optimizer, rng = optim.HeavyBall(model), np.random.default_rng(1)
        x, y = ml.Tensor(rng.random((2, 28, 28, 1))), rng.integers(0, 10, 2)
        optimizer.zero_grad()
        ops.cross_entropy(model(x), y).backward()
        optimizer.step()
        return backend.to_numpy(optimizer.weights)

    here = weights()
    with on("cpu"):
        np.testing.assert_allclose(here, weights(), rtol=1e-7, atol=1e-10)


def test_a_checkpoint_moves_between_devices(device_library, tmp_path):
    settings = {"dropout": 0.0, "dtype": "float64"}
    whole = trained(epochs=3, **settings)
    trained(epochs=1, callbacks=[training.Checkpoint(tmp_path / "here")], **settings)
    with on("cpu"):
        trained(epochs=1, callbacks=[training.Checkpoint(tmp_path / "there")], **settings)
        resumed = trained(epochs=3, resume=tmp_path / "here", **settings)
        assert devices_of(*(tensor.data for tensor in resumed.model.parameters())) == {"cpu"}
    assert_same(resumed, whole, rtol=1e-6, atol=1e-8)
    resumed = trained(epochs=3, resume=tmp_path / "there", **settings)
    assert devices_of(*(tensor.data for tensor in resumed.model.parameters())) == {"gpu"}
    assert_same(resumed, whole, rtol=1e-6, atol=1e-8)
    assert_same(trained(epochs=3, capture=True, resume=tmp_path / "here", **settings), whole, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("capture", [False, True], ids=["step by step", "captured"])
def test_a_step_fetches_the_loss_and_nothing_else(capture, device_library):
    standin = importlib.import_module("standin")
    if device_library is not standin.MODULES["cupy"]:
        pytest.skip("the copies of CuPy's cannot be counted; that a step can be captured says as much")
    fetched = []

    class Count(training.Callback):
        def on_step(self, trainer):
            fetched.append(standin.transfers["to host"])

    trained(epochs=4, capture=capture, callbacks=[Count()])
    steps = np.diff(fetched).reshape(-1)
    within = [count for i, count in enumerate(steps) if (i + 1) % 3]  # of three steps an epoch
    assert set(within) == {1}


def test_all_data_may_lie_on_the_device(device_library):
    model = small_model(0.0)
    trainer = training.Trainer(model, optim.SGD(model, 0.1), progress=False)
    trainer.fit(data.Loader(X, Y, 8, seed=1, resident=True), epochs=2)
    other = small_model(0.0)
    plain = training.Trainer(other, optim.SGD(other, 0.1), progress=False)
    plain.fit(data.Loader(X, Y, 8, seed=1), epochs=2)
    assert_same(trainer, plain)
