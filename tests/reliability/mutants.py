"""Where the code can be broken: a mutant is a place in a file and another text for it.

Python is read as a syntax tree, CUDA C++ as tokens. What only describes is left alone:
annotations, docstrings, messages.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """The characters from `start` to `end` of a file, and what stands there instead."""

    path: str
    line: int
    start: int
    end: int
    text: str
    kind: str

    def of(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]


def of_file(root: Path, path: str) -> list[Mutant]:
    """Return all mutants of a file, in the order in which they stand there."""
    source = (root / path).read_text(encoding="utf-8")
    found = _of_python(source) if path.endswith(".py") else _of_cuda(source)
    changes = {(start, end, text): kind for start, end, text, kind in found if source[start:end] != text}
    return [
        Mutant(path, source.count("\n", 0, start) + 1, start, end, text, kind)
        for (start, end, text), kind in sorted(changes.items())
    ]


Change = tuple[int, int, str, str]

# ---------------------------------------------------------------- Python

OPERATORS = {
    ast.Add: ("+", "-", "sign"),
    ast.Sub: ("-", "+", "sign"),
    ast.Mult: ("*", "/", "factor"),
    ast.Div: ("/", "*", "factor"),
    ast.FloorDiv: ("//", "/", "division"),
    ast.Mod: ("%", "//", "division"),
    ast.Pow: ("**", "*", "factor"),
    ast.BitAnd: ("&", "|", "condition"),
    ast.BitOr: ("|", "&", "condition"),
    ast.LShift: ("<<", ">>", "factor"),
    ast.RShift: (">>", "<<", "factor"),
    ast.Lt: ("<", "<=", "off by one"),
    ast.LtE: ("<=", "<", "off by one"),
    ast.Gt: (">", ">=", "off by one"),
    ast.GtE: (">=", ">", "off by one"),
    ast.Eq: ("==", "!=", "condition"),
    ast.NotEq: ("!=", "==", "condition"),
    ast.Is: ("is", "is not", "condition"),
    ast.IsNot: ("is not", "is", "condition"),
    ast.In: ("in", "not in", "condition"),
    ast.NotIn: ("not in", "in", "condition"),
}
FUNCTIONS = {
    "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "argmax": "argmin", "argmin": "argmax",
    "sum": "max", "mean": "sum", "zeros": "ones", "zeros_like": "ones_like", "ones": "zeros", "floor": "ceil",
    "ceil": "floor", "exp": "log", "log": "exp", "sqrt": "abs", "sin": "cos", "cos": "sin", "all": "any", "any": "all",
    "where": "logical_or", "sign": "abs", "abs": "sign",
}  # fmt: skip
CHECKS = ("strict", "who")  # arguments that make no difference as long as the code is right


class _Places(ast.NodeVisitor):
    """Collects the changes of a module."""

    def __init__(self, source: str) -> None:
        self.source = source
        lines = source.splitlines(keepends=True)
        self.begin = [0]
        for line in lines:
            self.begin.append(self.begin[-1] + len(line))
        self.bytes_of = [line.encode() for line in lines]
        self.changes: list[Change] = []

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return where a node's text begins and ends, in characters; the tree counts bytes."""
        start, end = (
            self.begin[line - 1] + len(self.bytes_of[line - 1][:column].decode())
            for line, column in ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        )
        return start, end

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def replace(self, node: ast.AST, text: str, kind: str) -> None:
        self.changes.append((*self.span(node), text, kind))

    def between(self, left: ast.AST, right: ast.AST, operator: type) -> None:
        """Replace the operator that stands between two nodes."""
        token, other, kind = OPERATORS[operator]
        start, end = self.span(left)[1], self.span(right)[0]
        found = re.search(token.replace(" ", r"\s+") if token.isalpha() else re.escape(token), self.source[start:end])
        if found:
            self.changes.append((start + found.start(), start + found.end(), other, kind))

    # -- what is left alone

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.decorator_list, *node.body):
            self.visit(part)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_Module(self, node: ast.Module) -> None:
        for statement in node.body:
            names_a_type = isinstance(statement, ast.Assign) and isinstance(statement.value, ast.BinOp | ast.Subscript)
            if not (names_a_type and "|" in self.text(statement)):
                self.visit(statement)

    # -- what is broken

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS:
            self.between(node.left, node.right, type(node.op))
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
            self.replace(node, f"({self.text(node.left)})", "missing term")
        if isinstance(node.op, ast.Add | ast.Mult):
            self.replace(node, f"({self.text(node.right)})", "missing term")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in OPERATORS:
            _, other, kind = OPERATORS[type(node.op)]
            left, right = self.text(node.target), self.text(node.value)
            self.replace(node, f"{left} {other}= {right}", kind)
            self.replace(node, f"{left} = {right}", "missing term")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub | ast.Not | ast.Invert):
            kind = "sign" if isinstance(node.op, ast.USub) else "condition"
            self.replace(node, f"({self.text(node.operand)})", kind)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.between(left, right, type(operator))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        token, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            start, end = self.span(left)[1], self.span(right)[0]
            found = re.search(rf"\b{token}\b", self.source[start:end])
            if found:
                self.changes.append((start + found.start(), start + found.end(), other, "condition"))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.replace(node, str(not node.value), "condition")
        elif isinstance(node.value, int):
            self.replace(node, str(node.value + 1), "off by one")
            self.replace(node, f"({node.value - 1})", "off by one")
        elif isinstance(node.value, float):
            self.replace(node, repr(2 * node.value), "factor")

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        if name in FUNCTIONS:
            end = self.span(node.func)[1]
            self.changes.append((end - len(name), end, FUNCTIONS[name], "another function"))
        for keyword in node.keywords:
            if keyword.arg and keyword.arg not in CHECKS:
                start, end = self.span(keyword)
                comma = re.match(r",\s*", self.source[end:])
                self.changes.append((start, end + (comma.end() if comma else 0), "", "missing argument"))
        match node.args:
            case [ast.BinOp(left, ast.Add(), right)] if name == "sqrt" and "eps" in self.text(right):
                moved = f"({self.text(node.func)}({self.text(left)}) + {self.text(right)})"
                self.replace(node, moved, "place of ε")
        for part in (node.func, *node.args, *(each.value for each in node.keywords if each.arg not in CHECKS)):
            self.visit(part)

    def visit_If(self, node: ast.If) -> None:
        self.replace(node.test, f"not ({self.text(node.test)})", "condition")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.replace(node.test, f"not ({self.text(node.test)})", "condition")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if isinstance(node.value, ast.Call):
            self.replace(node, "pass", "missing statement")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self.replace(node, "pass", "missing statement")
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)


