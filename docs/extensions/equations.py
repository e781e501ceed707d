"""The directive `equations`: each equation beside the lines that compute it, both read from the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import minidl

ROOT = Path(minidl.__file__).parent.parent
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)


class Equations(SphinxDirective):
    """Each line of the content is a public name, a colon, and the names of the functions that compute it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        return [self.row(*line.split(":")) for line in self.content if line.strip()]

    def row(self, name: str, sources: str) -> nodes.Node:
        equation = nodes.container(classes=["equation"])
        equation += self.parse_text_to_nodes(f":py:obj:`~{name}`\n\n{stated(found(name))}")
        code = nodes.container(classes=["code"])
        for source in sources.split():
            where, text = implementation(found(source))
            self.env.note_dependency(str(ROOT / where.split(",")[0]))
            code += [
                nodes.paragraph("", "", nodes.literal("", where)),
                nodes.literal_block(text, text, language="python"),
            ]
        return nodes.container("", equation, code, classes=["equation-and-code"])


def found(name: str) -> Any:
    """Return the object of a dotted name.

    Raises
    ------
    ImportError, AttributeError
        If there is none: the page names something that has gone.
    """
    first, *others = name.strip().split(".")
    thing, path = importlib.import_module(first), first
    for part in others:
        path = f"{path}.{part}"
        if inspect.ismodule(thing) and not hasattr(thing, part):
            importlib.import_module(path)
        thing = inspect.getattr_static(thing, part) if inspect.isclass(thing) else getattr(thing, part)
    return thing


def stated(thing: Any) -> str:
    """Return what an object's docstring says before its parameters, and its sources.

    Raises
    ------
    ValueError
        If it states no equation.
    """
    before, *sections = SECTION.split(inspect.getdoc(thing) or "")
    if ":math:" not in before and ".. math::" not in before:
        raise ValueError(f"equations: the docstring of {thing.__name__} states no equation before its parameters")
    notes = dict(zip(sections[::2], sections[1::2], strict=True)).get("Notes", "")
    return f"{before}\n\n{notes}"


def implementation(thing: Any) -> tuple[str, str]:
    """Return where a function is, as path and line, and its source without the docstring."""
    function = inspect.unwrap(thing.fget if isinstance(thing, property) else thing)
    lines, first = inspect.getsourcelines(function)
    text = textwrap.dedent("".join(lines))
    definition = ast.parse(text).body[0]
    if ast.get_docstring(definition) is not None:
        docstring = definition.body[0]
        kept = text.splitlines(keepends=True)
        text = "".join(kept[: docstring.lineno - 1] + kept[docstring.end_lineno :])
    path = Path(inspect.getsourcefile(function)).relative_to(ROOT)
    return f"{path}, line {first}", text.rstrip()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("equations", Equations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
