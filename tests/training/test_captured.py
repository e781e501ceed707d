"""Steps as captured graphs make the same as steps made one kernel after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minidl as ml
from minidl import backend, data, nn, ops, optim, training
from minidl.optim import penalties, schedules

from standin import transfers

RNG = np.random.default_rng(0)
X, Y = RNG.random((22, 6, 6, 1), dtype=np.float32), RNG.integers(0, 3, 22)  # the last batch of 8 has 6


def small_model():
    ml.manual_seed(3)
    return nn.Sequential(
        conv=nn.Conv2d(1, 4, 3, padding=1),
        norm=nn.BatchNorm(4),
        relu=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(0.3),
        dense=nn.Dense(36, 3),
    )


def trained(make_optimizer=optim.Adam, loss=None, epochs=3, capture=True, model=None, callbacks=(), **fit):
    model = model or small_model()
    trainer = training.Trainer(
        model, make_optimizer(model), loss, progress=False, capture=capture, callbacks=list(callbacks)
    )
    with backend.capturable():  # with our own products of matrices, as in captured steps
        trainer.fit(data.Loader(X, Y, 8, seed=1), validation=(X, Y), epochs=epochs, **fit)
    return trainer


def assert_same(one, other):
    assert one.history.column("loss") == other.history.column("loss")
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    ours, theirs = one.optimizer.state_dict(), other.optimizer.state_dict()
    for name in one.optimizer.state:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert ours["t"] == theirs["t"]


@pytest.mark.parametrize(
    "make_optimizer",
    [
        optim.SGD,
        optim.HeavyBall,
        optim.Nesterov,
        optim.Adadelta,
        optim.Adam,
        optim.AMSGrad,
        lambda model: optim.HeavyBall(model, schedules.Cosine(0.1, 9, 0.001)),
        lambda model: optim.Adam(model, penalty=[penalties.L2(1e-3), penalties.L1(1e-4, decoupled=True)]),
        lambda model: optim.SGD(model, 0.1, clip=optim.ClipNorm(0.1), lr_scale={"dense": 0.1}),
    ],
    ids=["SGD", "HeavyBall", "Nesterov", "Adadelta", "Adam", "AMSGrad", "schedule", "penalties", "clip and scale"],
)
def test_captured_steps_are_the_same(standin, make_optimizer):
    assert_same(trained(make_optimizer), trained(make_optimizer, capture=False))


@pytest.mark.parametrize("mode", ["global", "both"])
def test_a_loss_reads_the_progress_of_each_step(standin, mode):
    loss = nn.ResidualSmoothing(nn.LaplaceAnnealing(0.3), steepness=2.0, mode=mode)
    captured = trained(loss=loss)
    assert_same(captured, trained(loss=loss, capture=False))
    frozen = trained(loss=nn.ResidualSmoothing(nn.LaplaceAnnealing(1e6), steepness=2.0, mode=mode))
    assert frozen.history.column("loss") != captured.history.column("loss")


def test_a_captured_step_fetches_the_loss_and_nothing_else(standin):
    fetched = []

    class Count(training.Callback):
        def on_step(self, trainer):
            fetched.append(transfers["to host"])

    trained(callbacks=[Count()])
    steps = np.diff(fetched)
    assert (steps[:2] == 1).all()  # within an epoch
    assert len(fetched) == 9


def test_every_replay_draws_new_masks(standin):
    model = nn.Sequential(dropout=nn.Dropout(0.5), dense=nn.Dense(36, 3))
    trainer = training.Trainer(model, optim.SGD(model, 0.0), progress=False, capture=True)
    trainer.fit(data.Loader(X.reshape(22, 36), np.zeros(22, int), 22, shuffle=False), epochs=6)
    losses = trainer.history.column("loss")
    assert len(set(losses)) == 6


def test_a_step_that_is_no_number_is_not_made(standin):
    class Poison(training.Callback):
        def on_batch(self, trainer, x, y):
            self.before = trainer.model.state_dict()
            return (x * np.nan if trainer.steps_done == 4 else x), y

    for make in (optim.Adam, optim.Nesterov):
        model, callback = small_model(), Poison()
        with pytest.raises(training.NonFiniteLossError, match="step 5.*the input batch"):
            trained(make, model=model, callbacks=[callback], epochs=9)
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, callback.before[name], err_msg=name)


def test_labels_out_of_range_are_described(standin):
    model = nn.Dense(36, 3)
    trainer = training.Trainer(model, optim.SGD(model), progress=False)
    with pytest.raises(training.NonFiniteLossError, match=r"labels, which contain 7; expected class indices 0 to 2"):
        trainer.fit(data.Loader(X.reshape(22, 36), np.full(22, 7), 22))


def test_a_run_that_is_resumed_is_the_same(standin, tmp_path):
    whole = trained(epochs=4)
    trained(epochs=2, callbacks=[training.Checkpoint(tmp_path / "run", every_steps=3)])
    resumed = trained(epochs=4, callbacks=[training.Checkpoint(tmp_path / "again")], resume=tmp_path / "run")
    assert_same(resumed, whole)


def test_settings_that_change_are_captured_anew(standin):
    class Halve(training.Callback):
        def on_step(self, trainer):
            if trainer.steps_done == 5:
                trainer.optimizer.beta = 0.2
                dict(trainer.model.children())["conv"].weight.requires_grad = False

    one, other = (trained(optim.HeavyBall, capture=capture, callbacks=[Halve()], epochs=4) for capture in (True, False))
    assert_same(one, other)
    assert one.history.column("loss") != trained(optim.HeavyBall, epochs=4).history.column("loss")


def test_what_cannot_be_captured_says_so(standin):
    class Reads(nn.Module):
        def __init__(self):
            self.dense = nn.Dense(36, 3)

        def forward(self, x):
            y = self.dense(x)
            return y * float(y.data.max() > -math.inf)

    model = Reads()
    trainer = training.Trainer(model, optim.SGD(model), progress=False, capture=True)
    with pytest.raises(RuntimeError, match="capturing"):
        trainer.fit(data.Loader(X.reshape(22, 36), Y, 11))
    assert ops.relu(ml.Tensor([1.0])).item() == 1  # nothing is left in the state of capturing


def test_capture_needs_the_gpu():
    model = small_model()
    with pytest.raises(RuntimeError, match="capture is for the GPU"):
        training.Trainer(model, optim.SGD(model), capture=True).fit(data.Loader(X, Y, 8))
