"""Optimizers, schedules and penalties with huge, tiny and missing numbers: right, or refused with nothing lost."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

import minidl as ml
from minidl import models, optim
from minidl.optim import penalties, schedules
from minidl.optim.optimizer import PART

METHODS = (
    optim.SGD, optim.HeavyBall, optim.Nesterov, optim.AdaGrad, optim.RMSProp,
    optim.Adadelta, optim.Adam, optim.AdaMax, optim.Nadam, optim.AMSGrad,
)  # fmt: skip
SQUARING = (optim.AdaGrad, optim.RMSProp, optim.Adadelta, optim.Adam, optim.Nadam, optim.AMSGrad)
EXACT = {"context": {"prec": 50, "Emin": -(10**6), "Emax": 10**6}}


def made(method, values, dtype=np.float32, **settings):
    W = ml.Tensor(np.array(values, dtype), requires_grad=True)
    return W, method([W], **settings)


def step(W, optimizer, g):
    optimizer.zero_grad()
    W.grad = np.broadcast_to(np.asarray(g, W.dtype), W.shape).copy()
    optimizer.step()


def state_of(optimizer):
    return {name: getattr(optimizer, name).copy() for name in optimizer.state} | {"t": optimizer.t}


def first_step(method, lr, g):
    """Return W¹ − W⁰ of each equation, with its defaults and all state zero, in 50 digits."""
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = EXACT["context"].values()
        lr, g = Decimal(float(lr)), Decimal(float(g))
        eps, ten = Decimal("1e-8"), Decimal(10)
        exact = {
            optim.SGD: lambda: lr * g,
            optim.HeavyBall: lambda: lr * g,
            optim.Nesterov: lambda: lr * g,
            optim.AdaGrad: lambda: lr * g / (g * g + eps).sqrt(),
            optim.RMSProp: lambda: lr * g / (g * g / 10 + eps).sqrt(),
            optim.Adadelta: lambda: g * Decimal("1e-6").sqrt() / (g * g / 20 + Decimal("1e-6")).sqrt(),
            optim.Adam: lambda: lr * g / (abs(g) + eps),
            optim.AdaMax: lambda: lr * (g > 0) if g >= 0 else -lr,
            optim.Nadam: lambda: lr * Decimal("1.9") * g / (g * g + eps).sqrt(),
            optim.AMSGrad: lambda: lr * g / 10 / (abs(g) / (ten**3).sqrt() + eps),
        }
        return -float(exact[method]())


# ---------------------------------------------------------------- one step, from far below 1 to far above


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("lr", [0, 1e-30, 1e-3, 1e30])
def test_a_first_step_with_any_rate(method, lr):
    settings = {"lr": lr} if method.has_rate else {}
    for dtype, gradients in ((np.float32, (0, 1e-30, -1e-3, 1e7)), (np.float64, (0, 1e-100, -1e-3, 1e18, 1e100))):
        for g in np.array(gradients, dtype):
            W, optimizer = made(method, [0.0], dtype, **settings)
            step(W, optimizer, g)
            expected = first_step(method, lr, g)
            smallest = float(np.finfo(dtype).tiny)
            np.testing.assert_allclose(W.numpy(), expected, rtol=60 * np.finfo(dtype).eps, atol=smallest)
            W, optimizer = made(method, [0.75], dtype, **settings)
            step(W, optimizer, g)
            np.testing.assert_allclose(W.numpy(), 0.75 + expected, rtol=60 * np.finfo(dtype).eps)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_denormal_gradients_and_weights(method):
    for g in (1e-45, -1e-42, 1e-39):
        W, optimizer = made(method, [0.0, 1e-42])
        for _ in range(3):
            step(W, optimizer, [g, g])
        assert np.isfinite(W.numpy()).all()
        largest = 3 * (optimizer.rate or 1e-3) * 1.01  # no method moves further than its rate where |g| < 1
        assert np.abs(W.numpy()).max() <= largest
        assert all(np.isfinite(value).all() for value in state_of(optimizer).values())
    W, optimizer = made(method, [1e-42])
    step(W, optimizer, 0)
    np.testing.assert_array_equal(W.numpy(), np.float32([1e-42]))


def test_adamax_does_not_divide_its_rate_by_a_denormal():
    W, optimizer = made(optim.AdaMax, [0.0], lr=1.0)
    step(W, optimizer, 1e-39)  # η / u is 1e39, beyond float32
    np.testing.assert_allclose(W.numpy(), -1.0, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_thousand_gradients_of_zero_and_then_one_that_is_not(method):
    W, optimizer = made(method, [3.0])
    for _ in range(1000):
        step(W, optimizer, 0)
    assert W.item() == 3.0
    assert all(not value.any() for name, value in state_of(optimizer).items() if name != "t")
    step(W, optimizer, 2.0)
    assert 0 < 3.0 - W.item() < 0.1


# ---------------------------------------------------------------- beyond the range: refused, with nothing lost


def refused(W, optimizer, g, match):
    before, state = optimizer.weights, state_of(optimizer)
    with pytest.raises(FloatingPointError, match=match):
        step(W, optimizer, g)
    np.testing.assert_array_equal(optimizer.weights, before)
    np.testing.assert_array_equal(W.numpy(), before)
    for name, value in state_of(optimizer).items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_gradients_whose_squares_overflow(method):
    W, optimizer = made(method, [1.0, 0.5])
    step(W, optimizer, 0.1)
    if method in SQUARING:
        place = r"The largest gradient is 1e\+20, of params\[0\]\[1\], the optimizer " + method.__name__
        refused(W, optimizer, [1, 1e20], f"{method.__name__}.step: at step 2: overflow.*nothing has moved. {place}")
    else:
        step(W, optimizer, [1, 1e20])
        assert np.isfinite(W.numpy()).all()
    _, clipped = made(method, [1.0, 0.5], clip=optim.ClipNorm(1.0))
    _, expected = made(method, [1.0, 0.5])
    step(clipped.params[0], clipped, [1, 1e20])
    step(expected.params[0], expected, [1e-20, 1])
    np.testing.assert_allclose(clipped.weights, expected.weights, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_no_numbers(method, bad):
    W, optimizer = made(method, [1.0, 0.5])
    step(W, optimizer, 0.1)
    refused(W, optimizer, [1, bad], rf"{method.__name__}.step: at step 2 the gradient of params\[0\]\[1\] is {bad}")
    step(W, optimizer, 0.1)
    assert optimizer.t == 2


def test_a_large_vector_is_refused_whole():
    """Its parts are computed one by one, in several threads."""
    W, optimizer = made(optim.Adam, np.zeros(5 * PART))
    g = np.ones(5 * PART)
    g[4 * PART + 3] = 1e25
    refused(W, optimizer, g, rf"largest gradient is 1e\+25, of params\[0\]\[{4 * PART + 3}\]")


def test_a_rate_that_throws_the_weights_out_of_range():
    W, optimizer = made(optim.SGD, [1.0], lr=1e30)
    refused(W, optimizer, 1e10, r"SGD.step: at step 1: overflow.*the optimizer SGD\(lr=1e\+30\)")
    W, optimizer = made(optim.HeavyBall, [1.0], lr=1e30, penalty=penalties.L2(1e30, decoupled=True))
    refused(W, optimizer, 1e10, "overflow")


@pytest.mark.parametrize("method", SQUARING, ids=lambda method: method.__name__)
def test_a_missing_epsilon_is_named(method):
    W, optimizer = made(method, [1.0], eps=0)
    refused(W, optimizer, 0, r"(invalid value|divide by zero).*eps=0\.0")


def test_whoever_ignores_numpys_warnings_gets_what_comes():
    with np.errstate(all="ignore"):
        W, optimizer = made(optim.Adam, [1.0, 2.0])
        step(W, optimizer, [np.nan, 1e20])
        np.testing.assert_array_equal(W.numpy(), [np.nan, 2.0])  # an infinite v stops its weight


def test_weights_that_are_no_numbers_when_the_optimizer_is_made():
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"Adam: params\[0\]\[1\] is {bad}, expected finite weights"):
            made(optim.Adam, [1.0, bad])
    model = models.mlp([2, 3, 2])
    name, parameter = list(model.named_parameters())[2]
    parameter.data = np.where(np.arange(6).reshape(3, 2) == 3, np.nan, parameter.data)
    with pytest.raises(ValueError, match=rf"SGD: {name.replace('.', '[.]')}\[1, 1\] is nan"):
        optim.SGD(model)


def test_on_the_gpu_too_weights_are_looked_at_once(standin):
    with pytest.raises(ValueError, match=r"Adam: params\[0\]\[1\] is nan"):
        optim.Adam([ml.Tensor(standin.asarray(np.array([1.0, np.nan])), requires_grad=True)])


def test_adagrads_exponential_variant_with_a_huge_negative_gradient():
    W, optimizer = made(optim.AdaGrad, [1.0], accumulate="exp")
    step(W, optimizer, -1e20)  # exp(1e20) is infinite: the weight stops, the limit
    assert W.item() == 1.0


# ---------------------------------------------------------------- schedules


FORMULAS = {
    "Constant": (schedules.Constant(0.1), lambda t: 0.1),
    "Exponential": (schedules.Exponential(0.1, 1e-9), lambda t: 0.1 * math.exp(-t / 10**9)),
    "Exponential, rate": (schedules.Exponential(0.1, rate=0.5, decay_steps=1e8), lambda t: 0.1 * 2.0 ** (-t / 1e8)),
    "SquareRoot": (schedules.SquareRoot(0.1), lambda t: 0.1 / (t + 1) ** 0.5),
    "Cosine": (schedules.Cosine(0.1, 2e9), lambda t: 0.1 * math.cos(math.pi * t / 4e9) ** 2),
    "WarmUp": (schedules.WarmUp(0.02, 0.1, 2e9, 3e9), lambda t: 0.02 + 0.08 * t / 2e9),
    "Restarts": (schedules.Restarts(0.1, 10), lambda t: 0.1 * math.cos(math.pi * (t % 10) / 20) ** 2),
    "Restarts, fast": (schedules.Restarts(0.1, 2**-10), lambda t: 0.1),
    "PiecewiseConstant": (schedules.PiecewiseConstant([0.1, 0.01], [5e8]), lambda t: 0.1 if t < 5e8 else 0.01),
    "InEpochs": (schedules.InEpochs(schedules.SquareRoot(0.1), 7, smooth=True), lambda t: 0.1 / (t / 7 + 1) ** 0.5),
    "ReduceOnPlateau": (schedules.ReduceOnPlateau(0.1), lambda t: 0.1),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("t", [0, 0.5, 9.75, 10**9, 10**9 + 0.5, 10**9 + 9.9375, np.float32(0.25), np.int64(10**9)])
def test_schedules_at_the_beginning_late_and_between(name, t):
    schedule, formula = FORMULAS[name]
    assert schedule(t) == pytest.approx(formula(float(t)), rel=1e-9)


@pytest.mark.parametrize("t", [10**9, 10**15])
def test_decay_comes_to_an_end(t):
    """The recursion has as many steps as t, but not all of them matter."""
    assert schedules.Decay(0.1, 0.0)(t) == 0.1
    assert schedules.Decay(0.1, 0.1)(t) == 0
    for alpha, period in ((0.5, 2), (0.9, 10), (0.999, 1)):
        schedule = schedules.Decay(0.1, 1e-3, step=period, alpha=alpha)
        rate = 0.1
        for k in range(1, 60_000):
            rate /= 1 + 1e-3 * alpha ** (k // period) * k
        assert schedule(t) == rate
        assert schedule(3) == schedules.Decay(0.1, 1e-3, step=period, alpha=alpha)(3)  # back again
    for fraction in (0.5, 10**9 + 0.5):
        with pytest.raises(ValueError, match=f"Decay: t is {fraction}, expected a whole number"):
            schedules.Decay(0.1, 0.1)(fraction)


def test_restarts_so_late_that_floats_lose_the_place():
    with pytest.raises(ValueError, match=r"Restarts: t is 1e\+300, where floats are too coarse for a period of 10"):
        schedules.Restarts(0.1, 10)(1e300)
    assert 0 <= schedules.Restarts(0.1, 10, mult=2)(1e300) <= 0.1


# ---------------------------------------------------------------- penalties


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight", [0.0, 1e-45, 1e-40, -1e-40])
def test_penalties_at_and_near_zero(weight, decoupled):
    kinds = [penalties.L1(0.1, decoupled), penalties.L2(0.1, decoupled=decoupled)]
    kinds.append(penalties.Elastic(0.1, 0.1, decoupled=decoupled))
    kinds += [penalties.PerLayer({"params[0]": (0.1, p)}, decoupled=decoupled) for p in (1, 1.5, 2, 3)]
    for penalty in kinds:
        one = isinstance(penalty, penalties.L1 | penalties.Elastic) or ", 1.0)" in repr(vars(penalty))
        W, optimizer = made(optim.SGD, np.full((2, 2), weight), lr=1.0, penalty=penalty)
        np.testing.assert_allclose(optimizer.penalty_value, 0, atol=1e-20)
        step(W, optimizer, 0)
        if one and not decoupled:
            np.testing.assert_allclose(W.numpy(), -0.1 * np.sign(weight), rtol=1e-6)
        elif one:
            np.testing.assert_array_equal(W.numpy(), 0)
        else:
            np.testing.assert_allclose(W.numpy(), weight, atol=1e-20)


def test_the_maximum_norm_at_zero_and_far_away():
    W, optimizer = made(optim.SGD, [[0, 1e30, 3e-45], [0, 1e30, 0]], penalty=penalties.MaxNorm(1.0))
    step(W, optimizer, 0)
    np.testing.assert_allclose(W.numpy()[:, :2], [[0, 0.5**0.5]] * 2, rtol=1e-6)
    np.testing.assert_array_equal(W.numpy()[:, 2], np.float32([3e-45, 0]))


def test_an_adaptive_penalty_of_losses_that_are_zero_or_infinite():
    penalty = penalties.AdaptivePenalty(penalties.L2(2.0), nu=1e-30)
    for losses, share in (([0.0, 0.0], 0), ([1e30, 3e38], 1), ([0, np.inf], 0.5)):
        with np.errstate(over="ignore"):
            penalty.observe(np.array(losses, np.float32))
        W, optimizer = made(optim.SGD, [[1.0]], lr=0.25, penalty=penalty)
        step(W, optimizer, 0)
        assert W.item() == 1 - 0.5 * share
