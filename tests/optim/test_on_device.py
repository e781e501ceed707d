"""Optimizers on a GPU: a step is one kernel, written from the equation, and its numbers are those of the equation."""

from __future__ import annotations

import copy
import functools
import pickle

import generated
import numpy as np
import pytest

import minidl as ml
from minidl import backend, emulator, nn, optim
from minidl.kernels.cuda import fusion
from minidl.kernels.cuda.tracing import NoRuleError
from minidl.optim import on_device, penalties, schedules

import standin as stand_in

SHAPES = ((3, 2), (5,))
SIZE = 11
STEPS = 50
_rng = np.random.default_rng(7)
GRADIENTS = _rng.standard_normal((STEPS, SIZE)) * np.logspace(-3, 2, SIZE)


@pytest.fixture
def together(standin, monkeypatch):
    """Let the kernels of all optimizers be compiled at once."""
    monkeypatch.setattr(fusion, "compiled", _together(standin))


@functools.cache
def _together(cupy):
    kernels = [kernel for dtype in (np.float64, np.float32) for _, kernel in generated.rules(dtype)]
    return generated.Together(cupy, kernels)


def give(params, gradient, like):
    """Give parameters the parts of a vector as their gradients."""
    start = 0
    for tensor in params:
        part = gradient[start : start + tensor.size].reshape(tensor.shape).astype(tensor.dtype)
        tensor.grad = backend.asarray_like(part, like)
        start += tensor.size


def walk(make, device, dtype=np.float64, steps=STEPS, gradients=GRADIENTS):
    """Return the optimizer after some steps on a device, and the weights after each."""
    before, backend._device = backend._device, device
    try:
        params = generated.parameters(dtype, shapes=SHAPES)
        optimizer = make(params)
        trajectory = []
        for t in range(steps):
            optimizer.zero_grad()
            give(params, gradients[t], params[0].data)
            optimizer.step()
            trajectory.append(backend.to_numpy(optimizer.weights))
        return optimizer, trajectory
    finally:
        backend._device = before


def compare(make, dtype=np.float64, rtol=1e-12, fused=True, **settings):
    """Make the same steps on both devices; return the optimizer on the GPU."""
    _, expected = walk(make, "cpu", dtype, **settings)
    optimizer, got = walk(make, "gpu", dtype, **settings)
    assert (on_device.rule(optimizer) is not None) == fused
    for t, (one, other) in enumerate(zip(got, expected, strict=True), start=1):
        assert one.dtype == other.dtype == dtype
        scale = np.abs(other).max() if dtype == np.float32 else 0
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale, err_msg=f"step {t}")
    return optimizer


# ---------------------------------------------------------------- every optimizer


@pytest.mark.parametrize("scaled", [False, True], ids=["", "lr_scale"])
@pytest.mark.parametrize("name", generated.OPTIMIZERS)
def test_steps_are_those_of_the_equation(together, name, scaled):
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 1e-6)):
        compare(lambda params: generated.made(name, params, scaled), dtype, rtol)


@pytest.mark.parametrize("name", generated.OPTIMIZERS)
def test_a_step_is_two_launches_and_no_transfer(together, name):
    optimizer, _ = walk(lambda params: generated.made(name, params), "gpu", steps=1)
    optimizer.zero_grad()
    give(optimizer.params, GRADIENTS[0], optimizer.params[0].data)
    memory = [optimizer._vector.position, *(getattr(optimizer, state) for state in optimizer.state)]
    versions = [tensor.version for tensor in optimizer.params]
    stand_in.launches.clear()
    stand_in.transfers.clear()
    optimizer.step()
    assert stand_in.launches["gather"] == 1
    assert stand_in.launches.total() == 2
    assert not stand_in.transfers
    assert [tensor.version for tensor in optimizer.params] == [version + 1 for version in versions]
    after = [optimizer._vector.position, *(getattr(optimizer, state) for state in optimizer.state)]
    assert all(one is other for one, other in zip(memory, after, strict=True))
    assert all(tensor.data.base is optimizer._vector.position for tensor in optimizer.params)


