"""Values and all gradients of the normalization family equal PyTorch's, in float64 to 1e-10.

Where PyTorch lacks a layer, or defines it otherwise, its autograd differentiates the equation, written out here.
"""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import nn

CLOSE = {"rtol": 1e-10, "atol": 1e-10}

SHAPES = {
    "images": (3, 4, 5, 6),
    "one image": (1, 4, 5, 6),
    "narrow images": (4, 1, 3, 6),
    "features": (5, 6),
}
OFFSETS = pytest.mark.parametrize("offset", [0.0, 100.0])
MODES = pytest.mark.parametrize("training", [True, False])


def shapes(*names):
    return pytest.mark.parametrize("shape", [SHAPES[name] for name in names], ids=names)


def first(x):
    """Channels first, as PyTorch wants images.

    In memory too: PyTorch 2.13 computes a wrong gradient of `instance_norm` from a strided one if the batch is 1.
    """
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def last(x):
    return np.moveaxis(x, 1, -1)


def learned(layer, rng):
    """Return the layer in float64, with parameters and running values as after some training."""
    layer.astype(np.float64)
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        tensor.data = rng.uniform(0.5, 2, tensor.shape) if "variance" in name else rng.standard_normal(tensor.shape)
    return layer


def run(layer, x, g):
    """Return a layer's output, and the gradients of the input and of all parameters for the output's gradient g."""
    x = ml.Tensor(x, requires_grad=True)
    y = layer(x)
    y.backward(g)
    return [y.data, x.grad, *(parameter.grad for parameter in layer.parameters())]


def run_torch(torch, function, x, parameters, g):
    """Return the same of a function in PyTorch, of x and the parameters."""
    inputs = [torch.tensor(value, requires_grad=True) for value in (x, *parameters)]
    y = function(*inputs)
    y.backward(torch.tensor(g))
    return [y.detach().numpy(), *(tensor.grad.numpy() for tensor in inputs)]


def compare(torch, layer, theirs, shape, offset, rng, channels_first=True):
    """Compare a layer with a function of x (channels first) and the layer's parameters."""
    x, g = rng.standard_normal(shape) * 2 + offset, rng.standard_normal(shape)
    parameters = [parameter.data.copy() for parameter in layer.parameters()]
    ours = run(layer, x, g)
    to, back = (first, last) if channels_first else (lambda x: x, lambda x: x)
    y, by_x, *others = run_torch(torch, theirs, to(x), parameters, to(g))
    assert len(ours) == 2 + len(others)
    for actual, expected in zip(ours, (back(y), back(by_x), *others), strict=True):
        np.testing.assert_allclose(actual, expected, **CLOSE)


# ---------------------------------------------------------------- layers that PyTorch has


@OFFSETS
@MODES
@shapes("images", "one image", "narrow images", "features")
def test_batch_norm(torch, shape, training, offset, rng):
    layer = learned(nn.BatchNorm(6, momentum=0.3), rng).train(training)
    mean, variance = (torch.tensor(buffer.data.copy()) for _, buffer in layer.named_buffers())

    def theirs(x, gamma, beta):
        return torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, training, momentum=0.3)

    before = layer.running_variance.data
    compare(torch, layer, theirs, shape, offset, rng)
    count = int(np.prod(shape[:-1]))
    np.testing.assert_allclose(layer.running_mean.data, mean.numpy(), rtol=1e-12)
    if training:  # PyTorch remembers the unbiased variance, ours is the biased
        latest = (variance.numpy() - 0.7 * before) * (count - 1) / count
        np.testing.assert_allclose(layer.running_variance.data, 0.7 * before + latest, rtol=1e-10)
    else:
        np.testing.assert_array_equal(layer.running_variance.data, before)


