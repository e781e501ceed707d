"""Tables as text."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

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


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_there_are_no_colours_where_the_environment_asks_for_them(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert tables.as_text("t", ("a", "b"), [("1", "2")]) == "t\n a   b\n ─────\n 1   2"


def test_there_are_no_colours_in_a_notebook(monkeypatch):
    class ZMQInteractiveShell:
        pass

    monkeypatch.setattr("builtins.get_ipython", ZMQInteractiveShell, raising=False)  # how a notebook is recognized
    displayed = []
    display = SimpleNamespace(display=lambda *args, **kwargs: displayed.append(args))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert tables.as_text("t", ("a", "b"), [("1", "2")]) == "t\n a   b\n ─────\n 1   2"
    assert not displayed


def test_long_cells_are_shortened_and_leave_the_others_their_place():
    headings = ("sample", "loss", "label", "prediction", "its probability")
    rows = [("1,234", "2.000", "L" * 100, "P" * 100, "50.0%"), ("7", "1.000", "cat", "a dog or two", "99.9%")]
    lines = tables.as_text("t", headings, rows, total=("all", "", "M" * 100, "", "x")).splitlines()
    assert all(len(line) <= tables.WIDTH for line in lines)
    assert len(lines) == 6, "a line for each row"
    assert lines[1].split() == ["sample", "loss", "label", "prediction", "its", "probability"]
    sample, loss, label, prediction, probability = lines[3].split()
    assert (sample, loss, probability) == ("1,234", "2.000", "50.0%")
    assert re.fullmatch(r"L{50,}…", label)
    assert re.fullmatch(r"P{50,}…", prediction)
    assert lines[4].split() == ["7", "1.000", "cat", "a", "dog", "or", "two", "99.9%"]
    assert re.fullmatch(r" +all +M{50,}… +x", lines[5])
