"""Studies: what is planned, carried out, gone on with and reported; and `minidl study`."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace

import numpy as np
import pytest

from minidl import cli, training
from minidl.studies import command, optimizers, report, sharpening, smoothing
from minidl.studies.arm import Arm
from minidl.studies.conduct import Results, conduct
from minidl.studies.recipe import Recipe
from minidl.studies.run import Run
from minidl.studies.run import accuracies as run_accuracies
from minidl.studies.study import Options, Published, Study
from minidl.studies.tuning import Search, grid_runs

TINY = Options("digits", (1 / 8,), "mlp({width})", epochs=3, trials=2, batch_size=16)


def plan(options):
    def recipe(name, optimizer, **values):
        values = {"rate": 0.03, "width": 8} | values
        return Recipe(
            name, options.model, optimizer, batch_size=options.batch_size, epochs=options.epochs, values=values
        )

    return [recipe("plain", "SGD"), recipe("momentum", "HeavyBall(beta={beta})", beta=0.9)]


STUDY = Study(
    name="tiny",
    title="Momentum",
    source="A question.",
    plan=plan,
    options=TINY,
    quick={"epochs": 1},
    full={"epochs": 100},
    baseline="plain",
    published=[Published("momentum", "digits", 1 / 8, maximum=0.9, last=0.8), Published("momentum", "mnist", last=0.1)],
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    results = conduct(STUDY, out=folder, quiet=True)
    return results, folder


def test_a_study_makes_every_recipe_with_every_seed(finished):
    results, folder = finished
    assert [(arm.recipe.name, arm.fraction, sorted(arm.records)) for arm in results.arms] == [
        ("plain", 1 / 8, [0, 1]),
        ("momentum", 1 / 8, [0, 1]),
    ]
    assert not results.interrupted
    for arm in results.arms:
        for seed, record in arm.records.items():
            assert Run.from_dict(record["run"]) == Run(arm.recipe, "digits", 1 / 8, seed)
    assert len(os.listdir(folder / "runs")) == 4
    assert min(curve.estimate("last").mean for curve in results.curves) > 0.3


def test_the_second_time_nothing_is_trained_and_more_trials_are_added(finished, monkeypatch):
    results, folder = finished
    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "fit", None)
        assert conduct(STUDY, out=folder, quiet=True) == results
    more = conduct(STUDY, replace(TINY, trials=3), out=folder, quiet=True)
    assert [sorted(arm.records) for arm in more.arms] == [[0, 1, 2]] * 2
    assert more.arms[0].records[0] == results.arms[0].records[0]


def test_the_report_says_what_was_reached_and_what_was_published(finished):
    results, folder = finished
    written = report.write_report(results)
    assert [path.name for path in written.files] == ["tiny.md", "tiny.json", "tiny.png"]
    content = json.loads((folder / "tiny.json").read_text(encoding="utf-8"))
    for row, arm in zip(content["rows"], results.arms, strict=True):
        curves = [[e["validation_accuracy"] for e in arm.records[seed]["epochs"]] for seed in (0, 1)]
        assert row["accuracies"] == {"0": curves[0], "1": curves[1]}
        assert row["maximum"] == pytest.approx(np.mean([max(curve) for curve in curves]))
        assert Recipe.from_dict(row["settings"]) == arm.recipe
    assert content["rows"][0]["published"] is None
    assert content["rows"][1]["published"]["last"] == 0.8
    page = (folder / "tiny.md").read_text(encoding="utf-8")
    for text in (content["command"], "80.00", "90.00", "on 1/8 of digits", "`HeavyBall(beta=0.9)`", "A question."):
        assert text in page
    assert "80.00" in written.text
    assert "to plain, mean over the seeds" in written.text
    assert (folder / "tiny.png").read_bytes()[:4] == b"\x89PNG"


def test_the_command_of_a_report_gives_the_same_options(tmp_path, monkeypatch):
    monkeypatch.setitem(command.STUDIES, "smoothing", replace(STUDY, name="smoothing"))
    options = replace(
        TINY, fractions=(1 / 8, 0.3), model="small_cnn(normalization='batch')", grid={"beta": (0.5, 0.9)}, only=("a b",)
    )
    words = report.command(Results(STUDY, options, (), tmp_path, Search("random", 7)))
    parsed = cli._parser().parse_args(["study", "smoothing", *shlex.split(words)[3:]])
    assert command.chosen(command.STUDIES["smoothing"], parsed) == options
    assert (parsed.search, parsed.budget) == ("random", 7)
    words = report.command(Results(optimizers.STUDY, replace(options, tuning_epochs=9), (), tmp_path))
    assert command.chosen(optimizers.STUDY, cli._parser().parse_args(shlex.split(words)[1:])).tuning_epochs == 9


def test_a_grid_varies_the_recipes_that_have_the_value(tmp_path):
    options = replace(TINY, grid={"beta": (0.5, 0.8)}, trials=1, epochs=1)
    results = conduct(STUDY, options, out=tmp_path, quiet=True)
    assert [results.title(arm) for arm in results.arms] == ["plain", "momentum, beta 0.5", "momentum, beta 0.8"]
    assert results.arms[1].recipe.text("optimizer") == "HeavyBall(beta=0.5)"
    assert [results.note(arm) for arm in results.arms] == [""] * 3
    names = [path.name for path in report.write_report(results).files]
    assert names == ["tiny.md", "tiny.json", "tiny.png", "tiny-beta.png"]
    with pytest.raises(ValueError, match="study tiny: grid has gamma, expected some of beta, rate, width"):
        STUDY.recipes(replace(TINY, grid={"gamma": (1,)}))


@pytest.mark.slow
def test_what_all_recipes_have_makes_groups(tmp_path):
    options = replace(TINY, grid={"beta": (0.5, 0.8), "width": (4, 8)}, fractions=(1 / 8, 1 / 16), trials=1, epochs=1)
    both = conduct(STUDY, options, out=tmp_path, quiet=True)
    assert [(both.group(arm), both.title(arm)) for arm in both.arms] == [
        (f"{part} · width {width}", title)  # what all recipes have makes groups, each with its baseline
        for part in ("1/8", "1/16")
        for width in (4, 8)
        for title in ("plain", "momentum, beta 0.5", "momentum, beta 0.8")
    ]
    content = json.loads(report.write_report(both).files[1].read_text(encoding="utf-8"))
    assert [row["difference" if "difference" in row else "baseline"] for row in content["rows"]] == ["plain"] * 12
    assert {"tiny-beta.png", "tiny-width.png"} <= set(os.listdir(tmp_path))


def test_parts_of_the_data_are_groups(tmp_path):
    options = replace(TINY, fractions=(1 / 8, 1 / 16), trials=1, epochs=1)
    results = conduct(STUDY, options, out=tmp_path, quiet=True)
    assert [results.group(arm) for arm in results.arms] == ["1/8", "1/8", "1/16", "1/16"]
    assert [arm.records[0]["training_images"] for arm in results.arms] == [180, 180, 90, 90]
    assert [row.differences != {} for row in report.summary.summarize(results.curves, "plain")] == [False, True] * 2


def test_tuning_looks_at_training_images_only_and_takes_the_best(tmp_path, monkeypatch):
    study = replace(STUDY, tuning=lambda recipe: {"rate": (1e-6, 0.05, 1e30)})
    options = replace(TINY, trials=1, tuning_epochs=2, tuning_images=100)
    results = conduct(study, options, out=tmp_path, quiet=True)
    for arm in results.arms:
        assert arm.recipe.values["rate"] == 0.05
        assert [each["values"]["rate"] for each in arm.tuned] == [1e-6, 0.05, 1e30]
        assert arm.tuned[2]["accuracy"] == 0  # it diverged
    runs = grid_runs(study, options, Arm(results.arms[0].recipe, 1 / 8))
    assert {(run.held_out, run.recipe.epochs, len(run.data().train_x)) for run in runs} == {(0.3, 2, 70)}
    assert grid_runs(study, replace(options, grid={"rate": (0.1, 0.2)}), results.arms[0]) == []
    page = report.write_report(results).files[0].read_text(encoding="utf-8")
    assert "## Tuning" in page
    assert "3 tried: rate 1e-06: " in page
    assert "Chosen: rate 0.05." in page


@pytest.mark.parametrize(("method", "trials"), [("grid", 4), ("random", 3)])
def test_a_search_tunes_every_recipe_that_has_a_space(tmp_path, method, trials):
    pytest.importorskip("optuna")
    from minidl.studies.space import Range

    study = replace(STUDY, space=lambda recipe: {"beta": Range(0.0, 0.99)} if "beta" in recipe.used else {})
    grid = {"beta": (0.0, 0.9), "rate": (1e-6, 0.03)} if method == "grid" else {}
    options = replace(TINY, trials=1, grid=grid)
    results = conduct(study, options, out=tmp_path, search=Search(method, trials), quiet=True)
    plain, momentum = results.arms
    assert [len(plain.tuned), len(momentum.tuned)] == ([2, 4] if method == "grid" else [0, 3])
    best = max(momentum.tuned, key=lambda each: each["accuracy"])
    assert {name: momentum.recipe.values[name] for name in best["values"]} == best["values"]
    assert len(results.arms) == 2
    again = conduct(study, options, out=tmp_path, search=Search(method, trials), quiet=True)
    assert again == results


def test_an_interrupted_study_reports_what_it_has_and_goes_on(tmp_path, finished, monkeypatch):
    fits = 0
    fit = training.Trainer.fit

    def interrupted(self, *given, **named):
        nonlocal fits
        fits += 1
        if fits == 3:
            raise KeyboardInterrupt
        return fit(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "fit", interrupted)
        results = conduct(STUDY, out=tmp_path, quiet=True)
    assert results.interrupted
    assert [sorted(arm.records) for arm in results.arms] == [[0], [0]]  # the first seed of both
    assert "was interrupted" in report.write_report(results).files[0].read_text(encoding="utf-8")
    whole = conduct(STUDY, out=tmp_path, quiet=True)
    assert [arm.recipe for arm in whole.arms] == [arm.recipe for arm in finished[0].arms]
    for ours, theirs in zip(whole.curves, finished[0].curves, strict=True):
        assert ours.curves == theirs.curves
    with pytest.raises(ValueError, match="no trial has ended yet"):
        report.write_report(Results(STUDY, TINY, (), tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "study: epochs is 0"),
        ({"trials": 2.5}, "study: trials is 2.5"),
        ({"fractions": ()}, "study: fractions is \\(\\)"),
        ({"fractions": (1.5,)}, "study: fractions is \\(1.5,\\)"),
        ({"fractions": 1 / 8}, "study: fractions is 0.125, expected a tuple"),
        ({"only": "plain"}, "study: only is 'plain', expected a tuple"),
        ({"grid": {"b": 0.5}}, "study: grid has 0.5 for b, expected a tuple"),
        ({"grid": {"b": (1, 1)}}, "study: grid has \\(1, 1\\) for b"),
        ({"only": ("smoothing",)}, "study tiny: only is smoothing, expected parts of 'plain', 'momentum'"),
    ],
)
def test_bad_options_are_named(tmp_path, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        conduct(STUDY, replace(TINY, **changes), out=tmp_path / "new", quiet=True)
    assert not (tmp_path / "new").exists()


# -- the studies themselves


def test_all_studies_can_be_asked_for_and_make_networks(tmp_path):
    assert set(cli.STUDIES) == set(command.STUDIES) == {
        "smoothing", "sharpening", "optimizers", "regularizers", "normalization", "dropout"
    }  # fmt: skip
    for study in command.STUDIES.values():
        for changes in ({}, study.quick, study.full):
            options = replace(study.options, **changes)
            recipes = study.recipes(options)
            names = [(recipe.group, recipe.name) for recipe in recipes]
            assert len(set(names)) == len(names)
            assert study.baseline in {recipe.name for recipe in recipes}
            for recipe in recipes:
                assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
                assert set(study.space(recipe)) <= recipe.used
            assert any(study.space(recipe) for recipe in recipes)
        assert replace(study.options, **study.quick).data == "digits"
        for recipe in study.recipes(replace(study.options, **study.quick)):
            made = recipe.prepare(Run(recipe, "digits", 1 / 8).data(), 0)
            assert made.trainer.optimizer.t == 0


def test_the_smoothing_study_is_the_papers():
    options = replace(smoothing.STUDY.options, **smoothing.STUDY.full)
    assert (options.data, options.model, options.epochs, options.trials) == ("fashion-mnist", "resnet(20)", 48, 5)
    assert options.fractions == (1, 1 / 2, 1 / 4, 1 / 8)
    recipes = {recipe.name: recipe for recipe in smoothing.plan(options)}
    for recipe in recipes.values():
        assert recipe.batch_size == 128
        assert recipe.text("rate").startswith("PiecewiseConstant(")
        assert recipe.text("rate").endswith("(0.75 * 48,))")
        assert "L2(0.001)" in recipe.text("penalty") or recipe.name.startswith("SGD, ")
        assert recipe.optimizer in ("HeavyBall(beta=0.9, rate_inside=False)", "Adam", "AdaGrad")
    decays = {recipe.text("penalty") for name, recipe in recipes.items() if name.startswith("SGD")}
    assert decays == {"L2(0.01)", "L2(0.001)", "L2(0.0001)", "L2(1e-05)"}
    published = {(one.recipe, one.data, one.fraction): one for one in smoothing.STUDY.published}
    best = published["global+local, Logistic", "fashion-mnist", 1]
    assert (best.maximum, best.last) == pytest.approx((0.9391, 0.9367))
    assert published["SGD", "fashion-mnist", 1].maximum == pytest.approx(0.9336)
    assert published["AdaGrad", "cifar10", 1].maximum == pytest.approx(0.8767)
    for name in ("fashion-mnist", "cifar10"):
        planned = {recipe.name: recipe for recipe in smoothing.plan(replace(options, data=name))}
        assert set(planned) >= {recipe for recipe, data, _ in published if data == name}
    assert planned["SGD"].text("penalty") == "L2(0.0001)"
    assert planned["global+local, Logistic"].text("loss") == "ResidualSmoothing(LogisticAnnealing(0.25), 1.0)"
    assert "crop_flip(4)" in planned["SGD"].augment


def test_the_cut_of_the_rate_does_not_throw_the_smoothing_study_away(tmp_path):
    """With the rate inside of the momentum, the old steps would carry on: a loss of ten points of accuracy."""
    options = replace(
        smoothing.STUDY.options, data="digits", fractions=(1.0,), model="small_cnn(widths=(4, 8), hidden=16)"
    )
    recipe = next(each for each in smoothing.plan(replace(options, epochs=8)) if each.name == "SGD")
    curve = run_accuracies(Run(recipe, "digits").train(tmp_path))
    assert curve[6] > curve[5] - 0.02
    assert curve[7] > 0.8


def test_the_sharpening_study_gives_both_arms_the_same_epochs(tmp_path):
    study = replace(sharpening.STUDY, options=replace(sharpening.STUDY.options, **sharpening.STUDY.quick))
    options = replace(study.options, fractions=(1 / 8,), epochs=5, trials=1, model="mlp(8)", only=("s",))
    results = conduct(study, options, out=tmp_path, quiet=True)
    assert [arm.recipe.group for arm in results.arms] == ["Adam", "Adam", "HeavyBall", "HeavyBall"]
    assert {len(arm.records[0]["epochs"]) for arm in results.arms} == {5}
    assert [epoch["blur"] for epoch in results.arms[1].records[0]["epochs"]] == [5, 4, 3, 2, 1]
    assert "blur" not in results.arms[0].records[0]["epochs"][0]
    assert [path.name for path in report.write_report(results).files][-1] == "sharpening-stages.png"


def test_the_optimizer_study_ends_in_the_papers_table(tmp_path):
    study = optimizers.STUDY
    options = replace(study.options, **study.quick)
    options = replace(options, fractions=(1 / 8,), model="mlp(8)", epochs=2, trials=1, only=("Adam", "SGD"))
    options = replace(options, tuning_epochs=1, tuning_images=150)
    results = conduct(study, options, out=tmp_path, quiet=True)
    names = [(arm.recipe.group, arm.recipe.name) for arm in results.arms]
    assert names == [(g, n) for g in ("plain", "adjusted") for n in ("SGD", "Adam")]
    assert all(len(arm.tuned) == 5 for arm in results.arms)
    text = report.write_report(results).text
    plain, adjusted = results.arms[1], results.arms[3]
    line = next(line for line in text.split("As table 1 of P")[1].splitlines() if " Adam " in line)
    assert f"{100 * plain.curves().estimate('final').mean:.2f}" in line
    assert f"{100 * adjusted.curves().estimate('maximum').mean:.2f}" in line
    assert "85.50" not in line  # that is for CIFAR-10
    of_cifar, _ = optimizers.table_1(replace(results, options=replace(options, data="cifar10")))
    assert "72.07      85.50" in of_cifar


# -- the command


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(command.STUDIES, "dropout", replace(STUDY, name="dropout"))
    arguments = ["study", "dropout", "--quick", "--trials", "1", "--processes", "1", "--out", str(tmp_path / "o")]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "training 2/2  momentum · 1/8 · seed 0" in printed
    assert f"wrote {tmp_path / 'o' / 'dropout.md'}" in printed
    record = next((tmp_path / "o" / "runs").glob("*.json"))
    assert cli.main(["study", "repeat", str(record)]) == 0
    assert "the same, to the last bit" in capsys.readouterr().out
    content = json.loads(record.read_text(encoding="utf-8"))
    content["epochs"][0]["loss"] += 1e-12
    record.write_text(json.dumps(content), encoding="utf-8")
    assert cli.main(["study", "repeat", str(record)]) == 1
    assert "they differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fraction", "a"], "--fraction is 'a', expected a number as 1/8"),
        (["--fraction", "1/0"], "--fraction is '1/0'"),
        (["--fraction", "2"], "fractions is (2.0,)"),
        (["--grid", "b"], "--grid is 'b', expected as in b=0.1"),
        (["--grid", "b=1", "--grid", "b=2"], "--grid is given twice for a name"),
        (["--budget", "3"], "--budget and --storage belong to --search"),
        (["--search", "grid"], "options.grid is empty"),
        (["--search", "random", "--budget", "0"], "study: budget is 0"),
        (["--grid", "rate=0.1,abc"], "PiecewiseConstant(('abc', 'abc' / 100), (0.75 * 1,)) are not numbers"),
        (["--fraction", "1/8", "0.125"], "each once"),
        (["--grid", "zeta=1"], "grid has zeta, expected some of"),
        (["--quick", "--full"], "--quick and --full are both given"),
        (["--data", "dogs"], "name is 'dogs'"),
        (["--model", "vgg(16)"], "there is no 'vgg'"),
        (["--processes", "0"], "study: processes is 0"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    first = ["study", "smoothing", "--processes", "1", "--data", "digits", "--epochs", "1", "--trials", "1"]
    assert cli.main([*first, *arguments]) in (1, 2)
    assert message in capsys.readouterr().err


def test_the_list_tells_every_recipe(capsys):
    assert cli.main(["study", "list"]) == 0
    printed = capsys.readouterr().out
    for study in command.STUDIES.values():
        assert f"{study.name}: {study.title}" in printed
        for recipe in study.recipes(study.options):
            assert recipe.name in printed
    assert "global+local, Logistic: rate 0.1, weight_decay 0.001, b 0.5, alpha 1" in printed


def test_a_record_that_is_none_is_named(tmp_path, capsys):
    (tmp_path / "r.json").write_text("{}", encoding="utf-8")
    assert cli.main(["study", "repeat", str(tmp_path / "r.json")]) == 1
    assert "r.json is no record of a run" in capsys.readouterr().err