def test_results_do_not_depend_on_the_order_of_the_threads(together, monkeypatch):
    monkeypatch.setattr(fusion, "BLOCKS", 2)
    monkeypatch.setattr(fusion, "THREADS", 4)
    results = []
    for order in ("forward", "reverse", "random"):
        with emulator.order(order):
            results.append(walk(lambda params: optim.Nadam(params), "gpu", steps=3)[1][-1])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_the_limits_are_those_of_the_equation(together):
    """A weight that never had a gradient stays in AdaMax, and one with an infinite G in AdaGrad."""
    zeros = np.zeros((3, SIZE))
    optimizer = compare(lambda params: optim.AdaMax(params), steps=3, gradients=zeros)
    start = np.concatenate([tensor.data.get().reshape(-1) for tensor in optimizer.params])
    np.testing.assert_array_equal(optimizer.weights.get(), start)
    huge = np.full((3, SIZE), -800.0)
    optimizer = compare(lambda params: optim.AdaGrad(params, accumulate="exp"), steps=3, gradients=huge)
    assert np.isinf(optimizer.G.get()).all()
    assert np.isfinite(optimizer.weights.get()).all()


def test_training_a_network(standin):
    results = []
    for device in ("cpu", "gpu"):
        backend._device = device
        ml.manual_seed(0)
        model = nn.Sequential(nn.Dense(6, 5), nn.Tanh(), nn.Dense(5, 3)).astype("float64")
        optimizer = optim.Adam(model, schedules.Exponential(0.1, 0.9))
        rng = np.random.default_rng(1)
        for _ in range(4):
            x, y = (backend.asarray(rng.standard_normal(shape)) for shape in ((7, 6), (7, 3)))
            optimizer.step(lambda: _backward(((model(ml.Tensor(x)) - ml.Tensor(y)) ** 2).mean()))
        results.append(backend.to_numpy(optimizer.weights))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9)


def _backward(loss):
    loss.backward()
    return loss


# ---------------------------------------------------------------- with penalties, clipping, frozen parameters

AROUND = {
    "L2": {"penalty": penalties.L2(0.01)},
    "L1, decoupled": {"penalty": penalties.L1(0.01, decoupled=True)},
    "both, MaxNorm": {
        "penalty": [penalties.Elastic(0.01, 0.02), penalties.L2(0.1, decoupled=True), penalties.MaxNorm(1.0)]
    },
    "PerLayer": {"penalty": penalties.PerLayer({"params[0]": (0.01, 1.5)}, decoupled=True)},
    "ClipValue": {"clip": optim.ClipValue(0.5)},
    "ClipNorm": {"clip": optim.ClipNorm(0.5)},
    "ClipNorm, not reached": {"clip": optim.ClipNorm(1e9)},
    "all": {"clip": optim.ClipNorm(2.0), "penalty": [penalties.L1(0.1), penalties.MaxNorm(2.0)]},
}


@pytest.mark.parametrize("name", AROUND)
def test_what_stands_around_the_equation(together, name):
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 3e-6)):
        stand_in.transfers.clear()
        optimizer = compare(lambda params: optim.Adam(params, **AROUND[name]), dtype, rtol, steps=20)
        before = stand_in.transfers.copy()
        optimizer.step()
        assert stand_in.transfers == before, "the host has looked at the device"


def test_norms_of_gradients_that_are_zero_tiny_huge_or_no_number(standin):
    clip = optim.ClipNorm(1.0)
    for values in ([0, 0], [1e-40, 0], [3e38, 4e37], [0.6, 0.8], [3, 4]):
        g = np.array(values, np.float32)
        np.testing.assert_allclose(clip(standin.asarray(g)).get(), clip(g), rtol=1e-6)
        assert clip(standin.asarray(g)).dtype == np.float32
    for wrong in (np.nan, np.inf):
        assert np.isnan(clip(standin.asarray(np.array([1.0, wrong]))).get()).all()
        limited = optim.ClipValue(1.0)(standin.asarray(np.array([1.0, -5, wrong]))).get()
        np.testing.assert_array_equal(limited, [1, -1, min(wrong, 1.0)])


