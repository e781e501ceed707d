"""Folders of image files, one for each class."""

from __future__ import annotations

import contextlib
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest

from minidl import data

Image = pytest.importorskip("PIL.Image", reason="needs the extra 'images': pip install '.[images]'")


def picture(rng, size=(6, 5), channels=3):
    return rng.integers(0, 256, (*size, channels)[: 2 + (channels > 1)], np.uint8)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)


@pytest.fixture
def cats_and_dogs(tmp_path, rng):
    """Ten cats and five dogs, by path."""
    images = {}
    for name, count in (("dog", 5), ("cat", 10)):
        for i in range(count):
            images[f"{name}/{i:02}.png"] = picture(rng)
            save(tmp_path / name / f"{i:02}.png", images[f"{name}/{i:02}.png"])
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    return images


def test_classes_are_folders_and_images_are_bytes(tmp_path, cats_and_dogs):
    dataset = data.from_folder(tmp_path, test_fraction=0.4, seed=1)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train_x.shape == (9, 6, 5, 3)
    assert dataset.train_x.dtype == np.uint8
    assert np.bincount(dataset.test_y).tolist() == [4, 2]
    x, y = (np.concatenate(both) for both in ((dataset.train_x, dataset.test_x), (dataset.train_y, dataset.test_y)))
    expected = {pixels.tobytes(): path.startswith("dog") for path, pixels in cats_and_dogs.items()}
    assert {image.tobytes(): label for image, label in zip(x, y, strict=True)} == expected
    again = data.from_folder(tmp_path, test_fraction=0.4, seed=1)
    np.testing.assert_array_equal(again.train_x, dataset.train_x)


def test_folders_train_and_test_are_the_parts(tmp_path, rng):
    for part, count in (("train", 3), ("test", 2)):
        for name in "ab":
            for i in range(count):
                save(tmp_path / part / name / f"{i}.png", picture(rng))
    dataset = data.from_folder(tmp_path)
    assert (len(dataset.train_x), len(dataset.test_x)) == (6, 4)
    assert dataset.test_y.tolist() == [0, 0, 1, 1]
    save(tmp_path / "test" / "c" / "0.png", picture(rng))
    with pytest.raises(ValueError, match=r"test holds the classes \['a', 'b', 'c'\], \S*train \['a', 'b'\]"):
        data.from_folder(tmp_path)


def test_grey_stays_grey_and_colour_and_transparency_become_what_is_asked_for(tmp_path, rng):
    grey = [picture(rng, channels=1) for _ in range(4)]
    for i, pixels in enumerate(grey):
        save(tmp_path / "a" / f"{i}.png", pixels)
    dataset = data.from_folder(tmp_path)
    assert dataset.train_x.shape[1:] == (6, 5, 1)
    assert data.from_folder(tmp_path, channels=3).train_x.shape[1:] == (6, 5, 3)
    save(tmp_path / "a" / "0.png", np.full((6, 5, 4), (200, 100, 50, 0), np.uint8))
    both = data.from_folder(tmp_path)
    assert both.train_x.shape[1:] == (6, 5, 3)
    x = np.concatenate([both.train_x, both.test_x])
    assert sum((image == 0).all() for image in x) == 1, "what is transparent is black"
    assert data.from_folder(tmp_path, channels=1).train_x.shape[1:] == (6, 5, 1)


def test_images_are_scaled_on_request_only(tmp_path, cats_and_dogs, rng):
    save(tmp_path / "dog" / "99.png", np.full((12, 10, 3), 77, np.uint8))
    with pytest.raises(ValueError, match=r"dog/99.png has 12 × 10 pixels, but \S*cat/00.png has 6 × 5; give a size"):
        data.from_folder(tmp_path)
    dataset = data.from_folder(tmp_path, size=(8, 4))
    assert dataset.train_x.shape[1:] == (8, 4, 3)
    x = np.concatenate([dataset.train_x, dataset.test_x])
    assert sum((image == 77).all() for image in x) == 1
    assert data.from_folder(tmp_path, size=4).train_x.shape[1:] == (4, 4, 3)
    for size in (0, (1, 2, 3), (2.5, 2), 4.5, True, (4, True), "4"):
        with pytest.raises(ValueError, match="from_folder: size is"):
            data.from_folder(tmp_path, size=size)


