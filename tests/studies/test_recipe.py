"""Recipes: what the words of one make, and that records hold all of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minidl import data, models, nn, optim, training
from minidl.optim import penalties, schedules
from minidl.studies.recipe import Recipe


@pytest.fixture(scope="module")
def digits():
    full = data.load("digits", size=28)
    return data.Dataset(full.train_x[:150], full.train_y[:150], full.test_x[:60], full.test_y[:60], full.classes)


def recipe(**changes):
    return Recipe(**{"name": "r", "model": "mlp(16)", "optimizer": "SGD", "values": {"rate": 0.1}} | changes)


def test_every_part_is_what_one_would_write_in_python(digits):
    made = recipe(
        model="cifar_cnn(widths=(4, 8), dropout={p})",
        optimizer="HeavyBall(beta={beta}, clip=ClipNorm(2.0))",
        rate="PiecewiseConstant(({rate}, {rate} / 100), (0.75 * {epochs},))",
        loss="ResidualSmoothing(LogisticAnnealing({b}), mode='global')",
        penalty="L2({decay} * {batch_size}, {batch_size}), MaxNorm(3)",
        augment="crop(2), flip",
        blend="mixup(alpha=0.2)",
        callbacks="ProgressiveSharpening(3, 2)",
        batch_size=40,
        epochs=8,
        values={"p": 0.25, "beta": 0.8, "rate": 0.3, "b": 0.4, "decay": 1e-3},
    ).prepare(digits, 5)
    trainer = made.trainer
    dropout = [layer for _, layer in trainer.model.named_modules() if isinstance(layer, nn.Dropout)]
    assert {layer.p for layer in dropout} == {0.25}
    assert trainer.model[0].weight.shape == (3, 3, 1, 4)
    optimizer = trainer.optimizer
    assert type(optimizer) is optim.HeavyBall
    assert optimizer.beta == 0.8
    assert optimizer.clip.limit == 2.0
    assert len(made.train) == 4  # 150 images in batches of 40
    rates = [optimizer.lr(t) for t in range(32)]
    assert rates == [0.3] * 24 + [0.3 / 100] * 8
    smoothing = trainer.loss
    assert (smoothing.mode, smoothing.annealing) == ("global", nn.LogisticAnnealing(0.4))
    kinds = [type(penalty) for penalty in optimizer.penalties]
    assert kinds == [penalties.L2, penalties.MaxNorm]
    assert optimizer.penalties[0].batch_size == 40
    assert optimizer.penalties[0].strength == pytest.approx(0.04)
    assert [type(change).__name__ for change in made.train.augment.changes] == ["crop", "flip", "Standardization"]
    assert made.train.blend.classes == 10
    assert (trainer.callbacks[0].k, trainer.callbacks[0].epochs_per_stage) == (3, 2)
    assert isinstance(made.test.augment, data.Standardization)
    assert not made.test.shuffle


def test_models_know_the_data(digits):
    for model, first in (
        ("lenet5(dropout=0)", (5, 5, 1, 6)),
        ("small_cnn", (3, 3, 1, 16)),
        ("resnet(8)", (3, 3, 1, 16)),
        ("cifar_cnn", (3, 3, 1, 32)),
        ("mlp(12, 9)", (784, 12)),
    ):
        made = recipe(model=model).prepare(digits, 0).trainer.model
        shapes = [parameter.shape for parameter in made.parameters() if len(parameter.shape) > 1]
        assert shapes[0] == first
        assert shapes[-1][-1] == 10


def test_the_same_seed_gives_the_same_training_and_recipes_share_their_beginning(digits):
    def first_weights(seed, **changes):
        return recipe(**changes).prepare(digits, seed).trainer.optimizer.weights.copy()

    np.testing.assert_array_equal(first_weights(1), first_weights(1, optimizer="Adam", loss="MSE"))
    assert (first_weights(1) != first_weights(2)).any()
    histories = []
    for _ in range(2):
        made = recipe(model="mlp(16)", augment="noise(0.1)", epochs=2).prepare(digits, 3)
        histories.append(made.trainer.fit(made.train, made.test, 2))
    assert [step["loss"] for step in histories[0].steps] == [step["loss"] for step in histories[1].steps]
    x = next(iter(made.train))[0]
    assert abs(float(x.mean())) < 0.5  # standardized
    raw = recipe(standardize=False).prepare(digits, 3)
    assert raw.train.augment is None
    assert raw.test.augment is None


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("{rate}", 0.1),
        ("", None),
        ("1e-3", 1e-3),
        ("Cosine({rate}, {epochs})", schedules.InEpochs(schedules.Cosine(0.1, 10), 2, smooth=True)),
    ],
)
def test_rates(digits, rate, expected):
    made = recipe(optimizer="SGD" if rate else "Adadelta", rate=rate).prepare(digits, 0)
    lr = made.trainer.optimizer.lr
    if isinstance(expected, schedules.Schedule):
        assert [lr(t) for t in range(20)] == [expected(t) for t in range(20)]
    else:
        assert lr == expected


def test_values_can_be_changed_and_a_recipe_survives_json(digits):
    one = recipe(loss="SquaredResidual(label_smoothing={eps})", values={"rate": 0.1, "eps": 0.1, "unused": 3})
    assert one.used == {"rate", "eps"}
    other = one.changed({"eps": 0.3})
    assert (other.name, other.text("loss")) == ("r", "SquaredResidual(label_smoothing=0.3)")
    assert one.training == one.changed({"unused": 4}).training != other.training
    assert one.text("loss") == "SquaredResidual(label_smoothing=0.1)"
    assert one.changed({"eps": 0.1}) == one
    assert Recipe.from_dict(json.loads(json.dumps(one.as_dict()))) == one
    assert recipe(model="small_cnn(normalization={kind})", values={"rate": 1, "kind": "batch"}).text("model") == (
        "small_cnn(normalization='batch')"
    )
    for content in ({}, [], one.as_dict() | {"more": 1}, {k: v for k, v in one.as_dict().items() if k != "loss"}):
        with pytest.raises(ValueError, match="this is no recipe"):
            Recipe.from_dict(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "SquaredResidual({eps})"}, "recipe 'r': loss is .*no value for eps"),
        ({"loss": "SquaredResidual({"}, "no expression with names in braces"),
        ({"epochs": 0}, "recipe 'r': epochs is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
    ],
)
def test_what_cannot_be_a_recipe(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(**changes)
    with pytest.raises(ValueError, match="recipe 'r' has no eps, expected some of rate"):
        recipe().changed({"eps": 3})
    with pytest.raises(TypeError, match="loss is 3, expected a text"):
        recipe(loss=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vgg"}, "recipe 'r': model: there is no 'vgg', expected some of autoencoder, cifar_cnn"),
        ({"model": "mlp(3), mlp(4)"}, "expected one, as lenet5"),
        ({"model": ""}, "recipe 'r': model is '', expected one"),
        ({"model": "lenet5(dropout=2)"}, "p is 2"),
        ({"model": "lenet5(depth=2)"}, "expected the settings of lenet5"),
        ({"optimizer": "Optimizer"}, "there is no 'Optimizer', expected some of Ada"),
        ({"rate": "fast"}, "recipe 'r': rate: there is no 'fast', expected some of Constant"),
        ({"loss": "Loss"}, "there is no 'Loss'"),
        ({"penalty": "L3(1)"}, "recipe 'r': penalty: there is no 'L3'"),
        ({"augment": "turn"}, "recipe 'r': augment: there is no 'turn'"),
        ({"callbacks": "Checkpoint('x')"}, "recipe 'r': callbacks: there is no 'Checkpoint'"),
    ],
)
def test_parts_that_are_not_understood_are_named(digits, changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(**changes).prepare(digits, 0)


def test_a_recipe_trains(digits):
    made = recipe(epochs=3, rate="0.1").prepare(digits, 0)
    assert isinstance(made.trainer, training.Trainer)
    history = made.trainer.fit(made.train, made.test, 3)
    assert history.column("validation_accuracy")[-1] > 0.2
    assert isinstance(made.trainer.model, type(models.mlp([2, 2])))
