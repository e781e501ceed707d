"""The IDX format of MNIST and its kin: a magic number, the sizes as 32-bit big-endian integers, then bytes."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data import checks, compressed
from minidl.data.sources import Source

UNSIGNED_BYTES = 0x08
DIMENSIONS = 8


def load(source: Source, paths: dict[str, Path]) -> tuple[Any, Any, Any, Any]:
    """Return (train_x, train_y, test_x, test_y) from the four files.

    Raises
    ------
    ValueError
        If a file is not IDX, is truncated, is longer than its header says, holds images of another size or labels that
        there are not, or if there are not as many labels as images.
    """
    files = list(paths.values())
    return (
        *_pair(source, files[0], files[1], source.train),
        *_pair(source, files[2], files[3], source.test),
    )


def _pair(source: Source, images: Path, labels: Path, count: int) -> tuple[Any, Any]:
    height, width, _ = source.shape
    x = read(images, (count, height, width))
    y = read(labels, (count,)).astype(np.int64)
    if len(x) != len(y):
        raise ValueError(f"data.load: {images} holds {len(x):,} images, but {labels} {len(y):,} labels")
    return x[..., None], checks.labels(y, len(source.classes), f"data.load: {labels}")


def read(path: Path, shape: tuple[int, ...]) -> Any:
    """Read a file, plain or .gz: an array of bytes of this shape, or with fewer along its first axis."""
    header = 4 + 4 * len(shape)
    found = parse(compressed.read(path, header + math.prod(shape)), path)
    if found.shape[1:] != shape[1:] or len(found) > shape[0]:
        most = " × ".join(map(str, shape))
        raise ValueError(f"data.load: {path} holds {' × '.join(map(str, found.shape))} bytes, expected {most} at most")
    return found


def parse(content: bytes, path: Path) -> Any:
    """Return the array that the bytes of an IDX file describe; `path` is for the messages."""
    if len(content) < 4 or content[:3] != bytes((0, 0, UNSIGNED_BYTES)):
        raise ValueError(f"data.load: {path} is not an IDX file of bytes; it begins with {content[:4].hex(' ')}")
    ndim = content[3]
    if ndim > DIMENSIONS:
        raise ValueError(f"data.load: {path} says that it has {ndim} dimensions, expected {DIMENSIONS} at most")
    start = 4 + 4 * ndim
    if ndim == 0 or len(content) < start:
        raise ValueError(f"data.load: {path} is truncated: its header needs {start} bytes, there are {len(content)}")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if math.prod(shape) != len(content) - start:
        raise ValueError(
            f"data.load: {path} says that it holds {' × '.join(map(str, shape))} = {math.prod(shape)} bytes of data, "
            f"there are {len(content) - start}"
        )
    if 0 in shape:
        raise ValueError(f"data.load: {path} holds no data: {' × '.join(map(str, shape))}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
