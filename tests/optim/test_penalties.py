"""Penalties: value, derivatives and decoupled steps against the equations, closed forms and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minidl as ml
from minidl import backend, nn, ops, optim
from minidl.optim.penalties import L1, L2, Elastic, MaxNorm, NormPenalty, Penalty, PerLayer

LD = np.longdouble
NAMES = ("0.weight", "0.bias", "2.weight", "2.bias", "3.gamma", "3.beta")
SHAPES = ((4, 3), (3,), (3, 2), (2,), (2,), (2,))
SIZE = 27


def small_network(dtype="float64"):
    return nn.Sequential(nn.Dense(4, 3), nn.ReLU(), nn.Dense(3, 2), nn.BatchNorm(2)).astype(dtype)


@pytest.fixture
def layout():
    layout = optim.SGD(small_network()).layout
    assert layout.names == NAMES
    assert layout.shapes == SHAPES
    return layout


@pytest.fixture
def W(rng):
    """Weights of both signs, none near the kink at 0."""
    return rng.uniform(0.1, 2, SIZE) * rng.choice([-1, 1], SIZE)


def leaf(values, dtype=np.float64):
    return ml.Tensor(np.array(values, dtype), requires_grad=True)


def take_steps(optimizer, gradient, steps):
    """Step with the gradient that a function of the parameters' vector gives, and yield the iterates."""
    for t in range(steps):
        optimizer.zero_grad()
        w = np.concatenate([tensor.data.reshape(-1) for tensor in optimizer.params])
        ends = np.cumsum([tensor.size for tensor in optimizer.params])[:-1]
        for tensor, part in zip(optimizer.params, np.split(gradient(w, t), ends), strict=True):
            tensor.backward(part.reshape(tensor.shape))
        optimizer.step()
        yield optimizer.weights


# ---------------------------------------------------------------- the equations, once more


def norms(*terms):
    """Make a reference from (names, Λ, p): the sum of Λ|w|^p over the elements of these parameters."""

    def reference(W):
        parts = dict(zip(NAMES, np.split(W.astype(LD), np.cumsum([math.prod(s) for s in SHAPES])[:-1]), strict=True))
        return sum(
            (LD(strength) * abs(w) ** LD(p) for names, strength, p in terms for name in names for w in parts[name]),
            LD(0),
        )

    return reference


MATRICES = ("0.weight", "2.weight")


class TwoPowers(NormPenalty):
    """One's own sum of norms, of overlapping parts."""

    def terms(self, layout):
        return [(slice(None), 0.3, 2.0), (layout.spans[0], 0.2, 3.0)]


CASES = {
    "L1": (L1(0.3), norms((NAMES, 0.3, 1))),
    "L1, weights only": (L1(0.3, biases=False), norms((MATRICES, 0.3, 1))),
    "L2": (L2(0.3), norms((NAMES, LD(0.3) / 2, 2))),
    "L2, batches of 7": (L2(0.3, 7), norms((NAMES, LD(0.3) / 14, 2))),
    "L2, sum": (L2(0.3, convention="sum"), norms((NAMES, 0.3, 2))),
    "L2, weights only": (L2(0.3, 7, biases=False), norms((MATRICES, LD(0.3) / 14, 2))),
    "Elastic": (Elastic(0.2, 0.3, 7), norms((NAMES, LD(0.3) / 14, 2), (NAMES, 0.2, 1))),
    "Elastic, weights only": (
        Elastic(0.2, 0.3, biases=False),
        norms((MATRICES, LD(0.3) / 2, 2), (MATRICES, 0.2, 1)),
    ),
    "PerLayer, one": (PerLayer({"0": 0.4}), norms((["0.weight"], 0.4, 2))),
    "PerLayer, norms": (
        PerLayer({"0": (0.4, 1), "2": (0.2, 3), "3.gamma": 0.1}, norm=1.5),
        norms((["0.weight"], 0.4, 1), (["2.weight"], 0.2, 3), (["3.gamma"], 0.1, 1.5)),
    ),
    "PerLayer, biases": (
        PerLayer({"0": 0.4, "3": 0.1}, biases=True),
        norms((["0.weight", "0.bias"], 0.4, 2), (["3.gamma", "3.beta"], 0.1, 2)),
    ),
    "PerLayer, a bias by its name": (
        PerLayer({"0": 0.4, "0.bias": (0.3, 1)}),
        norms((["0.weight"], 0.4, 2), (["0.bias"], 0.3, 1)),
    ),
    "PerLayer, none": (PerLayer({}), norms()),
    "one's own": (TwoPowers(False, True), norms((NAMES, 0.3, 2), (["0.weight"], 0.2, 3))),
}
every_case = pytest.mark.parametrize("name", CASES)


