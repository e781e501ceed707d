"""Writing files so that nothing is lost: to a temporary file first, then renamed."""

from __future__ import annotations

import contextlib
import os
import re
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
    """Give a temporary path beside `path` to write to; rename it to `path` at the end, or remove it after an error.

    At every moment, whether the process is killed or the power fails, `path` holds all of the old content or all of the
    new. A temporary file that a killed process has left behind is removed when `path` is written the next time.
    """
    target = Path(path)
    _remove_leftovers(target)
    temporary = target.with_name(f".{target.stem}-{os.getpid()}{target.suffix}")
    try:
        yield temporary
        _flush(temporary)  # or the name might reach the disk before the content
        os.replace(temporary, target)
        with contextlib.suppress(OSError):  # not every file system can flush a folder
            _flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files for this target whose processes have ended."""
    temporary = re.compile(rf"{re.escape(f'.{target.stem}-')}([1-9]\d*){re.escape(target.suffix)}")
    names = [entry.name for entry in os.scandir(target.parent)] if target.parent.is_dir() else []
    for name in names:
        found = temporary.fullmatch(name)
        if found and _has_ended(int(found[1])):
            target.with_name(name).unlink(missing_ok=True)


def _has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 is not sent; it only asks
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # somebody else's process; a number that is no process's
        return False
    return False
