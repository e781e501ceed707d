"""Initial weights: the distributions of their papers, and a signal that neither dies nor grows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special

import minidl as ml
from minidl import models, nn, ops, optim
from minidl.nn import initializers

# ---------------------------------------------------------------- each by itself


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", lambda i, o: 2 / (i + o)),
        ("glorot_normal", lambda i, o: 2 / (i + o)),
        ("he_uniform", lambda i, o: 2 / i),
        ("he_normal", lambda i, o: 2 / i),
        ("lecun_uniform", lambda i, o: 1 / i),
        ("lecun_normal", lambda i, o: 1 / i),
    ],
)
@pytest.mark.parametrize("shape", [(200, 300), (3, 3, 100, 50)])
def test_initial_weights_have_the_variance_of_their_paper(name, variance, shape):
    weights = initializers.get(name)(shape, np.random.default_rng(0))
    window = int(np.prod(shape[:-2]))
    expected = variance(window * shape[-2], window * shape[-1])
    assert weights.dtype == np.float32
    assert weights.var() == pytest.approx(expected, rel=0.03)
    assert abs(weights.mean()) < 5 * np.sqrt(expected / weights.size)
    kurtosis = (weights.astype(float) ** 4).mean() / weights.var(dtype=float) ** 2
    assert kurtosis == pytest.approx(1.8 if name.endswith("uniform") else 3, rel=0.05)
    if name.endswith("uniform"):
        assert np.abs(weights).max() <= np.sqrt(3 * expected)


@pytest.mark.parametrize("make", [initializers.he_normal, initializers.he_uniform])
def test_he_counts_the_slope(make):
    weights = make(0.5)((300, 300), np.random.default_rng(0))
    assert weights.var() == pytest.approx(2 / (1.25 * 300), rel=0.03)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5), (3, 3, 2, 5), (2, 1, 3, 8), (1, 1)])
def test_orthogonal_weights_have_orthonormal_rows_or_columns_whichever_are_fewer(shape):
    weights = initializers.orthogonal(gain=1.4)(shape, np.random.default_rng(0))
    assert weights.shape == shape
    assert weights.dtype == np.float32
    W = weights.reshape(-1, shape[-1]).astype(float)
    gram = W.T @ W if W.shape[0] >= W.shape[1] else W @ W.T
    np.testing.assert_allclose(gram, 1.96 * np.eye(len(gram)), atol=1e-6)


def test_orthogonal_weights_are_uniform_over_the_orthogonal_matrices():
    """Without the signs of R's diagonal, Householder's reflections would make all diagonal elements negative."""
    draw, rng = initializers.orthogonal(), np.random.default_rng(0)
    Q = np.stack([draw((3, 3), rng) for _ in range(2000)]).astype(float)
    assert np.abs(Q.mean(axis=0)).max() < 4 / np.sqrt(3 * 2000)
    np.testing.assert_allclose((Q**2).mean(axis=0), np.full((3, 3), 1 / 3), atol=0.03)
    assert abs((np.linalg.det(Q) > 0).mean() - 0.5) < 0.05


def test_a_deep_linear_network_with_orthogonal_weights_keeps_every_length(rng):
    model = nn.Sequential(*[nn.Dense(20, 20, init="orthogonal", generator=rng) for _ in range(50)])
    x = rng.standard_normal((5, 20)).astype(np.float32)
    lengths = np.linalg.norm(model(x).data, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(x, axis=1), rtol=1e-4)


def test_what_was_chosen_cannot_change_under_a_layer_that_has_it():
    for made in (initializers.he_normal(), initializers.glorot_uniform()):
        for name in vars(made):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(made, name, 3.0)


def test_constants():
    assert (nn.Dense(2, 3, init=initializers.constant(0.1)).weight.data == np.float32(0.1)).all()
    assert not nn.Conv2d(2, 3, 3, init="zeros").weight.data.any()


@pytest.mark.parametrize("init", ["he_uniform", initializers.he_uniform, initializers.he_uniform()])
def test_a_name_a_function_and_what_it_returns_mean_the_same(init):
    weights = nn.Dense(4, 3, init=init, generator=np.random.default_rng(1)).weight.data
    limit = np.sqrt(6 / 4)
    np.testing.assert_allclose(weights, np.random.default_rng(1).uniform(-limit, limit, (4, 3)), rtol=1e-6)


def test_an_initializer_can_be_a_callable_and_unknown_names_list_the_known():
    layer = nn.Dense(2, 2, init=lambda shape, generator: np.full(shape, 7, np.float32))
    assert (layer.weight.data == 7).all()
    for init in ("magic", 0.1):
        with pytest.raises(ValueError, match=f"init is {init!r}, expected one of glorot_uniform"):
            nn.Dense(2, 2, init=init)


# ---------------------------------------------------------------- by the activation


def elu_moment():
    normal = scipy.special.ndtr
    return 0.5 + math.e**2 * normal(-2) - 2 * math.exp(0.5) * normal(-1) + 0.5


def integral(f):
    return scipy.integrate.quad(lambda z: f(z) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -12, 12)[0]


@pytest.mark.parametrize(
    ("activation", "moment"),
    [
        (None, 1),
        ("softmax", 1),
        (nn.Softmax(1), 1),
        ("relu", 1 / 2),
        (nn.ReLU, 1 / 2),
        (ops.relu, 1 / 2),
        (nn.LeakyReLU(0.2), 1.04 / 2),
        ("leaky_relu", 1.0001 / 2),
        ("selu", 1),
        (nn.ELU, elu_moment()),
        ("gelu", 1 / 3 + 1 / (2 * math.pi * math.sqrt(3))),
        ("softplus", integral(lambda z: math.log1p(math.exp(z)))),
        (nn.Tanh(), integral(math.tanh)),
        ("sigmoid", integral(lambda z: 1 / (1 + math.exp(-z)))),
        (lambda x: x * x, 3),
    ],
)
def test_the_variance_is_the_inverse_of_the_activations_second_moment(activation, moment):
    assert initializers.for_activation(activation).g2 == pytest.approx(1 / moment, rel=1e-8)
    weights = initializers.for_activation(activation)((400, 250), np.random.default_rng(0))
    assert weights.var() == pytest.approx(1 / (moment * 400), rel=0.02)


def signal(f, init, first, layers=20, width=400):
    """Return E[z²] behind so many layers of f and a dense layer."""
    rng = np.random.default_rng(0)
    z = first * rng.standard_normal((50, width)).astype(np.float32)
    for _ in range(layers):
        z = nn.Dense(width, width, bias=False, init=init, generator=rng)(f(ml.Tensor(z))).data
    return float((z.astype(float) ** 2).mean())


@pytest.mark.parametrize(
    ("activation", "wrong", "expected"),
    [
        (lambda x: x, "he_normal", 2.0**20),
        (nn.ReLU(), "lecun_normal", 2.0**-20),
        (nn.LeakyReLU(0.2), "lecun_normal", (1.04 / 2) ** 20),
        (nn.ELU(), "he_normal", 12),
        (nn.SELU(), "he_normal", 124),
        (nn.GELU(), "he_normal", 3e-5),
        (nn.Softplus(), "he_normal", 13),
        (nn.Tanh(), "glorot_normal", 1 / 40),
    ],
)
def test_twenty_layers_keep_the_signal_with_the_right_weights_and_not_with_others(activation, wrong, expected):
    """At width 400 chance moves ReLU's signal by a factor of about 2 and GELU's, which is unstable, by 5."""
    assert 1 / 7 < signal(activation, initializers.for_activation(activation), 1) < 7
    lost = signal(activation, wrong, 1)
    assert not 1 / 7 < lost < 7
    assert expected / 4 < lost < expected * 4


def test_layers_start_with_hes_weights(rng):
    x = rng.standard_normal((500, 400)).astype(np.float32)
    model = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Dense(400, 400, generator=rng), nn.ReLU())])
    assert 0.5 < (model(x).data ** 2).mean() < 2
    assert nn.Conv2d(64, 64, 3, generator=rng).weight.data.var() == pytest.approx(2 / 576, rel=0.03)


def test_sigmoids_keep_the_signal_and_return_to_it_from_elsewhere():
    init = initializers.for_activation("sigmoid")
    for first in (0.1, 1, 5):
        assert signal(nn.Sigmoid(), init, first, layers=6) == pytest.approx(1, rel=0.2)


def test_transposed_convolutions_count_the_products_that_reach_an_output(rng):
    x = ml.Tensor(rng.standard_normal((4, 8, 8, 32)).astype(np.float32))
    for stride, size in ((2, 4), ((1, 3), (2, 3))):
        for init in ("lecun_normal", "lecun_uniform", "glorot_normal"):
            layer = nn.ConvTranspose2d(32, 32, size, stride, init=init, generator=rng)
            gaps = 4 if stride == 2 else 3
            share = 1 if init.startswith("lecun") else 2 / (1 + gaps)
            inside = layer(x).data[:, 4:-4, 4:-4]
            assert (inside**2).mean() == pytest.approx(share, rel=0.1)
    weights = [nn.ConvTranspose2d(2, 2, 2, stride, init=initializers.constant(3)).weight.data for stride in (1, 2)]
    assert (np.stack(weights) == 3).all()


# ---------------------------------------------------------------- whole models


def is_drawn(layer, g2, fan_in):
    """Whether a layer's weights have the variance g² / fan_in, as far as one can tell from so many, and biases 0."""
    weights = layer.weight.data.astype(float)
    assert (weights**2).mean() == pytest.approx(g2 / fan_in, rel=5 * math.sqrt(2 / weights.size))
    assert layer.bias is None or not layer.bias.data.any()


