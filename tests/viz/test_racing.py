"""`minidl race`: one call that runs, tabulates and draws, and says what is wrong before it begins."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import minidl as ml
from minidl import cli, surfaces, viz
from minidl.optim import catalogue
from minidl.viz import racing

NAMES = ["sgd", "adam", "newton", "lm"]


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    folder = tmp_path_factory.mktemp("race") / "out"
    return viz.race("quadratic", NAMES, steps=20, pictures="sheet,page,sensitivity", out=folder, quiet=True), folder


def test_the_files_are_there_and_nothing_else(race):
    result, folder = race
    names = {"race.csv", "race.json", "race.png", "race.html", "sensitivity.png"}
    assert {path.name for path in folder.iterdir()} == {path.name for path in result.files} == names


def test_the_table_holds_what_the_optimizers_reached(race):
    result, folder = race
    with (folder / "race.csv").open(encoding="utf-8") as file:
        rows = {row["optimizer"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(NAMES)
    problem = surfaces.quadratic()
    x = ml.Tensor(np.array(problem.start), requires_grad=True)
    newton = catalogue.pick("newton")[0].make([x])

    def closure():
        loss = problem(x)
        loss.backward()
        return loss

    for _ in range(20):
        newton.step(closure)
    assert float(rows["newton"]["loss"]) == pytest.approx(problem(x.data).item(), abs=1e-16)
    assert rows["newton"]["met_at"] == "1"
    assert rows["newton"]["setting"] == "nothing to tune"
    finals = [float(row["loss"]) for row in result.rows]
    assert finals == sorted(finals)

    record = json.loads((folder / "race.json").read_text())
    assert record["settings"]["surface"] == "quadratic"
    assert record["settings"]["steps"] == 20
    assert record["settings"]["grids"]["adam"]["momenta"] == list(surfaces.sweep.__kwdefaults__["momenta"])
    assert [row["optimizer"] for row in record["runs"]] == [row["optimizer"] for row in result.rows]


def test_the_command_line(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["race", "--surface", "quadratic", "--condition", "1000", "--optimizers", "heavyball,newton"]
    arguments += ["--steps", "15", "--start", "-0.5", "0.5", "--pictures", "sheet", "--out", str(out)]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "condition number 1000 after 15 steps" in printed
    assert "Heavy ball" in printed
    assert f"wrote {out / 'race.png'}" in printed
    assert json.loads((out / "race.json").read_text())["settings"]["start"] == [-0.5, 0.5]


def test_a_picture_that_nobody_here_can_be_in_is_left_out_in_words(tmp_path, capsys):
    viz.race("saddle", ["newton"], steps=5, pictures=["sensitivity", "map", "inside"], out=tmp_path)
    assert "no picture 'map': it shows none of these methods" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"race.csv", "race.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--surface", "everest"], "surface is 'everest', expected one of rosenbrock"),
        (["--optimizers", "sgd,sdg"], "optimizers: unknown 'sdg'; expected some of sgd"),
        (["--steps", "0"], "steps is 0, expected a positive integer"),
        (["--start", "1", "inf"], "start is [1.0, inf], expected two finite numbers"),
        (["--steps", "100000000"], "sweep: 871 runs of 100,000,000 steps would take"),
        (["--pictures", "sheet,sheep"], "pictures: unknown 'sheep'; expected some of sheet"),
        (["--condition", "10"], "--condition is for --surface quadratic, but the surface is rosenbrock"),
        (["--surface", "quadratic", "--condition", "0"], "quadratic: condition is 0.0"),
    ],
)
def test_bad_input_is_named_before_anything_is_run(arguments, message, tmp_path, capsys):

    assert cli.main(["race", *arguments, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    if "--steps" not in arguments:
        assert not (tmp_path / "out").exists()


def test_every_picture_has_a_name_and_a_default(tmp_path):
    assert list(racing.PICTURES) == [
        "sheet", "page", "animation", "sensitivity", "map", "inside", "effective", "momentum", "amsgrad",
    ]  # fmt: skip


def test_the_help_names_every_optimizer_and_picture(capsys):
    with pytest.raises(SystemExit):
        cli.main(["race", "--help"])
    words = capsys.readouterr().out.replace("\n", "").replace(" ", "")
    for name in (*catalogue.NAMES, *racing.PICTURES, *surfaces.PROBLEMS):
        assert name in words


def test_inside_pictures_begin_at_the_start_of_the_race():
    sweep = surfaces.sweep(surfaces.beale(), "adam,newton,sgd", start=(0.25, 0.5), steps=3)
    problem, methods = racing._inside(sweep)
    assert problem.start == (0.25, 0.5)
    assert methods == ["sgd", "adam"]


def test_ctrl_c_while_drawing_keeps_the_table_and_the_pictures_that_are_done(tmp_path, capsys, monkeypatch):
    def interrupted(sweep, folder):
        raise KeyboardInterrupt

    monkeypatch.setitem(racing.PICTURES, "map", interrupted)
    result = viz.race("quadratic", ["sgd", "adam"], steps=5, pictures=["page", "map", "sheet"], out=tmp_path)
    assert result.interrupted
    assert "interrupted: the table is complete" in capsys.readouterr().out
    assert {"race.csv", "race.json", "race.html"} <= {path.name for path in result.files}
    assert "map.png" not in {path.name for path in result.files}
    assert all(path.is_file() for path in result.files)


@pytest.mark.slow
def test_several_processes_draw_the_same(tmp_path):
    files = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        viz.race("beale", ["sgd", "lm"], steps=8, pictures=["page"], processes=processes, out=out, quiet=True)
        files[processes] = (out / "race.html").read_bytes()
    assert files[1] == files[2]
