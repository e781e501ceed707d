"""The study of normalization: kinds, batches and rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from minidl import data
from minidl.models.small_cnn import NORMALIZATIONS
from minidl.studies.normalization import STUDY
from minidl.studies.recipe import Recipe

GROUPS = ("batches of 128", "batches of 128, rate × 10", "batches of 4", "batches of 4, rate × 10")
SMALL = "small_cnn(widths=(4,), hidden=8, normalization={normalization})"


@pytest.fixture(scope="module")
def digits():
    full = data.load("digits", size=28)
    return data.Dataset(full.train_x[:16], full.train_y[:16], full.test_x[:10], full.test_y[:10], full.classes)


def planned(**changes):
    return STUDY.recipes(replace(STUDY.options, **changes))


def test_all_kinds_at_two_batch_sizes_and_two_rates(digits):
    recipes = planned()
    assert [(recipe.group, recipe.name) for recipe in recipes] == [(g, kind) for g in GROUPS for kind in NORMALIZATIONS]
    assert STUDY.baseline == "none"
    for recipe in recipes:
        assert recipe.text("model") == f"small_cnn(normalization='{recipe.name}')"
        assert recipe.batch_size == (128 if recipe.group in GROUPS[:2] else 4)
        assert recipe.used == {"rate"}
        rate = recipe.prepare(digits, 0).trainer.optimizer.lr(0)
        assert rate == pytest.approx(recipe.values["rate"] * (10 if "×" in recipe.group else 1))


def test_batches_as_asked_for():
    assert {recipe.batch_size for recipe in planned(batch_size=32)} == {32, 4}
    few = planned(batch_size=4)
    assert {recipe.group for recipe in few} == set(GROUPS[2:])
    assert len(few) == 2 * len(NORMALIZATIONS)


def test_a_grid_varies_the_rate_in_all_groups():
    recipes = planned(grid={"rate": (0.1, 0.2)}, only=("group",))
    assert [(recipe.name, dict(recipe.varied)) for recipe in recipes] == [
        ("group", {"rate": 0.1}),
        ("group", {"rate": 0.2}),
    ] * 4
    assert recipes[3].text("rate") == "Cosine(10 * 0.2, 10)"


def test_a_search_looks_at_the_rate():
    for recipe in planned():
        found = STUDY.space(recipe)
        if "rate × 10" in recipe.group:  # it would be another range of the same rates
            assert found == {}
            continue
        assert found.keys() == recipe.used
        assert found["rate"].log
        assert found["rate"].low < recipe.values["rate"] < found["rate"].high


@pytest.mark.parametrize("number", range(len(GROUPS) * len(NORMALIZATIONS)))
def test_every_recipe_trains(number, digits):
    recipe = planned(model=SMALL, batch_size=8, epochs=1)[number]
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    prepared = recipe.prepare(digits, 0)
    history = prepared.trainer.fit(prepared.train, prepared.test, 1)
    assert np.isfinite(history.epochs[-1]["validation_loss"])
    assert len(history.steps) == 16 / recipe.batch_size


@pytest.mark.parametrize("changes", [STUDY.quick, STUDY.full])
def test_quick_and_full_plan_the_same_recipes(changes):
    assert [recipe.name for recipe in planned(**changes)] == list(NORMALIZATIONS) * 4


def test_a_model_without_a_place_for_the_kind_is_refused():
    with pytest.raises(ValueError, match=r"study normalization: model is 'lenet5', expected one with the place \{norm"):
        planned(model="lenet5")
