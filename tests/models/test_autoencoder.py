"""The convolutional autoencoder."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import data, models, nn, ops, optim, training


def count(channels, side, code=32):
    """Count the parameters with the default widths, 16 and 32, on images of 4 · side pixels."""
    features = side * side * 32
    convolutions = 2 * 16 * (channels * 16 + 16 * 32) + (16 + 32 + 16 + channels)
    return convolutions + 2 * features * code + code + features


@pytest.mark.parametrize(("size", "channels", "parameters"), [(28, 1, 118_913), (32, 3, 151_139)])
def test_summary(size, channels, parameters):
    model = models.autoencoder(channels=channels, size=size)
    summary = model.summary((size, size, channels))
    shapes = {row.name: row.output_shape for row in summary.rows}
    half, quarter = size // 2, size // 4
    assert (shapes["encoder.relu1"], shapes["encoder.relu2"]) == ((half, half, 16), (quarter, quarter, 32))
    assert shapes["encoder.dense"] == (32,)
    assert (shapes["decoder.unflatten"], shapes["decoder.relu1"]) == ((quarter, quarter, 32), (half, half, 16))
    assert shapes["decoder.sigmoid"] == (size, size, channels)
    assert len(summary.rows) == 13
    assert summary.parameters == count(channels, quarter) == parameters


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, (28, 28, 1)),
        ({"code": 2, "channels": 3, "size": 32}, (32, 32, 3)),
        ({"size": (8, 24), "widths": (3, 4, 5)}, (8, 24, 1)),
        ({"size": 6, "widths": (3,)}, (6, 6, 1)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_the_output_has_the_shape_of_the_input(settings, shape, training, rng):
    model = models.autoencoder(**settings).train(training)
    x = rng.random((2, *shape)).astype(np.float32)
    y = model(x)
    assert (y.shape, y.dtype) == (x.shape, np.float32)
    assert (y.data > 0).all()
    assert (y.data < 1).all()


def test_encoder_and_decoder_are_parts_by_themselves(rng):
    model = models.autoencoder(code=5)
    x = rng.random((3, 28, 28, 1)).astype(np.float32)
    code = model.encoder(x)
    assert code.shape == (3, 5)
    assert (code.data < 0).any()  # the code has no activation
    np.testing.assert_array_equal(model.decoder(code).data, model(x).data)


def test_names_read_well():
    assert list(models.autoencoder().state_dict()) == [
        f"{layer}.{kind}"
        for layer in (
            "encoder.conv1", "encoder.conv2", "encoder.dense", "decoder.dense", "decoder.conv1", "decoder.conv2",
        )
        for kind in ("weight", "bias")
    ]  # fmt: skip


def test_weights_start_with_the_variance_for_what_follows_them():
    """2 / n before ReLU, 1 / n before the code and the sigmoid; n values reach each output.

    Those are 16 · channels for the encoder's windows, and 4 · channels for the decoder's, whose stride is 2.
    """
    model = models.autoencoder(channels=8, widths=(16, 32))
    expected = {
        "encoder.conv1": 2 / (16 * 8), "encoder.conv2": 2 / (16 * 16), "encoder.dense": 1 / (49 * 32),
        "decoder.dense": 2 / 32, "decoder.conv1": 2 / (4 * 32), "decoder.conv2": 1 / (4 * 16),
    }  # fmt: skip
    weights = {name.removesuffix(".weight"): parameter.data for name, parameter in model.named_parameters()}
    for name, variance in expected.items():
        # the variance of n normal values has the relative standard deviation √(2 / n)
        assert weights[name].var() == pytest.approx(variance, rel=4 * np.sqrt(2 / weights[name].size)), name
        assert not weights[f"{name}.bias"].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 30}, "autoencoder: size is 30, expected multiples of 4, to be halved 2 times"),
        ({"size": (28, 27)}, r"autoencoder: size is \(28, 27\)"),
        ({"size": 0}, "autoencoder: size is 0"),
        ({"code": 0}, "autoencoder: code is 0"),
        ({"widths": ()}, r"autoencoder: widths is \(\), expected the filters"),
        ({"widths": 16}, "autoencoder: widths is 16, expected the filters"),
        ({"channels": 0}, "Conv2d: inputs is 0"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        models.autoencoder(**settings)


def test_it_learns_to_give_digits_back():
    """Within two epochs, unseen digits come back with less than half the error of the best constant image, the mean."""
    digits = data.load("digits", size=28)
    model = models.autoencoder(code=16, widths=(8, 16))
    trainer = training.Trainer(model, optim.Adam(model, lr=0.005), nn.MSE(), progress=False)
    losses = trainer.fit(data.Loader(digits.train_x, digits.train_x, 32, seed=0), epochs=2).column("loss")
    assert losses[1] < losses[0]
    error = np.mean((model.eval()(digits.test_x).data - digits.test_x) ** 2)
    of_the_mean_image = np.mean((digits.train_x.mean(axis=0) - digits.test_x) ** 2)
    assert error < 0.5 * of_the_mean_image
    assert {value.dtype for value in model.state_dict().values()} == {np.dtype(np.float32)}


def test_it_equals_pytorchs(torch, pair, rng):
    """Outputs and all gradients, float64."""
    tn = torch.nn

    class ChannelsLast(tn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    class ChannelsFirst(tn.Module):
        def forward(self, x):
            return x.permute(0, 3, 1, 2)

    twin = tn.Sequential(
        *(tn.Conv2d(3, 16, 4, stride=2, padding=1), tn.ReLU(), tn.Conv2d(16, 32, 4, stride=2, padding=1), tn.ReLU()),
        *(ChannelsLast(), tn.Flatten(), tn.Linear(3 * 2 * 32, 7)),
        *(tn.Linear(7, 3 * 2 * 32), tn.ReLU(), tn.Unflatten(1, (3, 2, 32)), ChannelsFirst()),
        *(tn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), tn.ReLU()),
        *(tn.ConvTranspose2d(16, 3, 4, stride=2, padding=1), tn.Sigmoid()),
    )
    x = rng.random((3, 12, 8, 3))
    both = pair(models.autoencoder(7, channels=3, size=(12, 8)).astype("float64"), twin.double())
    both.check_all_modes(x, x, ops.mse, "mse_loss")