def test_an_adaptive_penalty(standin):
    results = []
    for device in ("cpu", "gpu"):
        backend._device = device
        params = generated.parameters(np.float32)
        penalty = penalties.AdaptivePenalty(penalties.L2(0.3), nu=0.5)
        optimizer = optim.SGD(params, penalty=penalty)
        penalty.observe(backend.asarray(np.array([0.1, 2.0, 0.7], np.float32)))
        give(params, GRADIENTS[0], params[0].data)
        stand_in.transfers.clear()
        optimizer.step()
        assert not stand_in.transfers
        results.append(backend.to_numpy(optimizer.weights))
        assert optimizer.penalty_value > 0
    assert results[1].dtype == np.float32
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


@pytest.mark.parametrize("kind", [optim.Adam, optim.Nesterov])
def test_frozen_parameters_stay(standin, kind):
    results = []
    for device in ("cpu", "gpu"):
        backend._device = device
        params = generated.parameters()
        optimizer = kind(params, penalty=penalties.L2(0.1))
        for t in range(6):
            if t == 3:  # with momentum left
                params[0].requires_grad = False
                frozen = params[0].numpy().copy()
            optimizer.zero_grad()
            give(params if t < 3 else params[1:], GRADIENTS[t], params[0].data)
            optimizer.step()
        np.testing.assert_array_equal(params[0].numpy(), frozen)
        results.append(backend.to_numpy(optimizer.weights))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12)


# ---------------------------------------------------------------- one's own


class Signs(optim.Optimizer):
    """Sign descent with momentum and a warm start: of operations that the package's optimizers do not have."""

    by_element = True
    state = ("m", "W_slow", "new")

    def __init__(self, params, lr=0.1, beta=0.5, mode="sign"):
        super().__init__(params, lr)
        self.beta, self.mode, self.floor = beta, mode, np.float32(0.25)
        self.limits = (-1, None)

    def update(self, W, g, lr, t):
        self.m *= self.beta
        self.m += np.clip(g, *self.limits)
        self.W_slow = np.where(np.abs(W) < self.floor, W, 0.9 * self.W_slow + 0.1 * W)
        self.new = self.new + np.logical_or(g > 0, W > 0)
        step = np.sign(self.m) if self.mode == "sign" else np.tanh(self.m) ** 3
        return W - lr * min(1.0, 2.0) * step / (1 + 0.1 * self.t)


def test_a_users_own_equation_is_a_kernel_too(standin):
    optimizer = compare(Signs, rtol=1e-11)
    source = optimizer.cuda_source()
    assert "// self.m *= self.beta\n        const T a1 = m * T(0.5);\n" in source
    assert "x3_at" in source, "a state vector cannot be called new in C++"
    compare(Signs, np.float32, 1e-5)


def test_a_changed_setting_makes_another_kernel(standin):
    def make(params):
        optimizer = Signs(params)
        optimizer.beta, optimizer.mode = 0.25, "tanh"
        return optimizer

    compare(make, rtol=1e-11)
    first, second = (Signs(generated.parameters()) for _ in range(2))
    assert on_device.rule(first) is on_device.rule(second)
    second.beta = 0.9
    assert on_device.rule(first) is not on_device.rule(second)
    second.beta = 0.5
    assert on_device.rule(first) is on_device.rule(second)
    first.beta, second.beta = 1, True
    assert on_device.rule(first) is not on_device.rule(second), "equal, but for NumPy not the same"
    first.beta = second.beta = 0.5
    second.lr = 7.0  # an argument of the kernel
    assert on_device.rule(first) is on_device.rule(second)


