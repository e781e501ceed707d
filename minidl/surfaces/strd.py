"""The non-linear regression problems of NIST's Statistical Reference Datasets (StRD), read from NIST's own files.

27 problems, each with data, a model, two starts, and parameters that are certified to 11 digits. The models are read
from the files: a formula is parsed, never executed as Python, and becomes a function of minidl's ops.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl import ops
from minidl.tensor import Tensor

FOLDER = "nist-strd"


@dataclass(frozen=True)
class Regression:
    """A non-linear regression problem with certified parameters.

    Attributes
    ----------
    name, formula : str
        The formula is that of the file: "y = b1*(1-exp[-b2*x])  +  e".
    y : (m,)
        The response.
    x : dict of (m,)
        The predictors by name.
    starts : two tuples of n floats
    certified : tuple of n floats
        The parameters b1 … bn of least squares, to 11 digits.
    """

    name: str
    formula: str
    y: np.ndarray[Any, Any]
    x: dict[str, np.ndarray[Any, Any]]
    starts: tuple[tuple[float, ...], tuple[float, ...]]
    certified: tuple[float, ...]

    def residuals(self, b: Tensor) -> Tensor:
        """Return r = f(b, x) − y, or f(b, x) − log y where the formula is one of log[y], at the parameters b."""
        left, right = _sides(self.formula)
        names = {"pi": math.pi, "y": self.y, **self.x, **{f"b{i + 1}": b[i] for i in range(len(self.certified))}}
        return _evaluate(right, names) - np.asarray(getattr(_evaluate(left, names), "data", self.y))

    def digits(self, b: Any) -> float:
        """Return how many digits are right in the worst parameter: −log₁₀ of its relative error, at most 11."""
        certified = np.array(self.certified)
        error = float(np.max(np.abs(np.asarray(b) - certified) / np.abs(certified)))
        return min(11.0, -math.log10(max(error, 1e-300))) if math.isfinite(error) else -math.inf


def strd_names(root: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of the problems whose files are in the folder."""
    return sorted(path.stem for path in _folder(root).glob("*.dat"))


def strd(name: str, root: str | os.PathLike[str] | None = None) -> Regression:
    """Read a problem of NIST's Statistical Reference Datasets, for example "Misra1a".

    Parameters
    ----------
    name : str
    root : path, optional
        The folder that holds `nist-strd/`. Default: the environment variable MINIDL_DATA.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message says where it was looked for.
    ValueError
        If the file is not one of NIST's; the message names it and what is missing.
    """
    path = _folder(root) / f"{name}.dat"
    if not path.is_file():
        raise FileNotFoundError(f"strd: there is no {path}; the files are NIST's, one .dat a problem")
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    try:
        rows = _rows(lines, "Data")
        columns = np.array([[float(number) for number in row.split()] for row in rows]).T
        predictors = lines[_first_line(lines, "Data") - 2].split()[2:]
        starts, certified = _parameters(_rows(lines, "Starting Values"))
        regression = Regression(
            name, _formula(lines), columns[0], dict(zip(predictors, columns[1:], strict=True)), starts, certified
        )
        regression.residuals(Tensor(np.array(certified)))
    except (ValueError, TypeError, IndexError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"strd: {path} is not a file of NIST's non-linear regression set: {error}") from error
    return regression


def _folder(root: str | os.PathLike[str] | None) -> Path:
    base = root if root is not None else os.environ.get("MINIDL_DATA")
    if base is None:
        raise FileNotFoundError(f"strd: MINIDL_DATA is not set; it names the folder that holds {FOLDER}/")
    return Path(base) / FOLDER


# ---------------------------------------------------------------- the file; its header says on which lines a part is


def _first_line(lines: list[str], part: str) -> int:
    return _extent(lines, part)[0]


def _extent(lines: list[str], part: str) -> tuple[int, int]:
    for line in lines[:12]:
        found = re.search(rf"{part}\s*\(lines\s+(\d+)\s+to\s+(\d+)\)", line)
        if found:
            return int(found[1]), int(found[2])
    raise ValueError(f"its header names no lines for {part}")


def _rows(lines: list[str], part: str) -> list[str]:
    first, last = _extent(lines, part)
    if len(lines) < last:
        raise ValueError(f"{part} should end on line {last}, but there are {len(lines)} lines")
    return lines[first - 1 : last]


def _parameters(rows: list[str]) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], tuple[float, ...]]:
    """Return both starts and the certified values from rows like "b1 = 500  250  2.38942E+02  2.70700E+00"."""
    columns = list(zip(*([float(number) for number in row.split("=")[1].split()] for row in rows), strict=True))
    return (columns[0], columns[1]), columns[2]


def _formula(lines: list[str]) -> str:
    """Return the model's equation, which may go over several lines and ends with the error e."""
    text = " ".join(line.strip() for line in lines[: _first_line(lines, "Starting Values")])
    found = re.search(r"((?:log\[y\]|y)\s+=.*?\+\s*e)\s", text.partition("Model:")[2])
    if not found:
        raise ValueError("it has no model that ends with + e")
    return re.sub(r"\s+", " ", found[1])


# ---------------------------------------------------------------- the formula

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": ops.exp, "log": ops.log, "sin": ops.sin, "cos": ops.cos, "arctan": ops.arctan,
}  # fmt: skip
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


@functools.cache
def _sides(formula: str) -> tuple[ast.expr, ast.expr]:
    """Return both sides of "y = … + e" as syntax trees, without the error e; [ ] are parentheses."""
    left, right = formula.replace("[", "(").replace("]", ")").split("=")
    return _parsed(left), _parsed(re.sub(r"\+\s*e\s*$", "", right))


def _parsed(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _evaluate(tree: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(tree, ast.BinOp) and type(tree.op) in OPERATORS:
        return OPERATORS[type(tree.op)](_evaluate(tree.left, names), _evaluate(tree.right, names))
    if isinstance(tree, ast.UnaryOp) and type(tree.op) in OPERATORS:
        return OPERATORS[type(tree.op)](_evaluate(tree.operand, names))
    if isinstance(tree, ast.Constant) and isinstance(tree.value, (int, float)):
        return float(tree.value)
    if isinstance(tree, ast.Name) and tree.id in names:
        return names[tree.id]
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id in FUNCTIONS:
        return FUNCTIONS[tree.func.id](*(_evaluate(argument, names) for argument in tree.args))
    raise ValueError(
        f"its formula contains {ast.unparse(tree)!r}, which is no arithmetic, name or function that is known"
    )
