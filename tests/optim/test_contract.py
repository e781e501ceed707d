"""Every optimizer's trajectory equals a reference written from the equation, in float64 to 1e-10.

The references work element by element on Python floats, in extended precision (`numpy.longdouble`), and share nothing
with the package.
"""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import optim

STEPS = 60
LD = np.longdouble


# ---------------------------------------------------------------- the equations, once more


def sgd(w, gradient, rate, steps, eps):
    for t in range(1, steps + 1):
        w = w - rate(t) * gradient(w, t)
        yield w


def heavy_ball(w, gradient, rate, steps, eps, beta=LD(0.9)):
    before = w
    for t in range(1, steps + 1):
        w, before = w - rate(t) * gradient(w, t) + beta * (w - before), w
        yield w


def heavy_ball_rate_outside(w, gradient, rate, steps, eps, beta=LD(0.9)):
    v = 0 * w
    for t in range(1, steps + 1):
        v = beta * v + gradient(w, t)
        w = w - rate(t) * v
        yield w


def nesterov(w, gradient, rate, steps, eps, beta=LD(0.9)):
    before = w
    for t in range(1, steps + 1):
        w, before = w - rate(t) * gradient(w + beta * (w - before), t) + beta * (w - before), w
        yield w


def nesterov_second_form(w, gradient, rate, steps, eps, gamma=LD(0.9)):
    v = 0 * w
    for t in range(1, steps + 1):
        v = gamma * v + rate(t) * gradient(w - gamma * v, t)
        w = w - v
        yield w


def adagrad(w, gradient, rate, steps, eps, accumulate=lambda g: g * g):
    G = 0 * w
    for t in range(1, steps + 1):
        g = gradient(w, t)
        G = G + accumulate(g)
        w = w - rate(t) / np.sqrt(G + eps) * g
        yield w


def adagrad_exp(*args):
    return adagrad(*args, accumulate=lambda g: np.exp(-g))


def rmsprop(w, gradient, rate, steps, eps, gamma=LD(0.9), inside=True):
    E = 0 * w
    for t in range(1, steps + 1):
        g = gradient(w, t)
        E = gamma * E + (1 - gamma) * g * g
        w = w - rate(t) * g / (np.sqrt(E + eps) if inside else np.sqrt(E) + eps)
        yield w


def rmsprop_outside(*args):
    return rmsprop(*args, inside=False)


def adadelta(w, gradient, rate, steps, eps, gamma=LD(0.95)):
    E = D = 0 * w
    for t in range(1, steps + 1):
        g = gradient(w, t)
        E = gamma * E + (1 - gamma) * g * g
        delta = -np.sqrt(D + eps) / np.sqrt(E + eps) * g
        D = gamma * D + (1 - gamma) * delta * delta
        w = w + delta
        yield w


def moments(gradients, beta1=LD(0.9), beta2=LD(0.999)):
    """Return m_t and v_t in closed form: weighted sums over all gradients so far."""
    t = len(gradients)
    m = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(gradients, start=1))
    v = sum((1 - beta2) * beta2 ** (t - i) * g * g for i, g in enumerate(gradients, start=1))
    return m, v


def adam_like(step):
    """Make a reference of a rule that takes the step from (g, m, v, t, eps) and the memory of former steps."""

    def reference(w, gradient, rate, steps, eps):
        seen, memory = [], {}
        for t in range(1, steps + 1):
            seen.append(gradient(w, t))
            m, v = moments(seen)
            w = w - rate(t) * step(seen[-1], m, v, t, eps, memory)
            yield w

    return reference


B1, B2 = LD(0.9), LD(0.999)


def amsgrad_step(g, m, v, t, eps, memory):
    memory["v"] = np.maximum(memory.get("v", 0), v)
    return m / (np.sqrt(memory["v"]) + eps)


def adamax_step(g, m, v, t, eps, memory):
    memory["u"] = np.maximum(B2 * memory.get("u", 0), np.abs(g))
    return m / (1 - B1**t) / memory["u"]


def nadam_step(g, m, v, t, eps, memory):
    return (B1 * m / (1 - B1**t) + (1 - B1) * g / (1 - B1**t)) / np.sqrt(v / (1 - B2**t) + eps)


adam = adam_like(lambda g, m, v, t, eps, memory: m / (1 - B1**t) / (np.sqrt(v / (1 - B2**t)) + eps))
adam_uncorrected = adam_like(lambda g, m, v, t, eps, memory: m / (np.sqrt(v) + eps))

