"""The learning-rate range test: what it finds, and that it leaves no trace."""

from __future__ import annotations

import math
import os
import signal

import numpy as np
import pytest

import minidl as ml
from minidl import data, models, nn, ops, optim, training


class OneWeight(nn.Module):
    """f(x) = w x. With x = 1, targets 0 and MSE the loss is w², the gradient 2 w, and SGD is stable below η = 1."""

    def __init__(self, w=1.0):
        self.w = nn.Parameter(np.full((1, 1), w))

    def forward(self, x):
        return x @ self.w


def parabola(samples=6):
    model = OneWeight()
    return model, data.Loader(np.ones((samples, 1)), np.zeros((samples, 1)), 2)


def by_hand(rates, smoothing):
    """Return losses and smoothed losses of SGD on w² with these rates, from their definitions."""
    w, losses = 1.0, []
    for rate in rates:
        losses.append(w * w)
        w -= rate * 2 * w
    smoothed = []
    for t in range(1, len(losses) + 1):
        weights = smoothing * (1 - smoothing) ** np.arange(t)[::-1]
        smoothed.append((weights * losses[:t]).sum() / weights.sum())
    return np.array(losses), np.array(smoothed)


# ---------------------------------------------------------------- what it finds


@pytest.mark.parametrize("smoothing", [0.1, 0.5, 1.0])
def test_the_curve_is_that_of_sgd_with_these_rates(smoothing):
    model, loader = parabola()
    low, high, steps = 1e-4, 0.4, 50
    result = training.find_rate(
        model, optim.SGD(model), loader, nn.MSE(), low=low, high=high, steps=steps, smoothing=smoothing
    )
    rates = [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]
    losses, smoothed = by_hand(rates, smoothing)
    np.testing.assert_allclose(result.rates, rates, rtol=1e-12)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-10)
    np.testing.assert_allclose(result.smoothed, smoothed, rtol=1e-10)
    assert result.diverged_at is None
    assert result.least == result.rates[-1], "below η = 1/2 every step is better than the last"
    slopes = np.diff(smoothed) / (math.log10(high / low) / (steps - 1))
    central = np.concatenate([slopes[:1], (slopes[1:] + slopes[:-1]) / 2, slopes[-1:]])
    assert result.suggestion == result.rates[5 + central[5:].argmin()]
    assert result.steepest == pytest.approx(central[5:].min(), rel=1e-9)


def test_it_ends_when_the_smoothed_loss_is_a_multiple_of_its_least():
    model, loader = parabola()
    result = training.find_rate(model, optim.SGD(model), loader, nn.MSE(), low=1e-2, high=100, divergence=3)
    assert len(result.rates) < 100
    assert result.diverged_at == result.rates[-1] > 1, "plain gradient descent on w² is stable up to η = 1"
    ratios = result.smoothed / np.minimum.accumulate(result.smoothed)
    assert ratios[-1] > 3 >= ratios[:-1].max()
    assert result.suggestion < 0.5, "where one step leads to the minimum"
    _, smoothed = by_hand(np.geomspace(1e-2, 100, 100)[: len(result.rates)], 0.1)
    np.testing.assert_allclose(result.smoothed, smoothed, rtol=1e-8)


def test_it_ends_when_the_loss_is_not_finite():
    model, loader = parabola()
    result = training.find_rate(
        model, optim.SGD(model), loader, nn.MSE(), low=1e-2, high=1e12, steps=120, divergence=1e306
    )
    made = len(result.rates)
    assert 10 < made < 120
    assert np.isfinite(result.losses).all()
    assert np.isfinite(result.smoothed).all()
    assert result.diverged_at == pytest.approx(1e-2 * 1e14 ** (made / 119), rel=1e-12), "the step that was not made"


def test_a_loss_below_zero_diverges_upwards():
    model, loader = parabola()
    result = training.find_rate(
        model, optim.SGD(model), loader, lambda outputs, y: ops.mse(outputs, y) - 10, low=1e-3, high=0.3
    )
    assert result.diverged_at is None
    assert len(result.rates) == 100


def test_the_noise_of_the_first_batches_is_no_descent():
    values = iter([4.0, 2.0, *[3.0] * 48, *np.linspace(3, 1, 50)])
    model, loader = parabola()
    result = training.find_rate(model, optim.SGD(model), loader, lambda outputs, y: (outputs * 0).sum() + next(values))
    assert np.gradient(result.smoothed).argmin() < 2
    assert np.flatnonzero(result.rates == result.suggestion) > 50