def _of_python(source: str) -> list[Change]:
    places = _Places(source)
    places.visit(ast.parse(source))
    return places.changes


# ---------------------------------------------------------------- CUDA C++

TOKENS = [
    (r" \+ ", " - ", "sign"),
    (r" - ", " + ", "sign"),
    (r" \* ", " + ", "factor"),
    (r" / ", " * ", "factor"),
    (r" % ", " / ", "division"),
    (r" \+= ", " = ", "missing term"),
    (r" -= ", " += ", "sign"),
    (r" \*= ", " = ", "missing term"),
    (r" < ", " <= ", "off by one"),
    (r" <= ", " < ", "off by one"),
    (r" > ", " >= ", "off by one"),
    (r" >= ", " > ", "off by one"),
    (r" == ", " != ", "condition"),
    (r" != ", " == ", "condition"),
    (r" && ", " || ", "condition"),
    (r" \|\| ", " && ", "condition"),
    (r"\bmax\(", "min(", "another function"),
    (r"\bmin\(", "max(", "another function"),
    (r"\+\+(?=\w)", "--", "off by one"),
    (r"(?<=[=(,\[ ])-(?=[A-Za-z(])", "", "sign"),
    (r"__sync(threads|warp)\([^)]*\);", ";", "missing statement"),
    (r"\btrue\b", "false", "condition"),
    (r"\bfalse\b", "true", "condition"),
]
COMMENTS, LINES, CLAUSES = r"//[^\n]*|/\*.*?\*/", r"^\s*#[^\n]*", r"static_assert[^;]*;|template\s*<[^\n]*>"
LEFT_ALONE = re.compile(rf"{COMMENTS}|{LINES}|{CLAUSES}", re.DOTALL | re.MULTILINE)


def _of_cuda(source: str) -> list[Change]:
    code = LEFT_ALONE.sub(lambda found: re.sub(r"[^\n]", "\0", found.group()), source)
    rules = [
        *((token, lambda _, other=other: other, kind) for token, other, kind in TOKENS),
        (r"(?<![\w.])\d+(?![\w.])", lambda number: str(int(number) + 1), "off by one"),
        (r"(?<![\w.])\d+\.\d*(?![\w.])", lambda number: repr(2 * float(number) or 1.0), "factor"),
    ]
    return [
        (found.start(), found.end(), changed(found.group()), kind)
        for token, changed, kind in rules
        for found in re.finditer(token, code)
    ]


def per_line(mutants: list[Mutant]) -> Iterator[list[Mutant]]:
    """Yield the mutants of each line that has some."""
    lines: dict[int, list[Mutant]] = {}
    for mutant in mutants:
        lines.setdefault(mutant.line, []).append(mutant)
    yield from lines.values()
