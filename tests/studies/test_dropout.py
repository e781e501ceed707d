"""The study of dropout: each kind beside the same network without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from minidl import data, nn
from minidl.models.small_cnn import DROPOUTS
from minidl.studies.dropout import STUDY
from minidl.studies.recipe import Recipe

RELU, MEAN, SELU = "ReLU, maximum pooling", "ReLU, mean pooling", "SELU"
ALL = [
    *((RELU, name) for name in ("none", "dropout", "gaussian", "spatial", "max-pooling", "maxdrop")),
    *((MEAN, name) for name in ("none", "average-pooling")),
    *((SELU, name) for name in ("none", "alpha")),
]
SMALL = "small_cnn(widths=(4,), hidden=8, dropout={dropout}, p={p}, activation={activation})"


@pytest.fixture(scope="module")
def digits():
    full = data.load("digits", size=28)
    return data.Dataset(full.train_x[:24], full.train_y[:24], full.test_x[:10], full.test_y[:10], full.classes)


def planned(**changes):
    recipes = STUDY.recipes(replace(STUDY.options, **changes))
    return {(recipe.group, recipe.name): recipe for recipe in recipes}


def test_each_group_has_its_own_baseline(digits):
    recipes = planned(model=SMALL)
    assert list(recipes) == ALL
    assert {name for _, name in ALL} == set(DROPOUTS)
    assert STUDY.baseline == "none"
    made = {key: recipe.prepare(digits, 0).trainer for key, recipe in recipes.items()}
    weights = {key: trainer.optimizer.weights for key, trainer in made.items()}
    for group, name in ALL:
        np.testing.assert_array_equal(weights[group, name], weights[group, "none"], err_msg=name)
        assert recipes[group, name].used == ({"rate"} if name == "none" else {"rate", "p"})
    kinds = {key: [type(layer) for layer in trainer.model] for key, trainer in made.items()}
    assert nn.SELU in kinds[SELU, "none"]
    assert nn.SELU in kinds[SELU, "alpha"]
    assert nn.AlphaDropout in kinds[SELU, "alpha"]
    assert nn.MaxPool2d in kinds[RELU, "none"]
    mean = made[MEAN, "none"].model.pool1
    assert (mean.kind, mean.p) == ("avg", 0)
    assert made[MEAN, "average-pooling"].model.pool1.p == recipes[MEAN, "average-pooling"].values["p"] > 0


@pytest.mark.parametrize("key", ALL, ids="-".join)
def test_every_recipe_trains(key, digits):
    recipe = planned(model=SMALL, batch_size=12, epochs=1)[key]
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    prepared = recipe.prepare(digits, 0)
    history = prepared.trainer.fit(prepared.train, prepared.test, 1)
    assert np.isfinite(history.epochs[-1]["validation_loss"])
    assert len(history.steps) == 2
    x, noisy = digits.test_x, key[1] != "none"
    prepared.trainer.model.train()
    outputs = [prepared.trainer.model(x.astype(np.float32)).data for _ in range(2)]
    assert np.array_equal(*outputs) != noisy


def test_other_models():
    lenet = planned(model="lenet5(dropout={p})")
    assert list(lenet) == [("", "none"), ("", "dropout")]
    assert [recipe.text("model") for recipe in lenet.values()] == ["lenet5(dropout=0)", "lenet5(dropout=0.3)"]
    relu = planned(model="small_cnn(dropout={dropout}, p={p})")
    assert list(relu) == [key for key in ALL if key[0] != SELU]
    with pytest.raises(ValueError, match=r"study dropout: model is 'resnet\(20\)', expected one with the place \{p\}"):
        planned(model="resnet(20)")


def test_a_grid_varies_p():
    recipes = STUDY.recipes(replace(STUDY.options, grid={"p": (0.1, 0.3)}, only=("spatial", "none")))
    assert [(recipe.group, recipe.label) for recipe in recipes] == [
        (RELU, "none"), (RELU, "spatial, p 0.1"), (RELU, "spatial, p 0.3"), (MEAN, "none"), (SELU, "none"),
    ]  # fmt: skip


def test_a_search_looks_around_p():
    for recipe in planned().values():
        found = STUDY.space(recipe)
        assert found.keys() == recipe.used
        for name, values in found.items():
            assert values.low < recipe.values[name] <= values.high


@pytest.mark.parametrize("changes", [STUDY.quick, STUDY.full])
def test_quick_and_full_plan_the_same_recipes(changes):
    assert list(planned(**changes)) == ALL
