"""Changes written as text, as on a command line: `crop(4), flip, rotate(degrees=10)`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any


def parse(text: str, known: Mapping[str, Any]) -> list[Any]:
    """Return the changes that a text names: names with or without settings, which must be literals.

    Raises
    ------
    ValueError
        Naming what is not understood, or the known names.
    """
    try:
        parsed = ast.parse(f"({text}\n,)", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # ValueError: a zero byte
        raise ValueError(f"augment: {text!r} is not understood, expected as in 'crop(4), flip, rotate(10)'") from None
    nodes = parsed.elts if isinstance(parsed, ast.Tuple) else [parsed]
    return [_made(node, text, known) for node in nodes]


def _made(node: ast.expr, text: str, known: Mapping[str, Any]) -> Any:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise ValueError(f"augment: {ast.unparse(node)} in {text!r} is no change, expected as in 'crop(4), flip'")
    name = call.func.id
    if name not in known:
        raise ValueError(f"augment: there is no {name!r}, expected some of {', '.join(known)}")
    try:
        given = [ast.literal_eval(argument) for argument in call.args]
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"augment: the settings of {ast.unparse(node)} are not numbers or names in quotes") from None
    if len(named) < len(call.keywords):  # only Python's compiler would notice
        raise ValueError(f"augment: {ast.unparse(node)}: a setting is given twice")
    settings = inspect.signature(known[name])
    try:
        settings.bind(*given, **named)
    except TypeError as error:
        expected = ", ".join(settings.parameters)
        raise ValueError(
            f"augment: {ast.unparse(node)}: {error}, expected the settings of {name}: {expected}"
        ) from None
    try:
        return known[name](*given, **named)
    except TypeError as error:
        raise ValueError(f"augment: {ast.unparse(node)}: {error}") from None
