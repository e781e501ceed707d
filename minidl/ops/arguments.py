"""Checks of arguments that ops, layers and optimizers share."""

from __future__ import annotations

from numbers import Integral, Real


def number(value, who, name, within="[0, inf)"):
    """Return a number in an interval, written as in mathematics, as a float; raise in the name of `who` if not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{who}: {name} is {value!r}, expected a number")
    x = float(value)
    low, high = map(float, within[1:-1].split(","))
    above = x > low if within[0] == "(" else x >= low
    below = x < high if within[-1] == ")" else x <= high
    if not (above and below):
        raise ValueError(f"{who}: {name} is {value!r}, expected a number in {within}")
    return x


def positive_integer(value, who, name):
    """Return a positive integer as an int; raise in the name of `who` if it is none."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{who}: {name} is {value!r}, expected a positive integer")
    return int(value)


def pair(value, who, name, least):
    """Return an integer or a pair of them as a pair of ints; raise in the name of `who` if one is below `least`."""
    both = (value, value) if isinstance(value, Integral) else value
    if (
        not isinstance(both, (tuple, list))
        or len(both) != 2
        or not all(isinstance(n, Integral) and not isinstance(n, bool) and n >= least for n in both)
    ):
        raise ValueError(f"{who}: {name} is {value!r}, expected an integer of at least {least} or a pair of them")
    return int(both[0]), int(both[1])


def checked_padding(padding, who):
    """Return "same", or numbers as a pair of ints; "valid" is (0, 0)."""
    if padding == "same":
        return padding
    if padding == "valid":
        return 0, 0
    if isinstance(padding, str):
        raise ValueError(f"{who}: padding is {padding!r}, expected 'same', 'valid', an integer or a pair of integers")
    return pair(padding, who, "padding", 0)
