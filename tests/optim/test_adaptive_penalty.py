"""The adaptive penalty: against the equations written out, in trainings, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import models, nn, ops, optim, training
from minidl.optim.penalties import L1, L2, AdaptivePenalty, Elastic, MaxNorm


def test_the_equations_step_by_step(rng):
    """Ten steps of w − η / m Σ (∇f_i + λ_i ∇γ), γ = ‖w‖², with the gradients of a linear model's cross entropy."""
    x, labels = rng.standard_normal((10, 6, 4)), rng.integers(0, 3, (10, 6))
    model = nn.Dense(4, 3, bias=False).astype(np.float64)
    w = model.weight.data.copy()
    penalty = AdaptivePenalty(L2(0.3, convention="sum"), nu=0.7)
    optimizer = optim.SGD(model, lr=0.5, penalty=penalty)
    loss = penalty.observing(nn.CrossEntropy())
    for t in range(10):
        value = optimizer.step(lambda t=t: (L := loss(model(x[t]), labels[t]), L.backward())[0]).item()
        powers = np.exp(x[t] @ w)
        p = powers / powers.sum(1, keepdims=True)
        f = -np.log(p[np.arange(6), labels[t]])
        strengths = 0.3 * (1 - np.exp(-f / 0.7))
        gradient = sum(np.outer(x[t, i], p[i] - np.eye(3)[labels[t, i]]) + strengths[i] * 2 * w for i in range(6)) / 6
        assert value == pytest.approx(f.mean(), rel=1e-12)
        np.testing.assert_allclose(penalty.shares, strengths / 0.3, rtol=1e-12)
        w = w - 0.5 * gradient
        np.testing.assert_allclose(model.weight.data, w, rtol=1e-11, atol=1e-14)
        assert optimizer.penalty_value == pytest.approx(strengths.mean() * (w**2).sum(), rel=1e-11)


def test_limits(rng):
    w = rng.standard_normal(5)
    layout = optim.SGD([ml.Tensor(w, requires_grad=True)]).layout
    for inner in (L2(0.2), L1(0.1), Elastic(0.1, 0.2)):
        tiny, huge = AdaptivePenalty(inner, nu=1e-9), AdaptivePenalty(inner, nu=1e12)
        for penalty in (tiny, huge):
            penalty.observe(np.array([0.5, 2.0], np.float32))
        np.testing.assert_allclose(tiny.gradient(w, layout), inner.gradient(w, layout), rtol=1e-12)
        np.testing.assert_allclose(huge.gradient(w, layout), 1.25e-12 * inner.gradient(w, layout), rtol=1e-6)
        tiny.observe(np.zeros(3))  # all samples are fitted
        np.testing.assert_array_equal(tiny.gradient(w, layout), 0 * w)
        assert tiny.value(w, layout) == 0
    single = AdaptivePenalty(L2(0.2))
    single.observe(np.float32([1, -1]))
    assert single.share == pytest.approx(1 - np.exp(-1), rel=1e-6)
    assert single.gradient(w.astype(np.float32), layout).dtype == np.float32


