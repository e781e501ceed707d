"""DenseNet-BC: the paper's sizes, and the same numbers as PyTorch's from the same weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minidl as ml
from minidl import models, ops


def paper_count(depth, growth, compression=0.5, classes=10, channels=3):
    """Count layer by layer, as the paper describes them; batch norm has two parameters a channel."""
    width = 2 * growth
    count = 9 * channels * width
    for block in range(3):
        for _ in range((depth - 4) // 3 // 2):
            count += 2 * width + width * 4 * growth + 2 * 4 * growth + 9 * 4 * growth * growth
            width += growth
        if block < 2:
            kept = math.floor(compression * width)
            count += 2 * width + width * kept
            width = kept
    return count + 2 * width + width * classes + classes


def parameters(*arguments, **settings):
    return sum(parameter.size for parameter in models.densenet_bc(*arguments, **settings).parameters())


def test_the_number_of_parameters_is_the_papers():
    """Its table: 0.8 M with 100 layers and growth 12, 15.3 M with 250 and 24, 25.6 M with 190 and 40."""
    assert parameters() == paper_count(100, 12) == 769_162
    assert [round(paper_count(*size) / 1e6, 1) for size in ((100, 12), (250, 24), (190, 40))] == [0.8, 15.3, 25.6]


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 22, "growth": 5},
        {"depth": 16, "growth": 3, "compression": 0.7},
        {"depth": 10, "growth": 4, "compression": 1, "classes": 100, "channels": 1},
    ],
)
def test_other_sizes(settings):
    assert parameters(**settings) == paper_count(**settings)


@pytest.mark.parametrize(("size", "sizes"), [(32, (32, 16, 8)), (28, (28, 14, 7)), (4, (4, 2, 1))])
def test_summary(size, sizes):
    summary = models.densenet_bc(100, channels=1).summary((size, size, 1))
    shapes = {row.name: row.output_shape for row in summary.rows}
    # 24 + 16 · 12 = 216, halved to 108; 108 + 192 = 300, halved to 150; 150 + 192 = 342
    assert shapes["conv"] == (sizes[0], sizes[0], 24)
    for block, (side, width) in enumerate(zip(sizes[:2], (216, 300), strict=True), 1):
        assert shapes[f"transition{block}.norm"] == (side, side, width)
        assert shapes[f"transition{block}.pool"] == (side // 2, side // 2, width // 2)
        assert shapes[f"block{block}.layer16.conv2"] == (side, side, 12)
    assert shapes["norm"] == (sizes[2], sizes[2], 342)
    assert (shapes["pool"], shapes["dense"]) == ((342,), (10,))
    # the first convolution, 48 layers of 6, two transitions of 4, and norm, pool and dense
    assert len(summary.rows) == 1 + 48 * 6 + 2 * 4 + 3
    assert sum(row.kind in ("Conv2d", "Dense") for row in summary.rows) == 100
    assert sum(row.parameters for row in summary.rows) == summary.parameters == paper_count(100, 12, channels=1)


def test_names_read_well():
    names = list(models.densenet_bc(16).state_dict())
    assert names[0] == "conv.weight"
    assert names[-2:] == ["dense.weight", "dense.bias"]
    assert {"block1.layer2.conv1.weight", "transition2.conv.weight", "block3.layer1.norm2.gamma"} < set(names)
    assert not any("conv" in name and "bias" in name for name in names)


def test_a_layer_keeps_its_input_and_adds_channels(rng):
    layer = models.densenet_bc(10, growth=3).block1.layer1
    x = rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
    y = layer(ml.Tensor(x)).data
    assert y.shape == (2, 4, 5, 9)
    np.testing.assert_array_equal(y[..., :6], x)
    assert y[..., 6:].any()


def test_dropout_follows_every_convolution_but_the_first_and_only_in_training(rng):
    model = models.densenet_bc(10, growth=3, dropout=0.5)
    names = [name for name, _ in model.named_modules()]
    convolutions = [i for i, name in enumerate(names) if name.split(".")[-1].startswith("conv")]
    assert [names[i + 1].split(".")[-1].startswith("dropout") for i in convolutions] == [False] + [True] * 8
    x = rng.standard_normal((2, 8, 8, 3)).astype(np.float32)
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    np.testing.assert_array_equal(model(x).data, model(x).data)
    dropped = model.train().block1.layer1(rng.standard_normal((2, 8, 8, 6)).astype(np.float32)).data[..., 6:]
    assert 0.3 < (dropped == 0).mean() < 0.7


@pytest.mark.parametrize("depth", [4, 3, 20, 99, 101])
def test_other_depths_are_an_error_that_names_the_possible_ones(depth):
    with pytest.raises(ValueError, match=f"densenet_bc: depth is {depth}, expected 6n [+] 4: 10, 16, 22"):
        models.densenet_bc(depth)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "densenet_bc: depth is 0, expected a positive integer"),
        ({"growth": 0}, "densenet_bc: growth is 0"),
        ({"compression": 0}, "densenet_bc: compression is 0, expected a number in"),
        ({"compression": 1.5}, "densenet_bc: compression is 1.5"),
        ({"growth": 1, "compression": 0.1}, "densenet_bc: compression 0.1 leaves none of 3 channels, with growth 1"),
        ({"dropout": 1.5}, "Dropout: p is 1.5"),
        ({"classes": 0}, "outputs is 0"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        models.densenet_bc(**{"depth": 10, **settings})


def test_float32_stays_float32_and_gradients_reach_every_parameter(rng):
    model = models.densenet_bc(10, growth=3, channels=1)
    loss = ops.cross_entropy(model(rng.random((4, 28, 28, 1)).astype(np.float32)), np.arange(4))
    loss.backward()
    assert loss.dtype == np.float32
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == np.float32
        assert parameter.grad.any(), name


# ---------------------------------------------------------------- against PyTorch


def densenet_twin(torch, depth, growth):
    """Huang et al. 2017, §3, in PyTorch: with bottlenecks, compression 0.5."""
    tn = torch.nn

    class Layer(tn.Module):
        def __init__(self, width):
            super().__init__()
            self.new_features = tn.Sequential(
                *(tn.BatchNorm2d(width), tn.ReLU(), tn.Conv2d(width, 4 * growth, 1, bias=False)),
                *(tn.BatchNorm2d(4 * growth), tn.ReLU()),
                tn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
            )

        def forward(self, x):
            return torch.cat([x, self.new_features(x)], dim=1)

    width = 2 * growth
    parts = [tn.Conv2d(3, width, 3, padding=1, bias=False)]
    for block in range(3):
        for _ in range((depth - 4) // 6):
            parts.append(Layer(width))
            width += growth
        if block < 2:
            parts += [tn.BatchNorm2d(width), tn.ReLU(), tn.Conv2d(width, width // 2, 1, bias=False), tn.AvgPool2d(2)]
            width //= 2
    parts += [tn.BatchNorm2d(width), tn.ReLU(), tn.AdaptiveAvgPool2d(1), tn.Flatten(), tn.Linear(width, 10)]
    return tn.Sequential(*parts)


@pytest.mark.parametrize(("depth", "growth", "size"), [(22, 5, 12), pytest.param(100, 12, 32, marks=pytest.mark.slow)])
def test_densenet_equals_pytorchs(torch, pair, rng, depth, growth, size):
    """Outputs and all gradients in float64, in training and, after two steps, in evaluation."""
    both = pair(models.densenet_bc(depth, growth).astype("float64"), densenet_twin(torch, depth, growth).double())
    both.check_all_modes(rng.standard_normal((3, size, size, 3)), np.array([1, 0, 9]), steps=2)
