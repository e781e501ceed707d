"""CIFAR's binary version: batches plain and compressed, the archive, and files that are damaged."""

from __future__ import annotations

import dataclasses
import lzma
import tarfile

import numpy as np
import pytest

from minidl import data
from minidl.data import compressed, places, sources

from data_files import cifar_batch, tar_gz, write


def forms(cifar):
    """Return the same data set as files in each of the forms that it comes in."""
    return {
        "plain": cifar.files,
        "xz": {f"{name}.xz": lzma.compress(content) for name, content in cifar.files.items()},
        "archive": {"cifar-10-binary.tar.gz": tar_gz({"readme.html": b"hello"} | cifar.files)},
        "archive in another order": {"cifar-10-binary.tar.gz": tar_gz(dict(reversed(cifar.files.items())), "")},
    }


@pytest.mark.parametrize("form", ["plain", "xz", "archive", "archive in another order"])
def test_all_forms_give_the_same_images_in_the_same_order(small_cifar, tmp_path, form):
    write(tmp_path / "cifar10", forms(small_cifar)[form])
    dataset = data.load("cifar10", tmp_path)
    np.testing.assert_array_equal(dataset.train_x, small_cifar.images[:10])
    np.testing.assert_array_equal(dataset.train_y, small_cifar.labels[:10])
    np.testing.assert_array_equal(dataset.test_x, small_cifar.images[10:])
    np.testing.assert_array_equal(dataset.test_y, small_cifar.labels[10:])
    assert dataset.train_x.dtype == np.uint8
    assert dataset.classes[0] == "airplane"


def test_an_archive_that_was_unpacked_is_found(small_cifar, tmp_path):
    write(tmp_path / "cifar10" / "cifar-10-batches-bin", small_cifar.files)
    write(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": b"not looked at any more"})
    np.testing.assert_array_equal(data.load("cifar10", tmp_path).train_x, small_cifar.images[:10])


def test_files_of_other_kinds_are_named_when_the_right_ones_are_missing(small_cifar, tmp_path):
    write(tmp_path / "cifar10", {"cifar-10-python.tar.gz": b"", "notes": b""})
    with pytest.raises(
        FileNotFoundError,
        match=r"data_batch_1.bin or data_batch_1.bin.xz; .* and 4 more are not in the folder \S*cifar10, nor is "
        r"cifar-10-binary.tar.gz, which holds them, which holds cifar-10-python.tar.gz, notes$",
    ):
        data.load("cifar10", tmp_path)


def cut(content, count):
    return content[:-count]


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("plain", lambda c: c[:-1], r"data_batch_2.bin is truncated or no batch of cifar10: it has 6,145 bytes"),
        ("plain", lambda c: c[:-3073], r"data_batch_2.bin holds 1 images, expected 2"),
        ("plain", lambda c: c + c, r"data_batch_2.bin holds more than 6,146 bytes"),
        ("plain", lambda c: b"", r"data_batch_2.bin is truncated"),
        ("plain", lambda c: b"\x0a" + c[1:], r"data_batch_2.bin: label 10 at 0, expected 0 … 9"),
        ("xz", lambda c: c[:-20], r"data_batch_2.bin.xz is truncated or not an xz file"),
        ("xz", lambda c: c[:100] + bytes(60) + c[160:], r"data_batch_2.bin.xz is truncated or not an xz file"),
        ("xz", lambda c: b"no xz", r"data_batch_2.bin.xz is truncated or not an xz file"),
        ("xz", lambda c: b"", r"data_batch_2.bin.xz is truncated or not an xz file"),
        ("xz", lambda c: c + lzma.compress(bytes(3073)), r"data_batch_2.bin.xz holds more than 6,146 bytes"),
        ("xz", lambda c: lzma.compress(b"") * 101, r"data_batch_2.bin.xz consists of more than 100 xz streams"),
    ],
)
def test_a_damaged_batch_is_a_clear_error(small_cifar, tmp_path, form, change, message):
    files = dict(forms(small_cifar)[form])
    name = next(name for name in files if "batch_2" in name)
    write(tmp_path / "cifar10", files | {name: change(files[name])})
    with pytest.raises(ValueError, match=message):
        data.load("cifar10", tmp_path)