@pytest.mark.parametrize("rise", [0.0, 0.01])
def test_a_loss_that_never_falls_has_no_suggestion(rise):
    model, loader = parabola()
    calls = []

    def loss(outputs, labels):
        calls.append(1)
        return (outputs * 0).sum() + 1 + rise * len(calls)

    result = training.find_rate(model, optim.SGD(model), loader, loss)
    assert math.isnan(result.suggestion)
    assert result.least == result.rates[10], "the first of those that are judged"
    assert result.steepest >= 0


def test_a_loss_that_is_never_finite_is_an_error():
    model, loader = parabola()
    optimizer = optim.SGD(model)
    with pytest.raises(ArithmeticError, match="find_rate: the loss is not finite at step 1, with the rate 1e-07"):
        training.find_rate(model, optimizer, loader, lambda outputs, y: (outputs * math.nan).sum())
    assert optimizer.lr == 0.01


def test_a_loss_that_anneals_stays_at_its_beginning():
    seen = []

    class Annealed(nn.Loss):
        def __call__(self, outputs, labels, progress=0.0):
            seen.append(progress)
            return ops.mse(outputs, labels)

    model, loader = parabola()
    training.find_rate(model, optim.SGD(model), loader, Annealed(), steps=20)
    assert seen == [0.0] * 20


def test_on_lenet5_and_digits_the_suggestion_trains():
    digits = data.load("digits", size=28)
    loader = data.Loader(digits.train_x[:256], digits.train_y[:256], 16)
    ml.manual_seed(0)
    model = models.lenet5(dropout=0)
    result = training.find_rate(model, optim.Adam(model), loader)
    assert 1e-4 < result.suggestion < 3e-2
    assert result.suggestion < result.least < (result.diverged_at or 10)
    assert result.steepest < -0.3
    reached = {}
    start = model.state_dict()
    for rate in (result.suggestion / 100, result.suggestion, result.least * 10):
        model.load_state_dict(start)
        trainer = training.Trainer(model, optim.Adam(model, lr=rate), progress=False)
        with np.errstate(all="ignore"):
            reached[rate] = trainer.fit(loader).epochs[-1]["loss"]
    assert min(reached, key=lambda rate: reached[rate]) == result.suggestion


# ---------------------------------------------------------------- no trace


def everything(model, optimizer, loader):
    """Return all that a range test might disturb, to compare."""
    return {
        **{f"model {name}": values for name, values in model.state_dict().items()},
        **{f"optimizer {name}": values for name, values in optimizer.state_dict().items()},
        "weights": optimizer.weights,
        "lr": optimizer.lr,
        "modes": [module.training for _, module in model.named_modules()],
        "epoch": loader.epoch,
        "default generator": ml.backend.default_generator().bit_generator.state,
        "own generator": model.own.generator.bit_generator.state,
        "gradients": [parameter.grad for parameter in model.parameters()],
    }


def assert_same(after, before):
    assert after.keys() == before.keys()
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
        else:
            assert after[name] == value, name


def trained(make, seed=4):
    """Return a network with everything that is easily disturbed, in the middle of its training."""
    ml.manual_seed(seed)
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((50, 4)).astype(np.float32), rng.integers(0, 3, 50)
    model = nn.Sequential(
        first=nn.Dense(4, 8), norm=nn.BatchNorm(8), relu=nn.ReLU(), drop=nn.Dropout(0.3),
        own=nn.Dropout(0.2, generator=np.random.default_rng(seed)), last=nn.Dense(8, 3),
    )  # fmt: skip
    optimizer, loader = make(model), data.Loader(x, y, 8, seed=2)
    training.Trainer(model, optimizer, progress=False).fit(loader, epochs=2)
    optimizer.zero_grad()
    model.eval()  # which is as it was before too
    model.norm.train()
    return model, optimizer, loader


def falling(t):
    return 0.01 / (1 + t)


MAKE = [
    lambda model: optim.Adam(model, lr=falling),
    lambda model: optim.Nesterov(model, lr=0.02, penalty=optim.penalties.L2(1e-2), lr_scale={"first": 0.5}),
    lambda model: optim.SGD(model, lr=0.1),
]


