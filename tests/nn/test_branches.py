"""Residual blocks, branches, auxiliary outputs: what they compute, and that gradients go every way."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import data, nn, ops, optim, training


def dense(size, seed):
    return nn.Dense(size, size, generator=np.random.default_rng(seed))


def test_residual_adds_the_input_and_the_gradient_goes_both_ways(rng):
    body = dense(3, 0).astype("float64")
    block = nn.Residual(body)
    x = ml.Tensor(rng.standard_normal((2, 3)), requires_grad=True)
    g = rng.standard_normal((2, 3))
    y = block(x)
    y.backward(g)
    W = body.weight.data
    np.testing.assert_allclose(y.data, x.data @ W + x.data, rtol=1e-14)
    np.testing.assert_allclose(x.grad, g @ W.T + g, rtol=1e-14)


def test_residual_with_a_shortcut_of_its_own(rng):
    body, shortcut = nn.Dense(3, 2).astype("float64"), nn.Dense(3, 2).astype("float64")
    x = rng.standard_normal((4, 3))
    np.testing.assert_allclose(
        nn.Residual(body, shortcut)(x).data, x @ (body.weight.data + shortcut.weight.data), rtol=1e-13
    )
    assert [name for name, _ in nn.Residual(body, shortcut).named_parameters()] == [
        "body.weight", "body.bias", "shortcut.weight", "shortcut.bias",
    ]  # fmt: skip


def test_residual_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"Residual: body made \(2, 1\) of \(2, 3\), the shortcut \(2, 3\)"):
        nn.Residual(nn.Dense(3, 1))(np.ones((2, 3), np.float32))


def test_concatenate_joins_channels_in_order_and_splits_the_gradient(rng):
    model = nn.Concatenate(nn.Identity(), nn.ReLU(), nn.Tanh())
    x = ml.Tensor(rng.standard_normal((2, 4, 4, 3)), requires_grad=True)
    y = model(x)
    np.testing.assert_array_equal(y.data, np.concatenate([x.data, np.maximum(x.data, 0), np.tanh(x.data)], axis=-1))
    g = rng.standard_normal(y.shape)
    y.backward(g)
    expected = g[..., :3] + g[..., 3:6] * (x.data > 0) + g[..., 6:] / np.cosh(x.data) ** 2
    np.testing.assert_allclose(x.grad, expected, rtol=1e-12)


def with_heads():
    body = nn.Sequential(first=dense(3, 0), relu=nn.ReLU(), second=dense(3, 1), last=dense(3, 2))
    return nn.AuxiliaryHeads(body, {"second": dense(3, 4), "relu": dense(3, 3)}).astype("float64")


def test_heads_answer_in_training_only_in_the_order_of_the_body(rng):
    model = with_heads()
    x = rng.standard_normal((5, 3))
    hidden = np.maximum(x @ model.body.first.weight.data, 0)
    second = hidden @ model.body.second.weight.data
    last = second @ model.body.last.weight.data
    outputs = model(x)
    assert isinstance(outputs, tuple)
    heads = hidden @ model.heads["relu"].weight.data, second @ model.heads["second"].weight.data
    for output, expected in zip(outputs, (last, *heads), strict=True):
        np.testing.assert_allclose(output.data, expected, rtol=1e-12)
    np.testing.assert_allclose(model.eval()(x).data, last, rtol=1e-12)


def test_loss_with_auxiliary_outputs(rng):
    model, labels = with_heads(), np.array([0, 2, 1, 1, 0])
    x = rng.standard_normal((5, 3))
    loss = nn.WithAuxiliary(nn.LabelSmoothing(0.2), weight=0.4)
    parts = [ops.cross_entropy(output, labels, 0.2).item() for output in model(x)]
    assert loss(model(x), labels).item() == pytest.approx(parts[0] + 0.4 * (parts[1] + parts[2]), rel=1e-12)
    loss(model(x), labels).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert loss(model.eval()(x), labels).item() == pytest.approx(parts[0], rel=1e-12)


def test_a_trainer_trains_all_heads_and_measures_the_main_output(rng):
    x = rng.standard_normal((60, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    model = with_heads().astype("float32")
    before = model.state_dict()
    trainer = training.Trainer(model, optim.Adam(model, lr=0.02), nn.WithAuxiliary(nn.CrossEntropy()), progress=False)
    history = trainer.fit(data.Loader(x, y, 20), validation=(x, y), epochs=15)
    assert history.column("validation_accuracy")[-1] > 0.9
    assert history.column("accuracy")[-1] > 0.9
    assert all((value != before[name]).any() for name, value in model.state_dict().items() if "weight" in name)


def test_a_loss_that_fails_in_a_network_with_heads_is_traced_to_its_layer(rng):
    model = with_heads().astype("float32")
    trainer = training.Trainer(model, optim.SGD(model), nn.WithAuxiliary(nn.CrossEntropy()), progress=False)
    model.body.second.weight.data = np.full((3, 3), np.inf, np.float32)
    x = np.ones((4, 3), np.float32)
    with np.errstate(all="ignore"), pytest.raises(training.NonFiniteLossError, match=r"layer 'body\.second'"):
        trainer.fit(data.Loader(x, np.zeros(4, int), 4))


@pytest.mark.parametrize("loss", [nn.CrossEntropy(), nn.LabelSmoothing(), nn.MSE()])
def test_a_loss_of_one_output_says_how_to_take_several(loss, rng):
    outputs = with_heads()(rng.standard_normal((5, 3)))
    with pytest.raises(TypeError, match=r"outputs is a tuple, expected one Tensor; for auxiliary outputs use WithAux"):
        loss(outputs, np.zeros(5, int))


def test_summary_counts_heads_that_do_not_run():
    summary = with_heads().astype("float32").summary((3,))
    assert [(row.name, row.parameters) for row in summary.rows] == [
        ("body.first", 12), ("body.relu", 0), ("body.second", 12), ("body.last", 12), ("", 24),
    ]  # fmt: skip
    assert summary.parameters == 60


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Residual(np.tanh), TypeError, "Residual: body is ufunc, expected a Module"),
        (lambda: nn.Residual(nn.ReLU(), 3), TypeError, "Residual: shortcut is int"),
        (lambda: nn.Concatenate(), ValueError, "Concatenate: no branches"),
        (lambda: nn.Concatenate(nn.ReLU(), nn.ReLU), TypeError, r"Concatenate: branches\[1\] is type"),
        (lambda: nn.AuxiliaryHeads(nn.ReLU(), {}), TypeError, "AuxiliaryHeads: body is ReLU, expected a Sequential"),
        (
            lambda: nn.AuxiliaryHeads(nn.Sequential(a=nn.ReLU()), {"b": nn.ReLU()}),
            ValueError,
            "AuxiliaryHeads: heads names 'b'; body has a",
        ),
        (lambda: nn.AuxiliaryHeads(nn.Sequential(a=nn.ReLU()), {}), ValueError, "heads names nothing"),
        (
            lambda: nn.AuxiliaryHeads(nn.Sequential(a=nn.ReLU()), {"a.b": nn.ReLU()}),
            ValueError,
            "heads names 'a.b', expected a module of body itself",
        ),
        (lambda: nn.AuxiliaryHeads(nn.Sequential(a=nn.ReLU()), {"a": 1}), TypeError, r"heads\['a'\] is int"),
        (lambda: nn.WithAuxiliary(ops.mse), TypeError, "WithAuxiliary: loss is function, expected a Loss"),
        (lambda: nn.WithAuxiliary(nn.MSE(), -1), ValueError, "WithAuxiliary: weight is -1"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
