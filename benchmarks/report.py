"""What is kept of a measurement: its tables, on the terminal and as Markdown, and everything as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import rich
import rich.box
import rich.console
import rich.markup
import rich.table
import threadpoolctl

import minidl
from minidl.files import replacing

# Each of these can change a figure by a factor of two. They are recorded and never set here.
VARIABLES = (
    *("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GLIBC_TUNABLES"),
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"),
)

WIDTH = 180  # characters, where the output is no terminal


@dataclass(frozen=True)
class Table:
    """A table with what it is about; all columns but the first are numbers."""

    heading: str
    note: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]


def environment(program: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return what decides the figures besides the code."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    facts = ("version", "architecture", "num_threads", "threading_layer")
    pools = {
        f"thread pool {pool['prefix']}": ", ".join(f"{fact} {pool[fact]}" for fact in facts if pool.get(fact))
        for pool in threadpoolctl.threadpool_info()
    }
    return {
        "date": date.today().isoformat(),
        "command": command(program),
        "processor": f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores",
        "Python": platform.python_version(),
        "minidl": minidl.__version__,
        "NumPy": np.__version__,
        **{name: str(value) for name, value in settings.items()},
        **pools,
        **{name: os.environ.get(name, "unset") for name in VARIABLES},
    }


def command(program: str) -> str:
    return shlex.join(["python", "-m", program, *sys.argv[1:]])


def compared(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the facts of several environments as one list: those of the first, then how each of the others differs."""
    (first, common), *others = facts.items()
    together = {**common, **({f"in {first}": "as above"} if others else {})}
    for name, own in others:
        different = [f"{fact} {value}" for fact, value in own.items() if common.get(fact) != value]
        together[f"in {name}"] = "; ".join(different) or "the same"
    return together


def show(table: Table) -> None:
    """Print a table."""
    shown = rich.table.Table(
        *table.columns,
        title=table.heading,
        caption=rich.markup.escape(" ".join(table.note.split())),
        box=rich.box.SIMPLE_HEAD,
    )
    for column in shown.columns[1:]:
        column.justify = "right"
    for line in table.lines:
        shown.add_row(*map(rich.markup.escape, line))
    rich.console.Console(width=None if sys.stdout.isatty() else WIDTH).print(shown)


def write(
    stem: Path, title: str, tables: Sequence[Table], environment: Mapping[str, str], content: Mapping[str, Any]
) -> list[Path]:
    """Write tables under a title to `stem`-date.md, and the content as JSON beside it; return the paths."""
    lines = [f"# {title}", ""]
    for table in tables:
        rows = [table.columns, ("---", *["---:"] * (len(table.columns) - 1)), *table.lines]
        heading = [f"## {table.heading}", ""] if len(tables) > 1 else []
        lines += [
            *heading,
            textwrap.fill(table.note, 120, break_on_hyphens=False),
            "",
            *(f"| {' | '.join(cells)} |" for cells in rows),
            "",
        ]
    lines += [f"- {name}: {value}" for name, value in environment.items()]
    everything = json.dumps({"environment": environment, **content}, indent=1, ensure_ascii=False)
    paths = []
    for ending, text in (("md", "\n".join(lines)), ("json", everything)):
        paths.append(dated(stem, environment["date"], ending))
        with replacing(paths[-1]) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return paths


def dated(stem: Path, day: str, ending: str) -> Path:
    return stem.with_name(f"{stem.name}-{day}.{ending}")


def duration(seconds: float) -> str:
    """Return a time with three digits, as people say it."""
    if seconds >= 0.9995:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
