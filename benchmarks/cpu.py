"""minidl against PyTorch on the CPU: `python -m benchmarks.cpu [--quick]`, from the repository's root.

Ops and whole training steps in four environments (`benchmarks.environments`), the memory of the steps, and how time
grows with batch, channels and image size. About 15 minutes on two cores; with --quick under one.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import environments, report, tables
from minidl.files import writable_folder

RESULTS = Path("benchmarks/results")

# the arguments of `paired.compare`
QUICK = {"pairs": 3, "block_seconds": 0.03}
FULL = {"pairs": 9, "block_seconds": 0.1, "budget": 12}
GROWTH = {"pairs": 5, "block_seconds": 0.06, "budget": 6}


class Measurement:
    """What has been measured so far; every row has its case, and where it was measured."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.facts: dict[str, dict[str, str]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {"ratios": [], "memory": [], "growth": []}

    def compare(self, environment: str, kind: str, cases: Sequence[str], effort: dict[str, Any]) -> None:
        task = {"do": "time", "cases": cases, "effort": effort}
        for row in environments.answers(environment, task) if cases else ():
            self._add(kind, row | {"environment": environment}, tables.ratio(row))

    def compare_memory(self, environment: str, cases: Iterable[str]) -> None:
        for case in cases:
            ours, theirs = (
                next(environments.answers(environment, {"do": "memory", "case": case, "side": side}))
                for side in ("ours", "theirs")
            )
            row = {"case": case, "environment": environment, "ours": ours, "theirs": theirs}
            self._add("memory", row, f"{ours:.0f} and {theirs:.0f} MiB")

    def _add(self, kind: str, row: dict[str, Any], result: str) -> None:
        self.rows[kind].append(row)
        print(f"{time.perf_counter() - self.began:5.0f} s  {row['environment']:7}  {row['case']}: {result}", flush=True)

    def tables(self, base: str) -> list[report.Table]:
        makers = {"ratios": tables.ratios, "memory": tables.memory, "growth": lambda rows: tables.growth(rows, base)}
        return [makers[kind](rows) for kind, rows in self.rows.items() if rows]

    def write(self, stem: Path, base: str, settings: dict[str, str]) -> None:
        from benchmarks import picture

        facts = report.compared(self.facts) | settings
        paths = report.write(stem, "minidl against PyTorch on the CPU", self.tables(base), facts, self.rows)
        figure = picture.draw(self.rows, facts)
        print("wrote", *paths, picture.save(figure, report.dated(stem, facts["date"], "png")))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, print the tables and write them."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("torch") is None:
        sys.exit('benchmarks.cpu: PyTorch is not installed: pip install ".[bench]"')
    from benchmarks import cases
    from benchmarks.networks import STEPS

    def chosen(names: Iterable[str]) -> list[str]:
        return [name for name in names if not options.only or any(part in name for part in options.only)]

    timed = chosen(cases.QUICK if options.quick else (*STEPS, *cases.OPS))
    weighed = [] if options.quick else [name.removeprefix("memory, ") for name in chosen(f"memory, {s}" for s in STEPS)]
    growing = [] if options.quick else chosen(cases.GROWTH)
    if not timed + weighed + growing:
        known = ", ".join((*STEPS, *cases.OPS, *cases.GROWTH))
        _parser().error(f"--only {' '.join(options.only)}: no case has this in its name; there are {known}")
    folder = options.out or (None if options.quick else RESULTS)
    try:
        if folder is not None:
            writable_folder(folder, "--out")
    except OSError as error:
        _parser().error(str(error))

    base = ", ".join(f"{name} {value}" for name, value in cases.BASE.items())
    effort = QUICK if options.quick else FULL
    settings = {"effort of a case": str(effort)} | ({"effort of growth": str(GROWTH)} if growing else {})
    measurement = Measurement()
    names = options.environment or (["S"] if options.quick else list(environments.ENVIRONMENTS))
    try:
        for name in names:
            [facts] = environments.answers(name, {"do": "facts"})
            measurement.facts[name] = facts | {"command": report.command("benchmarks.cpu")}
            measurement.compare(name, "ratios", timed, effort)
            if name == names[0]:
                measurement.compare_memory(name, weighed)
                measurement.compare(name, "growth", growing, GROWTH)
            if folder is not None:  # again after each, so that what has been measured is not lost
                measurement.write(folder / "cpu", base, settings)
    except RuntimeError as error:
        sys.exit(f"benchmarks.cpu: {error}")
    for table in measurement.tables(base):
        report.show(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description="Measure minidl against PyTorch.")
    parser.add_argument("--quick", action="store_true", help="a rough look in a minute; writes nothing by default")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="cases with one of these in their names: LeNet, conv2d, growth"
    )
    parser.add_argument(
        "--environment", nargs="+", choices=environments.ENVIRONMENTS,
        help=f"default: all, with --quick S; memory and growth are measured in the first. {environments.MEANING}",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"folder for the results (default: {RESULTS})")
    return parser


if __name__ == "__main__":
    main()
