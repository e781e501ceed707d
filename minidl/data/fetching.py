"""Downloading datasets into the user's cache: whole files with the right checksum, or none."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from minidl.data import places
from minidl.data.sources import Download, Source
from minidl.files import alone, replacing, writable_folder

TIMEOUT = 10, 60  # seconds until there is a connection, and between two pieces
CHUNK = 1 << 16


def fetch(source: Source, *, quiet: bool = False) -> Path:
    """Download those files of a dataset that are not in the cache yet, and return the folder that holds them.

    Those that are there are compared with the published checksums, and fetched again if they differ. Of several
    processes that fetch the same at once, one does and the others wait. A file appears under its name when it is
    complete and its checksum is right.

    Raises
    ------
    ConnectionError
        If a file cannot be had: naming it and those that are missing besides, the folder to put them in and the
        environment variable.
    ValueError
        If what came has another checksum: naming the file, the checksum that was expected and the one that it has.
    OSError
        If it cannot be written, as on a full disk.
    """
    folder = writable_folder(places.cache() / source.name, "data.fetch")
    with alone(folder, "fetching", quiet):
        missing = [file for file in source.downloads if not _is_there(file, folder, quiet)]
        for i in range(len(missing)):
            _download(source, missing[i:], folder, quiet)
    return folder


def _is_there(file: Download, folder: Path, quiet: bool) -> bool:
    """Return whether the file is in the folder as it was published."""
    path = folder / file.name
    if not path.is_file():
        return False
    if path.stat().st_size == file.size:
        with path.open("rb") as stream:
            algorithm, expected = file.checksum.split(":")
            made = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
        if made.hexdigest() == expected:
            return True
    if not quiet:
        print(f"{path} is not the file that was published; fetching it again", file=sys.stderr)
    return False


def _download(source: Source, missing: list[Download], folder: Path, quiet: bool) -> None:
    """Download the first of the missing files; the others are for the message."""
    import pooch
    import requests

    file, reasons = missing[0], []
    for url in file.urls:
        # no Accept-Encoding, or a server might unpack the .gz on its way
        get = pooch.HTTPDownloader(chunk_size=CHUNK, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"})
        try:
            with replacing(folder / file.name) as temporary:
                with temporary.open("wb") as sink, _progress(file, quiet) as advance:
                    received = _Received(sink, file, advance)
                    get(url, received, None)
                received.check(url)
            return
        except (requests.RequestException, ValueError) as error:
            if isinstance(error, _WrongContentError):
                raise
            reasons.append(f"{url}: {error}")
        except OSError as error:
            raise OSError(error.errno, f"data.fetch: cannot write {folder / file.name}: {error.strerror}") from error
    names = ", ".join(one.name for one in missing)
    raise ConnectionError(
        f"data.fetch: cannot download {file.name} of {source.name!r} ({'; '.join(reasons)}). Without a network, put "
        f"{names} into the folder {folder}, or set the environment variable MINIDL_DATA to a folder with a folder "
        f"{source.name} that holds {', '.join(one.name for one in source.downloads)}"
    )


class _WrongContentError(ValueError):
    """What came is not the file."""


class _Received:
    """Takes what is downloaded, counts it and computes its checksum as it comes."""

    def __init__(self, sink: IO[bytes], file: Download, advance: Any) -> None:
        self.sink, self.file, self.advance = sink, file, advance
        self.size = 0
        self.hash = hashlib.new(file.checksum.split(":")[0], usedforsecurity=False)

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self.file.size:
            raise _WrongContentError(
                f"data.fetch: {self.file.name} is more than {self.file.size:,} bytes long, which is what was expected"
            )
        self.sink.write(chunk)
        self.hash.update(chunk)
        self.advance(len(chunk))

    def flush(self) -> None:
        """Do nothing: it is asked for after every piece, and the file is flushed when it is complete."""

    def check(self, url: str) -> None:
        got = f"{self.hash.name}:{self.hash.hexdigest()}"
        if got != self.file.checksum:
            raise _WrongContentError(
                f"data.fetch: {self.file.name} from {url} has the checksum {got} ({self.size:,} bytes), expected "
                f"{self.file.checksum} ({self.file.size:,} bytes); it was not kept"
            )


@contextlib.contextmanager
def _progress(file: Download, quiet: bool) -> Iterator[Any]:
    """Show how far the download is: a bar on a terminal, one line elsewhere."""
    if quiet:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"fetching {file.name} ({file.size / 1e6:,.1f} MB)", file=sys.stderr)
        yield lambda count: None
        return
    columns = TextColumn(file.name), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(file.name, total=file.size)
        yield lambda count: bar.advance(task, count)
