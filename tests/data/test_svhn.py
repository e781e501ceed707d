"""SVHN's files: MATLAB's format 5, as SciPy writes it, and damaged."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from scipy import io as scipy_io

from minidl import data
from minidl.data import svhn

from data_files import write

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), np.uint8)
LABELS = np.array([[1], [10], [3], [9], [10]], np.uint8)


def mat(compress=True, **arrays):
    buffer = io.BytesIO()
    scipy_io.savemat(buffer, arrays, do_compression=compress)
    return buffer.getvalue()


def both(content):
    return {"train_32x32.mat": content, "test_32x32.mat": content}


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int32, np.uint16])
def test_images_and_labels_are_those_that_scipy_reads(tmp_path, compress, dtype):
    content = mat(compress, X=IMAGES, y=LABELS.astype(dtype), note="text", cells=np.array(["a", 1], object))
    write(tmp_path / "svhn", both(content))
    dataset = data.load("svhn", tmp_path)
    theirs = scipy_io.loadmat(io.BytesIO(content))
    np.testing.assert_array_equal(dataset.train_x, np.moveaxis(theirs["X"], 3, 0))
    np.testing.assert_array_equal(dataset.train_y, theirs["y"].ravel() % 10)
    assert dataset.train_y.tolist() == [1, 0, 3, 9, 0]
    assert dataset.train_x.flags.c_contiguous
    assert dataset.train_x.dtype == np.uint8


def test_both_orders_of_bytes(tmp_path):
    def element(kind, content):
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    def matrix(name, kind, array, number):
        header = element(6, struct.pack(">II", kind, 0)) + element(5, struct.pack(f">{array.ndim}i", *array.shape))
        name = struct.pack(">HH4s", 1, 1, name)
        return element(14, header + name + element(number, array.tobytes(order="F")))

    content = b"MATLAB 5.0".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    content += matrix(b"X", 9, IMAGES, 2) + matrix(b"y", 11, LABELS.astype(">u2"), 4)
    np.testing.assert_array_equal(scipy_io.loadmat(io.BytesIO(content))["X"], IMAGES)  # we built it well
    write(tmp_path / "svhn", both(content))
    dataset = data.load("svhn", tmp_path)
    np.testing.assert_array_equal(dataset.train_x, np.moveaxis(IMAGES, 3, 0))
    assert dataset.train_y.tolist() == [1, 0, 3, 9, 0]


GOOD = mat(X=IMAGES, y=LABELS)
PLAIN = mat(False, X=IMAGES, y=LABELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a file of MATLAB's format 5"),
        (b"\x89HDF\r\n" * 40, r"is not a file of MATLAB's format 5; it begins with b'\\x89HDF"),
        (GOOD[:128], "holds no array X, only none"),
        (GOOD[:300], "is damaged: it is truncated"),
        (GOOD[:-3], "is damaged: it is truncated: 3 bytes are missing"),
        (PLAIN[:-3], "is damaged: it is truncated: 3 bytes are missing"),
        (GOOD[:200] + bytes(50) + GOOD[250:], "is damaged: "),
        (mat(y=LABELS), "holds no array X, only y"),
        (mat(X=IMAGES), "holds no array y, only X"),
        (
            mat(X=IMAGES.astype(np.uint16), y=LABELS),
            r"X in \S* is uint16 \(32, 32, 3, 5\), expected uint8 \(32, 32, 3, N",
        ),
        (mat(X=IMAGES[:31], y=LABELS), r"X in \S* is uint8 \(31, 32, 3, 5\)"),
        (mat(X=IMAGES, y=LABELS[:4]), r"holds 5 images, but 4 labels"),
        (mat(X=IMAGES, y=LABELS - 1), r"y in \S* holds other labels than 1 … 10"),
        (mat(X=IMAGES, y=LABELS / 2), r"y in \S* holds other labels than 1 … 10"),
        (mat(X=IMAGES, y=LABELS * np.nan), r"y in \S* holds other labels than 1 … 10"),
    ],
)
def test_damaged_and_foreign_files_are_clear_errors(tmp_path, content, message):
    write(tmp_path / "svhn", both(GOOD) | {"test_32x32.mat": content})
    with pytest.raises(ValueError, match=rf"test_32x32.mat.*{message}|{message}"):
        data.load("svhn", tmp_path)


def test_one_image_has_lost_its_last_axis(tmp_path):
    write(tmp_path / "svhn", both(GOOD) | {"test_32x32.mat": mat(X=IMAGES[..., 0], y=LABELS[:1])})
    np.testing.assert_array_equal(data.load("svhn", tmp_path).test_x[0], IMAGES[..., 0])


def test_a_compressed_array_without_its_checksum_is_damaged(tmp_path):
    packed = zlib.compress(PLAIN[128:])[:-4]
    with pytest.raises(ValueError, match="is damaged: compressed data end too early"):
        svhn.parse(PLAIN[:128] + struct.pack("<II", 15, len(packed)) + packed, tmp_path, len(PLAIN))


def test_no_more_is_decompressed_than_there_should_be(tmp_path):
    """Ten variables of a megabyte each, in 10 kB."""
    one = zlib.compress(struct.pack("<II", 1, 1_000_000) + bytes(1_000_000))
    content = GOOD + (struct.pack("<II", 15, len(one)) + one) * 10
    with pytest.raises(ValueError, match="it decompresses to more than there should be"):
        svhn.parse(content, tmp_path, 2_000_000)
