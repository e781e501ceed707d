"""Writing files so that nothing is lost: to a temporary file first, then renamed."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import math
import os
import re
import secrets
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = ".minidl-tmp"  # in the name of every temporary file: none without it is ever removed
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR)


def user_path(path: object, who: str, name: str = "path") -> Path:
    """Return the path that a user gave, with the home folder for ~; raise TypeError if it is none."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{who}: {name} is {path!r}, expected a path")
    return Path(os.path.expanduser(path))


def finite_json(text: str) -> Any:
    """Return what a text of JSON says; ValueError also where a number is NaN, infinite, or would become so."""

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"a value is {digits}, expected finite numbers")
        return value

    return json.loads(text, parse_float=number, parse_constant=number)


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
        message = f"{who}: cannot write to the folder {path}: {error.strerror or error}"
        raise type(error)(error.errno, message) from error
    return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it to `path` at the end, or remove it after an error.

    At every moment, whether the process is killed or the power fails, `path` holds all of the old content or all of the
    new; of several threads or processes that write it the last one's. A link stays, and what it points to is replaced.
    A temporary file that a killed process has left behind is removed when something is written to its folder the next
    time on the same host, in the same container: elsewhere nobody can know whether the process has ended.

    Raises
    ------
    OSError
        Naming `path`: if its folder is missing (FileNotFoundError) or is none, or if it cannot be written, as on a full
        disk; the system does not say then which file it was.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        code, what = (errno.ENOTDIR, "is none") if target.parent.exists() else (errno.ENOENT, "does not exist")
        raise OSError(code, f"the folder {Path(path).parent} {what}", os.fspath(path))
    _remove_leftovers(target.parent)
    own = f"{host_mark()}-{os.getpid()}-{secrets.token_hex(8)}"
    temporary = target.with_name(f".{target.stem[:40]}-{own}{MARK}{target.suffix}")
    try:
        yield temporary
        _flush(temporary)  # or the name might reach the disk before the content
        os.replace(temporary, target)
        with contextlib.suppress(OSError):  # not every file system can flush a folder
            _flush(target.parent)
    except OSError as error:
        if error.errno in _OF_DISKS and error.filename in (None, os.fspath(temporary)):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # it has its name, or a disk that is read-only has refused it
            temporary.unlink()


@contextlib.contextmanager
def alone(folder: Path, doing: str, quiet: bool = False) -> Iterator[None]:
    """Wait until no other process is in such a block with this folder; `doing` says meanwhile what that one does.

    The lock is the folder's: no file is left behind.
    """
    try:
        import fcntl
    except ImportError:  # not on this system: nobody waits
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not quiet:
                print(f"waiting for another process that is {doing} in {folder}", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # some network file systems cannot
            pass
        yield
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def host_mark() -> str:
    """Return a mark of where the numbers of processes have this meaning: the host, and on it the container."""
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        container = ""
    return f"{zlib.crc32(f'{socket.gethostname()} {container}'.encode()):08x}"


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of this host's processes that have ended."""
    temporary = re.compile(rf"\..*-{host_mark()}-([1-9]\d*)-[0-9a-f]{{16}}{re.escape(MARK)}(\..*)?", re.DOTALL)
    with contextlib.suppress(OSError):  # a folder that one may write to and not list
        for name in os.listdir(folder):
            found = temporary.fullmatch(name)
            if found and has_ended(int(found[1])):
                with contextlib.suppress(OSError):  # somebody else's file
                    (folder / name).unlink()


def has_ended(process: int) -> bool:
    """Whether there is no process of this number on this host, in this container."""
    try:
        os.kill(process, 0)  # signal 0 is not sent; it only asks
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # somebody else's process; a number that is no process's
        return False
    return False
