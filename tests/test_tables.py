"""Tables as text."""

from __future__ import annotations

from minidl import tables


def test_a_table_is_plain_lines_with_columns_aligned_at_the_right():
    text = tables.as_text(
        "a title", ("name", "n"), [("[red]x[/red]", "1"), ("y", "1,000")], total=("all", "1,001"), more=3, caption="why"
    )
    assert text.splitlines() == [
        "a title",
        "         name       n",
        " ────────────────────",
        " [red]x[/red]       1",
        "            y   1,000",
        "     … 3 more",
        "          all   1,001",
        "why",
    ]


def test_titles_and_captions_of_any_length_stay_on_their_line():
    title = "a title that is much longer than the table " * 5
    lines = tables.as_text(title, ("n",), [("1",)], caption=title[::-1]).splitlines()
    assert lines[0] == title
    assert lines[-1] == title[::-1]
    assert len(lines) == 5
