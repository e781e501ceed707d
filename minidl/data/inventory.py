"""What `minidl data list`, `fetch`, `where` and `check` do."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from minidl import threads
from minidl.data import compressed, fetching, places
from minidl.data.dataset import READERS
from minidl.data.sources import NAMES, SOURCES, Source

CHUNK = 1 << 20
WIDTH = 1000  # of lines: the terminal may wrap long paths, so that they can be copied


def pick(name: str | None) -> list[Source]:
    """Return the dataset of this name, or all that consist of files; raise ValueError for an unknown name."""
    if name is None:
        return list(SOURCES.values())
    if name not in NAMES:
        raise ValueError(f"data: name is {name!r}, expected one of {', '.join(NAMES)}")
    return [SOURCES[name]] if name in SOURCES else []


def show_list() -> None:
    """Print a table of all datasets, and where they lie."""
    table = Table()
    for heading in ("name", "training", "test", "size", "classes", "where"):
        table.add_column(heading, justify="left" if heading in ("name", "where") else "right", overflow="fold")
    table.add_row("digits", "1,442", "355", "8×8×1", "10", "in the package")
    for source in SOURCES.values():
        try:
            found = places.find(source)
        except FileNotFoundError as error:
            found, where = None, str(error).removeprefix("data.load: ")
        else:
            to_get = sum(file.size for file in source.downloads) / 1e6
            where = f"not here: {to_get:,.0f} MB to fetch" if found is None else str(found.folder)
        size = "×".join(map(str, source.shape))
        table.add_row(source.name, *_counts(found, source), size, f"{len(source.classes)}", where)
    _console().print(table)


def _counts(found: places.Found | None, source: Source) -> tuple[str, str]:
    """Say how many images there are for training and testing: of a subset so many as its files hold."""
    if found is None or found.source is source:
        return f"{source.train:,}", f"{source.test:,}"
    try:
        _, train_y, _, test_y = READERS[source.format](found.source, found.paths)
    except ValueError:
        return "? (subset)", "? (subset)"
    return f"{len(train_y):,} (subset)", f"{len(test_y):,} (subset)"


def fetch(name: str) -> None:
    """Download a dataset into the user's cache, unless it is there, and print the folder.

    Raises
    ------
    ValueError
        If the folder holds other files of the dataset, as unpacked ones, that are broken: they are read first.
    """
    for source in pick(name):
        folder = fetching.fetch(source)
        fetched = {file.name for file in source.downloads}
        others = {part: path for part, path in source.locate(folder)[0].items() if path.name not in fetched}
        for verdict in verdicts(places.Found(source, folder, others)):
            if verdict.good is False:
                raise ValueError(f"{verdict.path} is broken and read instead of what was fetched: remove it")
        print(folder)
    if name not in SOURCES:
        print(f"{name}: in the package, nothing to fetch")


def show_places(name: str | None) -> None:
    """Print the folder that holds a dataset; without a name, those that are looked in.

    Raises
    ------
    FileNotFoundError
        If the dataset is nowhere.
    """
    if name is None:
        for root in places.roots():
            print(root)
        return
    for source in pick(name):
        found = places.find(source)
        if found is None:
            looked = " or ".join(str(root / source.name) for root in places.roots())
            raise FileNotFoundError(f"{name} is not in {looked}; `minidl data fetch {name}` gets it")
        print(found.folder)
    if name not in SOURCES:
        print(Path(__file__).parent)


@dataclass(frozen=True)
class Verdict:
    """Of one file: whether its content is the published one (None where nothing was published), and in words."""

    path: Path
    good: bool | None
    what: str


def check(name: str | None = None) -> bool:
    """Compare all files that are here with the published checksums, print the verdicts, return whether none is bad."""
    console, good = _console(), True
    for source in pick(name):
        try:
            found = places.find(source)
        except FileNotFoundError as error:
            console.print(f"{source.name}: {str(error).removeprefix('data.load: ')}")
            good = False
            continue
        if found is None:
            console.print(f"{source.name}: not here")
            good = good and name is None
            continue
        which = "" if found.source is source else ", a subset, not the whole dataset"
        console.print(f"{source.name}: {found.folder}{which}")
        for verdict in verdicts(found):
            mark = {True: "good", False: "BAD", None: "?"}[verdict.good]
            console.print(f"  {mark:<5}{verdict.path.name}: {verdict.what}")
            good = good and verdict.good is not False
    if name == "digits":
        console.print("digits: in the package")
    return good


def verdicts(found: places.Found) -> list[Verdict]:
    """Judge each of a dataset's files by the checksum of what it holds, however that is compressed."""
    source = found.source
    published = source.parts | {file.name: file.checksum for file in source.downloads if file.name == source.archive}
    limit = (source.train + source.test) * (math.prod(source.shape) + 8)  # more than any of the files should hold

    def judge(part: str) -> Verdict:
        path, expected = found.paths[part], published[part]
        whole = part == source.archive or not source.endings  # as it is, without decompressing it
        try:
            pieces = _pieces(path) if whole else iter([compressed.read(path, limit)])
            got = digest(pieces, expected.split(":")[0] or "sha256")
        except ValueError as error:
            return Verdict(path, False, str(error).removeprefix("data.load: "))
        if not expected:
            return Verdict(path, None, f"{got}; no checksum of this file is published")
        return Verdict(path, got == expected, got if got == expected else f"{got}, expected {expected}")

    return threads.share(judge, found.paths)


def digest(pieces: Iterator[bytes], algorithm: str) -> str:
    """Return the checksum of all pieces together, as "sha256:…"."""
    made = hashlib.new(algorithm, usedforsecurity=False)
    for piece in pieces:
        made.update(piece)
    return f"{algorithm}:{made.hexdigest()}"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        read: Callable[[], bytes] = lambda: file.read(CHUNK)
        yield from iter(read, b"")


def _console() -> Console:
    return Console(file=sys.stdout, highlight=False, width=WIDTH)
