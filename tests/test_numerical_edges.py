"""Ops, layers and losses at the edges of floats: finite and right, or an error that says what is wrong.

Warnings are errors here, as in all tests: nothing may overflow on the way to a result that exists.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

import minidl as ml
from minidl import nn, ops

DTYPES = (np.float32, np.float64)


def results(function, x, g=None):
    """Return function(x) and the gradient with respect to x, given that of the result (default: ones)."""
    leaf = ml.Tensor(x, requires_grad=True)
    y = function(leaf)
    y.backward(np.ones(y.shape, x.dtype) if g is None else g.astype(x.dtype))
    assert y.dtype == leaf.grad.dtype == x.dtype
    return y.numpy(), leaf.grad


# ---------------------------------------------------------------- softmax and its losses, against 60 digits

LOGITS = {
    "one is far above": [1e4, -1e4, 0, 9999],
    "two are equal": [1e4, 1e4, -1e4, -1e4],
    "all are far below": [-1e4, -1e4, -1e4, -10003],
    "all are equal": [1e4] * 4,
    "nearly the range of float32": [1e38, -1e38, 5e37, 1e38],
}


def exact_softmax(row):
    """Return softmax and log-softmax of a row in 60 digits."""
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 60, -(10**17), 10**17
        x = [Decimal(float(value)) for value in row]
        highest = max(x)
        shifted = [max(value - highest, Decimal(-(10**6))).exp() for value in x]  # beyond, it is 0 all the same
        total = sum(shifted)
        return [p / total for p in shifted], [value - highest - total.ln() for value in x]


def close(found, exact, dtype, scale=1.0):
    exact = np.array([float(value) for value in np.ravel(exact)]).reshape(found.shape)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found, exact, rtol=8 * eps, atol=8 * eps * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOGITS)
def test_softmax_and_its_logarithm_of_huge_logits(case, dtype):
    x = np.array([LOGITS[case]], dtype)
    p, logarithm = exact_softmax(x[0])
    g = np.array([[0.5, -2.0, 1.0, 0.25]], dtype)
    weights = [Decimal(float(value)) for value in g[0]]
    y, gradient = results(ops.softmax, x, g)
    close(y, p, dtype)
    inner = sum(a * b for a, b in zip(p, weights, strict=True))
    close(gradient, [a * (b - inner) for a, b in zip(p, weights, strict=True)], dtype)
    y, gradient = results(ops.log_softmax, x, g)
    close(y, logarithm, dtype)
    close(gradient, [b - a * sum(weights) for a, b in zip(p, weights, strict=True)], dtype)


@pytest.mark.parametrize("axis", [None, (0, 1), (0, -1), (1, 2), 0, -3])
def test_softmax_along_several_axes_of_an_array_that_is_cut_into_parts(axis, rng):
    x = rng.standard_normal((5000, 4, 10))
    powers = np.exp(x)
    y = powers / powers.sum(axis, keepdims=True)
    np.testing.assert_allclose(ops.softmax(x, axis).numpy(), y, rtol=1e-12)
    np.testing.assert_allclose(ops.log_softmax(x, axis).numpy(), np.log(y), rtol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0, 0.125, 1])
@pytest.mark.parametrize("case", LOGITS)
def test_cross_entropy_of_huge_logits(case, smoothing, dtype):
    x = np.array([LOGITS[case]], dtype)
    p, logarithm = exact_softmax(x[0])
    eps = Decimal(smoothing)
    targets = {1: [0, 1, 0, 0], "shares": [0.25, 0, 0, 0.75]}
    for labels, share in ((np.array([1]), targets[1]), (np.array([targets["shares"]], dtype), targets["shares"])):
        q = [(1 - eps) * Decimal(value) + eps / 4 for value in share]
        loss, gradient = results(lambda x, labels=labels: ops.cross_entropy(x, labels, smoothing), x)
        exact = -sum(a * b for a, b in zip(q, logarithm, strict=True))
        close(loss, [exact], dtype)
        close(gradient, [a - b for a, b in zip(p, q, strict=True)], dtype)
    value = nn.LabelSmoothing(smoothing)(ml.Tensor(x), np.array([1])).item()
    assert value == ops.cross_entropy(x, np.array([1]), smoothing).item()


def test_losses_of_one_sample_one_class_or_none():
    for smoothing in (0, 0.1):
        loss, gradient = results(lambda x, s=smoothing: ops.cross_entropy(x, [0], s), np.array([[5.0]], np.float32))
        assert loss == 0
        np.testing.assert_allclose(gradient, 0, atol=1e-7)
    loss, gradient = results(lambda x: ops.mse(x, np.array([1.0])), np.array([3.0]))
    assert (loss, gradient) == (4, 4)
    for make, message in (
        (lambda: ops.cross_entropy(np.zeros((1, 0)), [0]), r"logits have shape \(1, 0\), which leaves no class"),
        (lambda: ops.cross_entropy(np.zeros((1, 1)), [1]), "labels contain 1, expected class indices 0 to 0"),
        (lambda: ops.cross_entropy(np.zeros((0, 3)), np.zeros(0, int)), "the batch is empty"),
        (lambda: ops.mse(np.zeros((0, 3)), np.zeros((0, 3))), "the batch is empty"),
        (lambda: ops.softmax(np.zeros((2, 1)), axis=2), "softmax: axis is 2, but x has 2 axes"),
        (lambda: ops.residual_smoothing(np.zeros((4, 1)), 0.5), "a sample needs at least 2 values"),
        (lambda: nn.ResidualSmoothing(0.5)(ml.Tensor(np.zeros((4, 1))), np.zeros(4, int)), "has no others"),
        (lambda: nn.LabelSmoothing(float("nan")), "eps is nan"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# ---------------------------------------------------------------- functions of one number

SELU = 1.0507009873554805  # λ of Klambauer et al. 2017
FAR = [1e4, -1e4, 1e30, -1e30, 3e38, -3e38, -90.0, 1e-40, -1e-40, 0.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2000])  # the large form of some ops is another one
@pytest.mark.parametrize(
    ("op", "limits", "near"),  # value and derivative far above 0, and far below; the value at 0, the slopes beside it
    [
        (ops.softplus, ((1, 1), (0, 0)), (np.log(2), 0.5, 0.5)),
        (ops.gelu, ((1, 1), (0, 0)), (0, 0.5, 0.5)),
        (lambda x: ops.gelu(x, approximate="tanh"), ((1, 1), (0, 0)), (0, 0.5, 0.5)),
        (ops.elu, ((1, 1), (-1, 0)), (0, 1, 1)),
        (ops.relu, ((1, 1), (0, 0)), (0, 1, 0)),
        (ops.sigmoid, ((None, 0), (0, 0)), (0.5, 0.25, 0.25)),
        (ops.tanh, ((None, 0), (-1, 0)), (0, 1, 1)),
        (ops.selu, ((SELU, SELU), (-1.7580993408473766, 0)), (0, SELU, 1.7580993408473766)),
    ],
    ids=["softplus", "gelu", "gelu tanh", "elu", "relu", "sigmoid", "tanh", "selu"],
)
def test_activations_far_from_zero(op, limits, near, size, dtype):
    x = np.tile(np.array(FAR, dtype), size)
    y, gradient = (part.reshape(size, -1) for part in results(op, x))
    assert (y == y[0]).all()
    assert (gradient == gradient[0]).all()
    (slope, steep), (below, flat) = limits
    np.testing.assert_allclose(y[0, :6:2], np.ones(3) if slope is None else slope * x[:6:2], rtol=1e-6)
    np.testing.assert_allclose(y[0, 1:6:2], below, rtol=1e-6, atol=0)
    np.testing.assert_allclose(gradient[0, :6:2], steep, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(gradient[0, 1:6:2], flat)
    value, right, left = near
    smallest = float(np.finfo(dtype).smallest_subnormal)
    np.testing.assert_allclose(
        y[0, 7:], [value + right * 1e-40, value - left * 1e-40, value], rtol=1e-6, atol=2 * smallest
    )
    np.testing.assert_allclose(gradient[0, 7:9], [right, left], rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_zero_and_of_negative_bases(dtype):
    for base, exponent, value, slope in (
        (0, 0, 1, 0),
        (0, 1, 0, 1),
        (0, 1.5, 0, 0),
        (0, 2, 0, 0),
        (0, 3, 0, 0),
        (-2, 0, 1, 0),
        (-2, 1, -2, 1),
        (-2, 2, 4, -4),
        (-2, 3, -8, 12),
        (-2, -1, -0.5, -0.25),
        (-2, -2, 0.25, 0.25),
    ):
        for given in (exponent, np.full(1, exponent, dtype)):
            y, gradient = results(lambda x, p=given: x**p, np.array([base], dtype))
            assert (y, gradient) == (value, slope), (base, exponent)
    exponent = np.array([0.5, 2.0], dtype)
    _, by_exponent = results(lambda y: ops.power(np.zeros(2, dtype), y), exponent)
    np.testing.assert_array_equal(by_exponent, 0)


def test_quotients_whose_squared_divisor_leaves_the_range():
    x, y = np.array([0, 1e-30, 3e-30, 1e30], np.float32), np.array([1e-30, -1e-30, 1e30, 1e30], np.float32)
    numerator, divisor = ml.Tensor(x, requires_grad=True), ml.Tensor(y, requires_grad=True)
    (numerator / divisor).backward(np.ones(4, np.float32))
    exact = -x.astype(np.float64) / y.astype(np.float64) ** 2
    np.testing.assert_allclose(divisor.grad, exact, rtol=1e-6, atol=1e-45)
    np.testing.assert_allclose(numerator.grad, 1 / y.astype(np.float64), rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "x", "warning"),
    [
        (ops.log, 0.0, "divide by zero encountered in log"),
        (ops.log, -1.0, "invalid value encountered in log"),
        (ops.sqrt, -1.0, "invalid value encountered in sqrt"),
        (lambda x: x**-1, 0.0, "divide by zero encountered"),
        (lambda x: x**0.5, -2.0, "invalid value encountered in power"),
        (ops.exp, 1e4, "overflow encountered in exp"),
    ],
)
def test_what_no_float_holds_is_numpys_warning_and_named_by_detect_anomaly(op, x, warning):
    leaf = ml.Tensor(np.array([1.0, x]), requires_grad=True)
    with pytest.warns(RuntimeWarning, match=warning):
        assert not np.isfinite(op(leaf).data[1])
    with np.errstate(all="ignore"), ml.detect_anomaly(infinite=True), pytest.raises(ml.AnomalyError, match=r"at \(1\)"):
        op(leaf)


def test_roots_at_and_near_zero():
    tiny = np.array([1e-45, 1e-40, 1e-38], np.float32)
    y, gradient = results(ops.sqrt, tiny)
    root = np.sqrt(tiny.astype(np.float64))
    np.testing.assert_allclose(y, root, rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.5 / root, rtol=1e-6)
    with np.errstate(divide="ignore"):
        y, gradient = results(ops.sqrt, np.zeros(1))
    assert (y, gradient) == (0, np.inf)  # what it is


# ---------------------------------------------------------------- normalization of what does not vary

SHAPES = {"images": (4, 3, 3, 2), "batch 1": (1, 3, 3, 2), "one pixel": (4, 1, 1, 2), "one of both": (1, 1, 1, 2)}
LAYERS = {  # and the axes over which it averages
    "batch": (lambda: nn.BatchNorm(2), (0, 1, 2)),
    "batch and ReLU": (lambda: nn.BatchNorm(2, relu=True), (0, 1, 2)),
    "layer": (lambda: nn.LayerNorm(2), (1, 2, 3)),
    "instance": (lambda: nn.InstanceNorm(2), (1, 2)),
    "group": (lambda: nn.GroupNorm(2, 2), (1, 2)),
}


@pytest.mark.parametrize("value", [0, 0.1, -7e5, 1e20, 1e-40])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", LAYERS)
def test_normalization_of_constant_features(kind, shape, value, rng):
    make, axes = LAYERS[kind]
    layer = make()
    layer.gamma.data, layer.beta.data = [2.0, -3.0], [0.5, 0.25]
    x, g = np.full(SHAPES[shape], value, np.float32), rng.standard_normal(SHAPES[shape])
    y, gradient = results(layer, x, g)
    np.testing.assert_array_equal(y, np.broadcast_to(np.float32([0.5, 0.25]), x.shape))
    scaled = g.astype(np.float32).astype(np.float64) * [2, -3] / np.sqrt(1e-5)  # x̂ is 0, σ² + ε is ε
    np.testing.assert_allclose(gradient, scaled - scaled.mean(axes, keepdims=True), rtol=1e-5, atol=2e-3)
    np.testing.assert_array_equal(layer.gamma.grad, 0)
    np.testing.assert_allclose(layer.beta.grad, g.sum((0, 1, 2)), rtol=1e-5, atol=1e-5)
    if kind.startswith("batch"):
        np.testing.assert_allclose(layer.running_mean.data, np.float32(0.1) * np.float32(value), rtol=1e-5)
        np.testing.assert_allclose(layer.running_variance.data, 0.9, rtol=1e-6)


@pytest.mark.parametrize("value", [0, 0.1, -7e5, 1e-40])
@pytest.mark.parametrize("shape", SHAPES)
def test_switchable_normalization_of_constant_features(shape, value, rng):
    x, g = np.full(SHAPES[shape], value, np.float32), rng.standard_normal(SHAPES[shape])
    y, gradient = results(nn.SwitchableNorm(2), x, g)
    rounding = float(np.finfo(np.float32).eps) * abs(value) / np.sqrt(1e-5)  # of the three means' sum
    np.testing.assert_allclose(y, 0, atol=2 * rounding + 1e-40)
    g = g.astype(np.float32).astype(np.float64) / np.sqrt(1e-5)
    means = [g.mean(axes, keepdims=True) for axes in ((1, 2), (1, 2, 3), (0, 1, 2))]
    np.testing.assert_allclose(gradient, g - sum(means) / 3, rtol=1e-3, atol=1e-3 + 2e3 * rounding)


# ---------------------------------------------------------------- one pixel


@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_of_one_pixel(padding, rng):
    size = 1 + 2 * padding
    x, w = rng.standard_normal((2, 1, 1, 3)), rng.standard_normal((size, size, 3, 4))
    X, V = ml.Tensor(x, requires_grad=True), ml.Tensor(w, requires_grad=True)
    y = ops.conv2d(X, V, padding=padding)
    g = rng.standard_normal((2, 1, 1, 4))
    y.backward(g)
    middle = w[padding, padding]  # all other places see padding
    np.testing.assert_allclose(y.numpy(), x @ middle, rtol=1e-12)
    np.testing.assert_allclose(X.grad, g @ middle.T, rtol=1e-12)
    by_w = np.zeros_like(w)
    by_w[padding, padding] = x[:, 0, 0].T @ g[:, 0, 0]
    np.testing.assert_allclose(V.grad, by_w, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("layer", [nn.MaxPool2d(1), nn.AvgPool2d(1), nn.GlobalAvgPool2d()])
def test_pooling_of_one_pixel(layer):
    x, g = np.array([[[[1e38, -1e-40]]]], np.float32), np.array([2.0, 3.0], np.float32)
    y, gradient = results(lambda x: layer(x).reshape(2), x, g)
    np.testing.assert_array_equal(y, x.ravel())
    np.testing.assert_array_equal(gradient.ravel(), g)


# ---------------------------------------------------------------- dropout, initial weights

ALMOST_ONE = float(np.nextafter(1, 0))


@pytest.mark.parametrize("scaling", ["inverted", "eval"])
@pytest.mark.parametrize("shared", [(), (1,)])
def test_dropout_with_limiting_probabilities(scaling, shared):
    x = np.linspace(-3, 3, 600, dtype=np.float32).reshape(6, 100)
    for p, factor in ((0, 1), (1e-12, 1), (ALMOST_ONE, 0), (1, 0)):
        drop = lambda x, p=p: ops.dropout(x, p, scaling=scaling, shared=shared)
        y, gradient = results(drop, x)
        np.testing.assert_array_equal(y, factor * x)
        np.testing.assert_array_equal(gradient, factor)


def test_other_dropouts_with_limiting_probabilities(rng):
    x = np.abs(rng.standard_normal((2, 4, 4, 3))).astype(np.float32)
    for p in (0, 1e-12):
        for layer in (nn.SpatialDropout2d(p), nn.AlphaDropout(p), nn.GaussianDropout(p)):
            y, gradient = results(layer, x)
            np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(gradient, 1, rtol=1e-5)
        y, gradient = results(nn.PoolingDropout(2, p), x)
        np.testing.assert_allclose(y, nn.MaxPool2d(2)(x).numpy(), rtol=1e-6)
    for layer in (nn.SpatialDropout2d(1), nn.PoolingDropout(2, 1)):
        y, gradient = results(layer, x)
        assert not y.any()
        assert not gradient.any()
    y, gradient = results(nn.AlphaDropout(ALMOST_ONE), x)  # the factor is 5e7
    assert np.isfinite(y).all()
    assert np.isfinite(gradient).all()
    with pytest.raises(ValueError, match=r"p is 1, expected a number in \[0, 1\)"):
        nn.AlphaDropout(1)


VARIANCES = {"lecun": 1, "he": 2, "glorot": 1}


@pytest.mark.parametrize("name", ["normal", "uniform"])
@pytest.mark.parametrize("rule", VARIANCES)
def test_initial_weights_with_one_input_and_one_output(rule, name, rng):
    draws = [nn.initializers.draw(f"{rule}_{name}", (1, 1, 1, 1), rng).item() for _ in range(2000)]
    squares = np.square(draws)
    error = squares.std() / np.sqrt(len(draws))
    assert abs(squares.mean() - VARIANCES[rule]) < 4 * error
    if name == "uniform":
        assert np.abs(draws).max() <= np.sqrt(3 * VARIANCES[rule]) * (1 + 1e-6)


def test_an_orthogonal_weight_of_one_number_is_one_or_minus_one(rng):
    draws = [nn.initializers.draw("orthogonal", (1, 1), rng).item() for _ in range(50)]
    assert set(np.round(draws, 6)) == {-1.0, 1.0}
    for activation in ("relu", nn.Softplus, nn.Sigmoid):
        assert np.isfinite(nn.initializers.for_activation(activation)((1, 1), rng)).all()