def spoiled(model):
    for parameter in model.parameters():
        parameter.data = np.full(parameter.shape, 9.0)
    return model


def test_lenet5_is_drawn_as_he_proposes_but_for_its_last_layer():
    model = spoiled(models.lenet5())
    assert nn.initialize(model, np.random.default_rng(3)) is model
    rng = np.random.default_rng(3)
    for name, scale in (("conv1", 2), ("conv2", 2), ("dense1", 2), ("dense2", 2), ("dense3", 1)):
        layer = getattr(model, name)
        deviation = math.sqrt(scale / np.prod(layer.weight.shape[:-1]))
        np.testing.assert_allclose(layer.weight.data, deviation * rng.standard_normal(layer.weight.shape), rtol=1e-6)
        assert not layer.bias.data.any()


def test_the_activation_behind_decides_past_normalization_pooling_dropout_and_containers():
    model = nn.Sequential(
        stem=nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm(16), nn.LeakyReLU(0.5)),
        block=nn.Residual(nn.Sequential(nn.BatchNorm(16), nn.Tanh(), nn.Conv2d(16, 16, 3, padding="same"))),
        head=nn.Sequential(nn.MaxPool2d(2), nn.Dropout(), nn.GELU(), nn.ConvTranspose2d(16, 8, 4, 2), nn.Flatten()),
        linear=nn.Dense(50, 40),
        dense=nn.Dense(40, 60),
        softmax=nn.Softmax(),
    )
    nn.initialize(spoiled(model), np.random.default_rng(0))
    is_drawn(model.stem[0], 2 / 1.25, 72)
    is_drawn(model.block.body[2], 2.3517, 144)
    is_drawn(model.head[3], 1, 16 * 16 / 4)
    is_drawn(model.linear, 1, 50)
    is_drawn(model.dense, 1, 40)
    assert (model.stem[1].gamma.data == 9).all()


