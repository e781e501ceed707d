"""Cross-validation: each fold is the training that one would write by hand, and nothing leaks."""

from __future__ import annotations

import json
import os
import signal
import statistics

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


def test_early_stopping_is_judged_by_the_best_weights(points):
    make = lambda: make_trainer([training.EarlyStopping(2, watch="validation_loss")])
    result = validate(points, splits.k_fold(60, 2), make, epochs=60)
    for fold, history in zip(result.folds, result.histories, strict=True):
        assert fold["loss"] == pytest.approx(min(history.column("validation_loss")), rel=1e-6)
        assert fold["stopped"] == history.stopped
        assert fold["epochs"] == len(history.epochs)


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
    assert caught.value.__notes__ == ["in fold 2 of cross_validate"]


def test_models_that_know_other_folds_are_refused(points):
    trainer, model = make_trainer(), models.mlp([2, 2])
    for make, message in (
        (lambda: trainer, "make_trainer returned the model or optimizer of the fold before; make all of it anew"),
        (
            lambda: training.Trainer(model, optim.SGD(model), progress=False),
            "returned the model or optimizer of the fold",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            validate(points, splits.k_fold(60, 3), make)
    with pytest.raises(ValueError, match="make_trainer returned a Trainer that has made steps"):
        validate(points, splits.k_fold(60, 3), lambda: trainer)
    with pytest.raises(TypeError, match="make_trainer returned Sequential, expected a Trainer"):
        validate(points, splits.k_fold(60, 3), lambda: make_trainer().model)


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        ([], ValueError, "splits is empty, expected at least one pair"),
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
    for settings, error, message in (
        ({"epochs": 0}, ValueError, "cross_validate: epochs is 0"),
        ({"seed": -1}, ValueError, "cross_validate: seed is -1"),
        ({"batch_size": 0}, ValueError, "Loader: batch_size is 0"),
    ):
        with pytest.raises(error, match=message):
            validate(points, splits.k_fold(60, 3), **settings)
