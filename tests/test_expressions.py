"""Objects written as text."""

from __future__ import annotations

import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from minidl import expressions


def pair(*given, **named):
    return given, named


def parse(text):
    return expressions.parse(text, {"f": pair, "two": lambda a, b=3: a + b}, "who", "f(1), two(2)")


def test_settings_are_literals_arithmetic_and_calls():
    assert parse("f") == parse("f()") == [((), {})]
    assert parse("f(1, -2.5, 'a', x=None, y=(True, [1]))") == [((1, -2.5, "a"), {"x": None, "y": (True, [1])})]
    assert parse("f(0.75 * 48, (1 + 2) / 4 - 1)") == [((36.0, -0.25), {})]
    assert parse("two(two(1, b=2)), f(two(1))") == [6, ((4,), {})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "who: '' is not understood, expected as in 'f\\(1\\), two\\(2\\)'"),
        ("f(", "is not understood"),
        ("g(1)", "who: there is no 'g', expected some of f, two"),
        ("f(g(1))", "there is no 'g'"),
        ("f(__import__('os'))", "there is no '__import__'"),
        ("3", "3 in '3' is no name"),
        ("f.g(1)", "f.g is no name that can be called"),
        ("f(1)(2)", "is no name that can be called"),
        ("f(x)", "the settings of f\\(x\\) are not numbers"),
        ("f('a' * 3)", "are not numbers"),
        ("f(True + 1)", "are not numbers"),
        ("f(2 ** 9)", "are not numbers"),
        ("f(1 / 0)", "are not numbers"),
        ("f(1e308 * 10 * 'a')", "are not numbers"),
        ("f({**2})", "are not numbers"),
        ("f(*(1, 2))", "are not numbers"),
        ("f(a=1, a=2)", "a setting is given twice"),
        ("two(c=1)", "expected the settings of two: a, b"),
        ("two('a')", "two\\('a'\\): can only concatenate str"),
        ("two(" * 300 + "1" + ")" * 300, "is not understood"),
        ("f(" + "1 - " * 1500 + "1)", "nested too deeply"),
    ],
)
def test_what_is_not_understood_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@given(st.text(alphabet="ftwo(),12='.-*/[] x", max_size=25))
@example("f(" + "-" * 5000 + "1)")
def test_any_text_gives_objects_or_a_clear_error(text):
    with contextlib.suppress(ValueError):
        assert parse(text)