@OFFSETS
@MODES
@shapes("images", "one image", "narrow images", "features")
def test_layer_norm_with_gamma_and_beta_spread_over_the_image(torch, shape, training, offset, rng):
    def theirs(x, gamma, beta):
        channel = (-1,) + (1,) * (x.ndim - 2)
        spread = [value.reshape(channel).expand(x.shape[1:]) for value in (gamma, beta)]
        return torch.nn.functional.layer_norm(x, x.shape[1:], *spread)

    compare(torch, learned(nn.LayerNorm(6), rng).train(training), theirs, shape, offset, rng)


@OFFSETS
@MODES
@shapes("images", "one image", "narrow images")
def test_instance_norm(torch, shape, training, offset, rng):
    def theirs(x, gamma, beta):
        return torch.nn.functional.instance_norm(x, weight=gamma, bias=beta)

    compare(torch, learned(nn.InstanceNorm(6), rng).train(training), theirs, shape, offset, rng)


@OFFSETS
@MODES
@pytest.mark.parametrize("groups", [1, 2, 3])
@shapes("images", "one image", "narrow images", "features")
def test_group_norm(torch, shape, groups, training, offset, rng):
    def theirs(x, gamma, beta):
        return torch.nn.functional.group_norm(x, groups, gamma, beta)

    compare(torch, learned(nn.GroupNorm(groups, 6), rng).train(training), theirs, shape, offset, rng)


# ---------------------------------------------------------------- equations in PyTorch's autograd


@OFFSETS
@MODES
@shapes("images", "one image", "narrow images")
def test_switchable_norm(torch, shape, training, offset, rng):
    """In training the derivative goes through all statistics; in evaluation the batch's are constants."""
    layer = learned(nn.SwitchableNorm(6, eps=1e-3), rng).train(training)
    running = [torch.tensor(buffer.data.copy()) for _, buffer in layer.named_buffers()]

    def theirs(x, gamma, beta, mean_logits, variance_logits):
        over = [(1, 2), (1, 2, 3), (0, 1, 2)]
        means = [x.mean(axes, keepdim=True) for axes in over]
        variances = [x.var(axes, correction=0, keepdim=True) for axes in over]
        if not training:
            means[2], variances[2] = running
        w, w_ = mean_logits.softmax(0), variance_logits.softmax(0)
        mean = sum(w[k] * means[k] for k in range(3))
        variance = sum(w_[k] * variances[k] for k in range(3))
        return gamma * (x - mean) / torch.sqrt(variance + 1e-3) + beta

    compare(torch, layer, theirs, shape, offset, rng, channels_first=False)


def convolve(torch, x, weight, bias):
    """Conv2d on images with channels last and weights (kh, kw, in, out)."""
    y = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), bias, padding=1)
    return y.permute(0, 2, 3, 1)


LAYERS = {
    "dense": (lambda: nn.Dense(6, 4), (3, 6), lambda torch, x, weight, bias: x @ weight + bias),
    "convolution": (lambda: nn.Conv2d(2, 4, (3, 2), padding=1), (2, 5, 6, 2), convolve),
}
on_layers = pytest.mark.parametrize("kind", LAYERS)


def compare_weighted(torch, kind, layer, reparametrized, rng):
    """Compare a wrapped layer with PyTorch's, working with a function of the weight."""
    _, shape, theirs = LAYERS[kind]
    x = rng.standard_normal(shape)
    g = rng.standard_normal(layer(x).shape)
    parameters = [parameter.data.copy() for parameter in layer.parameters()]
    ours = run(layer, x, g)
    function = lambda x, weight, bias: theirs(torch, x, reparametrized(weight), bias)
    for actual, expected in zip(ours, run_torch(torch, function, x, parameters, g), strict=True):
        np.testing.assert_allclose(actual, expected, **CLOSE)


