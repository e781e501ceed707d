"""The network of the CIFAR-10 optimizer study."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import data, models, nn, ops, optim

SHAPES = {
    "conv1": (32, 32, 32), "conv2": (32, 32, 32), "pool1": (16, 16, 32),
    "conv3": (16, 16, 64), "conv4": (16, 16, 64), "pool2": (8, 8, 64),
    "flatten": (4096,), "dense1": (128,), "dense2": (10,),
}  # fmt: skip


def count(inputs=3, features=4096, batch_norm=False):
    """Count the parameters with the default widths; batch norm has two a channel in place of one bias."""
    weights = 9 * (inputs * 32 + 32 * 32 + 32 * 64 + 64 * 64) + features * 128 + 128 * 10 + 10
    return weights + (2 if batch_norm else 1) * (32 + 32 + 64 + 64 + 128)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_summary(batch_norm):
    summary = models.cifar_cnn(batch_norm=batch_norm).summary((32, 32, 3))
    shapes = {row.name: row.output_shape for row in summary.rows}
    assert {name: shapes[name] for name in SHAPES} == SHAPES
    assert list(shapes)[:3] == (["conv1", "norm1", "conv2"] if batch_norm else ["conv1", "relu1", "conv2"])
    assert shapes["dropout3"] == (128,)
    assert len(summary.rows) == 17
    assert summary.parameters == count(batch_norm=batch_norm)
    assert batch_norm or summary.parameters == 591_274


@pytest.mark.parametrize("batch_norm", [False, True])
def test_other_images_and_widths(batch_norm):
    grey = models.cifar_cnn(channels=1, size=28, batch_norm=batch_norm).summary((28, 28, 1))
    assert grey.parameters == count(1, 7 * 7 * 64, batch_norm)
    wide = models.cifar_cnn(classes=100, size=(24, 33), widths=(4, 5, 6), batch_norm=batch_norm).summary((24, 33, 3))
    shapes = {row.name: row.output_shape for row in wide.rows}
    assert (shapes["pool3"], shapes["dense2"]) == ((3, 4, 6), (100,))


def test_names_read_well():
    assert list(models.cifar_cnn().state_dict()) == [
        f"{layer}.{kind}"
        for layer in ("conv1", "conv2", "conv3", "conv4", "dense1", "dense2")
        for kind in ("weight", "bias")
    ]
    names = list(models.cifar_cnn(batch_norm=True).state_dict())
    assert [name for name in names if "bias" in name] == ["dense2.bias"]
    assert {"conv4.weight", "norm4.gamma", "norm5.running_mean", "dense1.weight"} < set(names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 3}, "cifar_cnn: size is 3, expected an integer of at least 4"),
        ({"size": (32, 7), "widths": (8, 8, 8)}, "cifar_cnn: size is"),
        ({"dropout": -0.1}, "Dropout: p is -0.1"),
        ({"widths": (0,)}, "Conv2d: outputs is 0"),
        ({"widths": ()}, r"cifar_cnn: widths is \(\), expected the filters"),
        ({"widths": 64}, "cifar_cnn: widths is 64, expected the filters"),
        ({"classes": 0}, "Dense: outputs is 0"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        models.cifar_cnn(**settings)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_it_learns_a_few_digits_by_heart(batch_norm):
    digits = data.load("digits", size=28)
    model = models.cifar_cnn(channels=1, size=28, batch_norm=batch_norm)
    optimizer, losses = optim.Adam(model, lr=0.001), []
    for _ in range(8):
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(digits.train_x[:16]), digits.train_y[:16])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert loss.dtype == np.float32
    assert losses[-1] < 0.5 * losses[0]
    assert optimizer.weights.dtype == np.float32
    assert {value.dtype for value in model.state_dict().values()} == {np.dtype(np.float32)}


def test_dropout_drops_in_training_only(rng):
    x = rng.random((4, 12, 12, 3)).astype(np.float32)
    model = models.cifar_cnn(size=12, widths=(4, 4), dropout=0.5)
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    np.testing.assert_array_equal(model(x).data, model(x).data)
    rates = {name: layer.p for name, layer in model.named_modules() if isinstance(layer, nn.Dropout)}
    assert rates == {"dropout1": 0.5, "dropout2": 0.5, "dropout3": 0.5}
    plain = models.cifar_cnn(size=12, widths=(4, 4))
    np.testing.assert_array_equal(plain(x).data, plain(x).data)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_it_equals_pytorchs(torch, pair, rng, batch_norm):
    """Outputs and all gradients in float64, in training and, after three steps, in evaluation."""
    tn = torch.nn

    class ChannelsLast(tn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    def part(layer, norm, features):
        return [layer, *([norm(features)] if batch_norm else []), tn.ReLU()]

    def conv(a, b):
        return part(tn.Conv2d(a, b, 3, padding=1, bias=not batch_norm), tn.BatchNorm2d, b)

    twin = tn.Sequential(
        *(*conv(3, 32), *conv(32, 32), tn.MaxPool2d(2), *conv(32, 64), *conv(64, 64), tn.MaxPool2d(2)),
        *(ChannelsLast(), tn.Flatten()),
        *(*part(tn.Linear(4 * 3 * 64, 128, bias=not batch_norm), tn.BatchNorm1d, 128), tn.Linear(128, 10)),
    )
    model = models.cifar_cnn(size=(16, 12), batch_norm=batch_norm)
    both = pair(model.astype("float64"), twin.double())
    both.check_all_modes(rng.standard_normal((4, 16, 12, 3)), np.array([1, 0, 9, 3]), rate=0.01)
    assert isinstance(model[-1], nn.Dense)  # logits: the softmax is inside the loss