def test_a_selu_network_keeps_mean_0_and_variance_1():
    layers = [layer for _ in range(20) for layer in (nn.Dense(300, 300), nn.SELU(), nn.AlphaDropout(0.05))]
    model = nn.initialize(nn.Sequential(*layers), np.random.default_rng(0))
    for layer in list(model)[::3]:
        is_drawn(layer, 1, 300)
    y = model(np.random.default_rng(1).standard_normal((200, 300)).astype(np.float32)).data
    assert abs(y.mean()) < 0.2
    assert y.var() == pytest.approx(1, rel=0.2)


def test_modules_of_ones_own_and_activations_of_ones_own():
    class Linear(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.zeros((200, 100), np.float32))
            self.offset = nn.Parameter(np.zeros(100, np.float32))
            self.bias = None

        def forward(self, x):
            return x @ self.weight + self.offset

    class Square(nn.Activation):
        def forward(self, x):
            return x * x

    model = nn.initialize(spoiled(nn.Sequential(Linear(), Square())), np.random.default_rng(0))
    is_drawn(model[0], 1 / 3, 200)
    assert (model[0].offset.data == 9).all()


def test_the_relu_of_a_batch_norm_counts_as_the_activation_behind():
    for norm, gain in (nn.BatchNorm(60, relu=True), 2), (nn.BatchNorm(60), 1):
        model = spoiled(nn.Sequential(nn.Dense(80, 60), norm, nn.Dense(60, 50)))
        nn.initialize(model, np.random.default_rng(0))
        is_drawn(model[0], gain, 80)
        is_drawn(model[2], 1, 60)