@on_layers
def test_spectral_norm_with_frozen_vectors(torch, kind, rng):
    layer = nn.SpectralNorm(LAYERS[kind][0]()).astype(np.float64).eval()
    layer.u.data = layer.u.data + 0.1 * rng.standard_normal(layer.u.shape)  # not converged: the derivative is frozen
    u, v = (torch.tensor(buffer.data.copy()) for _, buffer in layer.named_buffers())
    compare_weighted(torch, kind, layer, lambda w: w / (v @ w.reshape(-1, 4) @ u), rng)


@on_layers
def test_spectral_norm_once_converged_has_the_full_derivative_through_the_svd(torch, kind, rng):
    layer = nn.SpectralNorm(LAYERS[kind][0](), iterations=500).astype(np.float64)
    compare_weighted(torch, kind, layer, lambda w: w / torch.linalg.matrix_norm(w.reshape(-1, 4), 2), rng)


def test_spectral_norm_iterates_as_pytorchs(torch, rng):
    """PyTorch updates first the left vector, then the right one: of the transposed matrix these are v and u."""
    layer = nn.SpectralNorm(nn.Dense(6, 4)).astype(np.float64)
    layer.u.data = rng.standard_normal(4)
    layer.layer.bias.data = rng.standard_normal(4)
    twin = torch.nn.Linear(6, 4).double()
    with torch.no_grad():
        twin.weight.copy_(torch.tensor(layer.weight.data.T))
        twin.bias.copy_(torch.tensor(layer.layer.bias.data.copy()))
    torch.nn.utils.parametrizations.spectral_norm(twin, dim=1)
    theirs = twin.parametrizations.weight[0]
    theirs._v.copy_(torch.tensor(layer.u.data.copy()))
    for _ in range(3):
        x, g = rng.standard_normal((3, 6)), rng.standard_normal((3, 4))
        twin.zero_grad()
        for parameter in layer.parameters():
            parameter.grad = None
        y, _, by_weight, by_bias = run(layer, x, g)
        z = twin(torch.tensor(x))
        z.backward(torch.tensor(g))
        np.testing.assert_allclose(y, z.detach().numpy(), **CLOSE)
        np.testing.assert_allclose(by_weight, twin.parametrizations.weight.original.grad.numpy().T, **CLOSE)
        np.testing.assert_allclose(by_bias, twin.bias.grad.numpy(), **CLOSE)
        np.testing.assert_allclose(layer.u.data, theirs._v.numpy(), **CLOSE)
        np.testing.assert_allclose(layer.v.data, theirs._u.numpy(), **CLOSE)


def test_spectral_norm_of_a_convolution_equals_pytorchs_once_converged(torch, rng):
    layer = nn.SpectralNorm(nn.Conv2d(2, 4, 3), iterations=500).astype(np.float64)
    twin = torch.nn.Conv2d(2, 4, 3).double()
    with torch.no_grad():
        twin.weight.copy_(torch.tensor(layer.weight.data.transpose(3, 2, 0, 1)))
        twin.bias.zero_()
    torch.nn.utils.parametrizations.spectral_norm(twin, n_power_iterations=500)
    x = rng.standard_normal((2, 5, 5, 2))
    np.testing.assert_allclose(layer(x).data, last(twin(torch.tensor(first(x))).detach().numpy()), **CLOSE)


@on_layers
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_weight_standardization(torch, kind, eps, rng):
    layer = nn.WeightStandardization(LAYERS[kind][0](), eps=eps).astype(np.float64)

    def reparametrized(w):
        axes = tuple(range(w.ndim - 1))
        return (w - w.mean(axes)) / (w.std(axes, correction=0) + eps)

    compare_weighted(torch, kind, layer, reparametrized, rng)


def test_both_nested(torch, rng):
    layer = nn.WeightStandardization(nn.SpectralNorm(nn.Dense(6, 4), iterations=500)).astype(np.float64)

    def reparametrized(w):
        hat = (w - w.mean(0)) / (w.std(0, correction=0) + 1e-5)
        return hat / torch.linalg.matrix_norm(hat, 2)

    compare_weighted(torch, "dense", layer, reparametrized, rng)
