"""What the page on reliability and SECURITY.md promise: the tests they name are there, and no file is code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
GUARANTEES = re.findall(
    r"^\| (?!guarantee|---)(.+?) \| (.+) \|$", PAGE.split("## Guarantees")[1].split("\n## ")[0], re.M
)
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle", "yaml"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "extractall",
    "extract",
    "unpack_archive",
    "system",
    "popen",
    "memmap",
}


@pytest.mark.parametrize(("guarantee", "tests"), GUARANTEES, ids=[guarantee[:40] for guarantee, _ in GUARANTEES])
def test_every_guarantee_names_tests_that_are_there(guarantee, tests):
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
    assert named
    assert len(named) == tests.count("`") / 2
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path} has no {name}"


def test_the_page_lists_guarantees_and_scripts_that_are_there():
    assert len(GUARANTEES) >= 15
    for path in re.findall(r"python (tests/[\w/]+\.py)", PAGE + SECURITY):
        assert (ROOT / path).is_file(), path


def forbidden(source: str) -> list[str]:
    """Return the lines of a source that could make code, or a path, of what is read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if (node.module or "").split(".")[0] in MODULES else []
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in CALLS:
                names = [called.id]
            elif isinstance(called, ast.Attribute) and called.attr in CALLS:
                of = ast.unparse(called.value)
                names = (
                    [] if called.attr in ("eval", "compile") and of not in ("builtins",) else [f"{of}.{called.attr}"]
                )
            names += [
                f"{keyword.arg}={ast.unparse(keyword.value)}"
                for keyword in node.keywords
                if keyword.arg in ("allow_pickle", "shell") and ast.unparse(keyword.value) != "False"
            ]
            if ast.unparse(called) in ("np.load", "numpy.load") and "allow_pickle=False" not in ast.unparse(node):
                names.append("np.load without allow_pickle=False")
        found += [f"line {node.lineno}: {name}" for name in names]
    return found


def test_no_file_that_is_read_can_be_code():
    paths = sorted((ROOT / "minidl").rglob("*.py"))
    assert len(paths) > 100
    wrong = [
        f"{path.relative_to(ROOT)}, {line}" for path in paths for line in forbidden(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from pickle import loads", "import marshal", "import shelve", "eval('1')", "exec('1')"),
        *("np.load(path)", "np.load(path, allow_pickle=True)", "archive.extractall(path)", "os.system('ls')"),
        *("subprocess.run('ls', shell=True)", "builtins.eval('1')", "__import__('os')", "compile('1', '', 'eval')"),
    ],
)
def test_the_walk_sees(line):
    assert forbidden(line)


@pytest.mark.parametrize(
    "line", ["model.eval()", "re.compile('a')", "np.load(path, allow_pickle=False)", "ast.parse('1')"]
)
def test_the_walk_passes(line):
    assert not forbidden(line)