def test_layers_inside_wrappers_are_found_and_the_wrappers_follow():
    model = nn.Sequential(
        nn.SpectralNorm(nn.Dense(80, 60)),
        nn.ReLU(),
        nn.WeightStandardization(nn.SpectralNorm(nn.Dense(60, 50))),
    )
    nn.initialize(spoiled(model), np.random.default_rng(0))
    is_drawn(model[0].layer, 2, 80)
    is_drawn(model[2].layer.layer, 1, 60)
    eye, offset = np.eye(80, dtype=np.float32), np.zeros((1, 60), np.float32)
    model.eval()
    assert np.linalg.norm(model[0](eye).data, 2) == pytest.approx(1, rel=0.02)
    used = model[2](np.eye(60, dtype=np.float32)).data - model[2](offset).data
    assert np.linalg.norm(used, 2) == pytest.approx(1, rel=0.02)


def test_the_same_seed_gives_the_same_weights():
    model = models.lenet5()
    states = []
    for seed in (5, 5, 6):
        ml.manual_seed(seed)
        states.append(nn.initialize(model).state_dict())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert not np.array_equal(states[0]["conv1.weight"], states[2]["conv1.weight"])


@pytest.mark.parametrize("method", [optim.Adam, optim.Nesterov])
def test_the_vector_of_an_optimizer_is_written_and_moves_on_from_there(method):
    model = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 2))
    optimizer = method(model)
    x, labels = np.ones((5, 3), np.float32), np.array([0, 1, 1, 0, 1])
    for _ in range(2):
        optimizer.zero_grad()
        ops.cross_entropy(model(x), labels).backward()
        optimizer.step()
        nn.initialize(model, np.random.default_rng(4))
        expected = nn.initialize(nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 2)), np.random.default_rng(4))
        values = np.concatenate([parameter.data.reshape(-1) for parameter in expected.parameters()])
        np.testing.assert_array_equal(optimizer.weights, values)
        np.testing.assert_array_equal(model[0].weight.data, expected[0].weight.data)


def test_what_is_frozen_is_not_drawn():
    model = spoiled(nn.Sequential(nn.Dense(3, 4), nn.ReLU(), nn.Dense(4, 2)))
    model[0].freeze()
    before = model.state_dict()
    nn.initialize(model)
    np.testing.assert_array_equal(model[0].weight.data, before["0.weight"])
    assert (model[2].weight.data != before["2.weight"]).all()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: initializers.for_activation("magic"), ValueError, "activation is 'magic', expected one of elu, gelu"),
        (lambda: initializers.for_activation(3), TypeError, "for_activation: activation is 3"),
        (lambda: initializers.constant("a"), TypeError, "constant: value is 'a'"),
        (lambda: initializers.orthogonal(None), TypeError, "orthogonal: gain is None"),
        (lambda: initializers.he_normal("relu"), TypeError, "he_normal: slope is 'relu'"),
        (
            lambda: initializers.for_activation(lambda x: x * ml.Tensor(np.ones(4))),
            TypeError,
            "for_activation: .* does not work on each element by itself: multiply: ",
        ),
        (lambda: initializers.for_activation(lambda x: 0 * x), TypeError, r"for_activation: .* has E\[f\(ξ\)²\] = 0.0"),
        (lambda: nn.Dense(2, 2, generator=3), TypeError, "init: generator is of type int, expected a numpy.random"),
    ],
)
def test_bad_input_is_a_clear_error(call, error, message):
    with pytest.raises(error, match=message):
        call()
