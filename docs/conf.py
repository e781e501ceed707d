"""The site: `sphinx-build -W docs site`; with `-t full` the lessons run in their full form."""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]

import minidl  # noqa: E402

import lessons  # noqa: E402  (found beside this file)

project = "minidl"
author = "The minidl developers"
copyright = "2026, the minidl developers"
version = release = minidl.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "equations",
    "race",
]
exclude_patterns = [
    "studies/README.md",
    "generated/scripts",
    "generated/pages",
    "lessons/**/*.py",
    "lessons/**/*.ipynb",
    "lessons/**/README.*",
]
templates_path = ["_templates"]
suppress_warnings = [
    "config.cache",
    "myst.header",
]  # the gallery's settings hold functions; a study's page is a fragment
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # `name` is a name of Python where there is one, and code elsewhere
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give types in words
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_google_docstring = False

# Mathematics without a network: one file of MathJax, which a package carries.
_mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
mathjax_path = "tex-svg-full.js"
html_static_path = ["_static", str(_mathjax / mathjax_path)]

html_theme = "pydata_sphinx_theme"
html_title = "minidl"
html_css_files = ["minidl.css"]
html_extra_path = ["generated/pages"]
html_sidebars = {page: [] for page in ("equations", "race", "gpu", "contributing", "changelog")}
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc", "sg_download_links"],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 8,
    "pygments_light_style": "a11y-high-contrast-light",
    "footer_start": ["copyright"],
    "footer_end": [],
}

form = "full" if tags.has("full") else "quick"  # noqa: F821  (Sphinx puts the tags there)
sphinx_gallery_conf = {
    "examples_dirs": [str(lessons.convert(HERE.parent / "lessons", HERE / "generated" / "scripts", form))],
    "gallery_dirs": ["lessons"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("lessons.shown",),
    "reset_modules": (),
    "reset_argv": f"lessons.{form}",
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "pypandoc": True,
    "parallel": 1 if form == "full" else 2,
    "plot_gallery": True,
    "line_numbers": False,
}
