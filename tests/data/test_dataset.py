"""Datasets by name, the embedded digits, and IDX files good and bad."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from minidl import data
from minidl.data import idx

from data_files import encode_idx, mnist_files, write


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


def test_digits_size_may_be_numpys():
    assert data.load("digits", size=np.int64(28)).train_x.shape == (1442, 28, 28, 1)


@pytest.mark.parametrize("size", [7, 2.5, 0])
def test_digits_size_is_checked(size):
    with pytest.raises(ValueError, match="expected an integer of at least 8"):
        data.load("digits", size=size)


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(ValueError, match="name is 'cats', expected one of digits, mnist, fashion-mnist"):
        data.load("cats")
    with pytest.raises(ValueError, match="size is 32, but only 'digits' can be enlarged, not 'mnist'"):
        data.load("mnist", size=32)


# ---------------------------------------------------------------- arrays

X, Y = np.zeros((6, 4, 4, 1), np.uint8), np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"train_y": Y[:5]}, ValueError, "Dataset: train_x holds 6 images, but train_y 5 labels"),
        ({"test_x": X[:2]}, ValueError, "Dataset: test_x holds 2 images, but test_y 6 labels"),
        ({"test_y": Y + 1}, ValueError, "Dataset: test_y: label 3 at 2, expected 0 … 2"),
        ({"train_y": Y - 1}, ValueError, "Dataset: train_y: label -1 at 0, expected 0 … 2"),
        (
            {"train_y": Y / 1},
            TypeError,
            r"Dataset: train_y has dtype float64 and shape \(6,\), expected \(N,\) integers",
        ),
        ({"train_y": np.eye(6, dtype=int)}, TypeError, r"Dataset: train_y has dtype int64 and shape \(6, 6\)"),
        ({"train_x": X.astype(int)}, TypeError, "Dataset: train_x has dtype int64, expected uint8"),
        ({"train_x": X[:0]}, ValueError, r"Dataset: train_x has shape \(0, 4, 4, 1\)"),
        ({"train_x": np.float32(X) * np.nan}, ValueError, r"train_x contains NaN .*, the first at \[0, 0, 0, 0\]"),
        (
            {"test_x": X[:, :3]},
            ValueError,
            r"test_x holds uint8 images of the shape \(3, 4, 1\), train_x uint8 of \(4, 4",
        ),
        ({"test_x": np.float32(X)}, ValueError, "test_x holds float32 images"),
        (
            {"train_x": np.float32(X) + 255},
            ValueError,
            r"Dataset: train_x holds floats that reach from 255 to 255, expected \[0, 1\]: divide by 255$",
        ),
        (
            {"test_x": np.float32(X) - 0.5},
            ValueError,
            r"Dataset: test_x holds floats that reach from -0.5 to -0.5, expected \[0, 1\]$",
        ),
    ],
)
def test_a_dataset_of_parts_that_do_not_fit_is_a_clear_error(changed, error, message):
    good = {"train_x": X, "train_y": Y, "test_x": X, "test_y": Y, "classes": ("a", "b", "c")}
    data.Dataset(**good)
    with pytest.raises(error, match=message):
        data.Dataset(**good | changed)


def test_floats_may_leave_0_1_by_a_rounding_error():
    x = np.repeat([-1e-7, 1 + 1e-7], 3)[:, None, None] + np.zeros((6, 4, 4))
    assert data.from_arrays(x, Y, x, Y).train_x.min() < 0
    with pytest.raises(ValueError, match="reach from -1.01e-05 to"):
        data.from_arrays(x - 1e-5, Y, x, Y)
    with pytest.raises(ValueError, match="reach from 9.9e-06 to 1.00001, expected"):
        data.from_arrays(x + 1e-5, Y, x, Y)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (X, ["a", "b", "c"] * 2),
            TypeError,
            r"from_arrays: train_y has dtype <U1 .*; of names, np.unique\(names, ret",
        ),
        ((X, Y, X, ["a", "b", "c"] * 2), TypeError, "from_arrays: test_y has dtype <U1 .* the class indices; of names"),
        ((X, 3), TypeError, r"from_arrays: train_y has dtype int64 and shape \(\), expected \(N,\) integers, the .*s$"),
        ((3, Y), ValueError, r"from_arrays: train_x has shape \(\), expected \(N, height, width, channels\)"),
        ((X, Y, 3, Y), ValueError, r"from_arrays: test_x has shape \(\), expected"),
        (
            (X, Y * 500),
            ValueError,
            "from_arrays: the largest label is 1000, but there are 6 images; expected the indices of classes, or",
        ),
    ],
)
def test_arrays_that_are_no_images_or_labels_are_clear_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        data.from_arrays(*arguments)


def test_large_labels_are_fine_where_there_are_classes_or_images_for_them():
    assert len(data.from_arrays(X, Y * 499, X, Y).classes) == 999
    assert len(data.from_arrays(X, Y * 500, X, Y, classes=range(1001)).classes) == 1001
    many = np.zeros((200, 2, 2), np.uint8)
    assert len(data.from_arrays(many, np.arange(200) * 10).classes) == 1991


def test_arrays_become_a_dataset(rng):
    x, y = rng.integers(0, 256, (100, 5, 5), np.uint8), np.repeat([0, 1], 50)
    x[:, 0, 0] = np.arange(100)
    made = data.from_arrays(x, y, test_fraction=0.3, seed=2)
    assert made.train_x.shape == (70, 5, 5, 1)
    assert np.bincount(made.test_y).tolist() == [15, 15]
    assert made.classes == ("0", "1")
    both = np.concatenate([made.train_x, made.test_x])[:, 0, 0, 0]
    assert sorted(both) == list(range(100))
    np.testing.assert_array_equal(made.test_y, made.test_x[:, 0, 0, 0] >= 50)
    given = data.from_arrays(x, y, x[:9], np.full(9, 2), classes=["a", "b", "c"])
    assert len(given.train_x) == 100
    assert given.classes == ("a", "b", "c")
    with pytest.raises(ValueError, match="test_x and test_y belong together"):
        data.from_arrays(x, y, x)
    for fraction in (1, "0.2"):
        with pytest.raises(ValueError, match=f"from_arrays: test_fraction is {fraction!r}, expected"):
            data.from_arrays(x, y, test_fraction=fraction)
    with pytest.raises(ValueError, match="train_x holds 100 images, but train_y 99 labels"):
        data.from_arrays(x, y[1:])


def test_floats_in_0_1_on_request(rng):
    x = rng.integers(0, 256, (6, 4, 4, 3), np.uint8)
    dataset = data.Dataset(x, Y, x, Y, ("a", "b", "c"))
    floats = dataset.astype(np.float32)
    assert floats.train_x.dtype == floats.test_x.dtype == np.float32
    np.testing.assert_array_equal(floats.train_x, x.astype(np.float32) / 255)
    assert floats.astype(np.float64).train_x.max() <= 1
    assert dataset.astype(np.uint8) is dataset
    for wrong in (np.uint8, int):
        with pytest.raises(TypeError, match="Dataset.astype: dtype is .*, expected a floating-point type"):
            floats.astype(wrong)


def test_floats_that_would_not_fit_are_refused_before_any_is_made(monkeypatch):
    monkeypatch.setattr("minidl.memory.available", lambda: 1000)
    dataset = data.Dataset(X, Y, X, Y, ("a", "b", "c"))
    with pytest.raises(MemoryError, match="Dataset.astype: images as float64 would take 1.5 KiB"):
        dataset.astype(np.float64)
    dataset.astype(np.float32)


def test_fractions_of_the_training_images_are_stratified_seeded_and_nested():
    full = data.load("digits")
    half, quarter, other = (data.load("digits", fraction=f, seed=s) for f, s in ((1 / 2, 3), (1 / 4, 3), (1 / 2, 4)))
    assert len(half.train_x) == 721
    assert len(half.test_x) == len(full.test_x)
    counts = np.bincount(full.train_y)
    assert np.abs(np.bincount(half.train_y) - counts / 2).max() <= 1
    assert np.abs(np.bincount(quarter.train_y) - counts / 4).max() <= 1
    images = [{x.tobytes() for x in part.train_x} for part in (half, quarter, other)]
    assert images[1] < images[0] != images[2]
    for fraction in (0, "0.5"):
        with pytest.raises(ValueError, match=f"data.load: fraction is {fraction!r}, expected a number above 0"):
            data.load("digits", fraction=fraction)
        with pytest.raises(ValueError, match=f"Dataset.subset: fraction is {fraction!r}, expected a number above 0"):
            full.subset(fraction)


@pytest.mark.parametrize("dtype", [int, bool, "U1"])
def test_a_dtype_that_images_cannot_have_is_refused(dtype):
    with pytest.raises(TypeError, match="data.load: dtype is .*, expected uint8 or a floating-point type"):
        data.load("digits", dtype=dtype)


# ---------------------------------------------------------------- IDX files


@pytest.mark.parametrize("compress", [True, False])
def test_mnist_is_read_from_idx_files_as_bytes(tmp_path, monkeypatch, compress):
    files = mnist_files()
    plain = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in files.items()}
    write(tmp_path / "mnist", files if compress else plain)
    dataset = data.load("mnist", tmp_path)
    assert dataset.train_x.shape == (5, 28, 28, 1)
    assert dataset.train_x.dtype == np.uint8
    assert dataset.train_x.tobytes() == plain["train-images-idx3-ubyte"][16:]
    assert dataset.test_y.tolist() == [0, 1, 2]
    assert dataset.test_y.dtype == np.int64
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    np.testing.assert_array_equal(data.load("mnist").train_x, dataset.train_x)
    floats = data.load("mnist", dtype=np.float32).train_x
    np.testing.assert_array_equal(floats, dataset.train_x.astype(np.float32) / 255)


def test_missing_files_name_file_and_folder_and_what_is_there(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError,
        match=r"train-images-idx3-ubyte or train-images-idx3-ubyte.gz; .* not in the "
        r"folder .*mnist, which does not exist",
    ):
        data.load("mnist", tmp_path)
    write(tmp_path / "mnist", mnist_files())
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    message = (
        r"load: t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz is not in the folder .*mnist, which holds t10k-im"
    )
    with pytest.raises(FileNotFoundError, match=message):
        data.load("mnist", tmp_path)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=message):
        data.load("mnist")
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="environment variable MINIDL_DATA is .*nowhere, which is not a folder"):
        data.load("mnist")


def test_images_without_labels_and_images_of_another_size_are_clear_errors(tmp_path):
    files = mnist_files()
    write(tmp_path / "mnist", files | {"train-labels-idx1-ubyte.gz": files["t10k-labels-idx1-ubyte.gz"]})
    with pytest.raises(ValueError, match=r"train-images\S+ holds 5 images, but \S+train-labels-idx1-ubyte.gz 3 labels"):
        data.load("mnist", tmp_path)
    for name, array, message in (
        (
            "t10k-images-idx3-ubyte.gz",
            np.ones((3, 27, 28)),
            "holds 3 × 27 × 28 bytes, expected 10000 × 28 × 28 at most",
        ),
        ("t10k-images-idx3-ubyte.gz", np.ones((3, 784)), "holds 3 × 784 bytes"),
        ("t10k-labels-idx1-ubyte.gz", np.array([0, 10, 2]), "t10k-labels-idx1-ubyte.gz: label 10 at 1, expected 0 … 9"),
    ):
        write(tmp_path / "mnist", files | {name: gzip.compress(encode_idx(array.astype(np.uint8)))})
        with pytest.raises(ValueError, match=message):
            data.load("mnist", tmp_path)


GOOD = encode_idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


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
        (b"\0\0\x08\xc8" + b"\0\0\0\1" * 200 + b"\7", "says that it has 200 dimensions, expected 8 at most"),
        (b"\0\0\x08\x02" + b"\0\0\0\0" + b"\xff" * 4, "holds no data: 0 × 4294967295"),
    ],
)
def test_foreign_and_truncated_idx_files_are_clear_errors(content, message):
    with pytest.raises(ValueError, match=message):
        idx.parse(content, Path("file"))


def test_a_truncated_gzip_file_is_a_clear_error(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(ValueError, match=r"x\.gz is truncated or not a gzip file"):
        idx.read(path, (2, 3))
    path.write_bytes(b"plain text")
    with pytest.raises(ValueError, match="not a gzip file"):
        idx.read(path, (2, 3))
    path.write_bytes(gzip.compress(GOOD))
    np.testing.assert_array_equal(idx.read(path, (4, 3)), [[0, 1, 2], [3, 4, 5]])