@pytest.mark.parametrize("make", MAKE)
def test_everything_is_as_before(make):
    model, optimizer, loader = trained(make)
    before = everything(model, optimizer, loader)
    during = []

    def loss(outputs, labels):
        during.append((optimizer.weights, model.norm.running_mean.data, optimizer.t))
        return ops.cross_entropy(outputs, labels)

    result = training.find_rate(model, optimizer, loader, loss, high=1.0, steps=30)
    assert_same(everything(model, optimizer, loader), before)
    assert len(result.rates) == 30
    assert during[-1][2] == 14 + 29
    for at in (0, 1):
        assert (during[-1][at] != during[0][at]).all(), "it really trained"


@pytest.mark.parametrize("make", MAKE)
def test_a_training_that_follows_is_the_one_without_the_test(make):
    ends = []
    for tested in (False, True):
        model, optimizer, loader = trained(make)
        if tested:
            training.find_rate(model, optimizer, loader, steps=40)
        history = training.Trainer(model, optimizer, progress=False).fit(loader, epochs=2)
        ends.append((everything(model, optimizer, loader), history.steps))
    ends[0][0].pop("gradients"), ends[1][0].pop("gradients")
    assert_same(ends[1][0], ends[0][0])
    assert ends[1][1] == ends[0][1]


@pytest.mark.parametrize("failure", ["not finite", "an error", "Ctrl-C"])
def test_everything_is_as_before_also_after_a_failure(failure):
    model, optimizer, loader = trained(MAKE[0])
    before = everything(model, optimizer, loader)
    calls = []

    def loss(outputs, labels):
        calls.append(1)
        if len(calls) == 15:
            if failure == "an error":
                raise RuntimeError("out of paper")
            if failure == "Ctrl-C":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                return ops.cross_entropy(outputs, labels) * math.inf
        return ops.cross_entropy(outputs, labels)

    if failure == "not finite":
        result = training.find_rate(model, optimizer, loader, loss, low=1e-6, high=1e-2)
        assert len(result.rates) == 14
        assert result.diverged_at == pytest.approx(1e-6 * 1e4 ** (14 / 99))
    else:
        with pytest.raises(RuntimeError if failure == "an error" else KeyboardInterrupt):
            training.find_rate(model, optimizer, loader, loss)
        assert len(calls) == 15
    assert_same(everything(model, optimizer, loader), before)


def test_a_schedule_that_observes_is_told_nothing():
    class Watching:
        def __call__(self, t):
            return 0.1

        def observe(self, t, loss):
            raise AssertionError("it was told of the range test")

    model, loader = parabola()
    optimizer = optim.SGD(model, lr=(schedule := Watching()))
    training.find_rate(model, optimizer, loader, nn.MSE(), steps=12)
    assert optimizer.lr is schedule


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"low": 0}, ValueError, "find_rate: low is 0, expected a number in"),
        ({"low": 1.0, "high": 0.1}, ValueError, "low is 1.0 and high 0.1"),
        ({"high": math.inf}, ValueError, "high is inf"),
        ({"low": math.nan}, ValueError, "low is nan"),
        ({"high": "1"}, TypeError, "find_rate: high is '1', expected a number"),
        ({"steps": 9}, ValueError, "find_rate: steps is 9, expected an integer of at least 10"),
        ({"steps": 50.0}, ValueError, "steps is 50.0"),
        ({"smoothing": 0}, ValueError, "find_rate: smoothing is 0, expected a number in"),
        ({"smoothing": 1.5}, ValueError, "smoothing is 1.5"),
        ({"divergence": 1}, ValueError, "find_rate: divergence is 1, expected a number in \\(1, inf\\)"),
        ({"train": (1, 2)}, TypeError, "find_rate: train is tuple, expected a data.Loader"),
        ({"model": "lenet5"}, TypeError, "model is str, expected Module"),
        ({"optimizer": "adam"}, TypeError, "optimizer is str, expected Optimizer"),
        ({"optimizer": optim.SGD(OneWeight())}, ValueError, "the optimizer holds none of the model's parameters"),
        ({"optimizer": optim.Adadelta(OneWeight())}, ValueError, "find_rate: Adadelta has no learning rate to find"),
        ({"optimizer": optim.Newton(OneWeight())}, ValueError, "find_rate: Newton has no learning rate to find"),
    ],
)
def test_bad_input_is_a_clear_error(arguments, error, message):
    model, loader = parabola()
    with pytest.raises(error, match=message):
        training.find_rate(**{"model": model, "optimizer": optim.SGD(model), "train": loader} | arguments)
    assert loader.epoch == 0