def _own(update, **attributes):
    """Return a maker of optimizers with this update, whose kind says that it is one of elements."""
    state = ("m", "previous", "slow", "W_old")
    kind = type("Own", (optim.Optimizer,), {"by_element": True, "state": state, "update": update})

    def make(params):
        optimizer = kind(params, 0.1)
        vars(optimizer).update(attributes)
        return optimizer

    return make


def _branching(self, W, g, lr, t):
    self.m = g if t == 1 else 0.5 * self.m + g
    return W - lr * self.m


def _with_a_sum(self, W, g, lr, t):
    self.m = g - np.sum(g)
    return W - lr * self.m / 10


def _with_a_vector(self, W, g, lr, t):
    self.m = g * len(self.table["factor"])
    return W - lr * self.m


def _counting(self, W, g, lr, t):
    self.count = self.count + 1
    self.m = g / self.count
    return W - lr * self.m


def _changing(self, W, g, lr, t):
    CALLS.append(t)
    self.m = g / len(CALLS)
    return W - 0 * self.m


def _swapping(self, W, g, lr, t):
    self.m, self.previous = self.previous - np.mean(g), self.m
    old, self.slow = self.slow, self.m[:]
    self.W_old, W_old = W, self.W_old
    return W - lr * (self.m + self.previous + old) if t < 4 else W_old


def _with_the_rate_of_the_optimizer(self, W, g, lr, t):
    self.m = g
    return W - self.lr * self.m


CALLS: list[object] = []
NOT_WRITTEN_DOWN = {
    "a branch": (_own(_branching), "cannot look at the values"),
    "a sum": (_own(_with_a_sum), "numpy.sum"),
    "a table": (_own(_with_a_vector, table={"factor": [1, 2]}), "update uses table"),
    "a counter": (_own(_counting, count=0), "update assigns count"),
    "a list": (_own(_changing), "not do the same"),
    "the rate": (_own(_with_the_rate_of_the_optimizer), "update uses lr"),
    "vectors that change places": (_own(_swapping), "numpy.mean|an array's .mean"),
}


@pytest.mark.parametrize("what", NOT_WRITTEN_DOWN)
def test_an_equation_that_cannot_be_written_down_is_computed_with_arrays(standin, what):
    make, reason = NOT_WRITTEN_DOWN[what]
    optimizer = compare(make, fused=False, steps=5)
    memory = optimizer.m
    optimizer.step()
    assert optimizer.m is memory, "a captured graph knows the state's memory"
    with pytest.raises(NoRuleError, match=reason):
        optimizer.cuda_source()


def test_an_update_of_the_optimizer_itself_counts(standin):
    def make(params):
        optimizer = optim.SGD(params)
        on_device.rule(optimizer)
        optimizer.update = lambda W, g, lr, t: W + 3 * g
        return optimizer

    compare(make, fused=False, steps=2)


def test_optimizers_that_are_not_of_elements_have_no_source():
    with pytest.raises(TypeError, match="by_element is not True"):
        optim.Newton(generated.parameters()).cuda_source()


def test_the_source_is_shown_without_a_gpu():
    source = optim.Adam(generated.parameters(np.float32)).cuda_source()
    assert source.startswith("// The step of Adam: its `update`, line by line;")
    assert "        // m_hat = self.m / (1 - self.beta1**t)\n        const double s1 = pow(0.9, t);\n" in source
    assert "        new_W_at[i] = a14;\n        m_at[i] = a3;\n        v_at[i] = a7;\n" in source


# ---------------------------------------------------------------- saving, copies


def test_the_state_is_loaded_into_the_same_memory(standin):
    make = lambda params: optim.Adam(params)
    _, trajectory = walk(make, "gpu", steps=6)
    half, _ = walk(make, "gpu", steps=3)
    resumed, _ = walk(make, "gpu", steps=1)
    memory = resumed.m, resumed.v
    resumed.load_state_dict(half.state_dict())
    assert (resumed.m, resumed.v) == memory or all(a is b for a, b in zip((resumed.m, resumed.v), memory, strict=True))
    for tensor, other in zip(resumed.params, half.params, strict=True):
        tensor.data = other.data
    for t in range(3, 6):
        resumed.zero_grad()
        give(resumed.params, GRADIENTS[t], resumed.params[0].data)
        resumed.step()
    np.testing.assert_array_equal(resumed.weights.get(), trajectory[-1])


