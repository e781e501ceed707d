"""Where the lessons' scripts are, and how `minidl lesson` runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minidl import files

PACKAGE = Path(__file__).parent
PLACES = (PACKAGE / "lessons", PACKAGE.parent.parent / "lessons")  # installed with the package, or in its repository


@dataclass(frozen=True)
class Script:
    """A lesson: its number, its title, its script and that of its exercises' solutions."""

    number: int
    title: str
    path: Path

    @property
    def solutions(self) -> Path:
        """The script with the solutions of the exercises."""
        return self.path.parent / "solutions" / self.path.name


def lessons() -> list[Script]:
    """Return all lessons in order.

    Raises
    ------
    FileNotFoundError
        If the lessons are neither in the package nor beside it.
    """
    for folder in PLACES:
        if found := sorted(folder.glob("[0-9][0-9]_*.py")):
            return [Script(int(path.name[:2]), _title(path), path) for path in found]
    raise FileNotFoundError(f"the lessons are in none of {', '.join(map(str, PLACES))}")


def _title(path: Path) -> str:
    """Return what stands after the number in the script's first heading, `# # 5 · From AdaGrad to AMSGrad`."""
    with path.open(encoding="utf-8") as lines:
        heading = next(line for line in lines if line.startswith("# # "))
    return heading.removeprefix("# # ").split("·", 1)[1].strip()


def find(number: int) -> Script:
    """Return the lesson of this number.

    Raises
    ------
    ValueError
        If there is none.
    """
    all_of_them = lessons()
    for script in all_of_them:
        if script.number == number:
            return script
    raise ValueError(
        f"there is no lesson {number}, only 1 to {all_of_them[-1].number}; `minidl lesson list` names them"
    )


def run(path: Path, arguments: Sequence[str] = ()) -> int:
    """Run a script in a Python process of its own and return its exit status."""
    return subprocess.run([sys.executable, str(path), *arguments], check=False).returncode


def copy(script: Script, folder: Path, solutions: bool = False) -> Path:
    """Copy a lesson's script, or its solutions, into a folder, to be changed there, and return the copy's path.

    Raises
    ------
    FileExistsError
        If the folder holds a file of this name: it may have been changed.
    """
    source = script.solutions if solutions else script.path
    target = folder / (f"{source.stem}_solutions.py" if solutions else source.name)
    if target.exists():
        raise FileExistsError(f"{target} is there already; move it away first")
    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing(target) as temporary:
        temporary.write_bytes(source.read_bytes())
    return target
