"""What lessons begin with, and the command that runs them."""

import sys

import numpy as np
import pytest

from minidl import cli, course, viz
from minidl.course import scripts


@pytest.fixture
def called(monkeypatch):
    """Make the command line of a script what is passed."""
    return lambda *arguments: monkeypatch.setattr(sys, "argv", ["lesson.py", *arguments])


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Put two small lessons where lessons are looked for."""
    (tmp_path / "solutions").mkdir()
    for number, title in ((1, "First steps"), (2, "Second steps")):
        for folder, words in ((tmp_path, "lesson"), (tmp_path / "solutions", "solutions")):
            text = f"# %% [markdown]\n# # {number} · {title}\n\n# %%\nimport sys\n\nprint('{words}', *sys.argv[1:])\n"
            (folder / f"{number:02}_steps.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(scripts, "PLACES", (tmp_path / "nowhere", tmp_path))
    return tmp_path


def test_a_lesson_reads_its_command_line(called, tmp_path):
    called("--quick", "--out", str(tmp_path))
    this = course.lesson("1 · First steps")
    assert (this.quick, this.out) == (True, tmp_path)


def test_a_lesson_refuses_what_it_does_not_know(called, capsys):
    called("--fast")
    with pytest.raises(SystemExit):
        course.lesson("1 · First steps")
    assert "--fast" in capsys.readouterr().err


def test_show_saves_and_says_where(called, tmp_path, capsys):
    called("--out", str(tmp_path / "new" / "folder"))
    path = course.lesson("1 · First steps").show(viz.titled_figure(3, 2, "title", "subtitle"), "01_picture")
    assert path == tmp_path / "new" / "folder" / "01_picture.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"wrote {path}\n"


def test_quick_lessons_use_the_digits(called, capsys):
    called("--quick")
    images = course.lesson("1 · First steps").images("cifar10")
    assert images.train_x.shape[1:] == (28, 28, 1)
    assert "the quick form" in capsys.readouterr().out


def test_without_the_files_lessons_use_the_digits(called, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    called()
    images = course.lesson("1 · First steps").images("cifar10")
    assert images.train_x.shape[1:] == (28, 28, 1)
    assert "minidl data fetch cifar10" in capsys.readouterr().out


@pytest.mark.data
def test_lessons_use_real_images_that_are_here(called):
    called()
    images = course.lesson("1 · First steps").images("fashion-mnist")
    assert images.train_x.shape == (60_000, 28, 28, 1)
    assert images.train_x.dtype == np.uint8


def test_the_list_names_all(written, capsys):
    assert cli.main(["lesson", "list"]) == 0
    assert capsys.readouterr().out == " 1  First steps\n 2  Second steps\n"


def test_the_command_runs_a_lesson_with_its_options(written, capfd):
    assert cli.main(["lesson", "2", "--quick", "--out", "pictures"]) == 0
    assert capfd.readouterr().out == "lesson --out pictures --quick\n"
    assert cli.main(["lesson", "2", "--solutions"]) == 0
    assert capfd.readouterr().out == "solutions --out minidl-lessons\n"


def test_a_lesson_that_fails_fails_the_command(written):
    (written / "01_steps.py").write_text("# # 1 · First steps\nraise SystemExit(3)\n", encoding="utf-8")
    assert cli.main(["lesson", "1"]) == 3


@pytest.mark.parametrize(("number", "message"), [("3", "only 1 to 2"), ("one", "'one', expected a number")])
def test_the_command_names_a_wrong_number(written, capsys, number, message):
    assert cli.main(["lesson", number]) == 1
    assert message in capsys.readouterr().err


def test_copies_never_replace_what_may_have_been_changed(written, tmp_path, capsys):
    mine = tmp_path / "mine"
    for options in ([], ["--solutions"]):
        assert cli.main(["lesson", "1", "--copy", "--out", str(mine), *options]) == 0
    assert (mine / "01_steps.py").read_text(encoding="utf-8").count("lesson") == 1
    assert (mine / "01_steps_solutions.py").is_file()
    (mine / "01_steps.py").write_text("mine", encoding="utf-8")
    assert cli.main(["lesson", "1", "--copy", "--out", str(mine)]) == 1
    assert "01_steps.py is there already" in capsys.readouterr().err
    assert (mine / "01_steps.py").read_text(encoding="utf-8") == "mine"


def test_without_lessons_the_places_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(scripts, "PLACES", (tmp_path,))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        course.lessons()


def test_lessons_are_numbered_without_gaps_and_have_solutions():
    lessons = course.lessons()
    assert [script.number for script in lessons] == list(range(1, len(lessons) + 1))
    for script in lessons:
        assert script.solutions.is_file(), script.solutions
