"""Tables as text, for results that are printed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

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
        As many cells as headings; columns are aligned at the right.
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
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # as they are: a name may look like markup
    if more:
        table.add_row(f"… {more:,} more")
    if total is not None:
        table.add_section()
        table.add_row(*map(Text, total))
    console = Console(file=io.StringIO(), width=WIDTH)
    with console.capture() as captured:
        console.print(table)
    lines = [title, *(line.rstrip() for line in captured.get().splitlines()), caption]
    return "\n".join(line for line in lines if line)
