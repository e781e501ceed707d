"""The IDX format of MNIST and its kin: a magic number, the sizes as 32-bit big-endian integers, then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

UNSIGNED_BYTES = 0x08


def read(folder: Path, stem: str) -> Any:
    """Read `stem` or `stem.gz` from the folder: an array of bytes.

    Raises
    ------
    FileNotFoundError
        If neither exists.
    ValueError
        If the file is not IDX, is truncated, or is longer than its header says.
    """
    path = next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"data.load: {stem} or {stem}.gz is not in the folder {folder}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"data.load: {path} is truncated or not a gzip file: {error}") from error
    return parse(content, path)


def parse(content: bytes, path: Path) -> Any:
    """Return the array that the bytes of an IDX file describe; `path` is for the messages."""
    if len(content) < 4 or content[:3] != bytes((0, 0, UNSIGNED_BYTES)):
        raise ValueError(f"data.load: {path} is not an IDX file of bytes; it begins with {content[:4].hex(' ')}")
    ndim = content[3]
    start = 4 + 4 * ndim
    if ndim == 0 or len(content) < start:
        raise ValueError(f"data.load: {path} is truncated: its header needs {start} bytes, there are {len(content)}")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if math.prod(shape) != len(content) - start:
        raise ValueError(
            f"data.load: {path} says that it holds {' × '.join(map(str, shape))} = {math.prod(shape)} bytes of data, "
            f"there are {len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
