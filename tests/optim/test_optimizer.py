"""What all optimizers share: the vector W, the step, the state, and what is refused."""

from __future__ import annotations

import copy
import gc
import json
import math
import pickle
import re

import numpy as np
import pytest

import minidl as ml
from minidl import models, nn, ops, optim
from minidl.optim import catalogue
from minidl.optim.deterministic import DeterministicOptimizer
from minidl.optim.optimizer import PART, SHARE


def leaf(values, dtype=np.float64):
    return ml.Tensor(np.array(values, dtype), requires_grad=True)


# ---------------------------------------------------------------- the vector W


def test_parameters_become_views_of_one_vector():
    x, y = leaf([[1, 2], [3, 4]]), leaf([5, 6])
    optimizer = optim.SGD([x, y], lr=1)
    np.testing.assert_array_equal(optimizer.weights, [1, 2, 3, 4, 5, 6])
    assert x.data.base is y.data.base
    assert x.data.base.shape == (6,)
    (x.sum() + 2 * y.sum()).backward()
    optimizer.step()
    np.testing.assert_array_equal(x.data, [[0, 1], [2, 3]])
    np.testing.assert_array_equal(y.data, [3, 4])


def test_weights_are_a_copy():
    x = leaf([1.0])
    optimizer = optim.SGD([x])
    optimizer.weights[0] = 9
    assert x.data[0] == 1


def test_two_optimizers_over_the_same_parameters_share_the_vector():
    x, y = leaf([1.0]), leaf([2.0])
    first, second = optim.SGD([x, y], lr=1), optim.Adam([y, x])
    (x + y).backward()
    first.step()
    np.testing.assert_array_equal(second.weights, [0, 1])


def test_overlapping_but_different_parameters_are_an_error_while_the_other_optimizer_lives():
    x, y = leaf([1.0]), leaf([2.0])
    first = optim.SGD([x, y])
    for params in ([x], [x, y, leaf([3.0])]):
        with pytest.raises(ValueError, match="params overlap with those of another optimizer"):
            optim.SGD(params)
    del first
    optim.SGD([x])


def test_a_model_and_its_optimizer_are_freed_without_the_garbage_collector():
    import weakref

    gc.collect()
    gc.disable()
    try:
        model = models.mlp([3, 2])
        optimizer = optim.Adam(model)
        refs = [weakref.ref(parameter) for parameter in model.parameters()]
        del model, optimizer
        assert all(ref() is None for ref in refs)
    finally:
        gc.enable()


def test_assigning_data_writes_into_the_vector():
    x = leaf([1.0, 2.0])
    optimizer = optim.SGD([x])
    x.data = [7.0, 8.0]
    np.testing.assert_array_equal(optimizer.weights, [7, 8])


def test_frozen_parameters_of_a_module_are_left_out():
    model = models.mlp([3, 4, 2])
    model[1].weight.requires_grad = False
    before = model[1].weight.data.copy()
    optimizer = optim.SGD(model, lr=1)
    ops.cross_entropy(model(np.ones((2, 3), np.float32)), [0, 1]).backward()
    optimizer.step()
    assert optimizer.weights.size == 4 + 4 * 2 + 2
    np.testing.assert_array_equal(model[1].weight.data, before)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (lambda: [], ValueError, "params is empty"),
        (lambda: leaf([1.0]), TypeError, "params is Tensor, expected a Module or an iterable"),
        (lambda: 3, TypeError, "params is int"),
        (lambda: [ml.Tensor([1.0])], TypeError, r"params\[0\] is Tensor.*requires_grad=True"),
        (lambda: [leaf([1.0]) * 2], TypeError, r"params\[0\]"),
        (lambda: [np.ones(2)], TypeError, r"params\[0\]"),
        (lambda: [leaf([1.0]), leaf([1.0], np.float32)], ValueError, "dtypes float32, float64"),
        (lambda: [x := leaf([1.0]), x], ValueError, "the same Tensor twice"),
    ],
)
def test_bad_parameters(params, error, message):
    with pytest.raises(error, match=message):
        optim.SGD(params())


# ---------------------------------------------------------------- steps


def test_step_with_a_closure_returns_its_loss():
    x = leaf([3.0])
    optimizer = optim.SGD([x], lr=0.25)

    def closure():
        loss = (x * x).sum()
        loss.backward()
        return loss.item()

    assert [optimizer.step(closure) for _ in range(3)] == [9.0, 2.25, 0.5625]


