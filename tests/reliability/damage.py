"""Changes of files and texts that accident or malice might make, drawn from a `random.Random`."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

INTEGERS = (-1, 0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS = (float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1.8e308 / 2)
SPECIAL = (
    *("-1", "0", "1e999", "-1e999", "1e-999", "NaN", "Infinity", "nan", "null", "true", "None", "1j", "0x" + "f" * 400),
    *("9" * 30, "9" * 400, "9" * 5000, "0x" + "f" * 5000, '""', "''", "[]", "{}", "()", '"\\ud800"', '"\\u0000"'),
    *('"../../../../tmp/out"', '"/etc/passwd"', '"{x.__class__}"', '"{rate:>9999999999}"', "__import__('os')"),
)
MARKS = "()[]{},:'\"=.+-*/\\ \n\0%#@~é\u2028"


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return bytes with one to four changes, whatever they stand for."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        draw.choice(BYTES)(changed, draw)
    return bytes(changed)


def damaged_text(text: str, draw: random.Random) -> str:
    """Return a text with one to four changes of its characters, words and numbers."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        text = draw.choice(TEXTS)(text, draw)
    return text


def damaged_tree(tree: Any, draw: random.Random) -> Any:
    """Return what JSON holds with one to three values changed, moved or left out; the original stays as it is."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return _leaf(draw)
        inside, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind == 0:
            del inside[key]
        elif kind == 1:
            other, place = draw.choice(places)
            inside[key] = json.loads(json.dumps(other[place])) if place in _keys(other) else None
        elif kind == 2 and isinstance(inside, list):
            inside.extend(inside[:] * draw.choice((1, 3)))
        elif kind == 3 and isinstance(inside, dict):
            inside[draw.choice(("", "__array__", "a" * 300, "../x", str(key) + "'"))] = inside[key]
        elif kind == 4 and isinstance(inside[key], (int, float)):
            inside[key] = draw.choice((*INTEGERS, *FLOATS, -inside[key], inside[key] + 1, str(inside[key])))
        else:
            inside[key] = _leaf(draw)
    return tree


def twice_named(text: str, draw: random.Random) -> str:
    """Return JSON in which a key is there twice, with another value."""
    found = list(re.finditer(r'"([^"\\]*)": ', text))
    if not found:
        return text
    at = draw.choice(found)
    return f"{text[: at.start()]}{at[0]}{json.dumps(_leaf(draw))}, {text[at.start() :]}"


def nested(draw: random.Random) -> str:
    """Return a text that opens far more than it closes, or as much."""
    depth = draw.choice((50, 990, 3000, 100_000))
    opening, closing = draw.choice((("[", "]"), ("(", ")"), ('{"a":', "}"), ("-", ""), ("1+", "1"), ("a.", "a")))
    return opening * depth + "1" + closing * draw.choice((0, depth))


def _places(tree: Any) -> Any:
    """Yield each dictionary or list with each of its keys."""
    for key in _keys(tree):
        yield tree, key
        yield from _places(tree[key])


def _keys(tree: Any) -> list[Any]:
    return list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []


def _leaf(draw: random.Random) -> Any:
    deep: Any = 1
    for _ in range(draw.choice((1, 70, 400))):
        deep = [deep]
    return draw.choice((None, True, "", "x", "../../x", "\ud800", [], {}, {"__array__": "x"}, deep, *INTEGERS, *FLOATS))


# ---------------------------------------------------------------- one change of bytes each


def _at(content: bytearray, draw: random.Random) -> int:
    """Return a place; every other one is near the begin, where headers are."""
    return draw.randrange(min(len(content), draw.choice((16, 64, 600, len(content)))) or 1) if content else 0


def _flip_bit(content: bytearray, draw: random.Random) -> None:
    if content:
        content[_at(content, draw)] ^= 1 << draw.randrange(8)


def _set_bytes(content: bytearray, draw: random.Random) -> None:
    at = _at(content, draw)
    content[at : at + draw.choice((1, 4, 16))] = draw.randbytes(draw.choice((1, 4, 16)))


def _set_number(content: bytearray, draw: random.Random) -> None:
    order, at = draw.choice("<>"), _at(content, draw)
    if draw.random() < 0.2:
        content[at : at + 8] = struct.pack(f"{order}d", draw.choice(FLOATS))
    else:
        kind, mask = draw.choice((("B", 0xFF), ("H", 0xFFFF), ("I", 2**32 - 1), ("Q", 2**64 - 1)))
        packed = struct.pack(order + kind, draw.choice(INTEGERS) & mask)
        content[at : at + len(packed)] = packed


def _cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content) + 1) :]


def _drop(content: bytearray, draw: random.Random) -> None:
    at = _at(content, draw)
    del content[at : at + draw.choice((1, 2, 8, 512))]


def _insert(content: bytearray, draw: random.Random) -> None:
    at = _at(content, draw)
    content[at:at] = draw.choice(
        (draw.randbytes(draw.choice((1, 3, 8, 512))), bytes(512), nested(draw).encode()[:5000])
    )


def _double(content: bytearray, draw: random.Random) -> None:
    at, size = _at(content, draw), draw.choice((1, 8, 64, 512, len(content)))
    content[at:at] = content[at : at + size]


def _swap(content: bytearray, draw: random.Random) -> None:
    size = draw.choice((1, 4, 8, 64, 512))
    one, other = sorted((_at(content, draw), _at(content, draw)))
    if one + size <= other:
        content[one : one + size], content[other : other + size] = (
            content[other : other + size],
            content[one : one + size],
        )


BYTES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip_bit, _set_bytes, _set_number, _set_number, _cut, _drop, _insert, _double, _swap),
)

# ---------------------------------------------------------------- one change of a text each


def _number_instead(text: str, draw: random.Random) -> str:
    found = list(re.finditer(r"-?\d[\w.]*|\w+|'[^']*'|\"[^\"]*\"", text))
    if not found:
        return draw.choice(SPECIAL)
    at = draw.choice(found)
    return text[: at.start()] + draw.choice(SPECIAL) + text[at.end() :]


def _mark(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice(MARKS) + text[at + draw.randrange(2) :]


def _without(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + text[at + draw.choice((1, 5, len(text))) :]


def _twice(text: str, draw: random.Random) -> str:
    at, size = draw.randrange(len(text) + 1), draw.choice((1, 5, 40))
    return text[: at + size] + text[at:]


def _deep(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + nested(draw) + text[at:]


TEXTS = (_number_instead, _number_instead, _number_instead, _mark, _mark, _without, _twice, twice_named, _deep)