CONTRACT = {
    "SGD": (optim.SGD, sgd, {}),
    "HeavyBall": (optim.HeavyBall, heavy_ball, {}),
    "HeavyBall, rate outside": (optim.HeavyBall, heavy_ball_rate_outside, {"rate_inside": False}),
    "Nesterov": (optim.Nesterov, nesterov, {}),
    "Nesterov, second form": (optim.Nesterov, nesterov_second_form, {}),
    "AdaGrad": (optim.AdaGrad, adagrad, {}),
    "AdaGrad exp": (optim.AdaGrad, adagrad_exp, {"accumulate": "exp"}),
    "RMSProp": (optim.RMSProp, rmsprop, {}),
    "RMSProp, ε outside": (optim.RMSProp, rmsprop_outside, {"eps_inside": False}),
    "Adadelta": (optim.Adadelta, adadelta, {}),
    "Adam": (optim.Adam, adam, {}),
    "Adam, uncorrected": (optim.Adam, adam_uncorrected, {"bias_correction": False}),
    "AdaMax": (optim.AdaMax, adam_like(adamax_step), {}),
    "Nadam": (optim.Nadam, adam_like(nadam_step), {}),
    "AMSGrad": (optim.AMSGrad, adam_like(amsgrad_step), {}),
}
WITHOUT_EPS = {"SGD", "HeavyBall", "HeavyBall, rate outside", "Nesterov", "Nesterov, second form", "AdaMax"}
DEFAULT_EPS = {"Adadelta": 1e-6}
every_optimizer = pytest.mark.parametrize("name", CONTRACT)

# ---------------------------------------------------------------- problems: two parameters of different shapes

SHAPES = ((3, 2), (4,))
SIZE = 10
_rng = np.random.default_rng(2024)
START = _rng.standard_normal(SIZE)
FIXED = _rng.standard_normal((STEPS + 1, SIZE)) * np.logspace(-3, 2, SIZE)  # gradients of very different sizes
FACTOR = _rng.standard_normal((SIZE, SIZE)) / 3
HESSIAN = FACTOR @ FACTOR.T + 0.1 * np.eye(SIZE)
PROBLEMS = {
    "fixed random gradients": lambda w, t: FIXED[t].astype(w.dtype),
    "quadratic": lambda w, t: HESSIAN.astype(w.dtype) @ w,
}
RATES = {"constant": lambda t: 0.05, "decaying": lambda t: 0.05 * 0.95 ** (t - 1)}


def parameters():
    split = np.split(START, [6])
    return [ml.Tensor(part.reshape(shape), requires_grad=True) for part, shape in zip(split, SHAPES, strict=True)]


def make(name, params, rate, eps):
    factory, _, settings = CONTRACT[name]
    settings = dict(settings)
    if name not in WITHOUT_EPS and eps is not None:
        settings["eps"] = eps
    if factory is not optim.Adadelta:
        settings["lr"] = 0.05 if rate == "constant" else (lambda t: RATES[rate](t + 1))
    return factory(params, **settings)


def walk(optimizer, params, problem, steps, first=1):
    """Take steps and yield the true iterates."""
    for t in range(first, first + steps):
        optimizer.zero_grad()
        w = np.concatenate([tensor.data.reshape(-1) for tensor in params])
        g = np.split(PROBLEMS[problem](w, t), [6])
        for tensor, part in zip(params, g, strict=True):
            tensor.backward(part.reshape(tensor.shape))
        optimizer.step()
        yield optimizer.weights


NAMES_AND_EPS = [
    pytest.param(name, eps, id=f"{name}, {'default ε' if eps is None else f'ε {eps:g}'}")
    for name in CONTRACT
    for eps in (0.0, None, 1e-2)
    if eps is None or not (name in WITHOUT_EPS or (name == "Adadelta" and eps == 0))  # then it never moves, see below
]


@pytest.mark.parametrize(("name", "eps"), NAMES_AND_EPS)
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("rate", RATES)
def test_trajectory_equals_the_equation(name, problem, rate, eps):
    params = parameters()
    ours = list(walk(make(name, params, rate, eps), params, problem, STEPS))
    used_eps = LD(DEFAULT_EPS.get(name, 1e-8) if eps is None else eps)
    exact_rate = lambda t: LD(RATES[rate](t))
    reference = CONTRACT[name][1](START.astype(LD), PROBLEMS[problem], exact_rate, STEPS, used_eps)
    for t, (got, expected) in enumerate(zip(ours, reference, strict=True), start=1):
        np.testing.assert_allclose(got, expected.astype(float), rtol=1e-10, atol=1e-14, err_msg=f"step {t}")


def test_adadelta_without_eps_never_moves():
    params = parameters()
    *_, last = walk(optim.Adadelta(params, eps=0), params, "quadratic", 5)
    np.testing.assert_array_equal(last, START)