@pytest.mark.parametrize("name", ["SGD", "HeavyBall", "Nesterov", "RMSProp", "Adam", "AdaMax", "Nadam", "AMSGrad"])
def test_a_schedule_is_asked_with_the_number_of_finished_steps(name):
    asked = []
    x = leaf([3.0])
    optimizer = getattr(optim, name)([x], lr=lambda t: asked.append(t) or 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (x * x).backward()
        optimizer.step()
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
def test_a_schedule_that_returns_no_rate_is_an_error_and_nothing_moves(rate):
    x = leaf([3.0])
    optimizer = optim.SGD([x], lr=lambda t: rate)
    (x * x).backward()
    with pytest.raises(ValueError, match="lr is"):
        optimizer.step()
    assert x.data[0] == 3


def test_nesterov_evaluates_at_the_true_iterate_and_differentiates_ahead():
    x = leaf([1.0])
    optimizer = optim.Nesterov([x], lr=0.1, beta=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        (x * x).backward()
        optimizer.step()
        assert x.data[0] == optimizer.weights[0], "after step the model stands at the iterate"
    iterate = optimizer.weights[0]
    optimizer.zero_grad()
    assert x.data[0] == pytest.approx(iterate + 0.5 * optimizer.v[0], rel=1e-15)
    assert optimizer.weights[0] == iterate
    optimizer.zero_grad()
    assert x.data[0] == pytest.approx(iterate + 0.5 * optimizer.v[0], rel=1e-15), "looking ahead twice is looking once"


def test_nesterov_without_zero_grad_is_an_error():
    x = leaf([1.0])
    optimizer = optim.Nesterov([x])
    (x * x).backward()
    with pytest.raises(RuntimeError, match="call zero_grad right before the forward pass"):
        optimizer.step()


def test_nesterov_is_at_the_iterate_when_evaluated_saved_or_loaded_in_the_middle_of_a_step():
    model = models.mlp([2, 2])
    optimizer = optim.Nesterov(model, lr=0.1)
    other = optim.SGD(model)
    x = np.ones((1, 2), np.float32)

    def flat():
        return np.concatenate([parameter.data.ravel() for parameter in model.parameters()])

    for settle in (model.eval, model.state_dict, lambda: model.load_state_dict(model.state_dict())):
        optimizer.zero_grad()
        ops.cross_entropy(model(x), [0]).backward()
        optimizer.step()
        iterate = flat()
        optimizer.zero_grad()  # at the end of the loop, as is common elsewhere
        assert not np.array_equal(flat(), iterate)
        np.testing.assert_array_equal(optimizer.weights, iterate)
        np.testing.assert_array_equal(other.weights, iterate)
        settle()
        np.testing.assert_array_equal(flat(), iterate)
        with pytest.raises(RuntimeError, match="not at the look-ahead point"):
            optimizer.step()
        model.train()


def test_assigning_a_parameter_in_the_middle_of_a_nesterov_step_assigns_the_iterate():
    x = leaf([1.0])
    optimizer = optim.Nesterov([x])
    optimizer.v = np.array([5.0])
    optimizer.zero_grad()
    x.data = [7.0]
    assert (x.data[0], optimizer.weights[0]) == (7, 7)


def test_nesterov_does_not_stall_in_float32():
    """The displacement is kept by its recursion; as a difference of iterates it would be rounded to their precision."""
    x = leaf([1.0], np.float32)
    optimizer = optim.Nesterov([x], lr=2e-8, beta=0.99)
    for _ in range(1000):
        optimizer.zero_grad()
        x.backward(np.ones(1))
        optimizer.step()
    assert x.data[0] == pytest.approx(0.998198, abs=2e-5)


def test_a_copied_model_and_optimizer_belong_together_and_to_nobody_else():
    model = models.mlp([2, 2])
    optimizer = optim.Adam(model)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    before = optimizer.weights
    ops.cross_entropy(twin(np.ones((1, 2), np.float32)), [0]).backward()
    twin_optimizer.step()
    moved = np.concatenate([parameter.data.ravel() for parameter in twin.parameters()])
    np.testing.assert_array_equal(moved, twin_optimizer.weights)
    assert not np.array_equal(moved, before)
    np.testing.assert_array_equal(optimizer.weights, before)


@pytest.mark.parametrize("twins_of", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_twins_made_at_a_look_ahead_point_stand_at_the_iterate_and_belong_together(twins_of):
    model = models.mlp([2, 2])
    optimizer = optim.Nesterov(model, lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        ops.cross_entropy(model(np.ones((1, 2), np.float32)), [0]).backward()
        optimizer.step()
    W = optimizer.weights
    optimizer.zero_grad()
    alone = twins_of(model)
    np.testing.assert_array_equal(np.concatenate([p.data.ravel() for p in alone.parameters()]), W)
    optimizer.zero_grad()
    twin, twin_optimizer = twins_of((model, optimizer))
    np.testing.assert_array_equal(twin_optimizer.weights, W)
    twin_optimizer.zero_grad()
    ops.cross_entropy(twin(np.ones((1, 2), np.float32)), [0]).backward()
    twin_optimizer.step()
    moved = np.concatenate([parameter.data.ravel() for parameter in twin.parameters()])
    np.testing.assert_array_equal(moved, twin_optimizer.weights)
    assert not np.array_equal(moved, W)


def test_a_parameter_in_the_vector_can_be_copied_and_pickled():
    model = models.mlp([2, 2])
    optimizer = optim.Adam(model)
    for parameter in (copy.copy(model[1].weight), pickle.loads(pickle.dumps(model))[1].weight):
        parameter.data = np.zeros((2, 2))
        assert isinstance(parameter, nn.Parameter)
    assert optimizer.weights.any()


def test_nesterov_returns_to_the_iterate_when_the_closure_fails():
    x = leaf([1.0])
    optimizer = optim.Nesterov([x])
    optimizer.v = np.array([5.0])

    def closure():
        assert x.data[0] == 5.5
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        optimizer.step(closure)
    assert x.data[0] == 1.0
    assert optimizer.t == 0


# ---------------------------------------------------------------- state and settings


def test_load_state_dict_refuses_what_does_not_fit_and_changes_nothing():
    optimizer = optim.Adam([leaf([1.0, 2.0])])
    good = optimizer.state_dict()
    bad = [
        (optim.SGD([leaf([1.0])]).state_dict(), "entries are"),
        ({**good, "class": "Nadam"}, "this is the state of Nadam"),
        ({**good, "m": np.zeros(3)}, r"m has shape \(3,\), expected \(2,\)"),
        ({k: v for k, v in good.items() if k != "v"}, "expected"),
    ]
    for state, message in bad:
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict({**state, **({"t": 5} if "t" in state else {})})
        assert optimizer.t == 0


def test_a_state_with_a_vector_that_is_no_numbers_changes_nothing():
    optimizer = optim.Adam([leaf([1.0, 2.0])])
    with pytest.raises(ValueError, match="Adam.load_state_dict: v does not consist of numbers"):
        optimizer.load_state_dict({**optimizer.state_dict(), "t": 7, "v": np.array(["a", "b"])})
    assert optimizer.t == 0
    with pytest.raises(TypeError, match="state is NoneType, expected a dictionary"):
        optimizer.load_state_dict(None)


def test_a_state_of_other_parameters_is_refused_though_they_are_as_many():
    class Two(nn.Module):
        def __init__(self, names):
            for name in names:
                setattr(self, name, nn.Dense(3, 3))

    state = optim.HeavyBall(Two("ab"), lr=0.1).state_dict()
    assert state["layout"] == {"a.weight": [3, 3], "a.bias": [3], "b.weight": [3, 3], "b.bias": [3]}
    json.dumps(state["layout"])
    frozen = Two("abc")
    frozen.c.freeze()
    optim.HeavyBall(frozen, lr=0.1).load_state_dict(state | {"t": 1})  # W does not know what is frozen
    turned = nn.Sequential(a=nn.Dense(1, 6), b=nn.Dense(1, 6))  # 24 numbers too
    for other, message in (
        (
            Two("ba"),
            "HeavyBall.load_state_dict: the parameters in W differ: b.weight [3, 3], in the state a.weight [3, 3]",
        ),
        (Two("abc"), "the parameters in W differ: c.weight [3, 3], in the state none; c.bias [3], in the state none"),
        (Two("a"), "the parameters in W differ: none, in the state b.weight [3, 3]; none, in the state b.bias [3]"),
        (
            turned,
            "a.weight [1, 6], in the state a.weight [3, 3]; a.bias [6], in the state a.bias [3]; b.weight [1, 6], ",
        ),
    ):
        optimizer = optim.HeavyBall(other, lr=0.1)
        with pytest.raises(ValueError, match=re.escape(message)):
            optimizer.load_state_dict(state | {"t": 1})
        assert optimizer.t == 0
    with pytest.raises(ValueError, match="layout is 3, expected shapes by name"):
        optimizer.load_state_dict(state | {"layout": 3})


def test_a_rate_is_required_where_the_method_has_one():
    with pytest.raises(TypeError, match="SGD: lr is None, expected a number"):
        optim.SGD([leaf([1.0])], lr=None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, lr=-0.1), "SGD: lr is -0.1"),
        (lambda p: optim.SGD(p, lr=math.nan), "SGD: lr is nan"),
        (lambda p: optim.SGD(p, lr=math.inf), "SGD: lr is inf"),
        (lambda p: optim.HeavyBall(p, beta=1.0), r"HeavyBall: beta is 1.0, expected a number in \[0, 1\)"),
        (lambda p: optim.Nesterov(p, beta=-0.1), "Nesterov: beta is -0.1"),
        (lambda p: optim.AdaGrad(p, eps=-1), "AdaGrad: eps is -1"),
        (lambda p: optim.AdaGrad(p, accumulate="cube"), "accumulate is 'cube'"),
        (lambda p: optim.RMSProp(p, gamma=1), "RMSProp: gamma is 1"),
        (lambda p: optim.Adadelta(p, gamma=2), "Adadelta: gamma is 2"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), r"Adam: betas\[1\] is 1.0"),
        (lambda p: optim.AdaMax(p, betas=0.9), "AdaMax: betas is 0.9, expected a pair"),
        (lambda p: optim.Nadam(p, betas=(math.nan, 0.9)), r"Nadam: betas\[0\] is nan"),
        (lambda p: optim.AMSGrad(p, eps=math.inf), "AMSGrad: eps is inf"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make([leaf([1.0])])


def test_penalty_clip_and_update_are_what_they_should_be():
    with pytest.raises(TypeError, match=r"SGD: penalty is 0\.1, expected one of optim.penalties"):
        optim.SGD([leaf([1.0])], penalty=[optim.penalties.L2(0.1), 0.1])
    with pytest.raises(TypeError, match=r"Adam: clip is 5, expected optim.ClipValue or optim.ClipNorm"):
        optim.Adam([leaf([1.0])], clip=5)
    W = leaf([1.0])
    W.grad = np.ones(1)
    with pytest.raises(TypeError, match="Optimizer has no update method"):
        optim.Optimizer([W], lr=0.1).step()


def test_a_hyper_parameter_must_be_a_number():
    with pytest.raises(TypeError, match="SGD: lr is '0.1', expected a number"):
        optim.SGD([leaf([1.0])], lr="0.1")


# ---------------------------------------------------------------- rates of layers, schedules, names


def test_lr_scale_gives_layers_parameters_and_elements_rates_of_their_own():
    model = models.mlp([2, 3, 2])
    first, second = (name.rpartition(".")[0] for name, _ in list(model.named_parameters())[::2])
    rows = np.array([[1.0], [0.5]])
    optimizer = optim.SGD(model, lr=0.1, lr_scale={first: 0, f"{first}.weight": rows, f"{second}.bias": 3})
    before = {name: parameter.data.copy() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.backward(np.ones(parameter.shape))
    optimizer.step()
    steps = {name: before[name] - parameter.data for name, parameter in model.named_parameters()}
    np.testing.assert_allclose(steps[f"{first}.weight"], np.broadcast_to(0.1 * rows, (2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(steps[f"{first}.bias"], 0)
    np.testing.assert_allclose(steps[f"{second}.weight"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(steps[f"{second}.bias"], 0.3, rtol=1e-5)
    assert optimizer.rate == 0.1
    assert optimizer.weights.dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conv9": 1}, "SGD: lr_scale: 'conv9' names no parameter and no layer; there are 1.weight, 1.bias"),
        ({"1": -1}, r"SGD: lr_scale\['1'\] is -1, expected finite numbers of at least 0"),
        ({"1": math.nan}, r"lr_scale\['1'\] is nan"),
        ({"1.weight": np.ones(4)}, r"lr_scale\['1.weight'\] has shape \(4,\), which does not broadcast to 1.weight's"),
    ],
)
def test_bad_lr_scale(settings, message):
    with pytest.raises(ValueError, match=message):
        optim.SGD(models.mlp([2, 3]), lr_scale=settings)
    with pytest.raises(ValueError, match="Adadelta: lr_scale is given, but this method has no learning rate"):
        optim.Adadelta(models.mlp([2, 3]), lr_scale={"1": 2})


def test_the_state_holds_the_schedule_s():
    def make(schedule):
        return optim.Adam([leaf([1.0, 2.0])], lr=schedule)

    plateau = optim.schedules.ReduceOnPlateau(0.1, patience=0)
    optimizer = make(plateau)
    for t, loss in enumerate([1.0, 2.0, 3.0], start=1):
        plateau.observe(t, loss)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="ReduceOnPlateau.load_state_dict: patience is 1, in the state 0"):
        make(optim.schedules.ReduceOnPlateau(0.1, patience=1)).load_state_dict(state)
    resumed = make(optim.schedules.ReduceOnPlateau(0.1, patience=0))
    resumed.load_state_dict(state)
    assert [resumed.lr(t) for t in range(5)] == [plateau(t) for t in range(5)]
    assert resumed.lr(4) < 0.1

    other = make(optim.schedules.Constant(0.1))
    for bad, message in ((state, "Constant"), ({**state, "t": -1}, "t is -1"), ({**state, "t": 1.5}, "t is 1.5")):
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(bad)
        assert other.t == 0
    with pytest.raises(ValueError, match="the entries are"):
        make(0.1).load_state_dict(state)


def test_parameters_have_names_and_places():
    model = models.mlp([2, 3])
    layout = optim.SGD(model).layout
    assert layout.names == ("1.weight", "1.bias")
    assert [layout.locate(i) for i in (0, 5, 6, 8)] == ["1.weight[0, 0]", "1.weight[1, 2]", "1.bias[0]", "1.bias[2]"]
    x, y = leaf(3.0), leaf([1.0])
    shared = optim.SGD([x, y])
    assert shared.layout.names == ("params[0]", "params[1]")
    assert shared.layout.locate(0) == "params[0]"
    assert optim.Adam([y, x]).layout.names == ("params[1]", "params[0]"), "names in the order of the vector"
    with pytest.raises(IndexError, match="W has 2 elements, there is none at 2"):
        shared.layout.locate(2)


@pytest.mark.slow
def test_live_memory_returns_after_1000_steps_without_the_garbage_collector():
    """With the collector off, 1,000 steps leave no array behind, and the collector then finds no cycle to break."""
    import tracemalloc

    model = models.lenet5()
    optimizer = optim.Adam(model)
    loss = nn.CrossEntropy()
    x = np.random.default_rng(0).random((2, 28, 28, 1), dtype=np.float32)
    y = np.array([3, 7])

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    def array_bytes():
        arrays = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays]).traces)

    steps(1)  # the BLAS libraries are looked up once
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        steps(5)
        before = array_bytes()
        steps(1000)
        assert abs(array_bytes() - before) < 1000, "NumPy keeps a few freed arrays of some bytes for reuse"
        assert gc.collect() == 0
    finally:
        tracemalloc.stop()
        gc.enable()


# ---------------------------------------------------------------- large vectors


RULES_OF_ELEMENTS = [
    method for method in catalogue.METHODS if getattr(method.make(models.mlp([2, 2])), "by_element", False)
]


def test_every_first_order_rule_says_that_it_is_one_of_elements():
    others = [method.make(models.mlp([2, 2])) for method in catalogue.METHODS if method not in RULES_OF_ELEMENTS]
    assert all(isinstance(optimizer, DeterministicOptimizer) for optimizer in others)


@pytest.mark.parametrize("method", RULES_OF_ELEMENTS, ids=lambda method: method.name)
@pytest.mark.parametrize("scaled", [False, True], ids=["one rate", "rates of elements"])
def test_a_large_vector_moves_part_by_part_as_it_would_as_a_whole(method, scaled, monkeypatch):
    size = SHARE * 2 + 5  # several parts, in several threads
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(size, np.float32), rng.standard_normal((3, size), np.float32)

    def walk(by_element):
        model = nn.Module()
        model.w = nn.Parameter(start)
        optimizer = method.make(model)
        optimizer.by_element = by_element
        if scaled and optimizer.has_rate:
            optimizer._scale = np.linspace(0.5, 2, size, dtype=np.float32)
        for g in gradients:
            optimizer.zero_grad()
            model.w.grad = g
            optimizer.step()
        return [optimizer.weights, *(getattr(optimizer, name) for name in optimizer.state)]

    for ours, expected in zip(walk(True), walk(False), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_an_update_that_fails_changes_nothing():
    class Failing(optim.HeavyBall):
        def update(self, W, g, lr, t):
            W = super().update(W, g, lr, t)
            if (g < 0).any():
                raise ArithmeticError("here")
            return W

    w = leaf(np.zeros(PART * 3))
    optimizer = Failing([w], lr=1)
    w.grad = np.ones(w.shape)
    optimizer.step()
    before = optimizer.weights, optimizer.v.copy()
    w.grad = np.append(np.ones(w.size - 1), -1)
    with pytest.raises(ArithmeticError, match="here"):
        optimizer.step()
    np.testing.assert_array_equal(optimizer.weights, before[0])
    np.testing.assert_array_equal(optimizer.v, before[1])
