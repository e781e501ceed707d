"""The site's own code: lessons for the gallery, the table of equations, the check of links."""

import inspect
import re
import sys
from pathlib import Path

import pytest

from minidl import nn, optim
from minidl.nn import dropout, normalization, reparametrization

DOCS = Path(__file__).parent.parent / "docs"
TABLE = dict(
    re.findall(r"^   (minidl\.[\w.]+): (.+)", (DOCS / "equations.rst").read_text(encoding="utf-8"), re.MULTILINE)
)
ROWS = list(TABLE)
EQUATIONLESS = {
    "Optimizer",
    "Schedule",
    "InEpochs",
    "Penalty",
    "NormPenalty",
    "Reparametrization",
}  # bases, a change of unit


@pytest.fixture
def extension(monkeypatch):
    """Import a file of docs/ or docs/extensions/ by its name, if what it needs is installed."""

    def load(name, *needed):
        for package in needed:
            pytest.importorskip(package, reason=f'{package} is not installed: pip install ".[docs]"')
        monkeypatch.syspath_prepend(str(DOCS))
        monkeypatch.syspath_prepend(str(DOCS / "extensions"))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return load


def public_classes(module, names):
    return {name for name in names if inspect.isclass(getattr(module, name))} - EQUATIONLESS


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("minidl.optim", public_classes(optim, optim.__all__)),
        ("minidl.optim.schedules", public_classes(optim.schedules, optim.schedules.__all__)),
        ("minidl.optim.penalties", public_classes(optim.penalties, optim.penalties.__all__)),
        (
            "minidl.nn",
            {
                name
                for room in (dropout, normalization, reparametrization)
                for name in public_classes(nn, nn.__all__)
                if getattr(nn, name).__module__ == room.__name__
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_class_with_an_equation_stands_in_the_table(module, names):
    assert len(names) >= 6
    assert names <= {row.removeprefix(f"{module}.") for row in ROWS if row.startswith(module)}


def test_the_table_reads_equations_and_code(extension):
    equations = extension("equations", "sphinx")
    adam = equations.found("minidl.optim.Adam")
    assert r"\hat m_t" in equations.stated(adam)
    assert "Kingma" in equations.stated(adam)
    assert "Parameters" not in equations.stated(adam)
    where, code = equations.implementation(equations.found("minidl.optim.Adam.update"))
    assert re.fullmatch(r"minidl/optim/adaptive\.py, line \d+", where)
    assert code.startswith("def update(self, W, g, lr, t):")
    _, code = equations.implementation(equations.found("minidl.ops.dropout"))
    assert code.startswith("@differentiable\ndef dropout(")
    assert '"""' not in code


@pytest.mark.parametrize("row", ROWS)
def test_every_row_states_an_equation_and_shows_code(extension, row):
    equations = extension("equations", "sphinx")
    assert equations.stated(equations.found(row))
    for source in TABLE[row].split():
        where, code = equations.implementation(equations.found(source))
        assert where.startswith("minidl/")
        assert "def " in code


def test_the_table_refuses_names_that_have_gone(extension):
    equations = extension("equations", "sphinx")
    with pytest.raises(ImportError, match="minidl.optim.Gone"):
        equations.found("minidl.optim.Gone")
    with pytest.raises(ValueError, match="states no equation"):
        equations.stated(inspect.cleandoc)


LESSON = """# %% [markdown]
# # 3 · A title
#
# Prose with $x^2$ and `code`.

# %%
x = 2  # a comment stays

# %% [markdown]
# ## Next
#
# - **one** of a list

# %%
print("%%", x)
"""


def test_lessons_become_scripts_of_the_gallery(extension):
    lessons = extension("lessons", "pypandoc", "sphinx_gallery")
    script = lessons.gallery_script(LESSON)
    assert script.startswith('r"""\n3 · A title\n===========\n\nProse with :math:`x^2` and ``code``.\n"""\n')
    assert "# %%\nx = 2  # a comment stays\n" in script
    assert "# %%\n# Next\n# ----\n#\n# - **one** of a list\n" in script
    assert script.endswith('# %%\nprint("%%", x)\n')
    compile(script, "lesson", "exec")


def test_a_lesson_begins_with_prose(extension):
    lessons = extension("lessons", "pypandoc", "sphinx_gallery")
    with pytest.raises(ValueError, match="begins with a cell of prose"):
        lessons.gallery_script("# %%\nx = 2\n")


def test_the_check_of_links_finds_what_leads_nowhere(extension, tmp_path):
    check_links = extension("check_links")
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="sub/page.html#here">good</a><a href="https://example.org">fine</a><img src="https://example.org/x.png">'
        '<a href="sub/page.html#there">no anchor</a><a href="gone.html">gone</a><a href="#">top</a>'
    )
    (tmp_path / "sub" / "page.html").write_text('<p id="here"><a href="../index.html">back</a><a href="..">folder</a>')
    assert check_links.problems(tmp_path) == [
        "index.html: gone.html is not there",
        "index.html: https://example.org/x.png is loaded over the network",
        "index.html: sub/page.html#there: no such anchor",
    ]
