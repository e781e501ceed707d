"""Adversarial noise: the gradient that it follows, what it leaves alone, and training with it."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import data, models, nn, ops, optim, training


def network():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm(3), nn.Tanh(), nn.Flatten(), nn.Dropout(0.4), nn.Dense(48, 4)
    ).astype(np.float64)


@pytest.fixture
def batch(rng):
    return rng.uniform(0.2, 0.8, (5, 6, 6, 1)), rng.integers(0, 4, 5)


def test_each_element_moves_by_eps_where_the_loss_rises(batch):
    x, y = batch
    model = network()
    changed = training.fgsm(model, x, y, 0.01)
    assert changed.dtype == x.dtype
    assert np.allclose(abs(changed - x), 0.01, rtol=1e-12, atol=0)

    def loss(values):
        with ml.no_grad(), nn.evaluating(model):
            return ops.cross_entropy(model(values), y).item()

    for i in np.random.default_rng(0).choice(x.size, 40, replace=False):
        step = np.zeros(x.size)
        step[i] = 1e-6
        slope = loss(x + step.reshape(x.shape)) - loss(x - step.reshape(x.shape))
        assert np.sign(slope) == np.sign((changed - x).reshape(-1)[i])


def test_it_is_pytorchs_gradient(batch, torch):
    x, y = batch
    model = nn.Sequential(nn.Flatten(), nn.Dense(36, 8), nn.Tanh(), nn.Dense(8, 4)).astype(np.float64)
    w1, b1, w2, b2 = (torch.tensor(parameter.numpy().copy()) for parameter in model.parameters())
    inputs = torch.tensor(x, requires_grad=True)
    torch.nn.functional.cross_entropy(torch.tanh(inputs.reshape(5, 36) @ w1 + b1) @ w2 + b2, torch.tensor(y)).backward()
    expected = (x + 0.3 * np.sign(inputs.grad.numpy())).clip(0, 1)
    np.testing.assert_array_equal(training.fgsm(model, x, y, 0.3), expected)


def test_the_range_is_kept_and_eps_0_changes_nothing(batch):
    x, y = batch
    model = network()
    np.testing.assert_array_equal(training.fgsm(model, x, y, 0), x)
    changed = training.fgsm(model, x, y, 0.5)
    assert changed.min() == 0
    assert changed.max() == 1
    far = training.fgsm(model, 10 * x - 5, y, 0.5, within=None)
    assert np.allclose(abs(far - (10 * x - 5)), 0.5)
    assert training.fgsm(model, 10 * x - 5, y, 0.5, within=(-3, 3)).min() >= -3
    assert training.fgsm(model.astype(np.float32), x.astype(np.float32), y, 0.1).dtype == np.float32
    for settings, message in (
        ({}, r"fgsm: x reaches from -2\.\d+ to 2\.\d+, outside of the range 0 to 1; give its own as `within`, or None"),
        ({"within": (1, 0)}, r"fgsm: within is \(1, 0\), expected a pair \(low, high\) or None"),
        ({"within": 1}, "fgsm: within is 1, expected a pair"),
    ):
        with pytest.raises(ValueError, match=message):
            training.fgsm(model, 10 * x - 5, y, 0.5, **settings)


def test_the_opposite_loss_moves_towards_another_class(batch):
    x, y = batch
    model = network()
    wanted = (y + 1) % 4
    towards = training.fgsm(model, x, wanted, 0.05, lambda outputs, labels: -ops.cross_entropy(outputs, labels))
    with nn.evaluating(model):
        before, after = (ops.cross_entropy(model(values), wanted).item() for values in (x, towards))
    assert after < before


def test_the_model_is_as_before(batch):
    x, y = batch
    ml.manual_seed(3)
    model = network()
    optimizer = optim.Nesterov(model, lr=0.1)
    training.Trainer(model, optimizer, progress=False).fit(data.Loader(x, y, 5), epochs=2)
    model[0].freeze()
    model[3].eval()
    ops.cross_entropy(model(x), y).backward()
    gradients = [None if p.grad is None else p.grad.copy() for p in model.parameters()]
    state = model.state_dict(), optimizer.weights, ml.backend.default_generator().bit_generator.state
    flags = [p.requires_grad for p in model.parameters()], [m.training for _, m in model.named_modules()]
    inputs, labels = x.copy(), y.copy()
    with ml.no_grad():
        changed = training.fgsm(model, x, y, 0.1)
    assert not np.array_equal(changed, x)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[0][name])
    np.testing.assert_array_equal(optimizer.weights, state[1])
    assert ml.backend.default_generator().bit_generator.state == state[2]
    assert ([p.requires_grad for p in model.parameters()], [m.training for _, m in model.named_modules()]) == flags
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        if gradient is not None:
            np.testing.assert_array_equal(parameter.grad, gradient)
    np.testing.assert_array_equal(x, inputs)
    np.testing.assert_array_equal(y, labels)
    with pytest.raises(ValueError, match="labels"):
        training.fgsm(model, x, y + 4, 0.1)
    assert ([p.requires_grad for p in model.parameters()], [m.training for _, m in model.named_modules()]) == flags


def test_bad_arguments_are_clear_errors(batch):
    x, y = batch
    model = network()
    for arguments, error, message in (
        ((x, y, -0.1), ValueError, "fgsm: eps is -0.1"),
        ((x, y, "1"), TypeError, "fgsm: eps is '1', expected a number"),
        (((x * 255).astype(np.uint8), y, 0.1), TypeError, "fgsm: x has dtype uint8, .*; divide images of bytes by 255"),
    ):
        with pytest.raises(error, match=message):
            training.fgsm(model, *arguments)
    model[5].weight.data = np.full((48, 4), np.nan)
    with pytest.raises(ValueError, match="fgsm: the gradient .* contains NaN or infinite values"):
        training.fgsm(model, x, y, 0.1)
    for make, error, message in (
        (lambda: training.AdversarialNoise(-1), ValueError, "AdversarialNoise: eps is -1"),
        (lambda: training.AdversarialNoise(0.1, 0), ValueError, r"share is 0, expected a number in \(0, 1\]"),
        (lambda: training.AdversarialNoise(0.1, within=(2, 1)), ValueError, r"AdversarialNoise: within is \(2, 1\)"),
    ):
        with pytest.raises(error, match=message):
            make()


@pytest.mark.parametrize(("share", "count"), [(1, 8), (0.5, 4), (0.01, 1)])
def test_a_share_of_each_batch_is_changed_against_the_network_of_the_step(rng, share, count):
    x, y = rng.random((24, 6)).astype(np.float32), rng.integers(0, 3, 24)
    batches = []

    class Watch(training.Callback):
        def on_batch(self, trainer, x, y):
            batches.append((x, y, trainer.model.state_dict()))
            return x, y

    model = models.mlp([6, 5, 3])
    callbacks = [Watch(), training.AdversarialNoise(0.1, share), Watch()]
    loss = lambda outputs, labels: -ops.cross_entropy(outputs, labels)  # of another sign than the default
    trainer = training.Trainer(model, optim.SGD(model), loss, callbacks=callbacks, progress=False)
    trainer.fit(data.Loader(x, y, 8))
    assert len(batches) == 6
    twin = models.mlp([6, 5, 3])
    for (before, labels, weights), (after, same, _) in zip(batches[::2], batches[1::2], strict=True):
        twin.load_state_dict(weights)
        attacked = training.fgsm(twin, before[:count], labels[:count], 0.1, loss)
        np.testing.assert_array_equal(after[:count], attacked)
        np.testing.assert_array_equal(after[count:], before[count:])
        np.testing.assert_array_equal(same, labels)


def test_training_with_adversarial_noise_makes_a_network_robust():
    digits = data.load("digits")
    train, test = (x.reshape(-1, 64) for x in (digits.train_x, digits.test_x))
    accuracies = []
    for callbacks in ([], [training.AdversarialNoise(0.1)]):
        ml.manual_seed(0)
        model = models.mlp([64, 64, 10])
        trainer = training.Trainer(model, optim.Adam(model, lr=0.005), callbacks=callbacks, progress=False)
        trainer.fit(data.Loader(train, digits.train_y, 64), epochs=15)
        attacked = training.fgsm(model, test, digits.test_y, 0.1)
        accuracies.append([trainer.evaluate((x, digits.test_y))["accuracy"] for x in (test, attacked)])
    (plain, plain_attacked), (robust, robust_attacked) = accuracies
    assert plain_attacked < plain - 0.3, "the attack works"
    assert robust_attacked > plain_attacked + 0.15, "the defence works"
    assert robust > 0.93


def test_inputs_may_leave_their_range_by_rounding(batch):
    x, y = batch
    x[0, 0, 0] = -1e-9
    assert training.fgsm(network(), x, y, 0.1).min() == 0
    x[0, 0, 0] = -1e-3
    with pytest.raises(ValueError, match=r"fgsm: x reaches from -0.001 to"):
        training.fgsm(network(), x, y, 0.1)


def test_a_training_that_diverges_says_so_as_without_the_noise(rng):
    x, y = rng.random((24, 6)).astype(np.float32), rng.integers(0, 3, 24)
    messages = []
    for callbacks in ([], [training.AdversarialNoise(0.1)]):
        ml.manual_seed(0)
        model = models.mlp([6, 5, 3])
        trainer = training.Trainer(model, optim.SGD(model, lr=1e25), callbacks=callbacks, progress=False)
        with np.errstate(all="ignore"), pytest.raises(training.NonFiniteLossError) as caught:
            trainer.fit(data.Loader(x, y, 8))
        messages.append(str(caught.value))
    assert all("layer" in message for message in messages)