@every_case
def test_value(name, layout, W):
    penalty, reference = CASES[name]
    penalty.check(layout)
    value = penalty.value(W, layout)
    assert type(value) is float
    assert value == pytest.approx(float(reference(W)), rel=1e-13)


@every_case
def test_gradient_is_the_derivative_of_the_value(name, layout, W):
    penalty, reference = CASES[name]
    steps = LD(1e-6) * np.eye(SIZE, dtype=LD)
    expected = [(reference(W + h) - reference(W - h)) / LD(2e-6) for h in steps]
    np.testing.assert_allclose(penalty.gradient(W, layout), np.array(expected, float), rtol=1e-9, atol=1e-12)


@every_case
def test_curvature_is_the_diagonal_of_the_second_derivative(name, layout, W):
    penalty, reference = CASES[name]
    steps = LD(1e-5) * np.eye(SIZE, dtype=LD)
    expected = [(reference(W + h) - 2 * reference(W) + reference(W - h)) / LD(1e-10) for h in steps]
    np.testing.assert_allclose(penalty.curvature(W, layout), np.array(expected, float), rtol=1e-7, atol=1e-7)


def test_at_zero_the_gradient_is_zero_and_the_curvature_that_of_the_power(layout):
    zeros = np.zeros(SIZE)
    for p, curvature in ((1, 0), (1.5, np.inf), (2, 2 * 0.3), (2.5, 0), (3, 0)):
        penalty = PerLayer({"0": (0.3, p)})
        np.testing.assert_array_equal(penalty.gradient(zeros, layout), zeros)
        np.testing.assert_array_equal(penalty.curvature(zeros, layout)[:12], curvature)
    np.testing.assert_array_equal(L1(0.3).gradient(zeros, layout), zeros)


@every_case
def test_float32_stays_float32_and_nothing_is_written_into(name, layout, W):
    penalty, reference = CASES[name]
    W = W.astype(np.float32)
    before = W * np.float32(1.1)
    W.setflags(write=False)
    before.setflags(write=False)
    results = penalty.gradient(W, layout), penalty.curvature(W, layout), penalty.pull(W, before, layout)
    assert all(result.dtype == np.float32 and not np.shares_memory(result, W) for result in results)
    assert penalty.value(W, layout) == pytest.approx(float(reference(W)), rel=1e-6)


@pytest.mark.parametrize("limit", [0.5, 100])
def test_max_norm_writes_into_no_one_elses_weights(limit, layout, W):
    W.setflags(write=False)
    assert not np.shares_memory(MaxNorm(limit).pull(W, W, layout), W)


# ---------------------------------------------------------------- coupled: part of the loss


def quadratic(size, rng):
    A = rng.standard_normal((size, size)) / 3
    H, b = A @ A.T + 0.1 * np.eye(size), rng.standard_normal(size)
    return lambda w, t: H @ w - b


PYTORCH = {
    "SGD": (optim.SGD, lambda o, p, decay: o.SGD(p, lr=0.05, weight_decay=decay)),
    "HeavyBall": (optim.HeavyBall, lambda o, p, decay: o.SGD(p, lr=0.05, momentum=0.9, weight_decay=decay)),
    "Adam": (optim.Adam, lambda o, p, decay: o.Adam(p, lr=0.05, weight_decay=decay)),
    "AdaMax": (optim.AdaMax, lambda o, p, decay: o.Adamax(p, lr=0.05, eps=0, weight_decay=decay)),
}


def pytorch_walk(torch, optimizer, twin, gradient, steps):
    for t in range(steps):
        twin.grad = torch.tensor(gradient(twin.detach().numpy(), t))
        optimizer.step()
        yield twin.detach().numpy().copy()