@every_optimizer
def test_saved_and_resumed_in_the_middle_is_the_same_to_the_bit(name):
    params = parameters()
    whole = list(walk(make(name, params, "decaying", None), params, "quadratic", STEPS))

    params = parameters()
    optimizer = make(name, params, "decaying", None)
    *_, middle = walk(optimizer, params, "quadratic", STEPS // 2)
    state = optimizer.state_dict()

    resumed_params = parameters()
    for tensor, part in zip(resumed_params, np.split(middle, [6]), strict=True):
        tensor.data = part.reshape(tensor.shape)
    resumed = make(name, resumed_params, "decaying", None)
    resumed.load_state_dict(state)
    rest = list(walk(resumed, resumed_params, "quadratic", STEPS // 2, first=STEPS // 2 + 1))
    for got, expected in zip(rest, whole[STEPS // 2 :], strict=True):
        np.testing.assert_array_equal(got, expected)


@every_optimizer
def test_float32_stays_float32(name):
    params = [ml.Tensor(np.ones(3, np.float32), requires_grad=True)]
    optimizer = make(name, params, "decaying", None)
    for _ in range(3):
        optimizer.zero_grad()
        (params[0] * params[0]).sum().backward()
        optimizer.step()
    assert optimizer.weights.dtype == np.float32
    assert all(getattr(optimizer, state).dtype == np.float32 for state in optimizer.state)


@every_optimizer
def test_a_weight_without_gradient_does_not_move_and_is_not_nan(name):
    params = parameters()
    optimizer = make(name, params, "constant", None)
    for _ in range(5):
        optimizer.zero_grad()
        params[0].backward(np.array([[0, 1.0], [0, 1], [0, 1]]))  # params[1] receives nothing at all
        optimizer.step()
    np.testing.assert_array_equal(params[0].data[:, 0], START[:6].reshape(3, 2)[:, 0])
    np.testing.assert_array_equal(params[1].data, START[6:])
    assert (params[0].data[:, 1] < START[:6].reshape(3, 2)[:, 1]).all()


# ---------------------------------------------------------------- PyTorch, where it does the same


def pytorch_walk(torch, factory, problem):
    twin = torch.tensor(START.copy(), requires_grad=True)
    optimizer = factory([twin])
    for t in range(1, STEPS + 1):
        twin.grad = torch.tensor(PROBLEMS[problem](twin.detach().numpy(), t))
        optimizer.step()
        yield twin.detach().numpy().copy()


AGREEING = {
    "SGD": lambda o, p: o.SGD(p, lr=0.05),
    "HeavyBall": lambda o, p: o.SGD(p, lr=0.05, momentum=0.9),
    "RMSProp, ε outside": lambda o, p: o.RMSprop(p, lr=0.05, alpha=0.9),
    "Adadelta": lambda o, p: o.Adadelta(p, lr=1, rho=0.95),
    "Adam": lambda o, p: o.Adam(p, lr=0.05),
    "AdaMax": lambda o, p: o.Adamax(p, lr=0.05, eps=0),
}


@pytest.mark.parametrize("name", AGREEING)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_trajectory_equals_pytorch(torch, name, problem):
    params = parameters()
    ours = walk(make(name, params, "constant", None), params, problem, STEPS)
    for got, expected in zip(ours, pytorch_walk(torch, lambda p: AGREEING[name](torch.optim, p), problem), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_momentum_with_the_rate_outside_equals_pytorchs_also_when_the_rate_changes(torch, problem):
    params = parameters()
    ours = walk(make("HeavyBall, rate outside", params, "decaying", None), params, problem, STEPS)
    twin = torch.tensor(START.copy(), requires_grad=True)
    optimizer = torch.optim.SGD([twin], lr=0.05, momentum=0.9)
    for t, got in enumerate(ours, 1):
        optimizer.param_groups[0]["lr"] = RATES["decaying"](t)
        twin.grad = torch.tensor(PROBLEMS[problem](twin.detach().numpy(), t))
        optimizer.step()
        np.testing.assert_allclose(got, twin.detach().numpy(), rtol=1e-10, atol=1e-14)


def test_nesterovs_look_ahead_point_equals_pytorchs_parameters(torch):
    params = parameters()
    optimizer = make("Nesterov", params, "constant", None)
    looked = []
    for _ in walk(optimizer, params, "quadratic", STEPS):
        optimizer.zero_grad()
        looked.append(np.concatenate([tensor.data.reshape(-1) for tensor in params]))
    theirs = pytorch_walk(torch, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True), "quadratic")
    for got, expected in zip(looked, theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)
