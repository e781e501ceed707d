"""The tables of a measurement, made from its rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.report import Table, duration

Row = dict[str, Any]

METHOD = """Medians and [least, largest] over blocks measured in turn, by events on the device around many launches,
with inputs rotated among sets several times as large as the L2 cache. "speed": PyTorch's time over minidl's, above 1
where minidl is faster. "of the floor": the least time (fewest bytes over the copy bandwidth, operations over the rate
of cuBLAS, whichever is longer) as a part of minidl's. "error": of minidl's, against float64, relative to the norm.
† the device had to wait for Python."""
NOT_MEASURED = "not measured"
COLUMNS = ("case", "minidl", "PyTorch", "speed", "of the floor", "error", "target", "reached")


def times(heading: str, note: str, rows: Sequence[Row]) -> Table:
    """Return the table of a section whose rows are those of `Bench.measure`."""
    return Table(heading, " ".join(note.split()), COLUMNS, [line(row) for row in rows])


def line(row: Row) -> list[str]:
    if "failed" in row:
        return [row["case"], NOT_MEASURED, *[""] * (len(COLUMNS) - 2)]
    theirs = speed = ""
    if "theirs" in row:
        theirs = f"{duration(row['theirs'])}{mark(row['theirs_starved'])}, {row['how']}"
        speed = f"{row['speed']:.2f} {span(row['speed_range'])}"
    return [
        row["case"],
        f"{duration(row['ours'])}{mark(row['starved'])} [{', '.join(map(duration, row['ours_range']))}]",
        theirs,
        speed,
        "" if math.isnan(row.get("floor") or math.nan) else f"{row['floor'] / row['ours']:.0%}",
        f"{row['error']:.1e}",
        target(row),
        reached(row),
    ]


def mark(starved: bool) -> str:
    return "†" if starved else ""


def span(values: Sequence[float]) -> str:
    return f"[{values[0]:.2f}, {values[1]:.2f}]"


def target(row: Row) -> str:
    if row["target"] is None:
        return ""
    return f"{row['target']:.0%} of copying" if row["target_kind"] == "copy" else f"{row['target']:g} × speed"


def reached(row: Row) -> str:
    """Return how far a row is from its target: "met, 1.20 of it" or "short, 0.85 of it"."""
    if row["target"] is None or row["reached"] is None or math.isnan(row["reached"]):
        return ""
    share = row["reached"] / row["target"]
    return f"{'met' if share >= 1 else 'short'}, {share:.2f} of it"


def floors(heading: str, note: str, rows: Sequence[Row]) -> Table:
    lines = [
        [row["case"], NOT_MEASURED, "", ""]
        if "failed" in row
        else [row["case"], f"{duration(row['ours'])}{mark(row['starved'])}", row["how"], rate(row)]
        for row in rows
    ]
    return Table(heading, " ".join(note.split()), ("what", "time", "by", "rate"), lines)


def rate(row: Row) -> str:
    return f"{row['rate'] / 1e12:.2f} T{row['unit']}"


def failures(rows: Sequence[Row]) -> list[Table]:
    """Return a table of what was not measured; none if there is nothing."""
    lines = [[row["case"], row["failed"]] for row in rows if "failed" in row]
    return [Table("Not measured", "The reason follows each case.", ("case", "reason"), lines)] if lines else []
