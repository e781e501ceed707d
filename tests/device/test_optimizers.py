"""Every optimizer on the device: as on the CPU, with its state there, saved and loaded, also to the other device."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import backend, ops, optim
from minidl.optim import penalties, schedules
from minidl.optim.catalogue import METHODS

from devices import devices_of, mostly_on_a_gpu, on

STEPS = 6
CLOSE = {"rtol": 1e-6, "atol": 1e-7}  # a line search enlarges what is rounded
SHAPES = (4, 3), (5,)
RNG = np.random.default_rng(8)
START, AT = ([RNG.standard_normal(shape) for shape in SHAPES] for _ in range(2))
A = RNG.standard_normal((20, 17)) / 5

OPTIONS = {
    "schedule": lambda params: optim.HeavyBall(params, schedules.Cosine(0.1, STEPS, 0.001)),
    "penalties": lambda params: optim.Adam(params, penalty=[penalties.L2(1e-2), penalties.L1(1e-3, decoupled=True)]),
    "clip": lambda params: optim.SGD(params, 0.1, clip=optim.ClipNorm(0.1)),
    "clip of values": lambda params: optim.SGD(params, 0.1, clip=optim.ClipValue(0.05)),
    "rates by layer": lambda params: optim.Adam(params, lr_scale={"params[0]": 0.1}),
    "momentum, rate outside": lambda params: optim.HeavyBall(params, rate_inside=False),
    "ε outside": lambda params: optim.RMSProp(params, eps_inside=False),
    "no bias correction": lambda params: optim.Adam(params, bias_correction=False),
}
MAKERS = {method.name: method.make for method in METHODS} | OPTIONS
RESIDUALS = {method.name for method in METHODS if method.closure == "residuals"}


def residuals(params):
    """A w − b, slightly curved, for the vector w of all parameters."""
    w = ops.concatenate([parameter.reshape(-1) for parameter in params])
    at = backend.asarray(np.concatenate([each.reshape(-1) for each in AT]).astype(w.dtype))
    r = ops.matmul(backend.asarray(A.astype(w.dtype)), w - at)
    return r + 0.1 * ops.sin(r)


class Problem:
    """Parameters on the current device, an optimizer over them, and steps."""

    def __init__(self, name, dtype=np.float64, start=START):
        self.name = name
        self.params = [ml.Tensor(np.asarray(each, dtype), requires_grad=True) for each in start]
        self.optimizer = MAKERS[name](self.params)

    def closure(self):
        r = residuals(self.params)
        if self.name in RESIDUALS:
            return r
        loss = (r * r).sum() / 2
        loss.backward()
        return loss

    def run(self, steps):
        for _ in range(steps):
            self.optimizer.step(self.closure)
        return backend.to_numpy(self.optimizer.weights)


every_optimizer = pytest.mark.parametrize("name", MAKERS)


@every_optimizer
def test_steps_are_those_of_the_cpu_and_the_state_lies_on_the_device(name, device_library):
    problem = Problem(name)
    weights = problem.run(STEPS)
    with on("cpu"):
        np.testing.assert_allclose(weights, Problem(name).run(STEPS), **CLOSE)
    state = [getattr(problem.optimizer, key) for key in problem.optimizer.state]
    assert devices_of(problem.optimizer.weights, *state, *(tensor.data for tensor in problem.params)) == {"gpu"}


@mostly_on_a_gpu
@every_optimizer
def test_float32_stays_near_float64(name, device_library):
    weights = Problem(name, np.float32).run(STEPS)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, Problem(name).run(STEPS), rtol=1e-2, atol=1e-3)


@every_optimizer
def test_a_state_is_saved_and_resumed_here_and_on_the_other_device(name, device_library):
    first = Problem(name)
    middle, state = first.run(3), first.optimizer.state_dict()
    expected = first.run(3)
    assert all(type(value) is not device_library.ndarray for value in state.values())
    split = middle[:12].reshape(SHAPES[0]), middle[12:]

    def resumed():
        problem = Problem(name, start=split)
        problem.optimizer.load_state_dict(state)
        return problem.run(3)

    np.testing.assert_array_equal(resumed(), expected)
    with on("cpu"):
        np.testing.assert_allclose(resumed(), expected, **CLOSE)


def test_frozen_parameters_stay(device_library):
    problem = Problem("adam")
    problem.params[0].requires_grad = False
    problem.run(2)
    np.testing.assert_array_equal(problem.params[0].numpy(), START[0])
    assert (problem.params[1].numpy() != START[1]).all()
