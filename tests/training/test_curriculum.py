"""What callbacks do to batches, and the curriculum of progressive sharpening."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import data, models, nn, optim, training


class Changing(training.Callback):
    """Returns whatever `change` makes of a batch."""

    def __init__(self, change):
        self.change = change

    def on_batch(self, trainer, x, y):
        return self.change(x, y)


def fit(callbacks, x, y, epochs=1, **settings):
    ml.manual_seed(2)
    model = models.mlp([3, 4, 2])
    trainer = training.Trainer(model, optim.Adam(model), callbacks=callbacks, progress=False)
    trainer.fit(data.Loader(x, y, 8, **settings), (x, y), epochs)
    return trainer


@pytest.fixture
def points(rng):
    return rng.standard_normal((20, 3)).astype(np.float32), rng.integers(0, 2, 20)


def test_callbacks_change_the_batch_one_after_the_other(points):
    x, y = points
    changed = fit([Changing(lambda x, y: (x + 1, y)), Changing(lambda x, y: (2 * x, 1 - y))], x, y, shuffle=False)
    before = fit([], 2 * (x + 1), 1 - y, shuffle=False)
    for name, value in before.model.state_dict().items():
        np.testing.assert_array_equal(changed.model.state_dict()[name], value)
    assert changed.history.epochs[0]["accuracy"] == before.history.epochs[0]["accuracy"], "of the changed labels"
    assert changed.history.steps == before.history.steps
    assert changed.history.epochs[0]["validation_loss"] != before.history.epochs[0]["validation_loss"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: x, TypeError, r"Changing.on_batch returned ndarray, expected a pair \(x, y\)"),
        (lambda x, y: None, TypeError, "Changing.on_batch returned NoneType"),
        (lambda x, y: (x, y, 1), TypeError, "Changing.on_batch returned tuple"),
        (lambda x, y: (x.astype(np.float64), y), TypeError, "returned inputs of float64, expected an array of float32"),
        (lambda x, y: (255 * x.astype(np.uint8), y), TypeError, "returned inputs of uint8, expected an array of"),
        (lambda x, y: (x.tolist(), y), TypeError, "returned inputs of list, expected an array of float32"),
        (lambda x, y: (x, y[1:]), ValueError, "Changing.on_batch returned 8 inputs and 7 labels, expected as many"),
        (lambda x, y: (x[:0], y[:0]), ValueError, "returned 0 inputs and 0 labels"),
    ],
)
def test_what_on_batch_must_not_return(points, change, error, message):
    with pytest.raises(error, match=message):
        fit([Changing(change)], *points)


def test_what_a_callback_draws_is_undone_when_the_step_fails(points):
    generator = ml.backend.default_generator
    states = []

    def spoil(x, y):
        states.append(generator().bit_generator.state)
        generator().random()
        return np.where(len(states) == 3, np.nan, x).astype(np.float32), y

    with pytest.raises(training.NonFiniteLossError, match="it began in the input batch"):
        fit([Changing(spoil)], *points)
    assert generator().bit_generator.state == states[-1]


# ---------------------------------------------------------------- progressive sharpening


def images(count=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 8, 8, 1)).astype(np.float32), rng.integers(0, 2, count)


class Seen(training.Callback):
    def on_start(self, trainer):
        self.batches = []

    def on_batch(self, trainer, x, y):
        self.batches.append(x)
        return x, y


def small_network():
    ml.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Dense(108, 2))


def sharpened(k=3, stage=2, epochs=7, callbacks=(), resume=None, fit=True, **settings):
    x, y = images()
    model = small_network()
    seen = Seen()
    curriculum = training.ProgressiveSharpening(k, stage, **settings)
    trainer = training.Trainer(model, optim.Adam(model), callbacks=[curriculum, seen, *callbacks], progress=False)
    trainer.fit(data.Loader(x, y, 8, seed=1), (x, y), epochs, resume)
    return trainer, seen.batches


def test_the_stages_come_in_their_order_and_the_originals_last():
    trainer, batches = sharpened(k=3, stage=2, epochs=7)
    widths = [3, 3, 2, 2, 1, 1, 1]
    assert trainer.history.column("blur") == widths
    x, y = images()
    loader = data.Loader(x, y, 8, seed=1)
    expected = [data.sharpening.blur(batch, n) for n in widths for batch, _ in loader]
    assert len(batches) == 21
    for batch, blurred in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch, blurred)
    assert np.abs(batches[0] - x[:8]).max() > 0.1


def test_validation_is_on_the_originals_and_the_optimizer_goes_on():
    trainer, _ = sharpened(k=3, stage=1, epochs=4)
    assert trainer.optimizer.t == 12
    assert trainer.history.epochs[-1]["validation_loss"] == pytest.approx(trainer.evaluate(images())["loss"], rel=1e-5)
    plain, _ = sharpened(k=1, stage=1, epochs=1)
    model = small_network()
    x, y = images()
    training.Trainer(model, optim.Adam(model), progress=False).fit(data.Loader(x, y, 8, seed=1))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(plain.model.state_dict()[name], value, err_msg="one stage is plain training")


def test_the_mode_is_that_of_the_blur():
    _, batches = sharpened(k=2, stage=1, epochs=2, mode="constant")
    x, y = images()
    first, _ = next(iter(data.Loader(x, y, 8, seed=1)))
    np.testing.assert_array_equal(batches[0], data.sharpening.blur(first, 2, "constant"))


@pytest.mark.parametrize("at", [2, 3, 4, 6, 9, 14])
def test_a_resumed_run_is_in_its_stage(tmp_path, at):
    whole, batches = sharpened()
    path = tmp_path / "run.safetensors"
    stop = training.StepLimit(at)
    stop.check = lambda t, W, e: "interrupted" if t >= at else None
    sharpened(callbacks=[stop, training.Checkpoint(path, every_epochs=None)])
    again, rest = sharpened(callbacks=[training.Checkpoint(path)], resume=path)
    assert len(rest) == 21 - at
    for batch, expected in zip(rest, batches[at:], strict=True):
        np.testing.assert_array_equal(batch, expected)
    for name, value in whole.model.state_dict().items():
        np.testing.assert_array_equal(again.model.state_dict()[name], value)
    assert again.history.column("blur") == whole.history.column("blur")


def test_a_resumed_run_must_have_the_same_stages(tmp_path):
    path = tmp_path / "run.safetensors"
    sharpened(k=2, stage=1, epochs=2, callbacks=[training.Checkpoint(path)])
    for settings, message in (({"k": 3, "stage": 1}, "k is 3, in the run 2"), ({"k": 2, "stage": 2}, "stage is 2, in")):
        with pytest.raises(ValueError, match=message):
            sharpened(**settings, epochs=5, resume=path)


def test_bad_settings_are_clear_errors():
    for make, error, message in (
        (lambda: training.ProgressiveSharpening(0), ValueError, "ProgressiveSharpening: k is 0, expected a positive"),
        (lambda: training.ProgressiveSharpening(2, 1.5), ValueError, "epochs_per_stage is 1.5"),
        (lambda: training.ProgressiveSharpening(2, mode="edge"), ValueError, "mode is 'edge', expected one of"),
        (lambda: sharpened(epochs=4), ValueError, "epochs is 4, expected at least 5: 3 stages, of 2 each but the last"),
        (lambda: sharpened(k=9, stage=1, epochs=9), ValueError, "blur: n is 9, expected an integer from 1 to"),
        (lambda: fit([training.ProgressiveSharpening(2)], np.ones((4, 3), np.float32), np.zeros(4, int), 2), ValueError,
         r"blur: x has shape \(4, 3\)"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            make()
    assert len(sharpened(epochs=5)[1]) == 15
