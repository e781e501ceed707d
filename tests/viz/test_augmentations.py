"""Contact sheets: what they show, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import viz
from minidl.data import SampleGenerator, augment
from minidl.viz.augmentations import examples, show

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
LABELS = np.arange(12) % 3


def shown(figure):
    return [image.get_array() for image in figure.axes[0].images]


def words(figure):
    return [text.get_text() for text in figure.texts]


def test_a_row_of_originals_and_one_for_each_strength():
    change = augment.compose(augment.rotate(30), augment.noise(0.3))
    figure = viz.augmentation(PIXELS, change, seed=4)
    images = shown(figure)
    assert len(images) == 4 * 10
    np.testing.assert_allclose(images[:10], PIXELS[:10] / 255, atol=1e-6)
    x = PIXELS[:10] / np.float32(255)
    for row, strength in ((1, 1 / 3), (2, 2 / 3), (3, 1)):
        expected = change.times(strength)(x, SampleGenerator(4, 0, range(10)))
        np.testing.assert_allclose(images[10 * row : 10 * row + 10], expected, atol=1e-6)
    assert "100% of the strength" in words(figure)
    assert any("rotate(degrees=10)" in text for text in words(figure))


def test_any_other_callable_is_shown_as_it_is():
    figure = viz.augmentation(PIXELS[..., :1], lambda x, generator: 1 - x)
    images = shown(figure)
    assert len(images) == 20
    widths = {
        round(image.get_window_extent().width / image.get_window_extent().height, 3) for image in figure.axes[0].images
    }
    assert widths == {1}
    np.testing.assert_allclose(images[10], 1 - images[0], atol=1e-6)
    assert images[0].shape == (8, 8)


def test_the_overview_has_a_row_for_everything_that_there_is():
    changes = examples(3)
    assert changes.keys() == augment.CHANGES.keys() | augment.BLENDS.keys()
    figure = viz.augmentations(PIXELS, changes, LABELS)
    assert len(shown(figure)) == 9 * len(changes)
    assert set(changes) <= set(words(figure))
    for row, name in enumerate(changes):
        images = shown(figure)[9 * row : 9 * row + 9]
        np.testing.assert_allclose(images[0], PIXELS[row % 12] / 255, atol=1e-6)
        assert any((image != images[0]).any() for image in images[1:]), f"{name} is to be seen"


def test_no_words_and_images_overlap():
    figure = viz.augmentations(PIXELS, examples(3), LABELS)
    figure.draw_without_rendering()
    boxes = [image.get_window_extent() for image in figure.axes[0].images]
    texts = [text.get_window_extent() for text in figure.texts]
    for i, text in enumerate(texts):
        assert not any(text.overlaps(box) for box in boxes), words(figure)[i]
        assert not any(text.overlaps(other) for other in texts[:i]), words(figure)[i]
        assert figure.bbox.x0 <= text.x0
        assert text.x1 <= figure.bbox.x1


def test_show_writes_a_picture(tmp_path):
    for text in ("crop(2), flip", "all"):
        path = show("digits", text, tmp_path / "sheet.png")
        assert path.read_bytes()[:4] == b"\x89PNG"
        path.unlink()
    with pytest.raises(ValueError, match="there is no 'turn'"):
        show("digits", "turn", tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_show_refuses_what_it_cannot_write_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setitem(show.__globals__, "load", None)
    for name in ("sheet", "sheet.txt"):
        with pytest.raises(ValueError, match=rf"data show: out is '\S*{name}', expected an ending that is one of"):
            show("digits", "all", tmp_path / name)
    with pytest.raises(ValueError, match="data show: seed is -1, expected a non-negative integer"):
        show("digits", "all", tmp_path / "sheet.png", seed=-1)


def test_what_cannot_be_shown_is_a_clear_error():
    with pytest.raises(ValueError, match=r"augmentations: x has shape \(12, 8, 8, 2\)"):
        viz.augmentation(PIXELS[..., :2], augment.flip())
    with pytest.raises(ValueError, match="is a blend and needs y"):
        viz.augmentations(PIXELS, {"mixup": augment.mixup(3)})
