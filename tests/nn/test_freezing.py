"""Freezing: what is frozen stays, whatever the optimizer; the rest learns as it would without it."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import data, nn, ops, optim, training
from minidl.optim.deterministic import DeterministicOptimizer

X = np.random.default_rng(1).standard_normal((12, 4)).astype(np.float32)
Y = np.random.default_rng(2).integers(0, 3, 12)


def network():
    rng = np.random.default_rng(0)
    return nn.Sequential(
        body=nn.Sequential(dense=nn.Dense(4, 5, generator=rng), norm=nn.BatchNorm(5), drop=nn.Dropout(0.5)),
        tanh=nn.Tanh(),
        head=nn.Dense(5, 3, generator=rng),
    )


def steps(model, optimizer, count):
    for _ in range(count):
        optimizer.zero_grad()
        ops.cross_entropy(model(X), Y).backward()
        optimizer.step()


def changed(model, before):
    return {name for name, value in model.state_dict().items() if not np.array_equal(value, before[name])}


FIRST_ORDER = {
    "SGD": lambda model, **options: optim.SGD(model, lr=0.1, **options),
    "HeavyBall": lambda model, **options: optim.HeavyBall(model, lr=0.1, **options),
    "Nesterov": lambda model, **options: optim.Nesterov(model, lr=0.1, **options),
    "Adam": lambda model, **options: optim.Adam(model, lr=0.01, **options),
    "Adadelta": optim.Adadelta,
}
PENALTIES = {
    "no penalty": None,
    "coupled": optim.penalties.L2(0.1),
    "decoupled": optim.penalties.L1(0.001, decoupled=True),
    "projection": optim.penalties.MaxNorm(0.1),
}


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("make", FIRST_ORDER.values(), ids=FIRST_ORDER)
def test_what_is_frozen_stays_and_the_rest_learns(make, penalty):
    model = network()
    optimizer = make(model, penalty=penalty)
    steps(model, optimizer, 3)  # momentum is under way
    model.body.freeze()
    before = model.state_dict()
    steps(model, optimizer, 4)
    assert changed(model, before) == {"head.weight", "head.bias"}
    model.body.unfreeze()
    steps(model, optimizer, 1)
    assert {"body.dense.weight", "body.norm.running_mean"} <= changed(model, before)


@pytest.mark.parametrize("make", FIRST_ORDER.values(), ids=FIRST_ORDER)
def test_the_rest_learns_as_if_the_frozen_part_were_no_parameter(make):
    model, other = network(), network()
    model.body.freeze()
    steps(model, make(model), 4)
    for parameter in other.body.parameters():
        parameter.requires_grad = False
    other.body.eval()
    steps(other, make(list(other.head.parameters())), 4)
    assert not changed(model, other.state_dict())

    late = network()  # frozen after the optimizer has gathered it
    optimizer = make(late)
    late.body.freeze()
    steps(late, optimizer, 4)
    assert not changed(late, other.state_dict())


def test_the_clipped_norm_does_not_know_what_is_frozen():
    model, other = network(), network()
    optimizer = optim.SGD(model, lr=1, penalty=optim.penalties.L2(100), clip=optim.ClipNorm(0.01))
    model.body.freeze()
    other.body.freeze()
    steps(model, optimizer, 1)
    steps(other, optim.SGD(other, lr=1, penalty=optim.penalties.L2(100), clip=optim.ClipNorm(0.01)), 1)
    np.testing.assert_array_equal(model.head.weight.data, other.head.weight.data)


def test_a_frozen_part_is_in_evaluation_and_train_leaves_it_there():
    model = network()
    model.body.freeze()
    model.train()
    assert not model.body.norm.training
    assert not model.body.drop.training
    assert model.head.training
    model.body.unfreeze()
    assert model.body.norm.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_is_frozen_while_evaluating_stays_in_evaluation():
    model = network()
    with nn.evaluating(model):
        model.body.freeze()
    assert not model.body.norm.training
    assert model.head.training


def test_a_container_trains_if_something_inside_it_does():
    """AuxiliaryHeads answers for its heads in training only."""
    body = nn.Sequential(first=nn.Dense(4, 5), last=nn.Dense(5, 3))
    model = nn.AuxiliaryHeads(body, {"first": nn.Dense(5, 3)})
    model.freeze()
    assert not model.train().training
    model.heads["first"].unfreeze()
    model.train()
    assert model.training
    assert not body.first.training
    assert isinstance(model(X), tuple)


def test_freezing_at_a_look_ahead_point_goes_back_to_the_iterate_first():
    model = network()
    optimizer = optim.Nesterov(model, lr=0.1)
    steps(model, optimizer, 2)
    W = optimizer.weights
    optimizer.zero_grad()
    assert not np.array_equal(optimizer._vector.position, W)
    model.body.freeze()
    np.testing.assert_array_equal(optimizer._vector.position, W)


def test_a_parameter_that_is_frozen_at_a_look_ahead_point_returns_to_the_iterate():
    model = network()
    optimizer = optim.Nesterov(model, lr=0.1)
    steps(model, optimizer, 2)
    W = optimizer.weights
    optimizer.zero_grad()
    model.head.weight.requires_grad = False
    model.eval()
    np.testing.assert_array_equal(optimizer._vector.position, W)


def test_freezing_forgets_gradients():
    model = network()
    ops.cross_entropy(model(X), Y).backward()
    model.body.freeze()
    assert all(parameter.grad is None for parameter in model.body.parameters())
    assert model.head.weight.grad is not None


def test_no_gradient_is_computed_for_frozen_layers():
    model = network()
    model.body.freeze()
    y = model.body(X)
    assert not y.requires_grad
    ops.cross_entropy(model(X), Y).backward()
    assert all(parameter.grad is None for parameter in model.body.parameters())
    assert model.head.weight.grad is not None


def test_transfer_from_the_entries_that_fit_then_freeze_then_train(rng):
    pretrained = network().state_dict()
    model = network()
    model.head = nn.Dense(5, 7)
    passed_over = model.load_state_dict(pretrained, strict=False)
    assert passed_over == [
        "head.weight has shape (5, 3), expected (5, 7)",
        "head.bias has shape (3,), expected (7,)",
    ]
    np.testing.assert_array_equal(model.body.dense.weight.data, pretrained["body.dense.weight"])
    model.body.freeze()
    before = model.state_dict()
    x, y = rng.standard_normal((40, 4)).astype(np.float32), rng.integers(0, 7, 40)
    trainer = training.Trainer(model, optim.Adam(model, lr=0.05), progress=False)
    history = trainer.fit(data.Loader(x, y, 10), validation=(x, y), epochs=3)
    assert changed(model, before) == {"head.weight", "head.bias"}
    assert history.steps[-1]["loss"] < history.steps[0]["loss"]


def test_layers_have_rates_and_penalties_of_their_own():
    """One step of SGD on each layer, written out."""
    model = network()
    del model.body.drop
    steps_of = dict(model.named_parameters())
    ops.cross_entropy(model(X), Y).backward()
    gradients = {name: parameter.grad.copy() for name, parameter in steps_of.items()}
    before = model.state_dict()
    optimizer = optim.SGD(
        model,
        lr=0.5,
        lr_scale={"body": 0.1, "body.norm": 0},
        penalty=optim.penalties.PerLayer({"head": 0.3, "body.dense": (0.2, 1)}),
    )
    optimizer.step()
    after = model.state_dict()
    for name, rate, pull in (
        ("head.weight", 0.5, 2 * 0.3 * before["head.weight"]),
        ("head.bias", 0.5, 0),
        ("body.dense.weight", 0.05, 0.2 * np.sign(before["body.dense.weight"])),
        ("body.dense.bias", 0.05, 0),
        ("body.norm.gamma", 0, 0),
    ):
        np.testing.assert_allclose(
            after[name], before[name] - rate * (gradients[name] + pull), rtol=1e-5, atol=1e-7, err_msg=name
        )


def test_another_optimizer_over_what_is_not_frozen_needs_the_first_one_gone():
    model = network()
    optimizer = optim.SGD(model)
    model.body.freeze()
    with pytest.raises(ValueError, match="a frozen parameter is not among them"):
        optim.Adam(model)
    del optimizer
    assert len(optim.Adam(model).params) == 2


def test_a_model_that_is_frozen_whole_has_nothing_to_learn():
    with pytest.raises(ValueError, match="params is empty"):
        optim.SGD(network().freeze())


def test_second_order_methods_leave_frozen_parts_too():
    model = nn.Sequential(a=nn.Dense(4, 2), tanh=nn.Tanh(), b=nn.Dense(2, 1)).astype("float64")
    targets = np.random.default_rng(3).standard_normal((12, 1))
    optimizer = optim.LevenbergMarquardt(model)
    assert isinstance(optimizer, DeterministicOptimizer)
    model.a.freeze()
    before = model.state_dict()
    optimizer.step(lambda: model(X.astype("float64")) - targets)
    assert changed(model, before) == {"b.weight", "b.bias"}
