"""The contact sheets of suspects: which images they show, with which words."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import data, viz
from minidl.training import Suspects
from minidl.viz.style import OTHER

RNG = np.random.default_rng(0)
X = RNG.random((60, 6, 6, 3))


def found(number, classes=()):
    losses = np.linspace(9, 1, number)
    predictions = np.arange(number) % 3
    return Suspects(60, np.arange(number) + 2, losses, np.arange(number) % 2, predictions, losses / 10, 0.1, classes)


def words(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def assert_no_overlap(figure, path):
    assert viz.save(figure, path).stat().st_size > 5_000
    renderer = figure.canvas.get_renderer()
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text()] + figure.texts
    boxes = [text.get_window_extent(renderer) for text in texts]
    pictures = [axes.get_window_extent() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i] + pictures), texts[i]


@pytest.mark.parametrize("number", [1, 2, 5, 8, 9, 40, 55])
def test_suspects_are_shown_with_label_class_and_loss(number, tmp_path):
    suspects = found(number, ("a cat", "a dog", "an extremely large bird"))
    figure = viz.suspects(suspects, X)
    assert len(figure.axes) == min(number, 40)
    for i, axes in enumerate(figure.axes):
        np.testing.assert_array_equal(axes.images[0].get_array(), X[i + 2])
        label, prediction = ("a cat", "a dog")[i % 2], ("a cat", "a dog", "an extremely…")[i % 3]
        loss = suspects.losses[i]
        assert words(axes) == [label, f"→ {prediction} {loss / 10:.0%}", f"{i + 2}   {loss:.3g}"]
        assert (axes.texts[1].get_color() == OTHER) == (i % 2 != i % 3)
    assert figure.texts[0].get_text() == f"{number} of 60 samples with the largest losses"
    assert_no_overlap(figure, tmp_path / "suspects.png")


def test_gray_images_of_bytes_and_numbers_for_classes():
    x = RNG.integers(0, 256, (60, 5, 4, 1), dtype=np.uint8)
    figure = viz.suspects(found(3), x, title="A title")
    assert figure.texts[0].get_text() == "A title"
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), x[2, ..., 0])
    assert image.get_clim() == (0, 255)
    assert words(figure.axes[1])[:2] == ["1", "→ 1 50%"]
    names = viz.suspects(found(3, ("x", "y", "z")), x, ("p", "q", "r"))
    assert words(names.axes[1])[0] == "q", "those given come first"


def test_groups_of_duplicates_stay_together_and_conflicts_come_first(tmp_path):
    groups = [np.arange(3), np.arange(3, 9), np.arange(9, 11), np.arange(11, 23)]
    labels = np.zeros(60, int)
    labels[10] = 1
    duplicates = data.Duplicates(60, groups, [True, False, False, True], [1, 0.95, 0.9912, 1], labels)
    figure = viz.suspects(duplicates, X, ("cat", "dog"))
    shown = [axes.images[0].get_array() for axes in figure.axes]
    order = [9, 10, 0, 1, 2, *range(3, 9), *range(11, 19)]
    assert len(shown) == len(order)
    for image, index in zip(shown, order, strict=True):
        np.testing.assert_array_equal(image, X[index])
    assert [words(axes) for axes in figure.axes[:3]] == [["cat", "9   0.991"], ["dog", "10"], ["cat", "0   equal"]]
    assert [axes.texts[0].get_color() == OTHER for axes in figure.axes[:3]] == [True, True, False]
    assert words(figure.axes[-1]) == ["cat", "18   4 more"]
    joined = [len(axes.lines) for axes in figure.axes]
    assert joined == [1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, *[1] * 7, 0]
    heights = [round(axes.get_position().y0, 6) for axes in figure.axes]
    assert len(set(heights[:5])) == len(set(heights[5:11])) == len(set(heights[11:])) == 1
    assert heights[0] > heights[5] > heights[11]
    assert_no_overlap(figure, tmp_path / "duplicates.png")
    few = viz.suspects(duplicates, X, most=5)
    assert len(few.axes) == 5, "no group in part"
    assert len(viz.suspects(duplicates, X, most=1).axes) == 2, "but at least one"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((found(0), X), "suspects: nothing was found, so there is nothing to draw"),
        ((data.Duplicates(60, [], [], []), X), "suspects: nothing was found"),
        ((found(3), X[:5]), r"x has shape \(5, 6, 6, 3\), expected the 60 images that were searched"),
        ((found(3), X[..., :2]), r"x has shape \(60, 6, 6, 2\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        viz.suspects(*arguments)
    with pytest.raises(ValueError, match="suspects: most is 0, expected a positive integer"):
        viz.suspects(found(3), X, most=0)
