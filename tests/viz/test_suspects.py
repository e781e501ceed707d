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


@pytest.mark.parametrize("few", [1, 8, pytest.param(40, marks=pytest.mark.slow)])
def test_what_is_not_drawn_is_counted(few, tmp_path):
    figure = viz.suspects(found(55), X, most=few)
    assert figure.texts[1].get_text().startswith(f"drawn: {few} of 55 samples; above: the label")
    assert_no_overlap(figure, tmp_path / "suspects.png")
    groups = list(np.arange(60).reshape(20, 3))
    duplicates = data.Duplicates(60, groups, [False] * 20, [0.991] * 20)
    figure = viz.suspects(duplicates, X, most=few)
    drawn = max(1, few // 3)
    assert len(figure.axes) == drawn * 3
    assert figure.texts[1].get_text().startswith(f"drawn: {drawn} of 20 groups; a line joins")
    assert_no_overlap(figure, tmp_path / "duplicates.png")
    for all_of_them in (viz.suspects(found(55), X, most=55), viz.suspects(duplicates, X, most=60)):
        assert "drawn" not in all_of_them.texts[1].get_text()


def test_numbers_of_any_size_have_a_place_in_the_header(tmp_path):
    x = np.zeros((60_000, 1, 1, 1), np.uint8)
    groups = list(np.arange(60_000).reshape(30_000, 2))
    figure = viz.suspects(data.Duplicates(60_000, groups, [True] * 30_000, [1] * 30_000), x, most=1)
    assert figure.texts[1].get_text().startswith("drawn: 1 of 30,000 groups; ")
    assert_no_overlap(figure, tmp_path / "duplicates.png")
    duplicates = data.Duplicates(60_000, groups[:2], [True] * 2, [1] * 2)
    assert_no_overlap(viz.suspects(duplicates, x), tmp_path / "two.png")


def test_one_image_of_each_label_comes_first_where_labels_differ(tmp_path):
    labels = np.zeros(60, int)
    labels[[17, 19]], labels[18], labels[21] = 1, 2, 1
    groups = [np.arange(20), np.arange(20, 23), np.arange(23, 25)]
    duplicates = data.Duplicates(60, groups, [False] * 3, [0.991] * 3, labels)
    figure = viz.suspects(duplicates, X, ("cat", "dog", "bird"))
    numbers = [int(words(axes)[1].split()[0]) for axes in figure.axes]
    assert numbers == [0, 17, 18, 1, 2, 3, 4, 5, 20, 21, 22, 23, 24]
    assert [words(axes)[0] for axes in figure.axes[:4]] == ["cat", "dog", "bird", "cat"]
    assert words(figure.axes[0])[1] == "0   0.991"
    assert words(figure.axes[7])[1] == "5   12 more"
    for axes, index in zip(figure.axes, numbers, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), X[index])
    assert_no_overlap(figure, tmp_path / "duplicates.png")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["cat", "dog", "an extremely large bird"], ["cat", "dog", "an extremely…"]),
        ([0.25, 1.0, -2.5], ["0.25", "1.0", "-2.5"]),
        ([True, False, True], ["True", "False", "True"]),
        (["1", "x", 0], ["1", "x", "0"]),
        (["$x$", "$\\no$", "a_b^c"], ["$x$", "$\\no$", "a_b^c"]),
        ([1, 0, 7], ["q", "p", "7"]),
        ([-1, 255, 1], ["-1", "255", "q"]),
    ],
)
def test_labels_of_any_type_are_shown_as_they_are(labels, names, tmp_path):
    labels = np.array(labels + labels[:1] * 57)
    duplicates = data.Duplicates(60, [np.arange(3)], [False], [0.99], labels)
    figure = viz.suspects(duplicates, X, ("p", "q"))
    assert sorted(words(axes)[0] for axes in figure.axes) == sorted(names)
    assert not any(text.get_parse_math() for axes in figure.axes for text in axes.texts)
    assert_no_overlap(figure, tmp_path / "duplicates.png")


@pytest.mark.parametrize("classes", [np.array(["p", "q", "r"]), ["p", "q", "r"], {"p": 1, "q": 2, "r": 3}.keys()])
def test_classes_may_be_any_sequence(classes):
    assert [words(axes)[0] for axes in viz.suspects(found(3), X, classes).axes] == ["p", "q", "p"]
    assert words(viz.suspects(found(3, np.array(["x", "y", "z"])), X).axes[1])[0] == "y"
    duplicates = data.Duplicates(60, [np.arange(2)], [True], [1], np.array([2, 1] * 30))
    assert [words(axes)[0] for axes in viz.suspects(duplicates, X, classes).axes] == ["r", "q"]
    assert words(viz.suspects(found(3), X, np.array([10, 20, 30])).axes[1])[0] == "20"


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
