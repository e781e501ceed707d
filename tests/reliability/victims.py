"""What `crashes.py` kills: how it works, when it is struck, what must be whole, and what it ends in."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from crashes import FORK, TOO_LONG, Fault, alive, kill_group, log, temporaries, wait_until

import minidl.studies.command
from minidl import cli, data
from minidl.data import sources
from minidl.files import replacing
from minidl.training import container

from data_files import mnist_files


class Victim:
    """The base: some work in a folder that can be begun again after it was killed."""

    name = ""
    writers = 1  # processes that write at the same time, each of which may leave a temporary file

    def work(self, folder: Path) -> None:
        """Do the work, or what is left of it; in a process of its own."""
        raise NotImplementedError

    def strike(self, process: Any, folder: Path, draw: random.Random) -> bool:
        """Wait for a moment and kill the process; return whether it was killed before it was done."""
        raise NotImplementedError

    def place(self, folder: Path) -> str:
        """Say where the kill hit, from what it left."""
        return "in a write" if temporaries(folder) else "between writes"

    def broken(self, folder: Path) -> list[str]:
        """Return what is wrong with the files: each must be whole or absent, but temporary ones."""
        faults = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.relative_to(folder).as_posix() not in temporaries(folder):
                try:
                    CHECKS[path.suffix](path)
                except (ValueError, OSError, EOFError, KeyError) as error:
                    faults.append(f"{path.name} is not whole: {error}")
        return faults

    def result(self, folder: Path) -> Any:
        """Return what the work has reached, to be compared."""
        raise NotImplementedError


def _check_text(path: Path) -> None:
    if not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("it ends in the middle of a line")


def _check_png(path: Path) -> None:
    if not path.read_bytes().endswith(b"IEND\xaeB`\x82"):
        raise ValueError("its end is missing")


CHECKS = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".safetensors": container.read,
    ".png": _check_png,
    ".md": _check_text,
    ".gz": lambda path: gzip.decompress(path.read_bytes()),
    ".npz": lambda path: None,  # the result, which is written plainly at the end
}


def changes(process: Any, folder: Path, count: int) -> None:
    """Wait until the files below a folder have changed so many times, or the process has ended."""

    def sizes() -> set[tuple[str, int, int]]:
        found = set()
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_size, path.stat().st_mtime_ns))
        return found

    seen = sizes()
    end = time.monotonic() + TOO_LONG
    while count and process.is_alive() and time.monotonic() < end:
        now = sizes()
        count, seen = count - (now != seen), now


# ---------------------------------------------------------------- trainings


def _resumable_run() -> Any:
    path = Path(__file__).parents[1] / "training" / "resumable_run.py"
    spec: Any = importlib.util.spec_from_file_location("resumable_run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Training(Victim):
    """A training with batch norm, dropout, augmentation, a schedule, early stopping, and a checkpoint in three steps.

    Its steps are counted by what it prints; a flush takes a while, as on a slow disk.
    """

    def __init__(self, when: str, kind: str) -> None:
        self.name, self.when, self.kind = f"training, {when}", when, kind
        self.run = _resumable_run()

    def work(self, folder: Path) -> None:
        self.run.main(folder, self.kind)

    def strike(self, process: Any, folder: Path, draw: random.Random) -> bool:
        wait_until(lambda: self._step(folder) or not process.is_alive(), "the training has begun")
        goal = self._step(folder) + draw.randrange(12)
        if self.when == "at the end of an epoch":
            goal += -goal % 10
        wait_until(lambda: self._step(folder) >= goal or not process.is_alive(), "it goes on")
        if self.when == "in a write of its checkpoint":
            while process.is_alive() and not temporaries(folder):
                pass
        time.sleep(draw.uniform(0, 0.006 if "write" in self.when else 0.02))
        process.kill()
        process.join()
        return process.exitcode == -signal.SIGKILL

    def _step(self, folder: Path) -> int:
        try:
            lines = log(folder).read_text().split("\n")
            return int(lines[-2])
        except (FileNotFoundError, IndexError):
            return 0

    def result(self, folder: Path) -> Any:
        with np.load(folder / "result.npz") as arrays:
            bits = {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in arrays.items()}
        return bits, (folder / "result.json").read_text()


# ---------------------------------------------------------------- a study


class Study(Victim):
    """`minidl study`, four short runs in two processes; killed are all of them, the first one, or one of the others."""

    name, writers = "study, 2 processes", 3

    def work(self, folder: Path) -> None:
        what = ["--quick", "--fraction", "all", "--model", "mlp(32)", "--epochs", "6", "--trials", "2"]
        chosen = ["--only", "label smoothing", "--only", "AdaGrad"]
        arguments = ["study", "smoothing", *what, *chosen, "--processes", "2", "--out", str(folder)]
        sys.exit(cli.main(arguments))

    def strike(self, process: Any, folder: Path, draw: random.Random) -> bool:
        changes(process, folder, draw.choice((0, 1, 2, 4, 8, 16)))
        time.sleep(draw.uniform(0, 0.02))
        if not process.is_alive():
            return False
        workers = _workers(process.pid)
        kind = draw.choice(("all", "first", "worker") if workers else ("all", "first"))
        if kind == "worker":
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(workers), signal.SIGKILL)
            process.join(TOO_LONG)
            if process.exitcode == 0:
                return False  # it had done its part
            if process.exitcode != 1 or "a process was killed" not in log(folder).read_text():
                raise Fault(f"status {process.exitcode} after a worker was killed, {log(folder).read_text()[-1000:]}")
        elif kind == "first":
            process.kill()
            process.join()
        kill_group(process) if kind == "all" else wait_until(lambda: not alive(process.pid), "all have ended")
        return process.exitcode != 0

    def place(self, folder: Path) -> str:
        return f"at {len(list(folder.glob('runs/*.json')))}/4 runs" + ", in a write" * bool(temporaries(folder))

    def result(self, folder: Path) -> Any:
        paths = [folder / "smoothing.json", *sorted(folder.glob("runs/*.json"))]
        return [(path.name, _essence(json.loads(path.read_text(encoding="utf-8")))) for path in paths]


def _workers(process: int) -> list[int]:
    """Return the processes that a process has begun for runs."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except FileNotFoundError:  # one has ended
        return []


