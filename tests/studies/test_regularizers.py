"""The study of regularizers: what its recipes make, and its early stopping."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from minidl import data, nn
from minidl.optim import penalties
from minidl.studies.arm import Arm
from minidl.studies.conduct import Results, conduct
from minidl.studies.recipe import Recipe
from minidl.studies.regularizers import STUDY, early_stopping, further
from minidl.studies.run import accuracies, read_record
from minidl.studies.space import Choice, Range

ALL = [
    "none", "L1", "L2", "elastic", "L2 decoupled", "per layer", "maximum norm", "dropout", "label smoothing", "mixup",
    "cutmix", "crop", "crop and flip", "erasing",
]  # fmt: skip
SMALL = "small_cnn(widths=(4,), hidden=8, dropout='dropout', p={p})"


@pytest.fixture(scope="module")
def digits():
    full = data.load("digits", size=28)
    return data.Dataset(full.train_x[:24], full.train_y[:24], full.test_x[:10], full.test_y[:10], full.classes)


def planned(**changes):
    return {recipe.name: recipe for recipe in STUDY.recipes(replace(STUDY.options, **changes))}


def test_each_regularizer_stands_alone_beside_the_baseline():
    recipes = planned()
    assert list(recipes) == ALL
    assert STUDY.baseline == "none"
    plain = recipes["none"]
    assert plain.values == {"rate": 0.01}
    assert (plain.penalty, plain.augment, plain.blend, plain.loss) == ("", "", "", "CrossEntropy")
    for name, recipe in recipes.items():
        differ = {
            part for part in ("penalty", "augment", "blend", "loss", "model") if recipe.text(part) != plain.text(part)
        }
        assert len(differ) == (name != "none"), name
        assert recipe.used == recipe.values.keys(), name
        assert recipe.used > {"rate"} or name == "none"
        assert (recipe.optimizer, recipe.rate, recipe.epochs) == ("HeavyBall(beta=0.9)", "{rate}", 20)


def test_what_is_mirrored_and_dropped():
    for name in ("digits", "mnist", "svhn"):
        assert list(planned(data=name)) == [each for each in ALL if each != "crop and flip"]
    assert "crop and flip" in planned(data="cifar10")
    without = planned(model="resnet(20)")
    assert list(without) == [each for each in ALL if each not in ("dropout", "per layer")]
    assert {recipe.text("model") for recipe in without.values()} == {"resnet(20)"}
    lenet = planned(model="lenet5(dropout={p})")
    assert lenet["dropout"].text("model") == "lenet5(dropout=0.3)"
    assert lenet["L2"].text("model") == lenet["none"].text("model") == "lenet5(dropout=0)"


def test_a_grid_varies_those_that_have_the_strength():
    recipes = STUDY.recipes(
        replace(STUDY.options, grid={"l2": (0.1, 0.01), "p": (0.3,)}, only=("L2", "elastic", "dropout", "none"))
    )
    assert [recipe.label for recipe in recipes] == [
        "none",
        "L2, l2 0.1",
        "L2, l2 0.01",
        "elastic, l2 0.1",
        "elastic, l2 0.01",
        "L2 decoupled",
        "dropout, p 0.3",
    ]


@pytest.mark.parametrize("settings", [{}, {"data": "digits"}, STUDY.quick, STUDY.full])
def test_a_search_looks_around_every_strength(settings):
    for recipe in planned(**settings).values():
        found = STUDY.space(recipe)
        assert found.keys() == recipe.used
        for name, values in found.items():
            assert isinstance(values, Range)
            assert values.low <= recipe.values[name] < values.high, name


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_trains(name, digits):
    recipe = planned(model=SMALL, batch_size=12, epochs=1)[name]
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    prepared = recipe.prepare(digits, 0)
    history = prepared.trainer.fit(prepared.train, prepared.test, 1)
    assert np.isfinite(history.epochs[-1]["validation_loss"])
    assert len(history.steps) == 2


def test_what_the_recipes_make(digits):
    made = {name: recipe.prepare(digits, 0) for name, recipe in planned(model=SMALL).items()}
    penalty = {name: each.trainer.optimizer.penalties for name, each in made.items()}
    kinds = {name: [type(each) for each in found] for name, found in penalty.items() if found}
    assert kinds == {
        "L1": [penalties.L1],
        "L2": [penalties.L2],
        "elastic": [penalties.Elastic],
        "L2 decoupled": [penalties.L2],
        "per layer": [penalties.PerLayer],
        "maximum norm": [penalties.MaxNorm],
    }
    assert [penalty[name][0].decoupled for name in ("L2", "L2 decoupled")] == [False, True]
    assert penalty["per layer"][0].strengths == {"conv1": (3e-5, 1), "dense1": (1.5e-3, 2)}
    assert isinstance(made["label smoothing"].trainer.loss, nn.LabelSmoothing)
    rates = {name: each.trainer.model.dropout2.p for name, each in made.items()}
    assert rates == {name: 0.3 if name == "dropout" else 0 for name in made}
    weights = {name: each.trainer.optimizer.weights for name, each in made.items()}
    for name, values in weights.items():
        np.testing.assert_array_equal(values, weights["none"], err_msg=name)  # all begin alike


# ---------------------------------------------------------------- early stopping


def record(accuracy, losses=None, failure=""):
    losses = [1.0] * len(accuracy) if losses is None else losses
    epochs = [
        {"epoch": i, "validation_accuracy": a, "validation_loss": e}
        for i, (a, e) in enumerate(zip(accuracy, losses, strict=True), 1)
    ]
    return {"epochs": epochs, "failure": failure}


def results(records, held, folder):
    """What a study has, whose runs with images held out ended as `held` tells, by seed."""
    recipe = Recipe("none", "mlp(8)", "SGD", values={"rate": 0.1}, epochs=4)
    other = Recipe("L2", "mlp(8)", "SGD", penalty="L2(0.1)", values={"rate": 0.1}, epochs=4)
    arms = (Arm(recipe, 0.25, [], records), Arm(other, 0.25, [], records))
    asked = further(replace(STUDY.options, data="digits"), arms)
    assert [(run.recipe.name, run.dataset, run.fraction, run.seed, run.held_out) for run in asked] == [
        ("none", "digits", 0.25, seed, 0.3) for seed in records
    ]
    made = {run.key: held[run.seed] for run in asked if run.seed in held}
    return Results(STUDY, replace(STUDY.options, data="digits"), arms, folder, further=made)


def cells(text):
    return next(line for line in text.splitlines() if "1/4" in line).split()


def test_early_stopping_counts_the_epoch_that_images_held_out_choose(tmp_path):
    held = {
        7: record([0.1] * 4, [3, 1, 2, 1]),
        8: record([0.9] * 4, [3, 2, 1, 0.5]),
        9: record([0.5], [3], "loss is NaN"),
    }
    own = {7: record([0.2, 0.6, 0.7, 0.5]), 8: record([0.2, 0.3, 0.4, 0.9]), 9: record([0.1], failure="loss is NaN")}
    text, files = early_stopping(results(own, held, tmp_path))
    # 60 and 90 percent, after the last epoch 50 and 90: t(0.975; 1) = 12.706
    expected = "1/4 none 2 to 4 75.00 ± 190.59 70.00 ± 254.12 +5.00 ± 63.53 2"
    assert cells(text) == expected.split()
    assert not files


def test_early_stopping_of_one_trial_and_of_none_that_finished(tmp_path):
    held = {0: record([0.5] * 4, [4, 3, 2, 3])}
    own = {0: record([0.2, 0.6, 0.7, 0.5])}
    text, _ = early_stopping(results(own, held, tmp_path))
    assert cells(text) == ["1/4", "none", "3", "70.00", "50.00", "+20.00", "1"]
    for own_record, held_record in (
        ({0: record([0.2], failure="loss is NaN")}, held),
        (own, {}),  # interrupted before
    ):
        text, _ = early_stopping(results(own_record, held_record, tmp_path))
        assert cells(text) == ["1/4", "none", "–", "–", "–", "–", "0"]
    without = results(own, held, tmp_path)
    assert early_stopping(replace(without, arms=without.arms[1:])) == ("", [])


def test_early_stopping_trains_on_what_is_not_held_out(tmp_path):
    options = replace(
        STUDY.options,
        data="digits",
        fractions=(0.05,),
        model="mlp(8)",
        epochs=3,
        trials=2,
        batch_size=8,
        only=("none",),
    )
    made = conduct(STUDY, options, out=tmp_path, quiet=True)
    text, _ = early_stopping(made)
    records = [read_record(path) for path in sorted((tmp_path / "runs").glob("*.json"))]
    held = {each["run"]["seed"]: each for each in records if each["run"]["held_out"]}
    plain = {each["run"]["seed"]: each for each in records if not each["run"]["held_out"]}
    assert held.keys() == plain.keys() == {0, 1}
    stopped = []
    for seed, each in held.items():
        assert each["training_images"] + each["judged_images"] == plain[seed]["training_images"]
        losses = [epoch["validation_loss"] for epoch in each["epochs"]]
        stopped.append(accuracies(plain[seed])[int(np.argmin(losses))])
    assert f"{100 * np.mean(stopped):.2f}" in text
    assert early_stopping(made)[0] == text  # from the records


def test_the_defaults_are_of_the_right_kind():
    assert not any(isinstance(values, Choice) for values in STUDY.space(planned()["L1"]).values())
    for changes in (STUDY.quick, STUDY.full):
        assert planned(**changes)
