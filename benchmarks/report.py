"""What is kept of a measurement: the table, on the terminal and as Markdown, and everything as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import rich.box
import threadpoolctl
from rich.table import Table

import minidl
from minidl.files import replacing

# Each of these can change a figure by a factor of two. They are recorded and never set here.
VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GLIBC_TUNABLES")
HEADINGS = ("case", "minidl", "PyTorch", "ratio", "min", "max", "others")
NOTE = """Times are medians. The ratio is minidl's time over PyTorch's, below 1 where minidl is faster: the median, the
min and the max over pairs of blocks measured in turn. Others: the cores that other processes kept busy meanwhile; where
it is not near 0, the ratio means little."""


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
        "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
        "processor": f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores",
        "Python": platform.python_version(),
        "minidl": minidl.__version__,
        "NumPy": np.__version__,
        **{name: str(value) for name, value in settings.items()},
        **pools,
        **{name: os.environ.get(name, "unset") for name in VARIABLES},
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table of ratios."""
    show_table(HEADINGS, [_cells(row) for row in rows], NOTE)


def write(stem: Path, environment: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Write the table of ratios to `stem`-date.md and everything to .json."""
    table = HEADINGS, [_cells(row) for row in rows]
    write_table(stem, "minidl against PyTorch", NOTE, table, environment, {"rows": rows})


def show_table(headings: Sequence[str], lines: Sequence[Sequence[str]], note: str) -> None:
    """Print a table; all columns but the first are numbers."""
    table = Table(*headings, caption=note, box=rich.box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*line)
    rich.print(table)


def write_table(
    stem: Path,
    title: str,
    note: str,
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
    environment: dict[str, str],
    content: dict[str, Any],
) -> None:
    """Write a table, its title and its note to `stem`-date.md, and the content as JSON beside it."""
    headings, body = table
    rows = [headings, ("---", *["---:"] * (len(headings) - 1)), *body]
    lines = [
        *(f"# {title}", "", note, ""),
        *(f"| {' | '.join(cells)} |" for cells in rows),
        *("", *(f"- {name}: {value}" for name, value in environment.items())),
    ]
    everything = json.dumps({"environment": environment, **content}, indent=1, ensure_ascii=False)
    for ending, text in (("md", "\n".join(lines)), ("json", everything)):
        path = stem.with_name(f"{stem.name}-{environment['date']}.{ending}")
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {path}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    times = (_duration(row[side]) for side in ("ours", "theirs"))
    return (
        row["case"],
        *times,
        *(f"{row[ratio]:.2f}" for ratio in ("median", "min", "max")),
        f"{row['others']:.1f}",
    )


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