RAMP = np.linspace(0, 65535, 30).reshape(6, 5)


def both_parts(folder, **settings):
    dataset = data.from_folder(folder, test_fraction=0.5, **settings)
    return np.concatenate([dataset.train_x, dataset.test_x])


def test_16_bits_of_grey_are_scaled_to_8(tmp_path):
    pixels = np.round(RAMP).astype(np.uint16)
    expected = np.round(pixels / 257)[None, ..., None]
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "0.png")
    Image.fromarray(pixels).save(tmp_path / "a" / "1.tif")
    Image.frombytes("I;16B", (5, 6), pixels.astype(">u2").tobytes()).save(tmp_path / "a" / "2.tif")
    (tmp_path / "a" / "3.pgm").write_bytes(b"P5\n5 6\n65535\n" + pixels.astype(">u2").tobytes())
    x = both_parts(tmp_path)
    assert x.shape == (4, 6, 5, 1)
    np.testing.assert_array_equal(x, np.repeat(expected, 4, 0))
    x = both_parts(tmp_path, channels=3)
    np.testing.assert_array_equal(x, np.broadcast_to(expected, (4, 6, 5, 3)))


def test_16_bits_of_grey_are_black_where_they_are_transparent(tmp_path):
    pixels = np.round(RAMP).astype(np.uint16)
    chunk = b"tRNS\xff\xff"  # 65,535 is transparent; older versions of Pillow can read this but not write it
    for i in range(2):
        save(tmp_path / "a" / f"{i}.png", pixels)
        head, rest = (tmp_path / "a" / f"{i}.png").read_bytes().split(b"IDAT")
        whole = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
        (tmp_path / "a" / f"{i}.png").write_bytes(head[:-4] + whole + head[-4:] + b"IDAT" + rest)
    expected = np.round(pixels / 257)
    expected[-1, -1] = 0
    np.testing.assert_array_equal(both_parts(tmp_path)[0, ..., 0], expected)


@pytest.mark.parametrize(("dtype", "message"), [(np.float32, "floats"), (np.int32, "integers of 32 bits")])
def test_pixels_of_which_nobody_knows_the_white_are_refused(tmp_path, dtype, message):
    (tmp_path / "a").mkdir()
    for i in range(2):
        Image.fromarray((RAMP / 65535).astype(dtype)).save(tmp_path / "a" / f"{i}.tif")
    with pytest.raises(ValueError, match=rf"from_folder: \S*a/0.tif holds {message}, expected 8 or 16 bits"):
        data.from_folder(tmp_path)


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_images_are_turned_as_their_orientation_says(tmp_path, ending):
    from PIL import ImageOps

    pixels = np.zeros((16, 8, 3), np.uint8)
    pixels[:8, :4] = 200
    settings = {"webp": {"lossless": True}, "jpg": {"quality": 95}}.get(ending, {})
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        folder = tmp_path / str(orientation) / "a"
        folder.mkdir(parents=True)
        for i in range(2):
            Image.fromarray(pixels).save(folder / f"{i}.{ending}", exif=exif, **settings)
        with Image.open(folder / f"0.{ending}") as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert expected.shape[:2] == ((16, 8) if orientation < 5 else (8, 16))
        np.testing.assert_array_equal(both_parts(folder.parent)[0], expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_orientation_that_cannot_be_read_leaves_the_image_as_it_is(tmp_path):
    for i in range(2):
        save(tmp_path / "a" / f"{i}.jpg", np.full((8, 16, 3), 128, np.uint8))
        content = (tmp_path / "a" / f"{i}.jpg").read_bytes()
        broken = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"
        segment = b"\xff\xe1" + (len(broken) + 2).to_bytes(2, "big") + broken
        (tmp_path / "a" / f"{i}.jpg").write_bytes(content[:2] + segment + content[2:])
    assert both_parts(tmp_path).shape == (2, 8, 16, 3)


def test_what_lies_beside_the_classes_or_inside_their_folders_is_left_out(tmp_path, cats_and_dogs, rng):
    save(tmp_path / "stray.png", picture(rng))
    save(tmp_path / "cat" / "inner" / "more.png", picture(rng))
    assert len(both_parts(tmp_path)) == len(cats_and_dogs)


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test", "val")])
def test_parts_with_other_names_get_a_hint(tmp_path, rng, parts):
    for part in parts:
        save(tmp_path / part / "x" / "0.png", picture(rng))
    with pytest.raises(ValueError, match=r"holds no images, .*; it holds folders: .* are called train and test, with"):
        data.from_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"plain text"])
