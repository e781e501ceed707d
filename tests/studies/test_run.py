"""A run and its record: made once, the same again, gone on with after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from minidl import training
from minidl.studies import run as runs
from minidl.studies.pool import carry_out
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run

RECIPE = Recipe("plain, mlp", "mlp(8)", "HeavyBall(beta=0.9)", rate="0.03", batch_size=16, epochs=4)
RUN = Run(RECIPE, "digits", 1 / 8, seed=2)


class StopAfter(training.Callback):
    def __init__(self, epochs):
        self.left = epochs

    def on_epoch(self, trainer):
        self.left -= 1
        if not self.left:
            trainer.stop("interrupted")


def essence(record):
    """All of a record but times and circumstances."""
    epochs = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in record["epochs"]]
    return {k: v for k, v in record.items() if k not in ("made", "seconds")} | {"epochs": epochs}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return RUN.train(folder), folder


def test_a_record_holds_what_the_run_needs_and_what_it_reached(record):
    made, folder = record
    assert os.listdir(folder) == [f"{RUN.key}.json"]
    written = json.loads((folder / f"{RUN.key}.json").read_text(encoding="utf-8"))
    assert written == made == runs.read_record(folder / f"{RUN.key}.json")
    assert Run.from_dict(written["run"]) == RUN
    assert written["parameters"] == 784 * 8 + 8 + 8 * 10 + 10
    assert (written["training_images"], written["judged_images"]) == (180, 355)
    assert [epoch["epoch"] for epoch in written["epochs"]] == [1, 2, 3, 4]
    assert written["failure"] == ""
    assert {"date", "minidl", "numpy", "python", "blas", "device", "machine", "threads", "processes"} == set(
        written["made"]
    )
    assert runs.accuracies(made)[-1] > 0.4


def test_a_run_that_has_a_record_is_not_made_again(record, monkeypatch):
    made, folder = record
    monkeypatch.setattr(Recipe, "prepare", None)
    assert RUN.train(folder) == made
    assert list(carry_out([RUN], folder)) == [(0, made)]


def test_a_record_can_be_repeated(record, tmp_path):
    made, folder = record
    assert essence(runs.repeat(folder / f"{RUN.key}.json", tmp_path)) == essence(made)


def test_an_interrupted_run_goes_on_to_the_same_result(record, tmp_path):
    for epochs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            RUN.train(tmp_path, [StopAfter(epochs)])
        assert os.listdir(tmp_path) == [f"{RUN.key}.safetensors"]
    assert essence(RUN.train(tmp_path)) == essence(record[0])
    assert os.listdir(tmp_path) == [f"{RUN.key}.json"]


def test_every_setting_makes_another_run():
    others = [
        replace(RUN, dataset="mnist"),
        replace(RUN, fraction=0.5),
        replace(RUN, seed=3),
        replace(RUN, held_out=0.3),
        replace(RUN, recipe=replace(RECIPE, epochs=5)),
        replace(RUN, recipe=replace(RECIPE, rate="0.02")),
        replace(RUN, recipe=replace(RECIPE, standardize=False)),
    ]
    assert len({RUN.key, *(other.key for other in others)}) == 8
    assert replace(RUN, recipe=replace(RECIPE, group="g", values={"unused": 3})).key == RUN.key  # the same training
    assert RUN.key.startswith("plain-mlp-seed2-")


def test_what_is_held_out_are_training_images():
    full, part = RUN.data(), replace(RUN, held_out=0.3).data()
    assert (len(part.train_x), len(part.test_x)) == (126, 54)
    images = {image.tobytes() for image in full.train_x}
    assert {image.tobytes() for image in np.concatenate([part.train_x, part.test_x])} <= images


def test_a_training_that_diverges_leaves_a_record_too(tmp_path):
    bad = replace(RUN, recipe=replace(RECIPE, rate="1e6", loss="MSE", model="mlp(8)"))
    with pytest.raises((ValueError, TypeError)):
        bad.train(tmp_path)  # MSE wants targets like the outputs
    assert os.listdir(tmp_path) == []
    made = replace(RUN, recipe=replace(RECIPE, rate="1e30")).train(tmp_path)
    assert "not finite" in made["failure"] or "inf" in made["failure"] or "nan" in made["failure"]
    assert len(made["epochs"]) < 4
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"format": "minidl run 0"}', "[" * 10000, "\x00", "3"])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    path = tmp_path / f"{RUN.key}.json"
    path.write_text(text, encoding="utf-8")
    for read in (lambda: runs.read_record(path), lambda: RUN.train(tmp_path), lambda: runs.repeat(path, tmp_path)):
        with pytest.raises(ValueError, match=f"{RUN.key}.json is no record of a run"):
            read()


def test_the_record_of_another_run_in_its_place_is_refused(record, tmp_path):
    other = replace(RUN, seed=3)
    (tmp_path / f"{other.key}.json").write_text(json.dumps(record[0]), encoding="utf-8")
    with pytest.raises(ValueError, match="is the record of another run: remove it"):
        other.train(tmp_path)


@pytest.mark.slow
def test_the_same_training_is_made_once(tmp_path, record):
    twice = [replace(RUN, recipe=replace(RECIPE, group=group)) for group in ("a", "b")]
    assert [essence(made)["epochs"] for _, made in carry_out(twice, tmp_path, processes=2)] == [
        essence(record[0])["epochs"]
    ] * 2


@pytest.mark.parametrize("damage", ["recipe", "dataset", "epochs"])
def test_a_record_with_parts_missing_is_refused(record, tmp_path, damage):
    content = json.loads(json.dumps(record[0]))
    del (content if damage == "epochs" else content["run"])[damage]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="is no record of a run"):
        runs.read_record(path)


def test_several_processes_make_the_same_records(record, tmp_path):
    several = [replace(RUN, seed=seed) for seed in (2, 3, 4)]
    made = dict(carry_out(several, tmp_path, processes=2))
    assert sorted(made) == [0, 1, 2]
    assert essence(made[0]) == essence(record[0])
    assert made[0]["made"]["threads"] == max(1, (os.cpu_count() or 1) // 2)
    assert sorted(os.listdir(tmp_path)) == sorted(f"{each.key}.json" for each in several)


@pytest.mark.slow
def test_an_error_in_a_process_is_raised_here(tmp_path):
    bad = replace(RUN, recipe=replace(RECIPE, model="vgg"))
    with pytest.raises(ValueError, match="recipe 'plain, mlp': model: there is no 'vgg'"):
        list(carry_out([bad, bad], tmp_path, processes=2))


SCRIPT = """
import sys
from pathlib import Path
from dataclasses import replace
from minidl.studies.pool import carry_out
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run

if __name__ == "__main__":
    recipe = Recipe("long", "mlp(64)", "SGD", rate="0.01", epochs=4000)
    try:
        for _ in carry_out([Run(recipe, "digits", seed=s) for s in (0, 1, 2)], Path(sys.argv[1]), processes=2):
            pass
    except KeyboardInterrupt:
        sys.exit(130)
"""


def begun(tmp_path):
    """Start long runs in two processes, and return when both have written a checkpoint."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    folder = tmp_path / "runs"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, str(script), str(folder)], start_new_session=True)
    for _ in range(600):
        if len(list(folder.glob("long*.safetensors"))) == 2:
            return process, folder
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError("no checkpoints after a minute")


def end(group):
    """Say whether all processes of a group end within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return False


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_keeps_their_checkpoints(tmp_path):
    process, folder = begun(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert end(process.pid)
    assert len(list(folder.glob("*.safetensors"))) == 2
    assert not list(folder.glob("*.json"))


@pytest.mark.slow
def test_processes_do_not_outlive_the_one_that_began_them(tmp_path):
    process, _ = begun(tmp_path)
    process.kill()
    process.wait(30)
    assert end(process.pid)
