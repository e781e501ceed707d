"""The street view house numbers, cropped: MATLAB's format 5 with images `X` (32, 32, 3, N) and labels `y` (N, 1).

SciPy reads these files too, but believes what they claim: sizes, compressed data without end, objects. Here is read
what the two arrays need, and no byte more than they should have.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data import checks, compressed
from minidl.data.sources import Source

HEADER = 128
COMPRESSED, MATRIX = 15, 14
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMBERS = range(6, 16)  # classes of arrays: double, single, and the integers; not cells, structures, text
DIMENSIONS = 8
SPARE = 1 << 20  # for labels as doubles, headers, and a small variable more


def load(source: Source, paths: dict[str, Path]) -> tuple[Any, Any, Any, Any]:
    """Return (train_x, train_y, test_x, test_y); the label 10 means the digit 0.

    Raises
    ------
    ValueError
        If a file is truncated, of another format, does not hold as many images of the right size and labels, or holds
        a label that there is not.
    """
    train, test = paths.values()
    return *_part(source, train, source.train), *_part(source, test, source.test)


def _part(source: Source, path: Path, count: int) -> tuple[Any, Any]:
    height, width, channels = source.shape
    limit = count * math.prod(source.shape) + SPARE
    found = parse(compressed.read(path, limit), path, limit)
    for name in ("X", "y"):
        if name not in found:
            raise ValueError(f"data.load: {path} holds no array {name}, only {', '.join(found) or 'none'}")
    x, y = found["X"], found["y"].ravel()
    if x.dtype != np.uint8 or x.shape[:3] != source.shape or x.ndim > 4:
        raise ValueError(
            f"data.load: X in {path} is {x.dtype} {x.shape}, expected uint8 ({height}, {width}, {channels}, N)"
        )
    x = x.reshape(*source.shape, -1)  # MATLAB drops a last axis of length 1
    if x.shape[3] != y.size:
        raise ValueError(f"data.load: {path} holds {x.shape[3]:,} images, but {y.size:,} labels")
    if not np.isin(y, np.arange(1, 11)).all():
        raise ValueError(f"data.load: y in {path} holds other labels than 1 … 10")
    y = checks.labels(y.astype(np.int64) % 10, len(source.classes), f"data.load: y in {path}")
    return np.ascontiguousarray(np.moveaxis(x, 3, 0)), y


def parse(content: bytes, path: Path, limit: int) -> dict[str, Any]:
    """Return the numeric arrays of a MATLAB 5 file by name; at most `limit` bytes of it are decompressed."""
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None or struct.unpack(order + "H", content[HEADER - 4 : HEADER - 2])[0] != 0x0100:
        raise ValueError(f"data.load: {path} is not a file of MATLAB's format 5; it begins with {content[:16]!r}")
    arrays: dict[str, Any] = {}
    try:
        at, view = HEADER, memoryview(content)
        while at < len(content):
            kind, data, after = _element(view, at, order)
            at += 8 + len(data) if kind == COMPRESSED else after - at  # what is compressed is not padded
            if kind == COMPRESSED:
                inflater = zlib.decompressobj()
                data = memoryview(inflater.decompress(data, limit + 1))
                limit -= len(data)
                if limit < 0:
                    raise ValueError("it decompresses to more than there should be")
                if not inflater.eof:
                    raise ValueError("compressed data end too early")
                kind, data, _ = _element(data, 0, order)
            if kind == MATRIX and (named := _matrix(data, order)):
                arrays[named[0]] = named[1]
    except (ValueError, zlib.error) as error:
        raise ValueError(f"data.load: {path} is damaged: {error}") from error
    return arrays


def _element(view: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Return (type, data, where the next one begins) of the element that begins at `at`."""
    if len(view) - at < 8:
        raise ValueError("it is truncated")
    kind, size = struct.unpack(order + "II", view[at : at + 8])
    if kind >> 16:  # up to four bytes of data in the place of the size
        kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        after = at + 8
        if size > 4:
            raise ValueError(f"a small element has {size} bytes")
    else:
        start = at + 8
        after = start + size + -size % 8
    if start + size > len(view):
        raise ValueError(f"it is truncated: {start + size - len(view):,} bytes are missing")
    return kind, view[start : start + size], after


def _matrix(view: memoryview, order: str) -> tuple[str, Any] | None:
    """Return (name, array), or None for what is no array of real numbers."""
    parts: list[tuple[int, memoryview]] = []
    at = 0
    while at < len(view) and len(parts) < 5:
        kind, data, at = _element(view, at, order)
        parts.append((kind, data))
    if not parts or len(parts[0][1]) < 4:
        raise ValueError("an array has no header")
    flags = struct.unpack(order + "I", parts[0][1][:4])[0]
    if flags & 0xFF not in NUMBERS or len(parts) != 4:  # the fifth would be the imaginary part
        return None
    (_, axes), (_, name), (kind, data) = parts[1:]
    if kind not in TYPES or len(axes) % 4 or not 2 <= len(axes) // 4 <= DIMENSIONS:
        raise ValueError(f"an array of {len(axes) // 4} dimensions and the type {kind}")
    shape, dtype = struct.unpack(f"{order}{len(axes) // 4}i", axes), np.dtype(order + TYPES[kind])
    if min(shape) < 1 or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array says that it is {dtype.name} {shape}, but has {len(data):,} bytes of data")
    return bytes(name).decode("ascii", "replace"), np.frombuffer(data, dtype).reshape(shape, order="F")
