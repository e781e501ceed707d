"""Tables as text, for results that are printed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 160  # at most


def as_text(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    total: Sequence[str] | None = None,
    more: int = 0,
    caption: str = "",
) -> str:
    """Return a table, without colours and trailing spaces.

    Parameters
    ----------
    title : str
        A line above the table.
    headings : sequence of str
    rows : iterable of sequences of str
        As many cells as headings; columns are aligned at the right. Where a line would be longer than `WIDTH`, the
        widest columns are cut and end in "…".
    total : sequence of str, optional
        A last row, below a line.
    more : int, default 0
        How many rows were left out: a row says so.
    caption : str, default ""
        A line below the table.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(_cell(heading), justify="right")
    for row in rows:
        table.add_row(*map(_cell, row))
    if more:
        table.add_row(f"… {more:,} more")
    if total is not None:
        table.add_section()
        table.add_row(*map(_cell, total))
    # The same text everywhere: else the console finds out about notebooks, and colours that the environment asks for.
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    lines = [title, *(line.rstrip() for line in captured.get().splitlines()), caption]
    return "\n".join(line for line in lines if line)


def _cell(text: str) -> Any:
    """Return text as it is, for a name may look like markup, on one line.

    It is the cell that forbids to wrap, and not its column: of such columns all would be cut alike, down to nothing.
    """
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")