@pytest.mark.parametrize("name", PYTORCH)
def test_coupled_l2_is_pytorchs_weight_decay(name, torch, rng):
    ours, theirs = PYTORCH[name]
    start, gradient, strength, m = rng.standard_normal(6), quadratic(6, rng), 0.7, 8
    x = leaf(start)
    twin = torch.tensor(start.copy(), requires_grad=True)
    walk = take_steps(ours([x], lr=0.05, penalty=L2(strength, batch_size=m)), gradient, 60)
    reference = pytorch_walk(torch, theirs(torch.optim, [twin], strength / m), twin, gradient, 60)
    for got, expected in zip(walk, reference, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_a_network_with_l2_trains_as_with_the_norm_in_the_loss():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((16, 4)), rng.integers(0, 2, 16)
    ml.manual_seed(1)
    network = small_network()
    ml.manual_seed(1)
    twin = small_network()
    optimizer, plain = optim.Adam(network, penalty=Elastic(0.01, 0.2, 16)), optim.Adam(twin)
    for _ in range(20):
        optimizer.zero_grad()
        ops.cross_entropy(network(x), y).backward()
        optimizer.step()
        plain.zero_grad()
        loss = ops.cross_entropy(twin(x), y)
        for parameter in twin.parameters():
            loss = loss + 0.2 / 32 * (parameter * parameter).sum() + 0.01 * ops.abs(parameter).sum()
        loss.backward()
        plain.step()
    np.testing.assert_allclose(optimizer.weights, plain.weights, rtol=1e-10)


def test_nesterov_takes_the_penaltys_gradient_at_the_look_ahead_point(rng):
    start, gradient = rng.standard_normal(4), quadratic(4, rng)
    optimizer = optim.Nesterov([leaf(start)], lr=0.05, beta=0.8, penalty=L2(0.5))
    w = before = start
    for got in take_steps(optimizer, gradient, 20):
        ahead = w + 0.8 * (w - before)
        w, before = ahead - 0.05 * (gradient(ahead, 0) + 0.5 * ahead), w
        np.testing.assert_allclose(got, w, rtol=1e-12)


# ---------------------------------------------------------------- decoupled: a pull after the update


def adam(w, gradient, steps, pull):
    """Adam by its equation, with a pull that takes (updated, old) after each step."""
    m = v = 0 * w
    for t in range(1, steps + 1):
        g = gradient(w, t - 1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = pull(w - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), w)
        yield w


def soft(v, threshold):
    return np.where(abs(v) > threshold, v - threshold * np.sign(v), 0)


DECOUPLED = {
    "L1": (L1(0.01, decoupled=True), lambda v, w: soft(v, 0.01)),
    "L2": (L2(0.3, 16, decoupled=True), lambda v, w: v - 0.3 / 16 * w),
    "L2, sum": (L2(0.01, convention="sum", decoupled=True), lambda v, w: v - 2 * 0.01 * w),
    "Elastic": (Elastic(0.01, 0.3, 16, decoupled=True), lambda v, w: soft(v - 0.3 / 16 * w, 0.01)),
    "PerLayer, p = 1": (PerLayer({"params[0]": 0.01}, 1, True, True), lambda v, w: soft(v, 0.01)),
    "PerLayer, p = 3": (
        PerLayer({"params[0]": (0.01, 3)}, decoupled=True),
        lambda v, w: v - 0.01 * 3 * w**2 * np.sign(w),
    ),
    "several": (
        [L2(0.3, 16, decoupled=True), L1(0.01, decoupled=True)],
        lambda v, w: soft(v - 0.3 / 16 * w, 0.01),
    ),
    "several, in the other order": (
        [L1(0.01, decoupled=True), L2(0.3, 16, decoupled=True)],
        lambda v, w: soft(v, 0.01) - 0.3 / 16 * w,
    ),
}


@pytest.mark.parametrize("name", DECOUPLED)
def test_decoupled_step_of_adam_equals_the_notes_form(name, rng):
    penalty, pull = DECOUPLED[name]
    start, gradient = rng.standard_normal(6), quadratic(6, rng)
    walk = take_steps(optim.Adam([leaf(start.reshape(3, 2))], lr=0.05, penalty=penalty), gradient, 60)
    for got, expected in zip(walk, adam(start, gradient, 60, pull), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


def test_decoupled_l1_is_the_notes_form_where_no_weight_reaches_zero(rng):
    w = rng.uniform(2, 3, 5) * [1, -1, 1, -1, 1]
    optimizer = optim.SGD([leaf(w)], lr=0.1, penalty=L1(0.01, decoupled=True))
    for got in take_steps(optimizer, lambda w, t: np.cos(w), 10):
        w = w - 0.1 * np.cos(w) - 0.01 * np.sign(w)
        np.testing.assert_array_equal(got, w)


def test_a_zero_stays_while_the_step_is_no_larger_than_the_pull():
    optimizer = optim.SGD([leaf([0.3, -0.3])], lr=0.5, penalty=L1(0.25, decoupled=True))
    gradients = [[0.2, -0.2], [0, 0], [0.5, -0.5], [-0.5, 0.4], [-0.75, 0.75]]
    walk = take_steps(optimizer, lambda w, t: np.array(gradients[t]), 5)
    expected = [[0, 0], [0, 0], [0, 0], [0, 0], [0.125, -0.125]]
    np.testing.assert_array_equal(list(walk), expected)


def test_the_pull_is_multiplied_neither_by_the_rate_nor_by_its_scale():
    x, y = leaf([[1.0, -2.0]]), leaf([3.0])
    optimizer = optim.SGD([x, y], lr=0, lr_scale={"params[0]": 7}, penalty=L2(0.5, decoupled=True))
    (x.sum() + y.sum()).backward()
    optimizer.step()
    np.testing.assert_array_equal(optimizer.weights, [0.5, -1, 1.5])


def test_decoupled_l2_is_adamw_with_its_strength_times_the_rate(torch, rng):
    start, gradient = rng.standard_normal(6), quadratic(6, rng)
    walk = take_steps(optim.Adam([leaf(start)], lr=0.05, penalty=L2(0.05 * 0.3, decoupled=True)), gradient, 60)
    twin = torch.tensor(start.copy(), requires_grad=True)
    reference = pytorch_walk(torch, torch.optim.AdamW([twin], lr=0.05, weight_decay=0.3), twin, gradient, 60)
    for got, expected in zip(walk, reference, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.fixture
def lasso(rng):
    """An orthonormal design and targets, so that least squares plus κ‖w‖₁ is the soft-thresholded Xᵀy."""
    X = np.linalg.qr(rng.standard_normal((40, 8)))[0]
    y = X @ np.array([3.0, -2, 0.5, 0.1, 0, 0, -0.2, 1]) + 0.1 * rng.standard_normal(40)
    w = leaf(rng.standard_normal(8))

    def train(penalty, steps=200, lr=0.5):
        optimizer = optim.SGD([w], lr=lr, penalty=penalty)
        for _ in range(steps):
            optimizer.zero_grad()
            residual = ops.matmul(X, w) - y
            (0.5 * (residual * residual).sum()).backward()
            optimizer.step()
        return optimizer.weights

    return X, y, train


def test_decoupled_l1_finds_the_lassos_closed_form_with_its_exact_zeros(lasso):
    X, y, train = lasso
    expected = soft(X.T @ y, 0.4)
    zeros = expected == 0
    assert 0 < zeros.sum() < 8
    found = train(L1(0.5 * 0.4, decoupled=True))
    np.testing.assert_array_equal(found == 0, zeros)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


def test_coupled_l1_oscillates_around_the_lassos_zeros_without_reaching_one(lasso):
    X, y, train = lasso
    zeros = soft(X.T @ y, 0.4) == 0
    found = np.array([train(L1(0.4), steps) for steps in (200, *[1] * 20)])
    assert (found != 0).all()
    oscillating = found[:, zeros]
    assert (abs(oscillating) <= 2 * 0.5 * 0.4).all()
    assert (np.sign(oscillating).min(axis=0) == -1).all()
    assert (np.sign(oscillating).max(axis=0) == 1).all()


# ---------------------------------------------------------------- maximum norm


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_max_norm_limits_each_units_incoming_weights(dtype, rng):
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Dense(20, 4)).astype(dtype)
    optimizer = optim.SGD(model, lr=1, penalty=MaxNorm(1.5))
    gradients = [rng.standard_normal(parameter.shape).astype(dtype) for parameter in model.parameters()]
    gradients[0][..., 0] *= 1e-3
    gradients[2][:, 3] *= 1e-3
    updated = []
    for parameter, g in zip(model.parameters(), gradients, strict=True):
        parameter.data = (parameter.data / 50).astype(dtype)
        updated.append(parameter.data - g)
        parameter.backward(g)
    optimizer.step()

    conv, conv_bias, dense, dense_bias = (parameter.data for parameter in model.parameters())
    eps = np.finfo(dtype).eps
    for got, before in ((conv, updated[0]), (dense, updated[2])):
        for unit in range(got.shape[-1]):
            incoming, free = got[..., unit].astype(LD), before[..., unit].astype(LD)
            norm = np.sqrt((free**2).sum())
            assert np.sqrt((incoming**2).sum()) <= 1.5 * (1 + eps)
            np.testing.assert_allclose(incoming, free * min(1, 1.5 / norm), rtol=2 * eps)
    np.testing.assert_array_equal(conv[..., 0], updated[0][..., 0], "a unit within the limit stays to the bit")
    np.testing.assert_array_equal(dense[:, 3], updated[2][:, 3])
    np.testing.assert_array_equal(conv_bias, updated[1])
    np.testing.assert_array_equal(dense_bias, updated[3])


def test_max_norm_of_large_weights_does_not_overflow():
    x = leaf([[3e30, 0], [4e30, 0]], np.float32)
    optimizer = optim.SGD([x], penalty=MaxNorm(5))
    x.backward(np.zeros((2, 2), np.float32))
    optimizer.step()
    np.testing.assert_allclose(x.data, [[3, 0], [4, 0]], rtol=1e-6)
    assert optimizer.penalty_value == 0


# ---------------------------------------------------------------- several penalties, several optimizers


def test_coupled_and_decoupled_penalties_in_one_optimizer(rng):
    w, b = 2 * rng.standard_normal((3, 2)), rng.standard_normal(2)
    penalties = [L2(0.4, 2), PerLayer({"params[1]": (0.1, 3)}), L1(0.05, decoupled=True, biases=False), MaxNorm(0.8)]
    optimizer = optim.SGD([leaf(w), leaf(b)], lr=0.1, penalty=penalties)
    for got in take_steps(optimizer, lambda w, t: np.sin(w), 8):
        w, b = (
            soft(w - 0.1 * (np.sin(w) + 0.2 * w), 0.05),
            b - 0.1 * (np.sin(b) + 0.2 * b + 0.1 * 3 * b**2 * np.sign(b)),
        )
        norm = np.sqrt((w**2).sum(0))
        assert norm.all()
        w = w * np.minimum(1, 0.8 / norm)
        np.testing.assert_allclose(got, [*w.ravel(), *b], rtol=1e-12, atol=1e-15)
        total = 0.1 * (got @ got) + 0.1 * (abs(b) ** 3).sum() + 0.05 * abs(w).sum()
        assert optimizer.penalty_value == pytest.approx(total, rel=1e-12)


def test_two_optimizers_share_a_penalty(rng):
    starts = rng.standard_normal((2, 3)), rng.standard_normal(5)
    shared = Elastic(0.05, 0.3)

    def walk(penalties):
        optimizers = [
            factory([leaf(start)], lr=0.1, penalty=penalty)
            for factory, start, penalty in zip((optim.SGD, optim.Adam), starts, penalties, strict=True)
        ]
        walks = [take_steps(optimizer, lambda w, t: np.cos(w), 10) for optimizer in optimizers]
        return [np.concatenate(both) for both in zip(*walks, strict=True)]

    for together, apart in zip(walk([shared] * 2), walk([Elastic(0.05, 0.3), Elastic(0.05, 0.3)]), strict=True):
        np.testing.assert_array_equal(together, apart)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: L1(-1), ValueError, "L1: strength is -1, expected a number in \\[0, inf\\)"),
        (lambda: L1(math.inf), ValueError, "L1: strength is inf"),
        (lambda: L1("1"), TypeError, "L1: strength is '1', expected a number"),
        (lambda: L1(True), TypeError, "L1: strength is True, expected a number"),
        (lambda: L1(0.1, 32), TypeError, "L1: decoupled is 32, expected True or False"),
        (lambda: L1(0.1, biases=None), TypeError, "L1: biases is None"),
        (lambda: L2(math.nan), ValueError, "L2: strength is nan"),
        (lambda: L2(0.1, 0), ValueError, "L2: batch_size is 0, expected a positive integer"),
        (lambda: L2(0.1, 2.5), ValueError, "L2: batch_size is 2.5"),
        (lambda: L2(0.1, convention="mean"), ValueError, "L2: convention is 'mean', expected 'half' or 'sum'"),
        (lambda: L2(0.1, 32, "sum"), ValueError, "L2: batch_size is 32, expected 1 in the convention 'sum'"),
        (lambda: Elastic(-0.1, 1), ValueError, "Elastic: l1 is -0.1"),
        (lambda: Elastic(0.1, math.inf), ValueError, "Elastic: l2 is inf"),
        (lambda: Elastic(0.1, 1, -3), ValueError, "Elastic: batch_size is -3"),
        (lambda: PerLayer(0.1), TypeError, "PerLayer: strengths is 0.1, expected a mapping"),
        (lambda: PerLayer({"0": -1}), ValueError, r"PerLayer: strengths\['0'\] is -1"),
        (
            lambda: PerLayer({"0": (1, 0.5)}),
            ValueError,
            r"PerLayer: p in strengths\['0'\] is 0.5, expected a number in",
        ),
        (lambda: PerLayer({"0": (1, 2, 3)}), ValueError, r"strengths\['0'\] is \(1, 2, 3\), expected a strength or"),
        (lambda: PerLayer({}, norm=0), ValueError, "PerLayer: norm is 0, expected a number in \\[1, inf\\)"),
        (lambda: PerLayer({}, norm=math.inf), ValueError, "PerLayer: norm is inf"),
        (lambda: MaxNorm(0), ValueError, "MaxNorm: limit is 0, expected a number in \\(0, inf\\)"),
        (lambda: MaxNorm(-2.0), ValueError, "MaxNorm: limit is -2.0"),
        (lambda: MaxNorm(None), TypeError, "MaxNorm: limit is None, expected a number"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (PerLayer({"conv1": 1}), "PerLayer: 'conv1' names no parameter and no layer; there are 0.weight, 0.bias"),
        (PerLayer({"3": 1}), "PerLayer: '3' names only parameters of fewer than two axes.*3.gamma, 3.beta"),
        (PerLayer({"0": 1, "0.weight": 2}), "PerLayer: both '0' and '0.weight' name 0.weight, expected one"),
        (PerLayer({"0.bias": 1, "0": 2}, biases=True), "PerLayer: both '0.bias' and '0' name 0.bias"),
    ],
)
def test_names_that_do_not_fit_the_network_are_refused_by_the_optimizer(penalty, message):
    with pytest.raises(ValueError, match=message):
        optim.SGD(small_network(), penalty=penalty)


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (L1(1, biases=False), "L1: biases is False, and no parameter has two axes; there are params"),
        (L2(1, biases=False), "L2: biases is False, and no parameter has two axes"),
        (MaxNorm(1), "MaxNorm, and no parameter has two axes"),
    ],
)
def test_a_penalty_that_would_hold_nothing_is_refused(penalty, message):
    with pytest.raises(ValueError, match=message):
        optim.SGD([leaf([1.0, 2.0])], penalty=penalty)


