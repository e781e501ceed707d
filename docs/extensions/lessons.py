"""The lessons' scripts as the gallery wants them: prose in reStructuredText, the first cell as the docstring."""

from __future__ import annotations

import re
from pathlib import Path

import pypandoc
from sphinx_gallery.scrapers import figure_rst

CELL = re.compile(r"^# %%(?P<kind>.*)\n", re.MULTILINE)
BETWEEN = "\n\nNEXTPROSECELL\n\n"
INTRODUCTION = {
    "": """Lessons
=======

Each lesson does an idea by hand in a few lines of NumPy, finds it again in minidl, and checks that both agree to
rounding. They are plain scripts: `minidl lesson 5` runs one, `minidl lesson 5 --copy` gives you the script to change,
and every page here offers it as a script and as a notebook. What is printed below comes from the {form} form.
""",
    "_solutions": """Solutions of the exercises
--------------------------

Try first. `minidl lesson 5 --solutions` runs them.
""",
}


def convert(source: Path, target: Path, form: str) -> Path:
    """Write all lessons of the folder `source` into `target` as scripts of the gallery, and return `target`.

    `form`, "quick" or "full", is told on the first page.
    """
    for folder, into, ending in ((source, target, ""), (source / "solutions", target / "solutions", "_solutions")):
        into.mkdir(parents=True, exist_ok=True)
        write(into / "README.txt", INTRODUCTION[ending].format(form=form))
        scripts = {f"{path.stem}{ending}.py": path for path in sorted(folder.glob("[0-9][0-9]_*.py"))}
        for stale in {path.name for path in into.glob("*.py")} - scripts.keys():
            (into / stale).unlink()
        for name, script in scripts.items():
            write(into / name, gallery_script(script.read_text(encoding="utf-8")))
    return target


def write(path: Path, text: str) -> None:
    """Write a text unless it is there already: what has not changed is not run again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def gallery_script(script: str) -> str:
    """Return a lesson in the gallery's form.

    Raises
    ------
    ValueError
        If it does not begin with a cell of prose.
    """
    start, *pieces = CELL.split(script)
    kinds, bodies = pieces[::2], pieces[1::2]
    is_prose = ["markdown" in kind for kind in kinds]
    if start.strip() or not is_prose[0]:
        raise ValueError("a lesson begins with a cell of prose, `# %% [markdown]`")
    prose = iter(
        restructured([uncommented(body) for body, its_prose in zip(bodies, is_prose, strict=True) if its_prose])
    )
    cells = [f'r"""\n{next(prose)}\n"""\n']
    for body, its_prose in zip(bodies[1:], is_prose[1:], strict=True):
        cells.append("# %%\n" + commented(next(prose)) if its_prose else f"# %%\n{body.strip()}\n")
    return "\n".join(cells)


def uncommented(cell: str) -> str:
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in cell.strip().splitlines())


def commented(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def restructured(cells: list[str]) -> list[str]:
    """Return cells of Markdown as reStructuredText."""
    text = pypandoc.convert_text(
        BETWEEN.join(cells), "rst", format="markdown-auto_identifiers", extra_args=["--wrap=none"]
    )
    return [cell.strip() for cell in text.split(BETWEEN.strip())]


def quick(gallery_conf: dict, script_vars: dict) -> list[str]:
    """Return the arguments of a lesson in its quick form."""
    return ["--quick", *full(gallery_conf, script_vars)]


def full(gallery_conf: dict, script_vars: dict) -> list[str]:
    return ["--out", str(pictures(script_vars["src_file"]))]


def pictures(script: str) -> Path:
    """Return the folder for a script's pictures, its own, since several run at the same time."""
    return Path("minidl-lessons") / Path(script).stem


def shown(block: tuple, block_vars: dict, gallery_conf: dict) -> str:
    """Move the pictures that a cell has written into the gallery, and return the lines that show them."""
    written = sorted(pictures(block_vars["src_file"]).glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    paths = []
    for picture, path in zip(written, block_vars["image_path_iterator"], strict=False):
        picture.replace(path)
        paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"])
