"""Pictures of filters, feature maps and histograms show the numbers that they should."""

from __future__ import annotations

import re

import numpy as np
import pytest

import minidl as ml
from minidl import nn, ops, optim, viz


def model(channels=1, outputs=4):
    ml.manual_seed(0)
    return nn.Sequential(
        conv1=nn.Conv2d(channels, outputs, 3),
        relu=nn.ReLU(),
        drop=nn.Dropout(0.5),
        pool=nn.MaxPool2d(2),
        conv2=nn.Conv2d(outputs, 2, 2),
        flatten=nn.Flatten(),
        dense=nn.Dense(8, 3),
    )


def images(figure):
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def nothing_is_cut_off_or_overlaps(figure):
    figure.canvas.draw()
    page = figure.bbox
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[:i])
    for text in figure.texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text.get_text()


def test_filters_are_the_weights_of_the_convolution():
    network = model()
    W = network.conv1.weight.data
    for what in (network, network.conv1):
        figure = viz.filters(what)
        for o, shown in enumerate(images(figure)):
            np.testing.assert_array_equal(shown, W[:, :, 0, o])
        assert len(images(figure)) == 4
        nothing_is_cut_off_or_overlaps(figure)
    limits = {axes.images[0].get_clim() for axes in figure.axes}
    assert limits == {(-np.abs(W).max(), np.abs(W).max())}


def test_filters_of_several_inputs_have_a_tile_for_each():
    network = model(outputs=20)
    figure = viz.filters(network.conv2, most=5)
    shown = images(figure)
    assert len(shown) == 2 * 5
    np.testing.assert_array_equal(shown[7], network.conv2.weight.data[:, :, 2, 1])
    assert "drawn: 2 × 5" in figure.texts[1].get_text()
    assert len(images(viz.filters(network))) == 16
    nothing_is_cut_off_or_overlaps(figure)


def test_filters_of_colours_are_colours():
    figure = viz.filters(model(channels=3))
    assert [shown.shape for shown in images(figure)] == [(3, 3, 3)] * 4
    assert all((shown >= 0).all() and (shown <= 1).all() for shown in images(figure))


def test_feature_maps_are_the_outputs_of_the_layers_in_evaluation(rng):
    network = model()
    image = rng.integers(0, 256, (8, 8, 1)).astype(np.uint8)
    network.relu.eval()
    modes = [module.training for _, module in network.named_modules()]
    figure = viz.feature_maps(network, image)
    assert modes == [module.training for _, module in network.named_modules()]
    network.eval()
    x, expected = image[None] / np.float32(255), [image[..., 0] / np.float32(255)]
    for name, layer in network.children():
        x = layer(x)
        if name in ("drop", "flatten"):
            continue
        values = x.data[0]
        expected += list(values.transpose(2, 0, 1)) if values.ndim == 3 else [values[None]]
    shown = images(figure)
    assert len(shown) == len(expected)
    for ours, theirs in zip(shown, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    words = [text.get_text() for text in figure.texts]
    assert {"image", "conv1", "relu", "pool", "conv2", "dense"} <= set(words)
    assert not {"drop", "flatten"} & set(words)
    nothing_is_cut_off_or_overlaps(figure)


def test_feature_maps_draws_no_more_channels_than_asked(rng):
    figure = viz.feature_maps(model(outputs=12), rng.random((8, 8, 1)).astype(np.float32), most=3)
    assert len(images(figure)) == 1 + 3 + 3 + 3 + 2 + 1


def test_histograms_count_every_weight_and_every_gradient(rng):
    network = model()
    optimizer = optim.SGD(network, lr=0.1)
    x, y = rng.random((5, 8, 8, 1)).astype(np.float32), rng.integers(0, 3, 5)
    figure = viz.histograms(network)
    assert sum(text.get_text() == "no gradient yet" for axes in figure.axes for text in axes.texts) == 3
    before = network.state_dict()
    ops.cross_entropy(network.eval()(x), y).backward()
    optimizer.step()
    figure = viz.histograms(network, before=before)
    names = ["conv1.weight", "conv2.weight", "dense.weight"]
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == names
    parameters = dict(network.named_parameters())
    for name, upper, lower in zip(names, figure.axes[::2], figure.axes[1::2], strict=True):
        for axes, values in ((upper, parameters[name].data), (lower, parameters[name].grad)):
            counts, edges, _ = axes.patches[0].get_data()
            np.testing.assert_array_equal(counts, np.histogram(values, edges)[0])
            assert counts.sum() == values.size
        change = np.linalg.norm(parameters[name].data - before[name]) / np.linalg.norm(before[name])
        assert f"‖ΔW‖/‖W‖ {change:.1e}" in upper.texts[0].get_text()
    nothing_is_cut_off_or_overlaps(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.filters(nn.Dense(2, 2)), "filters: Dense has no convolution"),
        (lambda: viz.filters(model(), most=0), "filters: most is 0"),
        (lambda: viz.feature_maps(model(), np.zeros((8, 8))), "image has shape (8, 8), expected (H, W, C)"),
        (lambda: viz.histograms(nn.ReLU()), "histograms: the model has no weights"),
        (lambda: viz.histograms(model(), before={}), "histograms: before lacks conv1.weight"),
        (lambda: viz.histograms(model(), before={"conv1.weight": np.ones(3)}), "before has 3 values of conv1.weight"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_weights_that_are_not_finite_are_refused():
    network = model()
    network.conv1.weight.data = np.full(network.conv1.weight.shape, np.nan)
    with pytest.raises(ValueError, match="weights of conv1.weight are NaN or infinite"):
        viz.histograms(network)
