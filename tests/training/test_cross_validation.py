"""Cross-validation: each fold is the training that one would write by hand, and nothing leaks."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import statistics
import weakref

import numpy as np
import pytest

import minidl as ml
from minidl import data, models, nn, optim, training
from minidl.data import splits


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    return (rng.standard_normal((60, 2)) + 2 * y[:, None]).astype(np.float32), y


def make_trainer(callbacks=()):
    model = nn.Sequential(nn.Dense(2, 6), nn.ReLU(), nn.Dropout(0.2), nn.Dense(6, 2))
    return training.Trainer(model, optim.Adam(model, lr=0.02), callbacks=callbacks, progress=False)


def validate(points, made, make=make_trainer, epochs=2, **settings):
    return training.cross_validate(make, *points, made, epochs, **({"show": False, "batch_size": 16} | settings))


def test_each_fold_is_the_training_written_out(points):
    x, y = points
    folds = splits.stratified_k_fold(y, 4)
    result = validate(points, folds, seed=3)
    for number, (kept, held) in enumerate(folds, start=1):
        ml.backend.default_generator().bit_generator.state = np.random.default_rng([3, number]).bit_generator.state
        trainer = make_trainer()
        history = trainer.fit(data.Loader(x[kept], y[kept], 16, seed=3), (x[held], y[held]), epochs=2)
        fold = result.folds[number - 1]
        assert (fold["fold"], fold["training"], fold["held_out"]) == (number, len(kept), len(held))
        assert fold["loss"] == pytest.approx(history.epochs[-1]["validation_loss"], rel=1e-6)
        assert fold["accuracy"] == history.epochs[-1]["validation_accuracy"]
        assert fold["training_loss"] == history.epochs[-1]["loss"]
        assert fold["training_accuracy"] == history.epochs[-1]["accuracy"]
        assert (fold["epochs"], fold["stopped"]) == (2, "epochs done")
        assert result.histories[number - 1].steps == history.steps
    for name in ("loss", "accuracy", "training_loss", "training_accuracy"):
        figures = [fold[name] for fold in result.folds]
        assert result.mean[name] == pytest.approx(np.mean(figures), rel=1e-12)
        assert result.deviation[name] == pytest.approx(np.std(figures, ddof=1), rel=1e-9)
    assert not result.interrupted


def test_it_is_seeded_and_leaves_the_generator_where_it_was(points):
    ml.manual_seed(7)
    generator = ml.backend.default_generator()
    before = generator.bit_generator.state
    results = [validate(points, splits.k_fold(60, 3), seed=seed) for seed in (1, 1, 2)]
    assert ml.backend.default_generator() is generator
    assert generator.bit_generator.state == before
    assert results[0].mean == results[1].mean
    assert results[0].mean != results[2].mean
    first, second = (history.steps for history in results[0].histories[:2])
    assert first != second


@pytest.mark.parametrize(
    ("made", "number"),
    [
        (lambda: splits.hold_out(60), 1),
        (lambda: list(splits.hold_out(60)), 1),
        (lambda: [splits.hold_out(60), splits.hold_out(60, seed=1)], 2),
        (lambda: splits.repeated(60, 3), 3),
        (lambda: ((list(range(50)), [i]) for i in range(50, 54)), 4),
        (lambda: splits.leave_one_out(60), 60),
    ],
)
def test_all_kinds_of_splits(points, made, number):
    result = validate(points, made(), lambda: make_trainer(), epochs=1, validate=False)
    assert len(result.folds) == number
    assert "validation_loss" not in result.histories[0].epochs[0]
    assert result.mean["accuracy"] == pytest.approx(statistics.fmean(fold["accuracy"] for fold in result.folds))
    assert (result.deviation["accuracy"] is None) == (number == 1)


def test_scikit_learns_splitters_serve_too(points):
    sklearn = pytest.importorskip("sklearn.model_selection", reason="needs the extra 'test': pip install '.[test]'")
    theirs = validate(points, sklearn.StratifiedKFold(3).split(*points))
    assert theirs.mean == validate(points, splits.stratified_k_fold(points[1], 3, seed=None)).mean


def test_what_is_prepared_sees_the_training_part_alone_and_serves_both(points):
    x, y = points
    fitted, seen = [], []

    def prepare(train):
        mean = train.mean(axis=0)
        fitted.append(train)
        return lambda x, generator=None: x - mean

    class Watch(training.Callback):
        def on_batch(self, trainer, x, y):
            seen.append(x)
            return x, y

    folds = list(splits.k_fold(60, 3))
    add = lambda x, generator: x + np.float32(100)
    result = validate(points, folds, lambda: make_trainer([Watch()]), 1, prepare=prepare, augment=add)
    for part, (kept, _) in zip(fitted, folds, strict=True):
        np.testing.assert_array_equal(part, x[kept])
    first = np.concatenate(seen[:3])
    np.testing.assert_allclose(first.mean(axis=0), 100, rtol=1e-5)
    kept, _ = folds[0]
    shifted = x.copy()
    shifted[kept] += 100
    mean = x[kept].mean(axis=0)
    plain = validate((shifted - mean, y), folds[:1], epochs=1)
    assert plain.folds[0]["loss"] == pytest.approx(result.folds[0]["loss"], rel=1e-3), "nothing is added to held-out x"


def test_prepare_gets_bytes_and_what_it_returns_gets_floats(rng):
    x = rng.integers(0, 256, (30, 4, 4, 1), dtype=np.uint8)
    y, seen = rng.integers(0, 2, 30), []

    def prepare(train):
        def change(x, generator=None):
            seen.append((train.dtype, train.max(), x.dtype, x.max()))
            return x

        return change

    def make():
        model = nn.Sequential(nn.Flatten(), nn.Dense(16, 2))
        return training.Trainer(model, optim.SGD(model), progress=False)

    validate((x, y), splits.hold_out(30), make, 1, prepare=prepare)
    for before, top, after, largest in seen:
        assert (before, after) == (np.uint8, np.float32)
        assert 200 < top <= 255
        assert 0.5 < largest <= 1


def test_early_stopping_is_judged_by_the_best_weights(points):
    make = lambda: make_trainer([training.EarlyStopping(2, watch="validation_loss")])
    result = validate(points, splits.k_fold(60, 2), make, epochs=60)
    for fold, history in zip(result.folds, result.histories, strict=True):
        assert fold["loss"] == pytest.approx(min(history.column("validation_loss")), rel=1e-6)
        assert fold["stopped"] == history.stopped
        assert fold["epochs"] == len(history.epochs)
        assert fold["training_loss"] == history.epochs[-1]["loss"]


def test_the_table_the_lines_and_the_file(points, tmp_path, capsys):
    result = validate(points, splits.k_fold(60, 3), show=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, fold in zip(lines, result.folds, strict=True):
        expected = f"fold {fold['fold']}  loss {fold['loss']:.4f}  accuracy {fold['accuracy']:.2%}  "
        assert line.startswith(expected)
    text = str(result)
    assert text.startswith("3 folds, mean ± standard deviation\n")
    assert len(text.splitlines()) == 7
    assert f"{result.mean['accuracy']:.2%} ± {result.deviation['accuracy']:.2%}" in text
    assert f"{result.mean['loss']:.4f} ± {result.deviation['loss']:.4f}" in text
    assert text.splitlines()[3].split()[:5] == [
        "1", "40", "20", f"{result.folds[0]['loss']:.4f}", f"{result.folds[0]['accuracy']:.2%}"
    ]  # fmt: skip
    result.save(tmp_path / "folds.json")
    saved = json.loads((tmp_path / "folds.json").read_text())
    assert saved["folds"] == result.folds
    assert (saved["mean"], saved["deviation"]) == (result.mean, result.deviation)
    assert saved["histories"][2] == result.histories[2].epochs
    many = training.CrossValidation(result.folds * 10, result.mean, dict.fromkeys(result.mean), result.histories)
    assert "… 10 more" in str(many)
    assert "±" not in str(many).splitlines()[-1]


def test_regression_has_no_accuracy(rng):
    x = rng.standard_normal((30, 2)).astype(np.float32)

    def make():
        model = models.mlp([2, 1])
        return training.Trainer(model, optim.SGD(model), nn.MSE(), progress=False)

    result = validate((x, x[:, :1]), splits.k_fold(30, 3), make)
    assert list(result.mean) == ["loss", "training_loss"]
    assert "accuracy" not in str(result)


class Press(training.Callback):
    """Presses Ctrl-C in the given fold."""

    folds = 0

    def on_start(self, trainer):
        Press.folds += 1

    def on_step(self, trainer):
        if Press.folds == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("at", [1, 3])
def test_ctrl_c_keeps_the_folds_that_are_done(points, at):
    Press.folds = 0

    def make():
        press = Press()
        press.at = at
        return make_trainer([press])

    if at == 1:
        with pytest.raises(KeyboardInterrupt):
            validate(points, splits.k_fold(60, 4), make)
    else:
        result = validate(points, splits.k_fold(60, 4), make)
        assert len(result.folds) == len(result.histories) == 2
        assert result.interrupted
        assert str(result).startswith("2 folds (interrupted), mean ± standard deviation\n")
        assert str(validate(points, splits.hold_out(60))).startswith("1 fold, mean")


def test_an_error_tells_its_fold(points):
    made = []

    def fail(outputs, labels):
        raise RuntimeError("the disk is full")

    def make():
        made.append(make_trainer())
        if len(made) == 2:
            made[1].loss = fail
        return made[-1]

    with pytest.raises(RuntimeError, match="the disk is full") as caught:
        validate(points, splits.k_fold(60, 3), make)
    number, table = caught.value.__notes__
    assert number == "in fold 2 of cross_validate"
    first = validate(points, splits.k_fold(60, 3)).folds[0]
    assert table.startswith("1 fold (interrupted), mean")
    assert table.splitlines()[3].split()[:4] == ["1", "40", "20", f"{first['loss']:.4f}"], "what was done is not lost"


def test_splits_that_fail_later_leave_what_was_done(points):
    def failing():
        yield from splits.k_fold(60, 3)
        raise ValueError("the list of splits ends here")

    for made in ([*splits.k_fold(60, 3), ([0], [60])], failing()):
        with pytest.raises(ValueError, match="contains 60|ends here") as caught:
            validate(points, made)
        assert [note[:22] for note in caught.value.__notes__] == ["3 folds (interrupted),"]


def test_a_judgement_that_is_not_finite_is_an_error(points):
    made = []

    def make():
        model = nn.Sequential(nn.Dense(2, 6), nn.ReLU(), nn.Dense(6, 2))
        made.append(training.Trainer(model, optim.SGD(model, lr=1e30 if len(made) == 1 else 0.1), progress=False))
        return made[-1]

    with (
        np.errstate(all="ignore"),
        pytest.raises(training.NonFiniteLossError, match="validation loss is nan") as caught,
    ):
        validate(points, splits.k_fold(60, 3), make, 1, batch_size=64, validate=False)
    assert caught.value.__notes__[0] == "in fold 2 of cross_validate"
    assert caught.value.__notes__[1].startswith("1 fold (interrupted)")


def trained(model, callbacks=()):
    return training.Trainer(model, optim.Adam(model, lr=0.02), callbacks=callbacks, progress=False)


class Unfreeze(training.Callback):
    """Lets all of the model learn from the first step on."""

    def on_step(self, trainer):
        trainer.model.unfreeze()


def test_models_that_know_other_folds_are_refused(points):
    trainer, model, layers = make_trainer(), models.mlp([2, 2]), [nn.Dense(2, 6), nn.ReLU(), nn.Dense(6, 2)]
    backbone, frozen, thawed = nn.Dense(2, 6), nn.Dense(2, 6), nn.Dense(2, 6)
    turns = itertools.cycle([models.mlp([2, 3, 2]), models.mlp([2, 3, 2])])
    made = []

    def make_frozen_later():
        if made:
            frozen.freeze()
        made.append(True)
        return trained(nn.Sequential(frozen, nn.Dense(6, 2)))

    def make_unfreezing():
        thawed.freeze()
        return trained(nn.Sequential(thawed, nn.Dense(6, 2)), [Unfreeze()])

    for make, names, number in (
        (lambda: trainer, r"0.weight, 0.bias, 3.weight, …", 2),
        (lambda: trained(model), r"\S+weight, \S+bias", 2),
        (lambda: trained(nn.Sequential(*layers)), "0.weight, 0.bias, 2.weight, …", 2),
        (lambda: trained(nn.Sequential(backbone, nn.Dense(6, 2))), "0.weight, 0.bias", 2),
        (lambda: trained(next(turns)), r"\S+weight, \S+bias, \S+weight, …", 3),
        (make_frozen_later, "0.weight, 0.bias", 2),
        (make_unfreezing, "0.weight, 0.bias", 2),
    ):
        message = f"make_trainer returned a model whose {names} could learn in an earlier fold; make all of it anew"
        with pytest.raises(ValueError, match=message) as caught:
            validate(points, splits.k_fold(60, 4), make)
        assert caught.value.__notes__[0] == f"in fold {number} of cross_validate"
    with pytest.raises(ValueError, match="make_trainer returned a Trainer that has made steps"):
        validate(points, splits.k_fold(60, 3), lambda: trainer)
    optimizer = trainer.optimizer
    again = lambda: training.Trainer(trainer.model, optimizer, progress=False)
    with pytest.raises(ValueError, match="make_trainer returned an optimizer that has made steps; make all of it anew"):
        validate(points, splits.hold_out(60), again)
    with pytest.raises(TypeError, match="make_trainer returned Sequential, expected a Trainer"):
        validate(points, splits.k_fold(60, 3), lambda: make_trainer().model)


def test_frozen_layers_may_be_shared_and_the_weights_of_done_folds_are_freed(points):
    backbone, models_made = nn.Dense(2, 6).freeze(), []

    def make():
        model = nn.Sequential(backbone, nn.ReLU(), nn.Dense(6, 2))
        models_made.append(weakref.ref(next(iter(model[2].parameters()))))
        return trained(model)

    before = backbone.state_dict()
    result = validate(points, splits.k_fold(60, 4), make)
    assert len(result.folds) == 4
    for name, values in backbone.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    gc.collect()
    assert [made() for made in models_made] == [None] * 4


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        ([], ValueError, "splits is empty, expected at least one pair"),
        (splits.k_fold(50, 3), ValueError, "splits is of 50 samples, but x has 60"),
        (splits.leave_one_out(61), ValueError, "splits is of 61 samples, but x has 60"),
        (5, TypeError, "splits is int, expected pairs"),
        ([([0], [2]), ([0, 1, 2], [2, 1])], ValueError, "fold 2 holds out 2 samples that it trains on, the first is 1"),
        ([([0, 1], [60])], ValueError, "fold 1: the held-out part contains 60, expected indices 0 to 59"),
        ([([-1, 1], [2])], ValueError, "fold 1: the training part contains -1"),
        ([([], [2])], ValueError, r"fold 1: the training part is float64 of the shape \(0,\), expected indices"),
        ([([0, 1], np.arange(60) > 50)], ValueError, "fold 1: the held-out part is bool"),
        ([[0, 1, 2]], TypeError, r"fold 1 is \[0, 1, 2\], expected a pair"),
    ],
)  # fmt: skip
def test_splits_that_cannot_judge_are_refused(points, made, error, message):
    with pytest.raises(error, match=f"cross_validate: {message}"):
        validate(points, made)


def test_bad_settings_are_refused(points):
    fitted, compose = data.Standardization(points[0]), data.augment.compose
    noise = lambda x, generator: x + generator.standard_normal(x.shape, dtype=np.float32)
    for settings, error, message in (
        ({"epochs": 0}, ValueError, "cross_validate: epochs is 0"),
        ({"seed": -1}, ValueError, "cross_validate: seed is -1"),
        ({"batch_size": 0}, ValueError, "Loader: batch_size is 0"),
        ({"prepare": 5}, TypeError, "cross_validate: prepare is 5, expected a callable"),
        ({"prepare": lambda x: None}, TypeError, "cross_validate: prepare returned NoneType, expected a callable that"),
        ({"prepare": lambda x: x}, TypeError, "cross_validate: prepare returned ndarray, expected a callable that"),
        ({"prepare": fitted}, TypeError, r"prepare is Standardization\(.*\), expected the class data.Standardization"),
        ({"augment": 5}, TypeError, "cross_validate: augment is 5, expected a callable"),
        ({"augment": fitted}, TypeError, "augment contains a Standardization, .*give it as prepare="),
        ({"augment": compose(noise, compose(fitted))}, TypeError, "augment contains a Standardization"),
        ({"augment": data.Standardization}, TypeError, "augment contains a Standardization"),
    ):
        with pytest.raises(error, match=message):
            validate(points, splits.k_fold(60, 3), **settings)
    x, y = points
    for samples in ((x, y[:50]), (x[:50], y), (x, y[0]), (x[0, 0], y)):
        with pytest.raises(ValueError, match=r"cross_validate: x has shape .* and y .*, expected as many of both"):
            validate(samples, splits.k_fold(50, 3))