def _essence(content: Any) -> Any:
    """Return a record without times and circumstances."""
    if isinstance(content, dict):
        return {key: _essence(value) for key, value in content.items() if key not in ("seconds", "made")}
    return [_essence(value) for value in content] if isinstance(content, list) else content


# ---------------------------------------------------------------- a download


class Download(Victim):
    """MNIST in small from a server on this machine that sends a piece every few milliseconds."""

    name = "download, slow server"
    files = mnist_files(train=150, test=50)

    def work(self, folder: Path) -> None:
        os.environ["XDG_CACHE_HOME"] = str(folder)
        for name in ("MINIDL_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            os.environ.pop(name, None)
        with _server(self.files) as url:
            downloads = tuple(
                sources.Download(
                    name, (f"{url}/{name}",), len(content), f"sha256:{hashlib.sha256(content).hexdigest()}"
                )
                for name, content in self.files.items()
            )
            sources.SOURCES["mnist"] = dataclasses.replace(sources.MNIST, downloads=downloads)
            loaded = data.load("mnist")
        arrays = [loaded.train_x, loaded.train_y, loaded.test_x, loaded.test_y]
        with replacing(folder / "result.json") as temporary:
            temporary.write_text(json.dumps([hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]))

    def strike(self, process: Any, folder: Path, draw: random.Random) -> bool:
        changes(process, folder, draw.randrange(1, 9))
        time.sleep(draw.uniform(0, 0.005))
        kill_group(process)
        return process.exitcode == -signal.SIGKILL

    def broken(self, folder: Path) -> list[str]:
        there = [path for path in folder.rglob("*.gz") if path.name in self.files]
        return super().broken(folder) + [
            f"{path.name} is not what was sent" for path in there if path.read_bytes() != self.files[path.name]
        ]

    def result(self, folder: Path) -> Any:
        return (folder / "result.json").read_text()


class _Slow(BaseHTTPRequestHandler):
    files: dict[str, bytes]

    def do_GET(self) -> None:
        content = self.files[self.path.lstrip("/")]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for start in range(0, len(content), 8192):
            self.wfile.write(content[start : start + 8192])
            time.sleep(0.003)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def _server(files: dict[str, bytes]) -> Iterator[str]:
    """Serve files in a process of its own, which is killed with its group."""
    with HTTPServer(("127.0.0.1", 0), type("Handler", (_Slow,), {"files": files})) as server:
        process = FORK.Process(target=server.serve_forever, args=(0.01,), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            process.kill()
            process.join()


VICTIMS: list[Victim] = [
    Training("at a step", "adam"),
    Training("at the end of an epoch", "nesterov"),
    Training("in a write of its checkpoint", "adam"),
    Study(),
    Download(),
]
assert minidl.studies.command  # imported before the forks: each of them would take a while