def test_copies_and_pickles(standin):
    optimizer, _ = walk(lambda params: optim.Adam(params), "gpu", steps=2)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        for each in (optimizer, twin):
            give(each.params, GRADIENTS[2], each.params[0].data)
        twin.step()
        expected = copy.deepcopy(optimizer)
        give(expected.params, GRADIENTS[2], expected.params[0].data)
        expected.step()
        np.testing.assert_array_equal(twin.weights.get(), expected.weights.get())


# ---------------------------------------------------------------- captured steps


OWN = {
    "one's own": lambda self, W, g, lr, t: W - lr / (1 + t) * g.clip(-1, 1),
    "one that is no kernel": lambda self, W, g, lr, t: W - lr / (1 + t) * np.tanh(g - np.sum(g)),
}


@pytest.mark.parametrize("name", ["SGD", "Nesterov", "Adam", "Adadelta", "Adam, scaled", *OWN])
def test_a_captured_step_makes_all_the_others(standin, together, name):
    def make(params):
        if name in OWN:
            return _own(OWN[name])(params)
        kind = name.partition(",")[0]
        settings = {} if kind == "Adadelta" else {"lr": schedules.Exponential(0.1, 0.8)}
        return generated.made(kind, params, scaled="scaled" in name, **settings)

    plain, expected = walk(make, "gpu", steps=6)
    params = generated.parameters(shapes=SHAPES)
    optimizer = make(params)
    gradient = standin.asarray(np.zeros(SIZE))
    rate, t = standin.asarray(np.array(0.0)), standin.asarray(np.array(0.0))

    def closure():
        params[0].grad, params[1].grad = gradient[:6].reshape(3, 2), gradient[6:]

    optimizer.step(closure) if name == "Nesterov" else None  # its memory for W^t is made then; with g = 0 nothing moves
    optimizer.t = 0
    stream = standin.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        optimizer.step(closure, numbers=(rate, t))
        graph = stream.end_capture()
    optimizer.t = 0
    for step in range(6):
        gradient[...] = standin.asarray(GRADIENTS[step])
        rate[...], t[...] = optimizer.rate or 0.0, optimizer.t + 1.0
        version = params[0].version
        graph.launch()
        optimizer.stepped()
        assert params[0].version > version
        np.testing.assert_allclose(optimizer.weights.get(), expected[step], rtol=1e-12)
    assert optimizer.t == plain.t == 6


def test_a_captured_step_that_is_not_made_leaves_the_parameters_at_the_iterate(standin):
    optimizer, trajectory = walk(lambda params: optim.Nesterov(params), "gpu", steps=2)
    stream = standin.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        optimizer.zero_grad()
        first = stream.end_capture()
        stream.begin_capture()  # the graph of the update, which is never launched
        optimizer._vector.settle()
        stream.end_capture()
    first.launch()
    assert not np.array_equal(optimizer.params[0].data.get().reshape(-1), trajectory[-1][:6])
    optimizer.not_stepped()
    np.testing.assert_array_equal(optimizer.params[0].data.get().reshape(-1), trajectory[-1][:6])
    optim.SGD(generated.parameters()).not_stepped()


def test_complex_weights_are_left_to_arrays(standin):
    x = ml.Tensor(standin.asarray(np.array([1 + 2j, 3j])), requires_grad=True)
    optimizer = optim.SGD([x], lr=0.5)
    x.grad = standin.asarray(np.array([1.0 + 0j, 2j]))
    optimizer.step()
    np.testing.assert_array_equal(x.numpy(), [0.5 + 2j, 2j])
