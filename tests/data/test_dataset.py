"""Datasets by name, the embedded digits, and IDX files good and bad."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from minidl import data
from minidl.data import idx


def test_digits_are_complete_balanced_and_in_range():
    digits = data.load("digits")
    assert digits.train_x.shape == (1442, 8, 8, 1)
    assert digits.test_x.shape == (355, 8, 8, 1)
    assert digits.train_x.dtype == np.float32
    assert digits.train_y.dtype == np.int64
    both = np.concatenate([digits.train_x, digits.test_x])
    assert (both.min(), both.max()) == (0, 1)
    np.testing.assert_array_equal(both * 16, np.round(both * 16))
    counts = np.bincount(np.concatenate([digits.train_y, digits.test_y]))
    np.testing.assert_array_equal(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])  # as published
    assert (np.bincount(digits.test_y) == counts // 5).all()
    assert digits.classes == tuple("0123456789")


def test_no_test_image_is_a_training_image_by_mistake():
    digits = data.load("digits")
    train = {x.tobytes() for x in digits.train_x}
    assert sum(x.tobytes() in train for x in digits.test_x) == 0


def test_digits_enlarged_keep_their_values_and_look_the_same():
    small, large = data.load("digits"), data.load("digits", size=28)
    assert large.train_x.shape == (1442, 28, 28, 1)
    assert large.train_x.dtype == np.float32
    assert (large.train_x.min(), large.train_x.max()) == (0, 1)
    np.testing.assert_array_equal(large.train_y, small.train_y)
    shrunk = large.train_x[:, :28, :28, 0].reshape(-1, 4, 7, 4, 7).mean(axis=(2, 4))
    blocks = small.train_x[..., 0].reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
    assert np.corrcoef(shrunk.ravel(), blocks.ravel())[0, 1] > 0.99


def test_each_call_returns_arrays_of_its_own():
    data.load("digits").train_x[...] = 7
    assert data.load("digits").train_x.max() == 1


@pytest.mark.parametrize("size", [7, 2.5, 0])
def test_digits_size_is_checked(size):
    with pytest.raises(ValueError, match="expected an integer of at least 8"):
        data.load("digits", size=size)


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(ValueError, match="name is 'cats', expected one of digits, mnist, fashion-mnist"):
        data.load("cats")
    with pytest.raises(ValueError, match="only 'digits' can be enlarged"):
        data.load("mnist", size=32)


# ---------------------------------------------------------------- IDX files


def encode(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, rng, compress=True):
    folder.mkdir(parents=True)
    for part, count in (("train", 5), ("t10k", 3)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = encode(array)
            path = folder / f"{part}-{kind}-ubyte"
            if compress:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)


@pytest.mark.parametrize("compress", [True, False])
def test_mnist_is_read_from_idx_files(tmp_path, rng, monkeypatch, compress):
    write_mnist(tmp_path / "mnist", rng, compress)
    dataset = data.load("mnist", tmp_path)
    assert dataset.train_x.shape == (5, 28, 28, 1)
    assert dataset.test_y.shape == (3,)
    assert dataset.train_x.max() <= 1
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    np.testing.assert_array_equal(data.load("mnist").train_x, dataset.train_x)


def test_missing_files_name_file_and_folder(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.gz is not in the folder .*mnist"):
        data.load("mnist", tmp_path)
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="set the environment variable MINIDL_DATA"):
        data.load("mnist")


GOOD = encode(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file of bytes; it begins with 89 50 4e 47"),
        (b"\0\0\x0d\x01" + GOOD[4:], "not an IDX file of bytes"),  # floats
        (GOOD[:6], "truncated: its header needs 12 bytes, there are 6"),
        (GOOD[:-1], r"2 × 3 = 6 bytes of data, there are 5"),
        (GOOD + b"\0", r"2 × 3 = 6 bytes of data, there are 7"),
        (b"\0\0\x08\x00", "truncated"),
    ],
)
def test_foreign_and_truncated_idx_files_are_clear_errors(content, message):
    with pytest.raises(ValueError, match=message):
        idx.parse(content, Path("file"))


def test_a_truncated_gzip_file_is_a_clear_error(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(ValueError, match=r"x\.gz is truncated or not a gzip file"):
        idx.read(tmp_path, "x")
    path.write_bytes(b"plain text")
    with pytest.raises(ValueError, match="not a gzip file"):
        idx.read(tmp_path, "x")
    (tmp_path / "x").write_bytes(GOOD)
    np.testing.assert_array_equal(idx.read(tmp_path, "x"), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "first_labels", "mean", "deviation"),
    [("mnist", [5, 0, 4, 1], 0.1307, 0.3081), ("fashion-mnist", [9, 0, 0, 3], 0.2860, 0.3530)],
)
def test_real_files_are_complete(name, first_labels, mean, deviation):
    dataset = data.load(name)
    assert dataset.train_x.shape == (60_000, 28, 28, 1)
    assert dataset.test_x.shape == (10_000, 28, 28, 1)
    assert dataset.train_y[:4].tolist() == first_labels
    assert np.bincount(dataset.test_y).size == len(dataset.classes) == 10
    assert dataset.train_x.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-4)
    assert dataset.train_x.std(dtype=np.float64) == pytest.approx(deviation, abs=1e-4)
