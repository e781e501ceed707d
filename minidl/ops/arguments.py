"""Checks of arguments that ops and layers share."""

from __future__ import annotations

from numbers import Integral


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