LOSSES = [
    nn.CrossEntropy(), nn.LabelSmoothing(), nn.SquaredResidual(), nn.ResidualSmoothing(nn.LogisticAnnealing(0.3)),
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_the_observed_loss_is_the_loss(rng, loss):
    penalty = AdaptivePenalty(L2(0.1), nu=2)
    x, labels = ml.Tensor(rng.standard_normal((4, 3)), requires_grad=True), [0, 1, 2, 2]
    observed = penalty.observing(loss)
    np.testing.assert_allclose(observed(x, labels, 0.4).item(), loss(x, labels, 0.4).item(), rtol=1e-14)
    np.testing.assert_allclose(penalty.shares, 1 - np.exp(-loss.each(x, labels, 0.4).data / 2), rtol=1e-13)
    before = penalty.shares
    with ml.no_grad():
        observed(3 * x, labels, 0.4)
    assert penalty.shares is before, "an evaluation is no step"


class Watch(training.Callback):
    """Remembers the shares, and saves the training after seven steps."""

    def __init__(self, penalty, path):
        self.penalty, self.path, self.seen = penalty, path, []

    def on_step(self, trainer):
        self.seen.append((self.penalty.share, trainer.optimizer.penalty_value))
        if trainer.steps_done == 7:
            training.save_checkpoint(self.path, **trainer.parts)


def run(path, resume=None):
    ml.manual_seed(3)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 3, 40)
    model = nn.Sequential(nn.Dense(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Dense(8, 3))
    penalty = AdaptivePenalty(L2(0.05), nu=0.5)
    optimizer, watch = optim.Nesterov(model, lr=0.1, penalty=penalty), Watch(penalty, path)
    loss = penalty.observing(nn.ResidualSmoothing(nn.LaplaceAnnealing(0.4)))
    trainer = training.Trainer(model, optimizer, loss, callbacks=[watch], progress=False)
    trainer.fit(ml.data.Loader(x, labels, 8, seed=1), (x, labels), 4, resume)
    return optimizer.weights, watch.seen


def test_a_resumed_training_goes_on_bit_by_bit(tmp_path):
    path = tmp_path / "seven.safetensors"
    weights, seen = run(path)
    again, rest = run(path, resume=path)
    np.testing.assert_array_equal(again, weights)
    assert rest == seen[7:]
    assert len({share for share, _ in seen}) == 20, "it is another one in every step"


def test_a_training_with_a_loss_of_several_outputs(rng):
    x, labels = rng.uniform(0, 1, (12, 6, 6, 1)).astype(np.float32), rng.integers(0, 3, 12)
    model = nn.Sequential(nn.Flatten(), nn.Dense(36, 3))
    penalty = AdaptivePenalty(L2(0.1))
    trainer = training.Trainer(
        model, optim.SGD(model, penalty=penalty), penalty.observing(nn.WithAuxiliary(nn.CrossEntropy())), progress=False
    )
    trainer.fit(ml.data.Loader(x, labels, 6), epochs=2)
    assert penalty.shares.shape == (6,)
    assert 0 < penalty.share < 1


def test_what_is_refused(rng):
    with pytest.raises(TypeError, match="AdaptivePenalty: penalty is 0.1, expected one of optim.penalties"):
        AdaptivePenalty(0.1)
    for inner in (L2(0.1, decoupled=True), MaxNorm(2)):
        with pytest.raises(ValueError, match="AdaptivePenalty: penalty is .*, expected one that is not decoupled"):
            AdaptivePenalty(inner)
    for nu in (0, -1, np.nan):
        with pytest.raises(ValueError, match=f"AdaptivePenalty: nu is {nu}"):
            AdaptivePenalty(L2(0.1), nu=nu)
    penalty = AdaptivePenalty(L2(0.1), nu=0.5)
    assert repr(penalty) == f"AdaptivePenalty({L2(0.1)!r}, nu=0.5)"
    with pytest.raises(TypeError, match="AdaptivePenalty.observing: loss is .*, expected an nn.Loss"):
        penalty.observing(ops.cross_entropy)
    model = models.mlp([4, 2])
    for factory in (optim.Newton, optim.SteepestDescent):
        with pytest.raises(ValueError, match=f"{factory.__name__}: penalty is .*, expected one that is the same"):
            factory(model, penalty=penalty)
    with pytest.raises(ValueError, match="biases is False, and no parameter has two axes"):
        optim.SGD([ml.Tensor(np.zeros(2), requires_grad=True)], penalty=AdaptivePenalty(L2(0.1, biases=False)))
    trainer = training.Trainer(model, optim.SGD(model, penalty=penalty), progress=False)
    with pytest.raises(RuntimeError, match="AdaptivePenalty: no loss has been observed; train with penalty.observing"):
        trainer.fit(ml.data.Loader(rng.standard_normal((4, 4)).astype(np.float32), np.array([0, 1, 0, 1]), 2))
