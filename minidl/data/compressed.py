"""Reading plain, gzip, xz and tar.gz files, never more of them than a limit, whatever they claim or unfold to."""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minidl.memory import readable

CHUNK = 1 << 20
OVERHEAD = 1 << 20  # headers, and what a format adds to data that do not get any smaller
XZ_MEMORY = 100 << 20  # the highest preset asks for 65 MiB; a header may ask for 4 GiB
BLOCK = 512  # of a tar file
MEMBERS = STREAMS = 100
MEASURE = 124  # where a tar header holds the size, as 12 bytes of octal digits
KIND = 156


def read(path: Path, limit: int) -> bytes:
    """Return the content of a file, decompressed if its name ends with .gz or .xz.

    Raises
    ------
    ValueError
        Naming the file: if it is truncated, of another format, or holds more than `limit` bytes.
    """
    size = _check_size(path, limit)
    with path.open("rb") as file:
        if path.suffix == ".gz":
            content = _gzip(path, file, limit)
        elif path.suffix == ".xz":
            content = _xz(path, file, limit)
        else:
            content = file.read(min(limit, size) + 1)  # memory is taken for as many as are asked for
    if len(content) > limit:
        raise ValueError(f"data.load: {path} holds more than {limit:,} bytes, which is all that there should be")
    return content


def members(path: Path, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the members of a .tar.gz file with these names, in whatever folder, as they come.

    Nothing is unpacked to the disk, so that no path and no link in the file has a meaning. The format is read here and
    not by the standard library, whose reader has been made to run for ever by headers of a few bytes: sizes of plain
    files are all that is needed of it.

    Parameters
    ----------
    sizes : mapping of str to int
        How many bytes each member may have at most.

    Raises
    ------
    ValueError
        If the file is truncated, of another format, or holds more than these members and a little besides; or if one of
        them is missing.
    """
    limit = sum(sizes.values()) + OVERHEAD
    _check_size(path, limit)
    wanted = dict(sizes)
    with path.open("rb") as file, gzip.GzipFile(fileobj=file) as stream:
        for _ in range(MEMBERS):
            header = _take(path, stream, BLOCK)
            if not wanted or not header.strip(b"\0"):
                break
            size = _number(path, header[MEASURE : MEASURE + 12])
            limit -= BLOCK + size
            if limit < 0:
                raise ValueError(f"data.load: {path} holds more than {sum(sizes.values()):,} bytes of data")
            name = header[:100].split(b"\0")[0].decode("ascii", "replace").split("/")[-1]
            plain = header[KIND] in b"0\0"
            if plain and size > wanted.get(name, size):
                raise ValueError(f"data.load: {name} in {path} has {size:,} bytes, expected {wanted[name]:,} at most")
            content = _take(path, stream, size)
            _take(path, stream, -size % BLOCK)
            if plain and wanted.pop(name, None) is not None:
                yield name, content
        else:
            raise ValueError(f"data.load: {path} holds more than {MEMBERS} files")
        if wanted:
            raise ValueError(f"data.load: {path} does not hold {', '.join(wanted)}")
        while limit > 0 and (rest := len(_take(path, stream, CHUNK, all=False))):  # the checksum comes at the end
            limit -= rest


def _check_size(path: Path, limit: int) -> int:
    size = path.stat().st_size
    if size > limit + limit // 64 + OVERHEAD:
        raise ValueError(f"data.load: {path} has {readable(size)}, expected {readable(limit)} at most")
    return size


def _number(path: Path, digits: bytes) -> int:
    found = re.fullmatch(rb"[ \0]*([0-7]*)[ \0]*", digits)  # no sign: to read -1 bytes is to read all that there are
    if found is None:
        raise ValueError(f"data.load: {path} is not a tar file: a size in it is {digits!r}")
    return int(found[1] or b"0", 8)


def _take(path: Path, stream: Any, count: int, all: bool = True) -> bytes:
    """Read `count` bytes, in pieces, so that no more memory is taken than there are bytes."""
    pieces, left = [], count
    try:
        while left and (piece := stream.read(min(left, CHUNK))):
            pieces.append(piece)
            left -= len(piece)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"data.load: {path} is truncated or not a gzip file: {error}") from error
    if all and left:
        raise ValueError(f"data.load: {path} is truncated: {left:,} bytes of {count:,} are missing at its end")
    return b"".join(pieces)


def _gzip(path: Path, file: Any, limit: int) -> bytes:
    with gzip.GzipFile(fileobj=file) as stream:
        return _take(path, stream, limit + 1, all=False)


def _xz(path: Path, file: Any, limit: int) -> bytes:
    pieces: list[bytes] = []
    left, rest = limit + 1, file.read()
    try:
        while rest or not pieces:  # one stream after the other, with zeros in between
            if len(pieces) == STREAMS:
                raise ValueError(f"data.load: {path} consists of more than {STREAMS} xz streams")
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
            pieces.append(decompressor.decompress(rest, max_length=left))
            left -= len(pieces[-1])
            if left == 0:
                break
            if not decompressor.eof:
                raise EOFError("it ended before the end of the stream")
            rest = decompressor.unused_data.lstrip(b"\0")
    except (EOFError, lzma.LZMAError) as error:
        raise ValueError(f"data.load: {path} is truncated or not an xz file: {error}") from error
    return b"".join(pieces)
