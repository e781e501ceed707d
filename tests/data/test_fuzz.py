"""Whatever the bytes: data, or an error that names the file; never a crash, a hang or a huge allocation."""

from __future__ import annotations

import dataclasses
import gzip
import io
import lzma
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import io as scipy_io

from minidl.data import cifar, compressed, idx, sources, svhn

from data_files import cifar_batch, encode_idx, tar_gz

SMALL = dataclasses.replace(sources.CIFAR_10, train=10, test=2)
RANDOM = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
BATCH = cifar_batch(RANDOM, np.array([[1], [2]]))
LIMIT = 20_000


def mat(compress):
    buffer = io.BytesIO()
    arrays = {"X": RANDOM.transpose(1, 2, 3, 0), "y": np.array([[1.0], [10.0]]), "t": "text"}
    scipy_io.savemat(buffer, arrays, do_compression=compress)
    return buffer.getvalue()


def read_idx(path):
    return idx.read(path, (4, 28, 28))


def read_cifar(path):
    return cifar.parse(compressed.read(path, LIMIT), SMALL, path)


def read_archive(path):
    return cifar.load(SMALL, {SMALL.archive: path})


def read_svhn(path):
    return svhn.load(sources.SVHN, {"train": path, "test": path})


IDX = encode_idx(RANDOM[..., 0].repeat(2, axis=0)[:, :28, :28].copy())
FORMS = {  # name of a file: its reader and a good one
    "images": (read_idx, IDX),
    "images.gz": (read_idx, gzip.compress(IDX)),
    "batch.bin": (read_cifar, BATCH),
    "batch.bin.xz": (read_cifar, lzma.compress(BATCH, preset=0)),
    "batches.tar.gz": (read_archive, tar_gz(dict.fromkeys(SMALL.parts, BATCH))),
    "plain.mat": (read_svhn, mat(False)),
    "compressed.mat": (read_svhn, mat(True)),
}


@pytest.fixture(scope="module", params=FORMS)
def form(request, tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / request.param


@st.composite
def damage(draw):
    """Return a function that changes bytes: at some places, cuts, doubles, or fills a stretch."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["set", "cut", "insert", "drop", "number"]),
                st.floats(0, 1) | st.floats(0, 0.02),
                st.binary(min_size=1, max_size=9),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def apply(content):
        content = bytearray(content)
        for kind, where, value in edits:
            at = int(where * len(content))
            if kind == "set":
                content[at : at + len(value)] = value
            elif kind == "cut":
                del content[at:]
            elif kind == "insert":
                content[at:at] = value
            elif kind == "drop":
                del content[at : at + len(value)]
            else:  # a size, as large as can be
                content[at : at + 4] = b"\xff\xff\xff\x7f"
        return bytes(content)

    return apply


def data_or_clear_error(path, reader):
    """Read the file; return whether there was data."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        reader(path)
        message = None
    except ValueError as error:
        message = str(error)
    finally:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert message is None or str(path) in message, "names the file"
    assert time.perf_counter() - start < 5
    assert taken < 3_000_000 + 20 * path.stat().st_size
    return message is None


def test_the_good_ones_are_read(form):
    path, (reader, good) = form, FORMS[form.name]
    path.write_bytes(good)
    assert data_or_clear_error(path, reader)


@given(content=st.binary(max_size=400))
def test_any_bytes(form, content):
    path, (reader, _) = form, FORMS[form.name]
    path.write_bytes(content)
    assert not data_or_clear_error(path, reader) or reader is read_idx


@given(change=damage())
def test_damaged_files(form, change):
    path, (reader, good) = form, FORMS[form.name]
    path.write_bytes(change(good))
    data_or_clear_error(path, reader)


@given(change=damage())
def test_damage_below_the_compression(form, change):
    """What the parsers behind the decompression see: a right checksum around wrong content."""
    path, (reader, good) = form, FORMS[form.name]
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(change(gzip.decompress(good)), 1))
    elif path.suffix == ".xz":
        path.write_bytes(lzma.compress(change(BATCH), preset=0))
    elif path.name == "compressed.mat":
        plain = mat(False)
        inner = zlib.compress(change(plain[128:]))
        path.write_bytes(plain[:128] + struct.pack("<II", 15, len(inner)) + inner)
    else:
        path.write_bytes(change(good))
    data_or_clear_error(path, reader)


# ---------------------------------------------------------------- little files that would unfold to much

MUCH = 50_000_000


def bomb(name):
    zeros = bytes(MUCH)
    if name == "gz":
        return "x.gz", read_idx, gzip.compress(b"\0\0\x08\x03\0\0\xff\xff\0\0\0\x1c\0\0\0\x1c" + zeros)
    if name == "xz":
        return "x.bin.xz", read_cifar, lzma.compress(zeros, preset=0)
    if name == "tar":
        return "x.tar.gz", read_archive, tar_gz({"data_batch_1.bin": zeros})
    if name == "tar, a size beyond its end":
        header = bytearray(gzip.decompress(tar_gz({"data_batch_1.bin": b""}))[:512])
        header[124:136] = b"77777777777\0"
        return "x.tar.gz", read_archive, gzip.compress(bytes(header))
    return (
        "x.mat",
        read_tight_svhn,
        mat(False)[:128] + (lambda z: struct.pack("<II", 15, len(z)) + z)(zlib.compress(zeros)),
    )


def read_tight_svhn(path):
    return svhn.parse(path.read_bytes(), path, LIMIT)


@pytest.mark.parametrize("name", ["gz", "xz", "tar", "tar, a size beyond its end", "mat"])
def test_no_more_is_taken_than_there_should_be(tmp_path, name):
    file, reader, content = bomb(name)
    path = tmp_path / file
    path.write_bytes(content)
    assert len(content) < MUCH / 200
    assert not data_or_clear_error(path, reader)


def test_an_xz_file_that_asks_for_a_dictionary_of_a_gigabyte_is_refused(tmp_path):
    path = tmp_path / "x.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    content = bytearray(lzma.compress(BATCH, filters=filters))
    assert content[16] == 16, "the code of 2^20 in the block's header, which ends with a checksum"
    content[16] = 36  # 2^30
    header = slice(12, 12 + 4 * (content[12] + 1))
    content[header.stop - 4 : header.stop] = struct.pack("<I", zlib.crc32(content[header][:-4]))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="x.xz is truncated or not an xz file: Memory usage limit"):
        compressed.read(path, LIMIT)


def test_a_file_far_too_large_is_not_even_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no byte of it is on the disk
    with pytest.raises(ValueError, match=r"huge has 1.*TiB|huge has 1\.02e\+03 GiB|huge has"):
        compressed.read(Path(path), LIMIT)