def test_a_file_that_is_no_image_is_named(tmp_path, cats_and_dogs, content):
    (tmp_path / "dog" / "03.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"from_folder: \S*dog/03.png is no image that can be read"):
        data.from_folder(tmp_path)


def test_a_truncated_image_is_named(tmp_path, cats_and_dogs, rng):
    path = tmp_path / "dog" / "03.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"from_folder: \S*dog/03.png is damaged"):
        data.from_folder(tmp_path)


def test_an_image_that_would_fill_the_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    save(tmp_path / "a" / "0.png", np.zeros((4, 4), np.uint8))
    header = bytearray((tmp_path / "a" / "0.png").read_bytes())
    header[16:24] = struct.pack(">II", 12_000, 12_000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    (tmp_path / "a" / "0.png").write_bytes(header)
    with pytest.raises(ValueError, match=r"a/0.png is too large: .*144000000 pixels"):
        data.from_folder(tmp_path)
    header[16:24] = struct.pack(">II", 60_000, 60_000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    (tmp_path / "a" / "0.png").write_bytes(header)
    with pytest.raises(ValueError, match=r"a/0.png is too large"):
        data.from_folder(tmp_path)


def test_folders_that_hold_nothing_and_bad_settings_are_clear_errors(tmp_path, rng, monkeypatch):
    with pytest.raises(FileNotFoundError, match="from_folder: folder is .*nowhere, which is not a folder"):
        data.from_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no folders, expected one for each class"):
        data.from_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images, expected files that end with .bmp"):
        data.from_folder(tmp_path)
    for i in range(3):
        save(tmp_path / "empty" / f"{i}.png", picture(rng))
    with pytest.raises(ValueError, match="channels is 2, expected 1 or 3"):
        data.from_folder(tmp_path, channels=2)
    for fraction in (0, "0.2"):
        with pytest.raises(ValueError, match=f"from_folder: test_fraction is {fraction!r}, expected"):
            data.from_folder(tmp_path, test_fraction=fraction)
    monkeypatch.setattr("minidl.memory.available", lambda: 100)
    with pytest.raises(MemoryError, match="from_folder: 3 images would take 540 bytes"):
        data.from_folder(tmp_path)


def test_without_pillow_the_message_says_what_to_install(tmp_path, cats_and_dogs, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'Pillow is not installed: pip install "minidl\[images\]"'):
        data.from_folder(tmp_path)


def test_a_chunk_that_claims_to_be_large_takes_no_memory(tmp_path, rng):
    """Pillow asks for as many bytes as a chunk's header says; no more are made room for than the file holds."""
    path = tmp_path / "images" / "a" / "claims.png"
    save(path, picture(rng))
    content = path.read_bytes()
    place = content.index(b"IDAT") - 4
    path.write_bytes(content[:place] + struct.pack(">I", 100 << 20) + content[place + 4 :])
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            data.from_folder(tmp_path / "images")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 << 20
