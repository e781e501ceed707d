"""Pictures of dropout: the draws, their mean and the evaluation of each layer, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import nn, viz

MAPS = np.random.default_rng(0).standard_normal((6, 8, 4)).astype(np.float32)


def shown(figure):
    return [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in figure.axes]


def parts(picture, height, width):
    """Return the channels of a picture of 2×2 of them."""
    return np.stack([picture[i : i + height, j : j + width] for i in (0, height + 1) for j in (0, width + 1)], axis=-1)


def test_each_row_shows_the_input_the_draws_their_mean_and_the_evaluation():
    seeded = nn.Dropout(0.5, generator=np.random.default_rng(3))
    figure = viz.dropout_masks(MAPS, {"none": nn.Dropout(0.0), "half": seeded}, draws=2, average=2000)
    pictures = [parts(picture, 6, 8) for picture in shown(figure)]
    assert len(pictures) == 2 * 5
    for picture in pictures[:5]:
        np.testing.assert_allclose(picture, MAPS, rtol=1e-6)
    given, first, second, mean, evaluation = pictures[5:]
    np.testing.assert_array_equal(given, MAPS)
    np.testing.assert_array_equal(evaluation, MAPS)
    for draw in (first, second):
        assert np.all((draw == 0) | (draw == 2 * MAPS))
    assert (first != second).any()
    np.testing.assert_allclose(mean, MAPS, atol=0.4)  # 4.5 deviations of the largest value's mean


def test_the_mean_is_that_of_the_number_asked_for():
    layer = nn.Dropout(0.5, generator=np.random.default_rng(0))
    for average in (1, 63, 65, 130):
        mean = parts(shown(viz.dropout_masks(MAPS, {"": layer}, average=average))[-2], 6, 8)
        counts = average * mean / (2 * MAPS)
        np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
        assert counts.max() <= average + 0.5


def test_pooling_layers_and_the_numbers_below():
    maps = abs(MAPS)
    figure = viz.dropout_masks(maps, {"pooling": nn.Sequential(nn.ReLU(), nn.PoolingDropout(2, 0.5))}, draws=1)
    assert [picture.shape for picture in shown(figure)] == [(13, 17), (7, 9), (7, 9), (7, 9)]
    told = [axes.texts[0].get_text() for axes in figure.axes]
    assert told[0] == f"{maps.mean():.2f} ± {maps.std():.2f}"


def test_the_layers_keep_their_modes():
    layers = {"training": nn.Dropout(0.5), "evaluation": nn.Sequential(nn.ReLU(), nn.Dropout(0.5)).eval()}
    viz.dropout_masks(MAPS, layers, draws=1, average=2)
    assert layers["training"].training
    assert not any(module.training for _, module in layers["evaluation"].named_modules())


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"image has shape \(6, 8\)"):
        viz.dropout_masks(MAPS[..., 0], {"": nn.Dropout(0.5)})
    with pytest.raises(ValueError, match="0 layers"):
        viz.dropout_masks(MAPS, {})
    with pytest.raises(ValueError, match="draws"):
        viz.dropout_masks(MAPS, {"": nn.Dropout(0.5)}, draws=0)