def test_streams_of_xz_may_follow_each_other_with_zeros_in_between(tmp_path):
    (tmp_path / "x.xz").write_bytes(lzma.compress(b"one ") + bytes(8) + lzma.compress(b"two") + bytes(4))
    assert compressed.read(tmp_path / "x.xz", 100) == b"one two"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: tar_gz(files)[:-30], "is truncated"),
        (lambda files: tar_gz(files)[:2000], "is truncated"),
        (lambda files: b"no archive", "is truncated or not a gzip file"),
        (
            lambda files: tar_gz({k: v for k, v in files.items() if k != "test_batch.bin"}),
            "does not hold test_batch.bin",
        ),
        (
            lambda files: tar_gz(files | {"data_batch_3.bin": b"x" * 7000}),
            "data_batch_3.bin in .* has 7,000 bytes, expected 6,146 at most",
        ),
        (lambda files: tar_gz(files | {"data_batch_3.bin": b"x" * 3000}), r"data_batch_3.bin in \S* is truncated"),
        (lambda files: tar_gz({"large": bytes(2_000_000)} | files), "holds more than 36,876 bytes of data"),
        (lambda files: tar_gz({str(i): b"" for i in range(101)} | files), "holds more than 100 files"),
    ],
)
def test_a_damaged_archive_is_a_clear_error(small_cifar, tmp_path, change, message):
    write(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": change(small_cifar.files)})
    with pytest.raises(ValueError, match=message):
        data.load("cifar10", tmp_path)


def test_paths_and_links_in_an_archive_have_no_effect(small_cifar, tmp_path):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("as before")
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, kind in (("test_batch.bin", tarfile.SYMTYPE), ("data_batch_1.bin", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, str(victim)
            archive.addfile(link)
        for place in ("/tmp/../../", "../../"):
            bad = tarfile.TarInfo(f"{place}victim")
            archive.addfile(bad)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="does not hold data_batch_1.bin, .*test_batch.bin"):
        data.load("cifar10", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert victim.read_text() == "as before"


# ---------------------------------------------------------------- CIFAR-100


@pytest.fixture
def hundred(monkeypatch):
    source = dataclasses.replace(
        sources.CIFAR_100, train=6, test=3, subset=dataclasses.replace(sources.CIFAR_100_SUBSET, train=6, test=3)
    )
    monkeypatch.setitem(sources.SOURCES, "cifar100", source)

    def files(train, test):
        rng = np.random.default_rng(2)
        return {
            f"{part}.bin": cifar_batch(np.full((count, 32, 32, 3), 7, np.uint8), rng.integers(0, [20, 100], (count, 2)))
            for part, count in (("train", train), ("test", test))
        }

    return files


def test_the_fine_labels_of_cifar100_are_those_that_count(hundred, tmp_path):
    files = hundred(6, 3)
    write(tmp_path / "cifar100", files)
    dataset = data.load("cifar100", tmp_path)
    assert dataset.train_y.tolist() == list(files["train.bin"][1::3074])
    assert max(dataset.train_y) > 19
    assert (dataset.test_x == 7).all()
    assert len(dataset.classes) == 100


def test_a_subset_takes_the_place_of_the_whole_with_a_warning(hundred, tmp_path, monkeypatch):
    write(tmp_path / "cifar100-subset", hundred(4, 2))
    with pytest.warns(
        UserWarning, match=r"of 'cifar100' only a subset is there, 4 \+ 2 of 6 \+ 3 images, in .*-subset; "
    ):
        assert data.load("cifar100", tmp_path).train_x.shape == (4, 32, 32, 3)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    write(places.cache() / "cifar100", hundred(6, 3))
    assert len(data.load("cifar100").train_x) == 6, "the whole is taken, wherever it is"


def test_a_subset_in_the_place_of_the_whole_is_an_error(hundred, tmp_path):
    write(tmp_path / "cifar100", hundred(4, 3))
    with pytest.raises(
        ValueError, match=r"train.bin holds 4 images, expected 6; a subset belongs into the folder cifar100-subset"
    ):
        data.load("cifar100", tmp_path)
