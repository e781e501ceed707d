"""The interactive race, made by the library when the site is built."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

from minidl import surfaces, viz


def setup(app: Sphinx) -> dict[str, bool]:
    pages = Path(app.srcdir) / "generated" / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    if not (pages / "rosenbrock.html").exists():
        viz.write_race_page(surfaces.sweep(surfaces.problem("rosenbrock")), pages / "rosenbrock.html")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
