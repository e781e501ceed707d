"""`minidl compare`: the race, its table, its picture, and its command line."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minidl import data, optim, studies, training, viz
from minidl.cli import main
from minidl.studies import comparison, contenders


@pytest.fixture
def small_digits(monkeypatch):
    """A tenth of the digits, so that a race takes a second."""
    full = data.load("digits", size=28)
    part = data.Dataset(full.train_x[:150], full.train_y[:150], full.test_x[:60], full.test_y[:60], full.classes)
    monkeypatch.setattr(data, "load", lambda name, **settings: part)
    return part


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_race_ends_in_a_table_and_a_picture(small_digits, tmp_path):
    result = studies.compare(["adam", "sgd"], model="mlp", epochs=3, lr="grid", out=tmp_path, quiet=True)
    assert (
        {path.name for path in result.files}
        == set(os.listdir(tmp_path))
        == {"compare.csv", "compare.json", "compare.png"}
    )
    assert is_png(tmp_path / "compare.png")

    rows = list(csv.DictReader((tmp_path / "compare.csv").read_text(encoding="utf-8").splitlines()))
    record = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert {row["optimizer"] for row in rows} == {"adam", "sgd"}
    assert record["settings"]["epochs"] == 3
    for row, run, line in zip(rows, record["runs"], result.runs, strict=True):
        assert float(row["first"]) == run["first"] == line.accuracies[0]
        assert run["best"] == max(run["accuracies"])
        assert run["final"] == run["accuracies"][-1]
        assert len(run["accuracies"]) == 3
        assert len(run["losses"]) == 9
        assert float(row["seconds"]) > 0
    finals = [run["final"] for run in record["runs"]]
    assert finals == sorted(finals, reverse=True)


def test_every_optimizer_is_tuned_with_the_same_budget_on_training_images_only(small_digits, tmp_path, monkeypatch):
    trained = []
    train = comparison._Race.train

    def watched(self, contender, value, fitted, test, epochs):
        trained.append((contender.method.name, value, len(fitted[0]), len(test[0]), epochs))
        return train(self, contender, value, fitted, test, epochs)

    monkeypatch.setattr(comparison._Race, "train", watched)
    result = studies.compare(["adam", "adadelta"], model="mlp", epochs=1, out=tmp_path, quiet=True)
    for contender in contenders.pick(["adam", "adadelta"]):
        mine = [entry[1:] for entry in trained if entry[0] == contender.method.name]
        assert mine[:-1] == [(value, 105, 45, 2) for value in contender.grid]
        run = next(run for run in result.runs if run.contender == contender)
        assert mine[-1] == (run.value, 150, 60, 1)
        losses = dict(run.trials)
        assert losses[run.value] == min(losses.values())


def test_all_contenders_have_grids_of_one_size_and_the_default_eleven_are_the_notes():
    assert {len(grid) for grid in contenders.GRIDS.values()} == {3}
    assert len(contenders.DEFAULT) == 11
    classes = {type(contender.method.make([_leaf()], None)) for contender in contenders.pick(contenders.DEFAULT)}
    assert len(classes) == 10
    assert optim.Optimizer not in classes


def _leaf():
    import minidl as ml

    return ml.Tensor([1.0], requires_grad=True)


def test_a_race_is_the_same_twice(small_digits, tmp_path):
    def run(out):
        result = studies.compare(["nesterov"], model="lenet5", epochs=2, lr=0.02, seed=5, out=out, quiet=True)
        return result.runs[0].losses

    assert run(tmp_path / "a") == run(tmp_path / "b")


def test_divergence_is_named_in_the_table_and_does_not_end_the_race(small_digits, tmp_path):
    result = studies.compare(["sgd", "adam"], model="mlp", epochs=2, lr=1e30, out=tmp_path, quiet=True)
    diverged = next(run for run in result.runs if run.contender.method.name == "sgd")
    assert diverged.failure.startswith("the loss is")
    assert diverged.row()["final"] is None
    assert is_png(tmp_path / "compare.png")


def test_a_race_that_diverges_in_its_only_step_is_named_diverged(small_digits, tmp_path):
    settings = {"model": "mlp", "epochs": 1, "batch_size": 200, "lr": 1e38}
    result = studies.compare("sgd", **settings, out=tmp_path, quiet=True)
    assert result.runs[0].failure.startswith("the validation loss is")


def test_a_value_at_the_edge_of_its_grid_is_marked(small_digits, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(comparison._Race, "train", _pretend({0.003: 3.0, 0.01: 1.5, 0.03: 2.0, 0.1: 1.0}))
    result = studies.compare("sgd, heavyball", epochs=1, out=tmp_path, quiet=True)
    comparison.show_table(result)
    assert {run.contender.method.name: run.at_edge for run in result.runs} == {"sgd": True, "heavyball": False}
    output = capsys.readouterr().out
    assert "η 0.1 *" in output
    assert "* the edge of its grid" in output


def _pretend(losses):
    """Replace training by a table of the loss that each rate would have reached."""

    def train(self, contender, value, fitted, test, epochs):
        history = training.History()
        history.steps = [{"loss": losses[value]}]
        history.epochs = [{"validation_loss": losses[value], "validation_accuracy": 0.5, "seconds": 0.1}]
        return history, ""

    return train


def test_default_rates_and_methods_without_a_rate(small_digits, tmp_path):
    result = studies.compare(["adadelta", "sgd"], model="mlp", epochs=1, lr=0.05, out=tmp_path, quiet=True)
    assert {run.contender.method.name: run.value for run in result.runs} == {"adadelta": None, "sgd": 0.05}
    result = studies.compare(["sgd"], model="mlp", epochs=1, lr="default", out=tmp_path, quiet=True)
    assert result.runs[0].value is None
    assert result.runs[0].trials == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizers": ["adam", "sgdd"]}, "unknown 'sgdd'; expected some of sgd, heavyball"),
        ({"optimizers": []}, "none given, expected at least one"),
        ({"optimizers": ["sgd", "sgd"]}, "each once"),
        ({"model": "vgg"}, "model is 'vgg', expected one of lenet5, mlp"),
        ({"dataset": "cats"}, "name is 'cats', expected one of digits"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": "fast"}, "lr is 'fast', expected a positive number, 'grid' or 'default'"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_clear_errors_before_any_training(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        studies.compare(**{"optimizers": ["sgd"], "out": tmp_path / "out", "quiet": True} | settings)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_found_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(comparison._Race, "train", lambda *a: pytest.fail("it trained"))
    with pytest.raises(OSError, match="out: cannot write to the folder"):
        studies.compare(["sgd"], out=tmp_path / "file" / "sub", quiet=True)


# ---------------------------------------------------------------- the command


def test_the_command_prints_progress_table_and_paths(small_digits, tmp_path, capsys):
    arguments = ["--optimizers", "adam, sgd", "--model", "mlp", "--epochs", "2", "--lr", "0.01", "--out", str(tmp_path)]
    assert main(["compare", *arguments]) == 0
    output = capsys.readouterr().out
    assert "2 optimizers: mlp (101,770 parameters)" in output
    assert "no tuning: rate 0.01" in output
    assert " 1/2  Adam" in output
    for heading in ("optimizer", "setting", "first epoch", "best", "final", "seconds"):
        assert heading in output
    for name in ("compare.csv", "compare.json", "compare.png"):
        assert f"wrote {tmp_path / name}" in output


def test_the_tuning_budget_is_printed(small_digits, tmp_path, capsys):
    assert main(["compare", "--optimizers", "sgd", "--model", "mlp", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert (
        "tuning budget of every optimizer: 3 values × 2 epochs on 70% of the training images" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizers", "magic"], "minidl compare: optimizers: unknown 'magic'"),
        (["--device", "tpu"], "minidl compare: use_device: name is 'tpu'"),
        (["--data", "mnist"], "minidl compare: data.load"),
    ],
)
def test_errors_of_the_command_are_one_line(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "missing"))
    assert main(["compare", "--out", str(tmp_path), *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


def test_bad_usage_has_status_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["compare", "--epochs", "many"])
    assert caught.value.code == 2
    assert "invalid int value: 'many'" in capsys.readouterr().err


def test_info_says_why_there_is_no_gpu(capsys):
    import minidl as ml

    assert main(["info"]) == 0
    output = capsys.readouterr().out
    assert f"minidl {ml.__version__}" in output
    assert ml.gpu_status().reason in output


def test_help_and_version_as_a_module():
    for arguments, expected in (
        (["--help"], "compare"),
        (["--version"], "minidl 0."),
        (["compare", "--help"], "--seed"),
    ):
        assert expected in subprocess.check_output([sys.executable, "-m", "minidl", *arguments], text=True)


def test_ctrl_c_ends_the_race_with_the_table_of_what_was_reached(tmp_path):
    command = [sys.executable, "-m", "minidl", "compare", "--model", "mlp", "--epochs", "300", "--lr", "0.01"]
    process = subprocess.Popen(
        [*command, "--optimizers", "sgd,adam", "--out", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    header = [process.stdout.readline() for _ in range(2)]
    assert "2 optimizers" in header[0]
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: the table holds what was reached" in rest
    record = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert [run["optimizer"] for run in record["runs"]] == ["sgd"]
    assert 1 <= len(record["runs"][0]["accuracies"]) < 300


# ---------------------------------------------------------------- the picture


def curve(name, final, diverged=False):
    losses = list(np.geomspace(2, 0.1, 40))
    return viz.LearningCurve(name, "η 0.1", losses, [0.5, 0.8, final], 13, diverged)


@pytest.mark.parametrize("count", [1, 4, pytest.param(13, marks=pytest.mark.slow)])
def test_small_multiples_have_two_axes_a_run_and_a_ranking(count, tmp_path):
    curves = [curve(f"run {i}", 0.9 - i / 100) for i in range(count)]
    figure = viz.small_multiples(curves, "title", "subtitle")
    assert len(figure.axes) == 2 * count + 1
    assert [label.get_text() for label in figure.axes[-1].get_yticklabels()] == [c.name for c in curves]
    assert is_png(viz.save(figure, tmp_path / "curves.png"))
    assert os.listdir(tmp_path) == ["curves.png"]


def test_a_diverged_run_is_named_not_hidden():
    figure = viz.small_multiples([curve("good", 0.9), curve("bad", 0.1, diverged=True)], "", "")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts] + [
        axes.get_title(loc="right") for axes in figure.axes
    ]
    assert texts.count("diverged") == 2


def test_runs_without_a_single_epoch_can_be_drawn(tmp_path):
    nothing = viz.LearningCurve("none", "", [], [], 1, diverged=True)
    assert is_png(viz.save(viz.small_multiples([nothing], "", ""), tmp_path / "empty.png"))


def test_the_drawn_loss_is_a_running_mean_without_a_bias_at_the_start():
    from minidl.viz.curves import running_mean

    np.testing.assert_allclose(running_mean([3.0] * 20), 3.0)
    noisy = np.random.default_rng(0).standard_normal(2000) + 5
    assert abs(running_mean(noisy)[-500:].mean() - 5) < 0.2


@pytest.mark.parametrize("name", comparison.MODELS)
def test_every_model_fits_the_digits(name, small_digits):
    model = comparison.MODELS[name](small_digits).eval()
    assert model(small_digits.test_x[:2]).shape == (2, 10)
