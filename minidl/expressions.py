"""Objects written as text, as on a command line: `crop(4), flip, rotate(degrees=10)`. Nothing is ever executed."""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse(text: str, known: Mapping[str, Callable[..., Any]], who: str, example: str) -> list[Any]:
    """Return the objects that a text names: calls of what is known, or its names alone, separated by commas.

    Settings are numbers, strings, True, False, None, lists, tuples and dictionaries of them, sums, differences,
    products and quotients of numbers, and calls of what is known.

    Parameters
    ----------
    text : str
    known : mapping of names to classes or functions
        Nothing else can be called.
    who : str
        The beginning of error messages: whose argument this is.
    example : str
        What would have been understood, for error messages.

    Raises
    ------
    ValueError
        Naming what is not understood, the known names, or what was refused.
    """
    try:
        parsed = ast.parse(f"({text}\n,)", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # ValueError: a zero byte
        raise ValueError(f"{who}: {text!r:.200} is not understood, expected as in {example!r}") from None
    nodes = parsed.elts if isinstance(parsed, ast.Tuple) else [parsed]
    for node in nodes:
        if not isinstance(node, (ast.Name, ast.Call)):
            raise ValueError(f"{who}: {_shown(node)} in {text!r:.200} is no name, expected as in {example!r}")
    try:
        return [_made(node, known, who) for node in nodes]
    except RecursionError:
        raise ValueError(f"{who}: {text!r:.80} is nested too deeply") from None


def _made(node: ast.expr, known: Mapping[str, Callable[..., Any]], who: str) -> Any:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise ValueError(f"{who}: {_shown(call.func)} is no name that can be called")
    name = call.func.id
    if name not in known:
        raise ValueError(f"{who}: there is no {name!r:.80}, expected some of {', '.join(known)}")
    try:
        given = [_value(argument, known, who) for argument in call.args]
        named = {str(keyword.arg): _value(keyword.value, known, who) for keyword in call.keywords}
    except (TypeError, ArithmeticError, MemoryError):
        raise ValueError(f"{who}: the settings of {_shown(node)} are not numbers or names in quotes") from None
    if len(named) < len(call.keywords):  # only Python's compiler would notice
        raise ValueError(f"{who}: {_shown(node)}: a setting is given twice")
    settings = inspect.signature(known[name])
    try:
        settings.bind(*given, **named)
    except TypeError as error:
        expected = ", ".join(settings.parameters)
        raise ValueError(f"{who}: {_shown(node)}: {error}, expected the settings of {name}: {expected}") from None
    try:
        return known[name](*given, **named)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{who}: {_shown(node)}: {error}") from None


def _value(node: ast.expr, known: Mapping[str, Callable[..., Any]], who: str) -> Any:
    """Return what a setting stands for; TypeError if it is none."""
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return _bounded(value)
        case ast.List(elts=parts):
            return [_value(part, known, who) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_value(part, known, who) for part in parts)
        case ast.Dict(keys=keys, values=parts) if None not in keys:  # as in {**other}
            return {
                _value(key, known, who): _value(part, known, who)
                for key, part in zip(keys, parts, strict=True)
                if key is not None
            }
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return -_number(part, known, who)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            return _bounded(ARITHMETIC[type(op)](_number(left, known, who), _number(right, known, who)))
        case ast.Call():
            return _made(node, known, who)
    raise TypeError


def _bounded(value: Any) -> Any:
    """Return the value; OverflowError if it is an integer too large for a float, and soon for all else."""
    if isinstance(value, int):
        float(value)
    return value


def _number(node: ast.expr, known: Mapping[str, Callable[..., Any]], who: str) -> float:
    """Return a number: to multiply a text might take all the memory."""
    number = _value(node, known, who)
    if type(number) not in (int, float):
        raise TypeError
    return number


def _shown(node: ast.expr) -> str:
    """Return an expression as it may stand in a message."""
    try:
        return f"{ast.unparse(node):.80}"
    except (RecursionError, ValueError):  # ValueError: an integer of more digits than Python writes
        return "an expression"
