"""Spectral normalization and weight standardization: their equations, what nests, and weights at the edge."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import nn, ops, optim

# Layers of 12 and 3·2·4 = 24 weights a unit, with an input for each.
LAYERS = {
    "dense": (lambda: nn.Dense(12, 5), (7, 12)),
    "convolution": (lambda: nn.Conv2d(4, 5, (3, 2), stride=2, padding=1), (2, 6, 5, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 5, (3, 2), stride=2), (2, 3, 2, 4)),
}
WRAPPERS = {"spectral": nn.SpectralNorm, "standardized": nn.WeightStandardization}
on_layers = pytest.mark.parametrize("kind", LAYERS)
wrapped = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def matrix(weight):
    """(out, rest), as in the equations."""
    return weight.reshape(-1, weight.shape[-1]).T


def standardized(weight, eps=1e-5):
    W = matrix(weight)
    hat = (W - W.mean(axis=1, keepdims=True)) / (W.std(axis=1, keepdims=True) + eps)
    return hat.T.reshape(weight.shape)


def inside(layer):
    """Return the weight with which the innermost layer works, by running it."""
    seen = []
    core = layer
    while hasattr(core, "layer"):
        core = core.layer
    apply = core.apply
    core.apply = lambda x, weight: (seen.append(weight), apply(x, weight))[1]
    try:
        layer(np.zeros((1, core.weight.shape[0]) if isinstance(core, nn.Dense) else (1, 8, 8, core.weight.shape[2])))
    finally:
        del core.apply
    return seen[0]


def state(layer):
    return {name: values.copy() for name, values in layer.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- spectral normalization


@on_layers
def test_the_largest_singular_value_becomes_1(kind):
    """To 10⁻¹², reached by power iteration whose error falls as (σ₂ / σ₁)^2t."""
    layer = nn.SpectralNorm(LAYERS[kind][0](), iterations=300).astype(np.float64)
    W = matrix(inside(layer).data)
    assert np.linalg.svd(W, compute_uv=False)[0] == pytest.approx(1, abs=1e-12)
    expected = layer.weight.data / np.linalg.svd(matrix(layer.weight.data), compute_uv=False)[0]
    np.testing.assert_allclose(inside(layer).data, expected, rtol=1e-12, atol=1e-12)


@on_layers
def test_after_construction_the_estimate_is_already_good(kind):
    layer = nn.SpectralNorm(LAYERS[kind][0]()).eval()
    assert np.linalg.svd(matrix(inside(layer).data), compute_uv=False)[0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("scale", [1e-30, 1e-23, 1.0, 1e20])
def test_the_scale_of_the_weights_does_not_matter(scale):
    layer = nn.Dense(20, 10, init=lambda shape, rng: (scale * rng.standard_normal(shape)).astype(np.float32))
    W = matrix(inside(nn.SpectralNorm(layer).eval()).data).astype(np.float64)
    assert np.linalg.svd(W, compute_uv=False)[0] == pytest.approx(1, abs=0.001)


def test_each_training_forward_makes_its_iterations_and_evaluation_none(rng):
    layer = nn.SpectralNorm(nn.Dense(4, 3), iterations=2).astype(np.float64)
    layer.u.data = rng.standard_normal(3)
    W, u = matrix(layer.weight.data), layer.u.data
    for _ in range(3):
        layer(np.zeros((1, 4)))
        for _ in range(2):
            v = W.T @ u / np.linalg.norm(W.T @ u)
            u = W @ v / np.linalg.norm(W @ v)
        np.testing.assert_allclose(layer.u.data, u, rtol=1e-12)
        np.testing.assert_allclose(layer.v.data, v, rtol=1e-12)
        before = state(layer)
        layer.eval()(np.zeros((1, 4)))
        assert same(before, state(layer))
        layer.train()


def test_the_layer_is_its_equation_with_the_estimates_that_it_has(rng):
    layer = nn.SpectralNorm(nn.Dense(4, 3)).astype(np.float64).eval()
    layer.layer.bias.data = rng.standard_normal(3)
    layer.u.data, layer.v.data = layer.u.data + 0.1, layer.v.data - 0.2  # far from converged
    x, W = rng.standard_normal((2, 4)), matrix(layer.weight.data)
    expected = x @ (W / (layer.u.data @ W @ layer.v.data)).T + layer.layer.bias.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-12)


def test_frozen_vectors_give_the_full_derivative_once_they_have_converged(rng):
    """σ is stationary in u and v, so central differences of W / σ_max(W), by SVD, agree."""
    layer = nn.SpectralNorm(nn.Dense(4, 3), iterations=300).astype(np.float64)
    layer(np.zeros((1, 4)))
    layer.eval()
    g, x = rng.standard_normal((5, 3)), rng.standard_normal((5, 4))
    layer(x).backward(g)

    def loss(w):
        return (g * (x @ (w / np.linalg.svd(w, compute_uv=False)[0]))).sum()

    w, numeric = layer.weight.data, np.empty((4, 3))
    for at in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[at] = 1e-6
        numeric[at] = (loss(w + step) - loss(w - step)) / 2e-6
    np.testing.assert_allclose(layer.weight.grad, numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
def test_a_zero_matrix_stays_and_can_learn_again(dtype, training, rng):
    dense = nn.Dense(4, 3, init=lambda shape, generator: np.zeros(shape, np.float32))
    layer = nn.SpectralNorm(dense).astype(dtype).train(training)
    x, g = rng.standard_normal((5, 4)).astype(dtype), rng.standard_normal((5, 3)).astype(dtype)
    y = layer(ml.Tensor(x))
    y.backward(g)
    np.testing.assert_array_equal(y.data, np.zeros((5, 3)))
    np.testing.assert_allclose(layer.weight.grad, x.T @ g, rtol=1e-5)
    layer.weight.data = rng.standard_normal((4, 3))
    layer.prepare(layer.weight)
    assert np.linalg.svd(inside(layer).data, compute_uv=False)[0] == pytest.approx(1, abs=1e-3)


def test_the_first_vector_comes_from_the_seeded_generator():
    def vectors(**kw):
        layer = nn.SpectralNorm(nn.Dense(40, 30, init=lambda shape, _: np.eye(*shape, dtype=np.float32)), **kw)
        return layer.u.data

    ml.manual_seed(3)
    first, second = vectors(), vectors()
    ml.manual_seed(3)
    np.testing.assert_array_equal(vectors(), first)
    assert not np.array_equal(first, second)
    own = [vectors(generator=np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*own)


def test_the_estimate_follows_a_weight_that_learns(rng):
    layer = nn.SpectralNorm(nn.Dense(12, 5))
    optimizer = optim.SGD(layer, lr=0.05)
    x, targets = rng.standard_normal((64, 12)).astype(np.float32), rng.standard_normal((64, 5)).astype(np.float32)
    start = layer.weight.data.copy()
    for _ in range(100):
        optimizer.zero_grad()
        ops.mse(layer(x), targets).backward()
        optimizer.step()
    assert np.abs(layer.weight.data - start).max() > 0.01
    assert np.linalg.svd(inside(layer.eval()).data, compute_uv=False)[0] == pytest.approx(1, abs=1e-3)


# ---------------------------------------------------------------- weight standardization


@on_layers
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_each_units_weights_are_standardized_with_eps_outside_the_root(kind, eps):
    layer = nn.WeightStandardization(LAYERS[kind][0](), eps=eps).astype(np.float64)
    weight, W = layer.weight.data, matrix(inside(layer).data)
    np.testing.assert_allclose(inside(layer).data, standardized(weight, eps), rtol=1e-11, atol=1e-12)
    sigma = matrix(weight).std(axis=1)
    np.testing.assert_allclose(W.mean(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(W.std(axis=1), sigma / (sigma + eps), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_equal_weights_give_finite_outputs_and_the_exact_gradient(value, dtype, rng):
    dense = nn.Dense(4, 3, init=lambda shape, _: np.full(shape, value, np.float32))
    layer = nn.WeightStandardization(dense, eps=0.01).astype(dtype)
    x, g = rng.standard_normal((5, 4)).astype(dtype), rng.standard_normal((5, 3)).astype(dtype)
    y = layer(ml.Tensor(x))
    y.backward(g)
    np.testing.assert_array_equal(y.data, np.zeros((5, 3)))
    by_hat = x.T @ g  # Ŵ = (W − μ) / (|W − μ| + ε) is (W − μ) / ε to first order
    np.testing.assert_allclose(layer.weight.grad, (by_hat - by_hat.mean(axis=0)) / 0.01, rtol=1e-4, atol=1e-3)


def test_second_derivatives_at_equal_weights_are_finite():
    layer = nn.WeightStandardization(nn.Dense(3, 2, init=lambda shape, _: np.ones(shape, np.float32)), eps=0.1)
    x = np.arange(6.0).reshape(2, 3)
    assert np.isfinite(ml.hessian(lambda: (layer(x) ** 2).sum(), layer)).all()


# ---------------------------------------------------------------- both


@wrapped
@on_layers
def test_outputs_are_the_layers_with_the_other_weight(wrap, kind, rng):
    make, shape = LAYERS[kind]
    layer = wrap(make()).astype(np.float64)
    layer.layer.bias.data = rng.standard_normal(5)
    layer.eval()
    x = rng.standard_normal(shape)
    plain = make().astype(np.float64)
    plain.load_state_dict({"weight": inside(layer).data, "bias": layer.layer.bias.data})
    np.testing.assert_array_equal(layer(x).data, plain(x).data)


@wrapped
@on_layers
def test_gradients_reach_input_weight_and_bias(wrap, kind, rng):
    make, shape = LAYERS[kind]
    layer = wrap(make()).astype(np.float64).eval()

    def call(x, weight, bias):
        layer.layer.weight, layer.layer.bias = weight, bias
        return layer(x)

    parameters = layer.layer.weight.data, layer.layer.bias.data
    ml.check_gradients(call, rng.standard_normal(shape), *parameters, rtol=1e-6, atol=1e-7, generator=rng)


@wrapped
@pytest.mark.parametrize("training", [True, False])
def test_jacobian_by_forward_mode_agrees_with_reverse_mode(wrap, training, rng):
    layer = wrap(nn.Dense(4, 3)).astype(np.float64)
    x, v = rng.standard_normal((9, 4)), rng.standard_normal((9, 3))
    for _ in range(300):
        layer(x)  # power iterations go on in training; converged they change nothing
    J = ml.jacobian(lambda: layer.train(training)(x), layer)
    layer(x).backward(v)
    gradient = np.concatenate([parameter.grad.reshape(-1) for parameter in layer.parameters()])
    np.testing.assert_allclose(v.reshape(-1) @ J, gradient, rtol=1e-9, atol=1e-9)


@on_layers
def test_they_nest_and_the_outermost_acts_first(kind):
    make, _ = LAYERS[kind]
    both = nn.WeightStandardization(nn.SpectralNorm(make(), iterations=300)).astype(np.float64)
    hat = standardized(both.weight.data)
    expected = hat / np.linalg.svd(matrix(hat), compute_uv=False)[0]
    np.testing.assert_allclose(inside(both).data, expected, rtol=1e-11, atol=1e-12)
    other = nn.SpectralNorm(nn.WeightStandardization(make()), iterations=300).astype(np.float64)
    divided = other.weight.data / np.linalg.svd(matrix(other.weight.data), compute_uv=False)[0]
    np.testing.assert_allclose(inside(other).data, standardized(divided), rtol=1e-10, atol=1e-11)


@on_layers
@pytest.mark.parametrize("around", [lambda layer: layer, nn.SpectralNorm])
def test_a_spectral_norm_inside_is_prepared_for_the_weight_that_it_gets(kind, around, rng):
    layer = around(nn.WeightStandardization(nn.SpectralNorm(LAYERS[kind][0]()))).eval()
    assert np.linalg.svd(matrix(inside(layer).data), compute_uv=False)[0] == pytest.approx(1, abs=0.01)
    layer.weight.data = rng.standard_normal(layer.weight.shape)
    layer.prepare(layer.weight)
    assert np.linalg.svd(matrix(inside(layer).data), compute_uv=False)[0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("wrap", [*WRAPPERS.values(), lambda layer: nn.WeightStandardization(nn.SpectralNorm(layer))])
def test_evaluation_changes_no_state_and_a_loaded_state_gives_the_same_bits(wrap, rng):
    make, shape = LAYERS["convolution"]
    x = rng.standard_normal(shape).astype(np.float32)
    layer, twin = wrap(make()), wrap(make())
    layer(x)
    layer.eval()
    before, generator = state(layer), ml.backend.default_generator().bit_generator.state
    y = layer(x).data
    np.testing.assert_array_equal(layer(x).data, y)
    assert same(before, state(layer))
    assert ml.backend.default_generator().bit_generator.state == generator
    twin.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(twin.eval()(x).data, y)
    np.testing.assert_array_equal(twin.train()(x).data, layer.train()(x).data)
    assert same(state(twin), state(layer))


def test_what_is_learned_is_the_layers_own_weight():
    layer = nn.WeightStandardization(nn.SpectralNorm(nn.Dense(4, 3)))
    assert [name for name, _ in layer.named_parameters()] == ["layer.layer.weight", "layer.layer.bias"]
    assert layer.weight is layer.layer.layer.weight
    assert {name for name, _ in layer.named_buffers()} == {"layer.u", "layer.v"}
    assert nn.SpectralNorm(nn.Dense(4, 3)).summary((4,)).parameters == 15


# ---------------------------------------------------------------- errors


class WithoutApply(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(np.ones((3, 3)))


@wrapped
@pytest.mark.parametrize("layer", [nn.ReLU(), nn.BatchNorm(3), WithoutApply(), np.ones((3, 3)), nn.Dense])
def test_a_layer_without_a_weight_is_a_clear_error(wrap, layer):
    with pytest.raises(TypeError, match=rf"{wrap.__name__}: layer is {type(layer).__name__}, expected a layer with"):
        wrap(layer)


def test_bad_settings_are_clear_errors():
    with pytest.raises(ValueError, match="SpectralNorm: iterations is 0, expected a positive integer"):
        nn.SpectralNorm(nn.Dense(3, 3), iterations=0)
    with pytest.raises(ValueError, match="WeightStandardization: eps is 0, expected"):
        nn.WeightStandardization(nn.Dense(3, 3), eps=0)
    with pytest.raises(ValueError, match=r"spectral_normalize: w has shape \(4, 3\), u \(4,\) and v \(3,\)"):
        ops.spectral_normalize(np.ones((4, 3)), np.ones(4), np.ones(3))
