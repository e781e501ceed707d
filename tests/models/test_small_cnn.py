"""The small network in which kinds of normalization and dropout are compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minidl import models, nn, ops, optim
from minidl.models.small_cnn import ACTIVATIONS, DROPOUTS, NORMALIZATIONS

SHAPES = {
    "conv1": (28, 28, 16), "relu1": (28, 28, 16), "pool1": (14, 14, 16),
    "conv2": (14, 14, 32), "relu2": (14, 14, 32), "pool2": (7, 7, 32),
    "flatten": (1568,), "dense1": (128,), "relu3": (128,), "dense2": (10,),
}  # fmt: skip

# behind each convolution, and around its weight
NORMALIZED = {
    "none": (None, None),
    "batch": (nn.BatchNorm, None),
    "layer": (nn.LayerNorm, None),
    "instance": (nn.InstanceNorm, None),
    "group": (nn.GroupNorm, None),
    "switchable": (nn.SwitchableNorm, None),
    "weight": (nn.GroupNorm, nn.WeightStandardization),
    "spectral": (None, nn.SpectralNorm),
}

# before each pooling, the pooling, and behind the hidden layer
DROPPED = {
    "none": (None, "MaxPool2d(size=(2, 2), stride=(2, 2))", None),
    "dropout": (None, "MaxPool2d(size=(2, 2), stride=(2, 2))", "Dropout(p=0.2)"),
    "gaussian": (None, "MaxPool2d(size=(2, 2), stride=(2, 2))", "GaussianDropout(p=0.2, variance='notes')"),
    "alpha": (None, "MaxPool2d(size=(2, 2), stride=(2, 2))", "AlphaDropout(p=0.2)"),
    "spatial": ("SpatialDropout2d(p=0.2)", "MaxPool2d(size=(2, 2), stride=(2, 2))", None),
    "max-pooling": (None, "PoolingDropout(size=(2, 2), p=0.2, kind='max', stride=(2, 2))", None),
    "average-pooling": (None, "PoolingDropout(size=(2, 2), p=0.2, kind='avg', stride=(2, 2))", None),
    "maxdrop": (None, "MaxDrop(size=(2, 2), mu=1.0, sigma=0.4, stride=(2, 2))", None),  # 0.4² = 0.2 · 0.8
}

SMALL = {"size": 8, "widths": (4, 8), "hidden": 12}


def layers(model):
    return [name for name, _ in model.children()]


def suitable(dropout):
    return "selu" if dropout == "alpha" else "relu"


def test_summary():
    summary = models.small_cnn().summary((28, 28, 1))
    assert {row.name: row.output_shape for row in summary.rows} == SHAPES
    weights = (9 * 1 + 1) * 16 + (9 * 16 + 1) * 32 + (7 * 7 * 32 + 1) * 128 + (128 + 1) * 10
    assert summary.parameters == weights == 206_922


def test_other_images_and_widths():
    model = models.small_cnn(classes=7, channels=3, size=(17, 24), widths=(5, 6, 7), hidden=11)
    summary = model.summary((17, 24, 3))
    shapes = {row.name: row.output_shape for row in summary.rows}
    assert (shapes["pool3"], shapes["dense1"], shapes["dense2"]) == ((2, 3, 7), (11,), (7,))
    weights = 9 * (3 * 5 + 5 * 6 + 6 * 7) + (5 + 6 + 7) + (2 * 3 * 7 + 1) * 11 + 12 * 7
    assert summary.parameters == weights
    assert models.small_cnn(size=8, widths=[4]).summary((8, 8, 1)).parameters == 40 + (4 * 4 * 4 + 1) * 128 + 1290


def test_all_names_are_tested():
    assert set(NORMALIZED) == set(NORMALIZATIONS)
    assert set(DROPPED) == set(DROPOUTS)
    assert {"relu", "selu", "tanh"} < set(ACTIVATIONS)
    assert "softmax" not in ACTIVATIONS


@pytest.mark.parametrize(("name", "kinds"), NORMALIZED.items())
def test_normalization_stands_behind_or_in_the_convolutions(name, kinds):
    norm, around = kinds
    model = models.small_cnn(normalization=name)
    behind = ["norm{0}"] if norm else []
    block = ["conv{0}", *behind, "relu{0}", "pool{0}"]
    ends = ["flatten", "dense1", "relu3", "dense2"]
    assert layers(model) == [part.format(i) for i in (1, 2) for part in block] + ends
    for i, channels in ((1, 16), (2, 32)):
        convolution = getattr(model, f"conv{i}") if around is None else getattr(model, f"conv{i}").layer
        assert type(getattr(model, f"conv{i}")) is (around or nn.Conv2d)
        assert type(convolution) is nn.Conv2d
        assert (convolution.bias is None) == (norm is not None)  # β takes its place
        if norm:
            assert type(getattr(model, f"norm{i}")) is norm
            assert getattr(model, f"norm{i}").gamma.shape == (channels,)
            assert getattr(getattr(model, f"norm{i}"), "groups", 4) == 4
    # a scale and a shift in place of the bias, and two times three logits of switchable normalization
    more = (16 + 32 if norm else 0) + (2 * 2 * 3 if name == "switchable" else 0)
    assert sum(parameter.size for _, parameter in model.named_parameters()) == 206_922 + more


@pytest.mark.parametrize(("name", "kinds"), DROPPED.items())
def test_dropout_stands_in_its_place(name, kinds):
    before, pool, behind = kinds
    activation = suitable(name)
    model = models.small_cnn(dropout=name, p=0.2, activation=activation)
    block = ["conv{0}", f"{activation}{{0}}", *(["dropout{0}"] if before else []), "pool{0}"]
    ends = ["flatten", "dense1", f"{activation}3", *(["dropout3"] if behind else []), "dense2"]
    assert layers(model) == [part.format(i) for i in (1, 2) for part in block] + ends
    for i in (1, 2):
        assert repr(getattr(model, f"pool{i}")) == pool
        assert before is None or repr(getattr(model, f"dropout{i}")) == before
    assert behind is None or repr(model.dropout3) == behind
    assert sum(parameter.size for _, parameter in model.named_parameters()) == 206_922


def test_the_default_probability_is_a_half():
    assert models.small_cnn(dropout="dropout").dropout3.p == 0.5
    assert models.small_cnn(dropout="maxdrop").pool1.sigma == 0.5


@pytest.mark.parametrize(
    ("normalization", "dropout"),
    [*((name, "spatial") for name in NORMALIZATIONS), *(("batch", name) for name in DROPOUTS)],
)
def test_every_choice_takes_a_step(normalization, dropout, rng):
    """Gradients are finite and reach every parameter, and evaluation is deterministic after the step."""
    x, labels = rng.random((6, 8, 8, 1)).astype(np.float32), np.arange(6) % 3
    choice = {"normalization": normalization, "dropout": dropout, "activation": suitable(dropout)}
    model = models.small_cnn(classes=3, **SMALL, **choice, p=0.3)
    optimizer = optim.SGD(model, lr=0.01)
    loss = ops.cross_entropy(model(x), labels)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert np.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
        assert parameter.grad.dtype == np.float32, name
    disturbed = not np.array_equal(model(x).data, model(x).data)
    assert disturbed == (dropout != "none")
    optimizer.step()
    model.eval()
    y = model(x)
    assert y.shape == (6, 3)
    assert y.dtype == np.float32
    assert np.isfinite(y.data).all()
    np.testing.assert_array_equal(y.data, model(x).data)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_weights_start_for_their_activation(activation):
    """Var(w) = g² / fan_in, and 1 / fan_in behind the last layer."""
    model = models.small_cnn(activation=activation)
    kind = nn.initializers.ACTIVATIONS[activation]
    assert all(type(getattr(model, f"{activation}{i}")) is kind for i in (1, 2, 3))
    g2 = nn.initializers.for_activation(activation).g2
    assert activation != "selu" or g2 == pytest.approx(1, abs=1e-3)
    for name, variance in (("conv2", g2 / 144), ("dense1", g2 / 1568), ("dense2", 1 / 128)):
        weight = getattr(model, name).weight.data
        # the variance of n normal values has the relative standard deviation √(2 / n)
        assert weight.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / weight.size))
    assert model.conv1.weight.data.std() == pytest.approx(math.sqrt(g2 / 9), rel=0.3)


def test_no_dropout_at_probability_zero(rng):
    x = rng.random((2, 8, 8, 1)).astype(np.float32)
    for dropout in set(DROPOUTS) - {"average-pooling"}:
        choice = {"activation": suitable(dropout)}
        model = models.small_cnn(**SMALL, **choice, dropout=dropout, p=0)
        plain = models.small_cnn(**SMALL, **choice)
        plain.load_state_dict(model.state_dict())
        np.testing.assert_array_equal(model(x).data, plain(x).data, err_msg=dropout)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalization": "Batch"}, f"small_cnn: normalization is 'Batch', expected one of {', '.join(NORMALIZED)}"),
        ({"normalization": None}, "small_cnn: normalization is None, expected one of none, batch"),
        ({"normalization": ["batch"]}, r"small_cnn: normalization is \['batch'\], expected one of none, batch"),
        ({"dropout": 0.5}, "small_cnn: dropout is 0.5, expected one of none, dropout, gaussian, alpha, spatial"),
        ({"activation": "softmax"}, "small_cnn: activation is 'softmax', expected one of elu, gelu"),
        ({"dropout": "alpha"}, "small_cnn: dropout 'alpha' .* expected activation='selu'"),
        ({"p": 1.5}, r"small_cnn: p is 1.5, expected a number in \[0, 1\]"),
        ({"p": 1, "dropout": "alpha", "activation": "selu"}, r"small_cnn: p is 1, expected a number in \[0, 1\)"),
        ({"size": 3}, "small_cnn: size is 3, expected an integer of at least 4"),
        ({"size": (28, 7), "widths": (4, 4, 4)}, "small_cnn: size is"),
        ({"widths": ()}, r"small_cnn: widths is \(\), expected the filters"),
        ({"widths": 16}, "small_cnn: widths is 16, expected the filters"),
        ({"widths": "16"}, "small_cnn: widths is '16', expected the filters"),
        ({"widths": (16, 0)}, "Conv2d: outputs is 0"),
        ({"widths": (6,), "normalization": "group"}, "GroupNorm: groups is 4, expected a divisor of channels"),
        ({"hidden": 0}, "Dense: outputs is 0"),
        ({"classes": 0}, "Dense: outputs is 0"),
        ({"channels": 0}, "Conv2d: inputs is 0"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        models.small_cnn(**settings)


def test_a_probability_is_a_number():
    with pytest.raises(TypeError, match="small_cnn: p is 'half', expected a number"):
        models.small_cnn(p="half")


@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
def test_it_equals_pytorchs(torch, pair, rng, normalization):
    """Outputs and all gradients in float64, in training and, after three steps, in evaluation."""
    tn = torch.nn
    norms = {"none": lambda c: [], "batch": lambda c: [tn.BatchNorm2d(c)], "group": lambda c: [tn.GroupNorm(4, c)]}

    class ChannelsLast(tn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    def block(a, b):
        convolution = tn.Conv2d(a, b, 3, padding=1, bias=normalization == "none")
        return convolution, *norms[normalization](b), tn.ReLU(), tn.MaxPool2d(2)

    twin = tn.Sequential(
        *block(2, 4), *block(4, 8), ChannelsLast(), tn.Flatten(), tn.Linear(4 * 3 * 8, 12), tn.ReLU(), tn.Linear(12, 10)
    )
    model = models.small_cnn(channels=2, size=(16, 12), widths=(4, 8), hidden=12, normalization=normalization)
    both = pair(model.astype("float64"), twin.double())
    both.check_all_modes(rng.standard_normal((4, 16, 12, 2)), np.array([1, 0, 9, 3]), rate=0.01)
    assert isinstance(model[-1], nn.Dense)  # logits: the softmax is inside the loss
