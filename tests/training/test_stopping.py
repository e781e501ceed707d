"""Stopping rules: each ends a run exactly where a computation by hand says, and is named."""

from __future__ import annotations

import math
import os
import signal

import numpy as np
import pytest

from minidl import data, models, nn, ops, optim, training


class OneWeight(nn.Module):
    """f(x) = w x. With x = 1, targets 0 and MSE the loss is w²; SGD with η = 1/4 halves w in every step."""

    def __init__(self, w=1.0):
        self.w = nn.Parameter(np.full((1, 1), w))

    def forward(self, x):
        return x @ self.w


def halving(callbacks, epochs, batches=1, optimizer=optim.SGD):
    """Train so that W^t = 2^-t, exactly; return the trainer."""
    model = OneWeight()
    loader = data.Loader(np.ones((2 * batches, 1)), np.zeros((2 * batches, 1)), 2)
    trainer = training.Trainer(model, optimizer(model, lr=0.25), nn.MSE(), callbacks=callbacks, progress=False)
    trainer.fit(loader, epochs=epochs)
    return trainer


# ---------------------------------------------------------------- in the Trainer


def test_small_step_ends_where_the_weights_hardly_move():
    # ‖W^t − W^(t−1)‖ = 2^-t, so it is below 2^-10 at t = 11 and not yet at 10
    trainer = halving([training.SmallStep(2.0**-10)], epochs=50)
    assert len(trainer.history.steps) == 11
    assert trainer.history.stopped == "SmallStep: ‖ΔW‖ = 0.00049 < 0.000976562 at step 11"
    assert trainer.optimizer.weights[0] == 2.0**-11


def test_small_change_ends_where_the_loss_hardly_changes():
    # e_t = 4^-(t-1), |e_t − e_(t−1)| = 3 · 4^-(t-1): equal to 3 · 4^-6 at t = 7, below it at t = 8
    trainer = halving([training.SmallChange(3 * 4.0**-6)], epochs=50)
    assert len(trainer.history.steps) == 8
    assert trainer.history.stopped == "SmallChange: |Δe| = 0.00018 < 0.000732422 at step 8"


def test_small_change_of_epochs():
    # two steps an epoch: e of epoch k is (4^-(2k-2) + 4^-(2k-1)) / 2 = 10 · 16^-k; the change is 150 · 16^-k
    trainer = halving([training.SmallChange(150 * 16.0**-4, every="epoch")], epochs=50, batches=2)
    assert len(trainer.history.epochs) == 5
    assert len(trainer.history.steps) == 10
    assert trainer.history.stopped == "SmallChange: |Δe| = 0.00014 < 0.00228882 at epoch 5"


def test_step_limit_ends_in_the_middle_of_an_epoch_and_counts_over_all_fits():
    trainer = halving([training.StepLimit(5)], epochs=50, batches=3)
    assert len(trainer.history.steps) == 5
    assert trainer.history.stopped == "StepLimit: t = 5 ≥ 5"
    loader = data.Loader(np.ones((8, 1)), np.zeros((8, 1)), 2)
    trainer.callbacks = [training.StepLimit(7)]
    assert trainer.fit(loader, epochs=50).stopped == "StepLimit: t = 7 ≥ 7"
    assert len(trainer.history.steps) == 7


def test_a_run_that_no_rule_ends_is_done_with_its_epochs():
    rules = [training.StepLimit(100), training.SmallStep(1e-9), training.SmallChange(1e-9)]
    assert halving(rules, epochs=6).history.stopped == "epochs done"


def test_small_step_sees_the_true_iterates_of_nesterov():
    # on w² with η = 1/4: v ← β v − (w + β v) / 2, w ← w + v
    w, v, t = 1.0, 0.0, 0
    while t == 0 or abs(v) >= 1e-4:
        v = 0.9 * v - 0.5 * (w + 0.9 * v)
        w, t = w + v, t + 1
    trainer = halving([training.SmallStep(1e-4)], epochs=500, optimizer=optim.Nesterov)
    assert len(trainer.history.steps) == t
    assert trainer.history.stopped.endswith(f"< 0.0001 at step {t}")


