"""Data files that might harm their reader: IDX, CIFAR's and SVHN's files, folders of images."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import lzma
import random
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from reliability.damage import INTEGERS, damaged
from scipy import io as scipy_io

from minidl import data
from minidl.data import cifar, compressed, idx, sources, svhn

from data_files import cifar_batch, encode_idx, tar_gz

SMALL = dataclasses.replace(sources.CIFAR_10, train=10, test=2)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
BATCH = cifar_batch(PIXELS, np.array([[1], [2]]))
IDX = encode_idx(PIXELS[:, :28, :28, 0].copy())
LIMIT = 20_000
ZEROS = 30_000_000  # bytes that a bomb unfolds to


def _often(part: float, draw: random.Random, change: Callable[[], bytes], keep: bytes) -> bytes:
    return change() if draw.random() < part else keep


# ---------------------------------------------------------------- IDX


def make_idx(draw: random.Random) -> tuple[str, bytes]:
    if draw.random() < 0.5:
        return "images", damaged(IDX, draw)
    if draw.random() < 0.01:
        return "images.gz", _gzip_bomb(draw.choice((b"", IDX[:16])))
    inner = gzip.compress(_often(0.6, draw, lambda: damaged(IDX, draw), IDX), 1, mtime=0)
    return "images.gz", _often(0.5, draw, lambda: damaged(inner, draw), inner)


def read_idx(path: Path) -> None:
    found = idx.read(path, (4, 28, 28))
    assert found.dtype == np.uint8
    assert found.shape[1:] == (28, 28)
    assert 1 <= len(found) <= 4


# ---------------------------------------------------------------- CIFAR


def make_cifar(draw: random.Random) -> tuple[str, bytes]:
    if draw.random() < 0.4:
        return "batch.bin", damaged(BATCH, draw)
    if draw.random() < 0.01:
        return "batch.bin.xz", _xz_bomb()
    inner = lzma.compress(_often(0.4, draw, lambda: damaged(BATCH, draw), BATCH), preset=0)
    content = _often(0.8, draw, lambda: damaged(inner, draw), inner) * draw.choice((1, 1, 1, 2, 120))
    return "batch.bin.xz", content


def read_cifar(path: Path) -> None:
    images, labels = cifar.parse(compressed.read(path, LIMIT), SMALL, path)
    assert images.shape[1:] == (32, 32, 3)
    assert len(images) == len(labels) <= LIMIT / 3073
    assert labels.min() >= 0
    assert labels.max() < 10


def make_archive(draw: random.Random) -> tuple[str, bytes]:
    if draw.random() < 0.01:
        return "batches.tar.gz", _gzip_bomb(_member(draw, "data_batch_1.bin", b"", tarfile.REGTYPE))
    if draw.random() < 0.2:
        return "batches.tar.gz", damaged(_good_archive(), draw)
    members = [_member(draw, part, BATCH, tarfile.REGTYPE) for part in SMALL.parts]
    for _ in range(draw.choice((0, 1, 1, 3, 120))):
        members.insert(draw.randrange(len(members) + 1), hostile_member(draw))
    raw = b"".join(members) + bytes(1024)
    if draw.random() < 0.5:
        raw = damaged(raw, draw)
    if draw.random() < 0.3:  # the size of a member, as no archiver writes it
        at = 512 * draw.randrange(len(raw) // 512 + 1) + 124
        size = draw.choice(
            (b"-1", b"-512", b"+1", b"0o7", b"1_0", b"77777777777", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff", b"\xff")
        )
        raw = raw[:at] + size.ljust(12, draw.choice((b"\0", b" ", b"\xff"))) + raw[at + 12 :]
    return "batches.tar.gz", gzip.compress(raw + bytes(draw.choice((0, 0, 5_000_000))), 1, mtime=0)


def read_archive(path: Path) -> None:
    train_x, train_y, test_x, test_y = cifar.load(SMALL, {SMALL.archive: path})
    data.Dataset(train_x, train_y, test_x, test_y, SMALL.classes)


def _member(draw: random.Random, name: str, content: bytes, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    info.linkname = draw.choice(("", "/etc/passwd", "../../../etc/passwd", "data_batch_1.bin"))
    packed = info.tobuf(draw.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
    return packed + content + bytes(-len(content) % 512)


def hostile_member(draw: random.Random) -> bytes:
    """Return a link, a device, a folder, a header of an extension, or a file whose path leads elsewhere."""
    part = draw.choice(list(SMALL.parts))
    name = draw.choice((part, f"/tmp/{part}", f"../../../{part}", f"a/../../{part}", "..", "/", f"{'a/' * 40}{part}"))
    kinds = (
        *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
        *(tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, b"L", b"K", b"S"),
    )
    content = draw.choice((b"", BATCH, b"30 path=../../../../tmp/out\n", b"99999999999 size=-1\n", draw.randbytes(700)))
    return _member(draw, name, content, draw.choice(kinds))


@functools.cache
def _good_archive() -> bytes:
    return gzip.compress(gzip.decompress(tar_gz(dict.fromkeys(SMALL.parts, BATCH))), mtime=0)  # the same every day


@functools.cache
def _gzip_bomb(begin: bytes) -> bytes:
    return gzip.compress(begin + bytes(ZEROS), 6, mtime=0)


@functools.cache
def _xz_bomb() -> bytes:
    return lzma.compress(bytes(ZEROS), preset=0)


# ---------------------------------------------------------------- SVHN


@functools.cache
def _mat(compress: bool) -> bytes:
    buffer = io.BytesIO()
    arrays = {"X": PIXELS.transpose(1, 2, 3, 0), "y": np.array([[1.0], [10.0]]), "t": "text"}
    scipy_io.savemat(buffer, arrays, do_compression=compress)
    return b"MATLAB 5.0".ljust(116) + buffer.getvalue()[116:]  # without the date


def make_svhn(draw: random.Random) -> tuple[str, bytes]:
    plain = _mat(False)
    if draw.random() < 0.4:
        return "train.mat", damaged(plain, draw)
    if draw.random() < 0.3:
        return "train.mat", damaged(_mat(True), draw)
    if draw.random() < 0.02:
        inner = _zlib_bomb()
    else:
        inner = zlib.compress(damaged(plain[128:], draw), 1)
    block = struct.pack("<II", 15, len(inner)) + inner
    return "train.mat", plain[:128] + block * draw.choice((1, 1, 2, 40))


@functools.cache
def _zlib_bomb() -> bytes:
    return zlib.compress(bytes(ZEROS))


def read_svhn(path: Path) -> None:
    source = dataclasses.replace(sources.SVHN, train=4, test=4)
    train_x, train_y, test_x, test_y = svhn.load(source, {"train": path, "test": path})
    data.Dataset(train_x, train_y, test_x, test_y, source.classes)


# ---------------------------------------------------------------- folders of images


@functools.cache
def _pictures() -> tuple[tuple[str, bytes], ...]:
    """Return small good images of all formats and most modes."""
    colour, grey = Image.fromarray(PIXELS[0, :9, :7]), Image.fromarray(PIXELS[0, :9, :7, 0])
    turned = Image.Exif()
    turned[0x0112] = 6
    settings: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("png", colour, {}),
        ("png", colour, {"exif": turned}),
        ("png", colour.quantize(16), {"transparency": 3}),
        ("png", grey.convert("I;16"), {}),
        ("png", colour.convert("RGBA"), {}),
        ("jpg", colour, {"exif": turned}),
        ("jpg", grey, {"progressive": True}),
        ("bmp", colour, {}),
        ("gif", grey, {"save_all": True, "append_images": [grey.rotate(90)]}),
        ("webp", colour, {"lossless": True, "exif": turned}),
        ("tiff", colour, {"compression": "tiff_lzw"}),
        ("tiff", colour, {"exif": turned}),
        ("tiff", grey.convert("F"), {}),
        ("ppm", colour, {}),
        ("pgm", grey, {}),
    )
    made = []
    for ending, image, options in settings:
        buffer = io.BytesIO()
        image.save(buffer, {"jpg": "jpeg", "pgm": "ppm"}.get(ending, ending), **options)
        made.append((ending, buffer.getvalue()))
    return tuple(made)


def make_images(draw: random.Random) -> tuple[str, bytes]:
    ending, content = draw.choice(_pictures())
    if ending == "png" and draw.random() < 0.6:
        content = _png_with_right_checksums(content, draw)
    else:
        content = damaged(content, draw)
    ending = draw.choice((ending, ending, ending, draw.choice(_pictures())[0]))
    return f"folder/a/damaged.{ending}", content


def prepare_images(folder: Path) -> None:
    for name in "ab":
        (folder / "folder" / name).mkdir(parents=True)
        (folder / "folder" / name / "good.png").write_bytes(_pictures()[0][1])


def read_images(path: Path) -> None:
    for size in (None, (8, 6)):
        try:
            found = data.from_folder(path.parent.parent, size=size, test_fraction=0.5)
        except ValueError as error:
            if "give a size" not in str(error):
                raise
        else:
            assert found.train_x.dtype == np.uint8
            assert found.classes == ("a", "b")


def _png_with_right_checksums(content: bytes, draw: random.Random) -> bytes:
    """Change the chunks of a PNG file and write their lengths and checksums anew."""
    chunks, at = [], 8
    while at < len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    changed = draw.randrange(len(chunks))
    kind, inside = chunks[changed]
    if kind == b"IDAT" and draw.random() < 0.7:
        inside = zlib.compress(damaged(zlib.decompress(inside), draw))
    elif kind == b"IHDR" and draw.random() < 0.5:
        sides = [draw.choice(INTEGERS) & 0xFFFFFFFF for _ in range(2)]
        inside = struct.pack(">II", *sides) + inside[8:]
    else:
        inside = damaged(inside, draw)
    kind = draw.choice((kind, kind, kind, b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tRNS", b"acTL", b"fcTL"))
    chunks[changed] = kind, inside
    if draw.random() < 0.2:
        chunks.insert(draw.randrange(len(chunks) + 1), draw.choice(chunks))
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return content[:8] + b"".join(packed)
