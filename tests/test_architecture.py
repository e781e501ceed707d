"""The house holds: a file imports only from floors below its own, or from its own folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "minidl"

FLOORS = {
    "backend": 0,
    "buffers": 0,
    "expressions": 0,
    "files": 0,
    "memory": 0,
    "tables": 0,
    "threads": 0,
    "trials": 0,
    "forward": 0,
    "anomaly": 1,
    "kernels": 1,
    "data": 1,
    "emulator": 1,
    "operators": 2,
    "graph": 2,
    "tensor": 2,
    "ops": 3,
    "gradcheck": 3,
    "derivatives": 3,
    "nn": 4,
    "models": 5,
    "optim": 5,
    "surfaces": 6,
    "training": 6,
    "viz": 7,
    "course": 8,
    "studies": 8,
    "cli": 9,
}
SAME_FLOOR = {("tensor", "operators"), ("tensor", "graph")}  # the engine is three files
FACADE = {"__init__", "__main__"}  # the package's front door, which shows names of all floors


def room(path: str) -> str:
    """Return the top-level file or folder that a module belongs to."""
    return path.split(".")[0]


def imports(path: Path):
    """Yield the rooms that a file imports at run time, with the line."""
    for node in _run_time_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "minidl":
            inside = node.module.split(".")[1:]
            names = [inside[0]] if inside else [alias.name for alias in node.names]
            for name in names:
                yield name, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("minidl."):
                    yield alias.name.split(".")[1], node.lineno


def _run_time_nodes(tree):
    """Yield all nodes but those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        yield node
        yield from _run_time_nodes(node)


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem not in FACADE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_below(path):
    own = room(str(path.relative_to(ROOT).with_suffix("")).replace("/", "."))
    assert own in FLOORS, f"{own} stands on no floor; add it to FLOORS"
    for other, line in imports(path):
        if other == own or other not in FLOORS or (own, other) in SAME_FLOOR:
            continue
        assert FLOORS[other] < FLOORS[own], f"{path.name}:{line}: {own} imports {other}, which is not below it"


def test_the_check_sees_imports():
    assert ("ops", 1) in {(name, 1) for name, _ in imports(ROOT / "nn" / "layers.py")}


def test_every_room_exists():
    for name in FLOORS:
        assert (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file(), name
