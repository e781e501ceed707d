"""Writing files so that nothing is lost: to a temporary file first, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def writable_folder(folder: str | os.PathLike[str], who: str) -> Path:
    """Make the folder if it is missing and return it; raise before any work is done if nothing can be written there.

    Raises
    ------
    OSError
        Naming the folder and the cause.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(f"{who}: cannot write to the folder {path}: {error.strerror or error}") from error
    return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it to `path` at the end, or remove it after an error."""
    target = Path(path)
    temporary = target.with_name(f".{target.stem}-{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