def test_the_base_says_what_is_missing(layout, W):
    for call in (
        lambda: Penalty().value(W, layout),
        lambda: Penalty().gradient(W, layout),
        lambda: Penalty().curvature(W, layout),
        lambda: Penalty().pull(W, W, layout),
        lambda: NormPenalty(False, True).value(W, layout),
        lambda: MaxNorm(1).curvature(W, layout),
    ):
        with pytest.raises(TypeError, match="^(Penalty|NormPenalty|MaxNorm) has no "):
            call()


def test_repr_shows_the_settings():
    assert repr(L1(1, decoupled=True)) == "L1(strength=1.0, decoupled=True, biases=True)"
    assert repr(L2(0.5, 4)) == "L2(strength=0.5, batch_size=4, convention='half', decoupled=False, biases=True)"
    assert repr(Elastic(1, 2)) == "Elastic(l1=1.0, l2=2.0, batch_size=1, decoupled=False, biases=True)"
    assert repr(PerLayer({"a": 1})) == "PerLayer(strengths={'a': (1.0, 2.0)}, decoupled=False, biases=False)"
    assert repr(MaxNorm(3)) == "MaxNorm(limit=3.0)"


@pytest.mark.gpu
def test_the_same_on_both_devices(layout, W):
    cupy = pytest.importorskip("cupy")
    penalties = [penalty for penalty, _ in CASES.values()]
    for dtype in (np.float32, np.float64):
        w, before = W.astype(dtype), (W * 1.1).astype(dtype)
        on_gpu = cupy.asarray(w), cupy.asarray(before)
        for penalty in (*penalties, MaxNorm(0.7)):
            pairs = [(penalty.pull(*on_gpu, layout), penalty.pull(w, before, layout))]
            if penalty in penalties:
                pairs.append((penalty.gradient(on_gpu[0], layout), penalty.gradient(w, layout)))
                pairs.append((penalty.curvature(on_gpu[0], layout), penalty.curvature(w, layout)))
            for got, expected in pairs:
                assert got.dtype == dtype
                np.testing.assert_allclose(backend.to_numpy(got), expected, rtol=1e-6)
            assert penalty.value(on_gpu[0], layout) == pytest.approx(penalty.value(w, layout), rel=1e-6)
