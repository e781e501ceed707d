"""minidl on a GPU: `python -m benchmarks.gpu [--quick] [--only NAME …] [--out DIR]`, from the repository's root.

What the card does at best, then kernels, optimizers and whole training steps beside PyTorch with cuDNN on the same card
in the same run. It runs unattended, needs CuPy, and PyTorch with CUDA for the comparison; without PyTorch it measures
minidl alone. Results are written after each section. A case that fails, or whose result is wrong, is told in its table
and stops nothing else. Under 9 minutes on an H200; with --quick under one.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import minidl as ml
from benchmarks import report
from benchmarks.gpu import convolutions, floors, layers, peer, picture, smoothing, steps, tables, updates
from benchmarks.gpu.bench import Bench, Case, precision, reason_of
from benchmarks.gpu.plan import PLANS
from minidl.files import writable_folder
from minidl.viz.style import save

RESULTS = Path("benchmarks/results")
TITLE = "minidl on a GPU"


@dataclass(frozen=True)
class Section:
    """A table: what is measured in it, as (name, function that makes the case or measures its rows)."""

    heading: str
    note: str
    cases: Callable[[Bench], Iterable[tuple[str, Callable[[], Any]]]]


SECTIONS = (
    Section("The card", floors.NOTE, floors.cases),
    Section("Convolutions in float32", convolutions.NOTE, lambda bench: convolutions.cases(bench, tf32=False)),
    Section("Training steps", steps.NOTE, steps.cases),
    Section("Residual smoothing", smoothing.NOTE, smoothing.cases),
    Section("Updates of optimizers", updates.NOTE, updates.cases),
    Section("Convolutions in TF32", convolutions.TF32_NOTE, lambda bench: convolutions.cases(bench, tf32=True)),
    Section("Other layers", layers.NOTE, layers.cases),
)


class Measurement:
    """What has been measured so far."""

    def __init__(self, bench: Bench, only: Sequence[str] = ()) -> None:
        self.bench, self.only = bench, only
        self.sections: list[tuple[Section, list[dict[str, Any]]]] = []

    def run(self, section: Section) -> None:
        rows: list[dict[str, Any]] = []
        self.sections.append((section, rows))
        for name, make in section.cases(self.bench):
            if section is not SECTIONS[0] and self.only and not any(part in name for part in self.only):
                continue
            for row in self._rows(name, make):
                rows.append({"case": name} | row)
                self._print(section, rows[-1])
            self.bench.release()
        if not rows:
            self.sections.pop()

    def _rows(self, name: str, make: Callable[[], Any]) -> list[dict[str, Any]]:
        """Return the rows of a case; one that tells the reason if it fails."""
        if self.bench.late:
            return [{"failed": "not measured: the time was up"}]
        try:
            with precision(self.bench.peer, tf32=False):
                made = make()
                return [self.bench.measure(made)] if isinstance(made, Case) else made
        except Exception as error:  # whatever it is, the other cases can be measured
            return [{"failed": reason_of(error)}]

    def _print(self, section: Section, row: dict[str, Any]) -> None:
        [line] = self._table(section, [row]).lines
        line = [row["case"], row["failed"]] if "failed" in row else line
        seconds = time.perf_counter() - self.bench.began
        print(f"{seconds:5.0f} s  {': '.join([line[0], '; '.join(filter(None, line[1:]))])}", flush=True)

    def _table(self, section: Section, rows: list[dict[str, Any]]) -> report.Table:
        make = tables.floors if section is SECTIONS[0] else tables.times
        return make(section.heading, section.note, rows)

    def tables(self) -> list[report.Table]:
        made = [self._table(section, rows) for section, rows in self.sections]
        return made + tables.failures([row for _, rows in self.sections for row in rows])

    def write(self, folder: Path, facts: dict[str, str]) -> list[Path]:
        stem, everything = folder / "gpu", {section.heading: rows for section, rows in self.sections}
        facts = facts | {"measured in": report.duration(time.perf_counter() - self.bench.began)}
        paths = report.write(stem, TITLE, self.tables(), facts, {"sections": everything})
        figure = picture.draw(list(everything.items()), facts)
        return [*paths, save(figure, report.dated(stem, facts["date"], "png"))]


def facts(bench: Bench, without: str) -> dict[str, str]:
    """Return what decides the figures besides the code."""
    cuda = bench.cupy.cuda
    properties, device = cuda.runtime.getDeviceProperties(0), cuda.Device()
    free, total = device.mem_info
    capability = device.compute_capability
    return {
        "date": date.today().isoformat(),
        "command": report.command("benchmarks.gpu"),
        "GPU": properties["name"].decode(),
        "compute capability": f"{capability[:-1]}.{capability[-1]}",
        "multiprocessors": str(properties["multiProcessorCount"]),
        "memory": f"{total / 2**30:.0f} GiB, {free / 2**30:.0f} free at the start",
        "L2 cache": f"{bench.l2 / 2**20:.0f} MiB",
        "driver": _driver(),
        **_versions(bench.cupy),
        **({"PyTorch": f"none: {without}; minidl alone"} if bench.peer is None else bench.peer.facts()),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "minidl": ml.__version__,
        "plan": _numbers(dataclasses.asdict(bench.plan)),
        "method": " ".join(tables.METHOD.split()),
    }


def _numbers(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if isinstance(value, (int, float)))


def _versions(cupy: Any) -> dict[str, str]:
    """Return the versions of CuPy and of what it uses."""
    found = {"CuPy": cupy.__version__}
    try:
        driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
        found["CUDA"] = f"{_dotted(runtime)}, the driver supports {_dotted(driver)}"
        found["NVRTC"] = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    except Exception as error:  # they are worth no failure
        found["CUDA"] = reason_of(error)
    return found


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _driver() -> str:
    """Return the version of NVIDIA's driver, as the kernel's module tells it."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0].split("  ")[1].strip()
    except (OSError, IndexError):
        return "unknown"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and write them."""
    options = _parser().parse_args(arguments)
    plan = PLANS["quick" if options.quick else "full"]
    if options.minutes is not None:
        plan = dataclasses.replace(plan, minutes=options.minutes)
    folder = options.out or (None if options.quick else RESULTS)
    try:
        if folder is not None:
            writable_folder(folder, "--out")
        ml.use_device("gpu")
    except OSError as error:
        _parser().error(str(error))
    except RuntimeError as error:
        sys.exit(f"benchmarks.gpu: {error}")
    measure(plan, *peer.find(), folder=folder, only=options.only or ())


def measure(plan: Any, other: Any, without: str, folder: Path | None, only: Sequence[str] = ()) -> Measurement:
    """Measure all sections by a plan; print what is found, and write it to the folder after each section."""
    bench = Bench(plan, other)
    measurement, about = Measurement(bench, only), facts(bench, without)
    paths: list[Path] = []
    for section in SECTIONS:
        measurement.run(section)
        if folder is not None:
            paths = measurement.write(folder, about)
    for table in measurement.tables():
        report.show(table)
    print(*(f"{name}: {value}" for name, value in about.items()), sep="\n")
    if paths:
        print("wrote", *paths)
    return measurement


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure minidl on a GPU.")
    parser.add_argument("--quick", action="store_true", help="a rough look in a minute; writes nothing by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases with one of these in their names: VGG, Adam")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"folder for the results (default: {RESULTS})")
    parser.add_argument("--minutes", type=float, help="cases that would begin later are left out (default: 8)")
    return parser


if __name__ == "__main__":
    main()
