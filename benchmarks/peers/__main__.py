"""minidl, PyTorch and the peers on LeNet-5's training step: `python -m benchmarks.peers [--venvs DIR] [--out DIR]`."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pooch

from benchmarks import report
from benchmarks.environments import ROOT, answers, variables
from benchmarks.networks import LENET5, MOMENTUM
from benchmarks.paired import PAUSE
from benchmarks.peers import PEERS
from benchmarks.peers.installing import UnavailableError, python_of
from minidl.files import writable_folder

RESULTS = Path("benchmarks/results")
SCRIPTS = Path(__file__).parent
ENVIRONMENT = "S"
BATCH = 128
RATE = 0.01
STEPS = 5  # whose losses are compared
TOLERANCE = 1e-3
ROUNDS = 9
SETTLING, SECONDS = 0.02, 0.2
COLUMNS = ("library", "NumPy", "a step", "over PyTorch", "over minidl")
NOTE = f"""LeNet-5 without dropout, batch {BATCH}, forward, backward and momentum SGD, written in each library's own
way, each in a process of its own; from the same weights, the first {STEPS} losses are the same. Ratios of times,
measured in turn: the median and [least, largest] over {ROUNDS} rounds."""


class Side:
    """A library that works in another process when it is told to."""

    def __init__(self, name: str, python: str | Path, script: str, problem: Path) -> None:
        self.name = name
        self.errors = problem.with_name(f"{name}.txt")
        path = {"PYTHONPATH": str(ROOT) if script == "with_minidl.py" else ""}
        read, write = os.pipe()
        self.answers = os.fdopen(read, encoding="utf-8")
        with self.errors.open("w", encoding="utf-8") as said:  # a pipe could fill up
            self.process = subprocess.Popen(
                [str(python), str(SCRIPTS / script), str(problem), str(write)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                text=True,
                pass_fds=(write,),
                env=variables(ENVIRONMENT, os.environ | path),
            )
        os.close(write)
        self.versions: dict[str, str] = {}

    def wait(self) -> None:
        """Wait until it is ready."""
        self.versions = self._answer()

    def ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it said is worth more
            print(json.dumps(command), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        line = self.answers.readline()
        if not line:
            self.process.wait()
            said = self.errors.read_text(encoding="utf-8").strip().splitlines()
            raise UnavailableError(said[-1] if said else "it ended without a word")
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.answers.close()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def write_problem(path: Path) -> None:
    """Write the weights that all start from, and the batches."""
    model = LENET5.model(0)
    x, labels = LENET5.batches(BATCH)
    np.savez(path, x=x, labels=labels, rate=RATE, momentum=MOMENTUM, **dict(model.state_dict()))


def open_sides(problem: Path, venvs: Path, stack: contextlib.ExitStack) -> tuple[list[Side], dict[str, str]]:
    """Return the libraries whose losses are minidl's, minidl and PyTorch first, and why others are not among them."""
    sides: list[Side] = []
    missing: dict[str, str] = {}
    losses: Any = None
    own = [("minidl", "with_minidl.py", None), ("PyTorch", "with_pytorch.py", None)]
    for name, script, peer in (*own, *((peer.name, peer.script, peer) for peer in PEERS)):
        try:
            side = Side(name, sys.executable if peer is None else python_of(peer, venvs), script, problem)
            stack.callback(side.close)
            side.wait()
            found = np.array(side.ask(losses=STEPS))
            losses = found if losses is None else losses
            if not np.abs(found - losses).max() <= TOLERANCE:
                raise UnavailableError(f"its losses are {found.round(4).tolist()}, minidl's {losses.round(4).tolist()}")
        except UnavailableError as reason:
            if peer is None:
                raise
            missing[name] = str(reason)
        else:
            sides.append(side)
        print(f"{name}: {missing.get(name, 'ready')}", flush=True)
    return sides, missing


def measure(sides: Sequence[Side], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the seconds of a step of each, round by round."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            time.sleep(PAUSE)
            side.ask(seconds=SETTLING)
            times[side.name].append(side.ask(seconds=SECONDS))
    return times


def table(
    times: Mapping[str, Sequence[float]], versions: Mapping[str, Mapping[str, str]], missing: Mapping[str, str]
) -> report.Table:
    """Return a line for each library, and for each that could not be measured the reason."""

    def over(name: str, base: str) -> str:
        ratios = [a / b for a, b in zip(times[name], times[base], strict=True)]
        return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"

    lines = [
        [
            f"{name} {versions[name]['version']}",
            versions[name]["NumPy"],
            report.duration(statistics.median(own)),
            *(over(name, base) for base in ("PyTorch", "minidl")),
        ]
        for name, own in times.items()
    ]
    lines += [[f"{name}: not measured, {reason}", *[""] * (len(COLUMNS) - 1)] for name, reason in missing.items()]
    return report.Table("Other libraries", NOTE, COLUMNS, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Install what is missing, measure, print the table and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="minidl, PyTorch, other libraries.")
    parser.add_argument(
        "--venvs", type=Path, default=Path(pooch.os_cache("minidl-benchmarks")), metavar="DIR",
        help="folder for the libraries' virtual environments (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="folder for the results (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("torch") is None:
        sys.exit('benchmarks.peers: PyTorch is not installed: pip install ".[bench]"')
    try:
        folder, venvs = writable_folder(options.out, "--out"), writable_folder(options.venvs, "--venvs")
    except OSError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        problem = Path(scratch) / "problem.npz"
        write_problem(problem)
        try:
            sides, missing = open_sides(problem, venvs.resolve(), stack)
            times = measure(sides)
        except UnavailableError as reason:
            sys.exit(f"benchmarks.peers: {reason}")
    versions = {side.name: side.versions for side in sides}
    shown = table(times, versions, missing)
    [facts] = answers(ENVIRONMENT, {"do": "facts"})
    facts["command"] = report.command("benchmarks.peers")
    report.show(shown)
    content = {"seconds": times, "versions": versions, "missing": missing}
    print("wrote", *report.write(folder / "peers", "LeNet-5 in other libraries", [shown], facts, content))


if __name__ == "__main__":
    main()