def test_a_step_that_leaves_the_weights_ends_the_run():
    class Stubborn(optim.SGD):
        def update(self, W, g, lr, t):
            return W if t == 4 else W - lr * g

    trainer = halving([training.SmallStep(1e-30)], epochs=50, optimizer=Stubborn)
    assert trainer.history.stopped == "SmallStep: ‖ΔW‖ = 0 < 1e-30 at step 4"


def test_every_run_begins_anew():
    rule = training.SmallChange(0.5)
    trainer = halving([rule], epochs=1)
    loader = data.Loader(np.ones((2, 1)), np.zeros((2, 1)), 2)
    trainer.fit(loader, epochs=1)  # its loss is 3/4 below the first one's
    trainer.model.w.data = [[0.51]]
    assert trainer.fit(loader, epochs=1).stopped == "epochs done", "0.51² is near the last run's 1/4"


def test_a_rule_of_ones_own_is_a_check():
    class Enough(training.StoppingRule):
        def check(self, t, W, e):
            return f"Enough: {t}, {W[0]}, {e}" if e < 0.1 else None

    assert halving([Enough()], epochs=50).history.stopped == "Enough: 3, 0.125, 0.0625"
    with pytest.raises(TypeError, match="StoppingRule has no check method"):
        training.StoppingRule().check(1, np.zeros(1), 0.0)


@pytest.mark.parametrize("rule", [training.SmallStep(1e-3), training.SmallChange(1e-3), training.EarlyStopping(5)])
def test_nan_is_neither_small_nor_better(rule):
    rule.start(np.array([np.nan]))
    for t, (W, e) in enumerate([(np.array([np.nan]), math.nan), (np.array([1.0]), 1.0)], start=1):
        assert rule.check(t, W, e) is None
    assert getattr(rule, "best", 1.0) == 1.0


def test_rules_keep_a_float32_weight_vector_as_it_is():
    rule = training.SmallStep(1.0)
    rule.start(np.zeros(3, np.float32))
    W = np.array([2, 1, 2], np.float32)
    assert rule.check(1, W, 0.0) is None
    assert rule.check(2, W + np.float32(0.25), 0.0) == f"SmallStep: ‖ΔW‖ = {3**0.5 / 4:.2g} < 1 at step 2"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: training.StepLimit(0), ValueError, "StepLimit: t_limit is 0, expected a positive integer"),
        (lambda: training.StepLimit(2.5), ValueError, "StepLimit: t_limit is 2.5"),
        (lambda: training.SmallStep(0), ValueError, "SmallStep: eps is 0, expected a number"),
        (lambda: training.SmallStep("small"), TypeError, "SmallStep: eps is 'small', expected a number"),
        (lambda: training.SmallChange(math.nan), ValueError, "SmallChange: eps is nan"),
        (lambda: training.SmallChange(-1e-3), ValueError, "SmallChange: eps is -0.001"),
        (lambda: training.SmallChange(1e-3, "batch"), ValueError, "every is 'batch', expected 'step' or 'epoch'"),
        (lambda: training.EarlyStopping(0), ValueError, "EarlyStopping: patience is 0"),
        (lambda: training.EarlyStopping(min_delta=-1), ValueError, "EarlyStopping: min_delta is -1"),
        (lambda: training.EarlyStopping(min_delta=True), TypeError, "EarlyStopping: min_delta is True"),
        (lambda: training.EarlyStopping(watch="rate"), ValueError, "EarlyStopping: watch is 'rate', expected 'valid"),
    ],
)
def test_bad_settings_are_clear_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---------------------------------------------------------------- early stopping


class Scripted(training.Trainer):
    """A Trainer whose validations are written down beforehand."""

    script = ()

    def evaluate(self, batches):
        return self.script[len(self.history.epochs)]


