"""Virtual environments for the peers."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import SETUP, Peer

OLDEST_PYTHON = (3, 8)


class UnavailableError(Exception):
    """Why a peer cannot be measured here."""


def python_of(peer: Peer, venvs: Path) -> Path:
    """Return the interpreter of the peer's environment, which is made if it is missing or for other packages.

    Raises
    ------
    UnavailableError
        With the reason.
    """
    if peer.program and shutil.which(peer.program) is None:
        raise UnavailableError(f"{peer.program} is not on the PATH")
    interpreter = interpreter_for(peer.newest_python)
    folder = venvs / peer.name.lower()
    python, done = folder / "bin" / "python", folder / "packages.txt"
    wanted = "\n".join((interpreter, *SETUP, *peer.packages))
    if done.is_file() and done.read_text(encoding="utf-8") == wanted and python.exists():
        return python
    print(f"installing {' '.join(peer.packages)} into {folder}", flush=True)
    _run([interpreter, "-m", "venv", "--clear", str(folder)])
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*install, *SETUP])
    _run([*install, "--no-build-isolation", *peer.packages])
    done.write_text(wanted, encoding="utf-8")
    return python


@functools.cache
def interpreter_for(newest: tuple[int, int] | None) -> str:
    """Return this interpreter, or the newest on the PATH that is not newer than the given version.

    Raises
    ------
    UnavailableError
        If there is none.
    """
    if newest is None or sys.version_info[:2] <= newest:
        return sys.executable
    for minor in range(newest[1], OLDEST_PYTHON[1] - 1, -1):
        name = f"python{newest[0]}.{minor}"
        path = shutil.which(name)
        # one that only tells how to get another is none
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    raise UnavailableError(f"no Python from {_dotted(OLDEST_PYTHON)} to {_dotted(newest)} is on the PATH")


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.lower().startswith("error")]
        raise UnavailableError((errors or said or [f"status {done.returncode}"])[0])
