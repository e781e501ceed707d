"""A training that leaves the range of floats: an error that names what failed, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import data, nn, ops, optim, training
from minidl.backend import default_generator
from minidl.tensor import OPS, differentiable

X = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
Y = np.arange(12) % 2


def network():
    return nn.Sequential(norm=nn.BatchNorm(3), drop=nn.Dropout(0.5), last=nn.Dense(3, 2))


def fails_in_the_second_step(loss, error, match, method=optim.HeavyBall):
    """Train until the second step fails; everything must be as it was after the first."""
    runs = []
    for epochs in (1, 2):
        ml.manual_seed(3)
        model = network()
        optimizer = method(model, lr=0.1)
        trainer = training.Trainer(model, optimizer, lambda o, y: loss(o, y, trainer.steps_done), progress=False)
        loader = data.Loader(X, Y, 12, seed=1)
        if epochs == 1:
            trainer.fit(loader)
        else:
            with pytest.raises(error, match=match):
                trainer.fit(loader, epochs=2)
            assert trainer.history.stopped == "an error"
            assert len(trainer.history.steps) == 1
        runs.append((model.state_dict(), optimizer.state_dict(), default_generator().bit_generator.state))
    (first, state, drawn), (second, state_after, drawn_after) = runs
    assert drawn == drawn_after
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
    np.testing.assert_array_equal(state_after["v"], state["v"])
    assert state_after["t"] == state["t"] == 1


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_loss_that_becomes_infinite_or_no_number(value):
    def loss(outputs, labels, done):
        return ops.cross_entropy(outputs, labels) + (value if done else 0.0)

    where = f"the loss is {value} at step 2, epoch 2, which was not made; it began in the loss itself, from finite"
    fails_in_the_second_step(loss, training.NonFiniteLossError, where)


def test_a_finite_loss_with_a_gradient_that_is_no_number():
    @differentiable
    def broken(x):
        return x, lambda g: g * np.nan

    del OPS["broken"]  # the registry holds the library's own

    def loss(outputs, labels, done):
        return ops.cross_entropy(broken(outputs) if done else outputs, labels)

    where = r"HeavyBall\.step: at step 2 the gradient of norm\.gamma\[0\] is nan; nothing has moved"
    fails_in_the_second_step(loss, FloatingPointError, where)


def test_a_step_that_overflows():
    def loss(outputs, labels, done):
        return ops.cross_entropy(outputs, labels) * (1e30 if done else 1.0)

    where = r"AdaGradV\.step: at step 2: overflow encountered in .*; nothing has moved. The largest gradient is"
    fails_in_the_second_step(loss, FloatingPointError, where, method=AdaGradV)


class AdaGradV(optim.Optimizer):
    """AdaGrad, its state named as that of the heavy ball."""

    state = ("v",)
    by_element = True

    def update(self, W, g, lr, t):
        self.v = self.v + g**2
        return W - lr / np.sqrt(self.v + 1e-8) * g