class Snapshots(training.Callback):
    """Keeps the model's state after every epoch."""

    def on_start(self, trainer):
        self.states = []

    def on_epoch(self, trainer):
        self.states.append(trainer.model.state_dict())


def scripted(rule, losses, *, epochs=None, loss=None, accuracies=None):
    """Train with these validation losses; return the trainer and the model's state after every epoch."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 3)).astype(np.float32), rng.integers(0, 2, 24)
    model = nn.Sequential(dense=nn.Dense(3, 4), norm=nn.BatchNorm(4), last=nn.Dense(4, 2))
    snapshots = Snapshots()
    trainer = Scripted(model, optim.Adam(model), loss, callbacks=[snapshots, rule], progress=False)
    trainer.script = [{"loss": each} for each in losses]
    for entry, accuracy in zip(trainer.script, accuracies or (), strict=False):
        entry["accuracy"] = accuracy
    trainer.fit(data.Loader(x, y, 8), (x, y), epochs=epochs or len(losses))
    return trainer, snapshots.states


def assert_same(state, expected):
    for name, values in expected.items():
        np.testing.assert_array_equal(state[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("settings", "losses", "end", "best"),
    [
        ({"patience": 1}, [3, 2, 1, 1, 0], 4, 3),  # equal is not better
        ({"patience": 3}, [3, 1, 2, 2, 0.5, 2, 2, 2, 0], 8, 5),  # a better one begins the count anew
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.4, 2.0, 1.95, 9], 5, 3),  # 2.0 is 0.4 better than 2.4
    ],
)
def test_early_stopping_ends_after_its_patience_and_restores_the_best(settings, losses, end, best):
    rule = training.EarlyStopping(**settings)
    trainer, states = scripted(rule, losses)
    assert len(trainer.history.epochs) == end
    assert (rule.best, rule.best_epoch) == (losses[best - 1], best)
    assert_same(trainer.model.state_dict(), states[best - 1])
    assert (states[-1]["norm.running_mean"] != states[best - 1]["norm.running_mean"]).all(), "the buffers had moved"
    assert trainer.history.stopped == (
        f"EarlyStopping: validation_loss = {losses[end - 1]:g} at epoch {end}, none better for {settings['patience']} "
        f"in a row; the best is {losses[best - 1]:g} at epoch {best}"
    )


def test_of_accuracies_the_larger_is_better():
    rule = training.EarlyStopping(2, watch="validation_accuracy")
    trainer, states = scripted(rule, [5, 4, 3, 2, 1], accuracies=[0.5, 0.75, 0.625, 0.75, 1.0])
    assert trainer.history.stopped.startswith("EarlyStopping: validation_accuracy = 0.75 at epoch 4, none better for 2")
    assert (rule.best, rule.best_epoch) == (0.75, 2)
    assert_same(trainer.model.state_dict(), states[1])


def test_the_best_weights_come_back_also_when_the_epochs_are_done():
    trainer, states = scripted(training.EarlyStopping(), [3, 1, 2])
    assert trainer.history.stopped == "epochs done"
    assert_same(trainer.model.state_dict(), states[1])


def test_the_best_weights_come_back_after_an_error_and_after_ctrl_c():
    calls = []

    def failing(outputs, labels):
        calls.append(1)
        if len(calls) == 11:  # in the fourth epoch of three steps
            raise RuntimeError("the disk is full")
        return ops.cross_entropy(outputs, labels)

    class Press(training.EarlyStopping):
        def on_step(self, trainer):
            if trainer.steps_done == 8:
                os.kill(os.getpid(), signal.SIGINT)

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 3)).astype(np.float32), rng.integers(0, 2, 24)
    for rule, loss in ((training.EarlyStopping(), failing), (Press(), ops.cross_entropy)):
        model, snapshots = models.mlp([3, 2]), Snapshots()
        trainer = Scripted(model, optim.SGD(model), loss, callbacks=[snapshots, rule], progress=False)
        trainer.script = [{"loss": each} for each in (2, 1, 3, 3, 3)]
        if loss is failing:
            with pytest.raises(RuntimeError, match="the disk is full"):
                trainer.fit(data.Loader(x, y, 8), (x, y), epochs=5)
            assert len(snapshots.states) == 3
        else:
            assert trainer.fit(data.Loader(x, y, 8), (x, y), epochs=5).stopped == "interrupted"
        assert_same(model.state_dict(), snapshots.states[1])


def test_the_last_weights_stay_if_the_best_are_not_asked_for():
    rule = training.EarlyStopping(1, restore_best=False)
    trainer, states = scripted(rule, [3, 1, 2])
    assert (rule.best, rule.best_epoch) == (1, 2)
    assert_same(trainer.model.state_dict(), states[2])


def test_early_stopping_begins_anew_with_every_run():
    rule = training.EarlyStopping(2)
    trainer, _ = scripted(rule, [1, 2, 5, 4, 6, 7, 0], epochs=2)
    x = np.ones((8, 3), np.float32)
    trainer.fit(data.Loader(x, np.zeros(8, int), 8), (x, np.zeros(8, int)), epochs=5)
    assert (rule.best, rule.best_epoch) == (4, 4), "the best of the second run, by the history's number"
    assert len(trainer.history.epochs) == 6


def test_without_what_it_watches_it_says_what_is_missing():
    x, y = np.ones((8, 2), np.float32), np.zeros(8, int)
    model = models.mlp([2, 2])
    trainer = training.Trainer(model, optim.SGD(model), callbacks=[training.EarlyStopping()], progress=False)
    with pytest.raises(ValueError, match="EarlyStopping: epoch 1 has no validation_loss, only epoch, loss, accuracy"):
        trainer.fit(data.Loader(x, y, 4))


def test_early_stopping_on_real_losses_keeps_the_least(rng):
    x = rng.standard_normal((30, 20)).astype(np.float32)  # as many weights as samples, and noise for labels
    y = rng.integers(0, 2, 30)
    model = models.mlp([20, 2])
    trainer = training.Trainer(
        model, optim.SGD(model, lr=0.2), callbacks=[rule := training.EarlyStopping(5)], progress=False
    )
    history = trainer.fit(data.Loader(x[:15], y[:15], 5), (x[15:], y[15:]), epochs=60)
    losses = history.column("validation_loss")
    assert history.stopped.startswith("EarlyStopping: validation_loss = ")
    assert rule.best == min(losses)
    assert len(losses) == int(np.argmin(losses)) + 1 + 5
    assert trainer.evaluate((x[15:], y[15:]))["loss"] == pytest.approx(min(losses), rel=1e-6)


# ---------------------------------------------------------------- a schedule that watches the loss


class Watching:
    """A schedule that is told the loss after every epoch."""

    def __init__(self):
        self.told = []

    def __call__(self, t):
        return 0.25

    def observe(self, t, loss):
        self.told.append((t, loss))


@pytest.mark.parametrize("validated", [False, True])
def test_a_schedule_that_observes_is_told_the_loss_after_every_epoch(validated):
    model, schedule, before = OneWeight(), Watching(), []

    class Count(training.Callback):
        def on_epoch(self, trainer):
            before.append(len(schedule.told))

    trainer = training.Trainer(
        model, optim.SGD(model, lr=schedule), nn.MSE(), callbacks=[Count(), training.StepLimit(5)], progress=False
    )
    loader = data.Loader(np.ones((4, 1)), np.zeros((4, 1)), 2)
    history = trainer.fit(loader, (np.ones((4, 1)), np.zeros((4, 1))) if validated else None, epochs=9)
    watched = history.column("validation_loss" if validated else "loss")
    assert schedule.told == list(zip([2, 4, 5], watched, strict=True))
    assert before == [1, 2, 3], "a callback that saves the schedule saves what it was told"
