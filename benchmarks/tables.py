"""The tables of a measurement, made from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.environments import MEANING
from benchmarks.networks import DROPOUT
from benchmarks.report import Table, duration

Row = dict[str, Any]

RATIOS = f"""The ratio is minidl's time over PyTorch's, below 1 where minidl is faster: the median and [least, largest]
over pairs of blocks measured in turn, in one process. Times are medians. A step is forward, backward and momentum SGD,
with dropout {DROPOUT} in LeNet-5 and the CIFAR CNN; an op is forward and backward. {MEANING} Others: the cores that
other processes kept busy meanwhile, at most; where it is not near 0, the ratio means little."""
GROWTH = """A 3×3 convolution, batch normalization and ReLU, forward and backward, while one of batch, channels and
height = width grows and the others stay at {base}. The rest as above, in {environment}."""
MEMORY = """By how many MiB the peak of the resident memory rises in three training steps, over what the process has
after the imports, the model, the data and a step on two images; each side in a process of its own, in {environment}."""


def ratio(row: Row) -> str:
    return f"{row['median']:.2f} [{row['min']:.2f}, {row['max']:.2f}]"


def ratios(rows: Sequence[Row]) -> Table:
    """Return the cases by environments, with the times in the first environment."""
    environments = list(dict.fromkeys(row["environment"] for row in rows))
    found = {(row["case"], row["environment"]): row for row in rows}
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        own = {name: found[case, name] for name in environments if (case, name) in found}
        first = next(iter(own.values()))
        times = duration(first["ours"]), duration(first["theirs"])
        cells = [ratio(own[name]) if name in own else "" for name in environments]
        lines.append([case, *times, *cells, f"{max(row['others'] for row in own.values()):.1f}"])
    times = [f"{side}, {environments[0]}" for side in ("minidl", "PyTorch")]
    return Table("Time", RATIOS, ["case", *times, *environments, "others"], lines)


def growth(rows: Sequence[Row], base: str) -> Table:
    lines = [
        [row["case"].removeprefix("growth, "), duration(row["ours"]), duration(row["theirs"]), ratio(row)]
        for row in rows
    ]
    return Table(
        "Growth",
        GROWTH.format(base=base, environment=rows[0]["environment"]),
        ["what", "minidl", "PyTorch", "ratio"],
        lines,
    )


def memory(rows: Sequence[Row]) -> Table:
    lines = [
        [row["case"], f"{row['ours']:.0f}", f"{row['theirs']:.0f}", f"{row['ours'] / max(row['theirs'], 1):.2f}"]
        for row in rows
    ]
    return Table(
        "Memory", MEMORY.format(environment=rows[0]["environment"]), ["case", "minidl", "PyTorch", "ratio"], lines
    )
