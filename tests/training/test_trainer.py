"""The Trainer: the loop, its record, interruption, and divergence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import minidl as ml
from minidl import data, models, nn, ops, optim, training
from minidl.training.interrupts import deferred_interrupt


@pytest.fixture
def blobs():
    """Two clouds of points that a small network can tell apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 90)
    x = rng.standard_normal((90, 2)) + 4 * y[:, None]
    return x.astype(np.float32), y


def trainer_for(model, lr=0.1, **settings):
    return training.Trainer(model, optim.SGD(model, lr=lr), progress=False, **settings)


# ---------------------------------------------------------------- the loop


def test_fit_equals_the_loop_written_out(blobs):
    x, y = blobs
    ml.manual_seed(1)
    model = models.mlp([2, 8, 2])
    optimizer = optim.Adam(model)
    loader = data.Loader(x, y, 20, seed=3)
    for _ in range(3):
        for batch_x, batch_y in loader:
            optimizer.zero_grad()
            ops.cross_entropy(model(batch_x), batch_y).backward()
            optimizer.step()

    ml.manual_seed(1)
    other = models.mlp([2, 8, 2])
    training.Trainer(other, optim.Adam(other), progress=False).fit(data.Loader(x, y, 20, seed=3), epochs=3)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value)


def test_history_holds_every_step_and_epoch(blobs):
    x, y = blobs
    trainer = trainer_for(models.mlp([2, 2]), lr=lambda t: 0.1 / (t + 1))
    history = trainer.fit(data.Loader(x, y, 40), (x, y), epochs=2)
    assert [(s["step"], s["epoch"]) for s in history.steps] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert [s["rate"] for s in history.steps] == pytest.approx([0.1 / n for n in range(1, 7)])
    assert [e["epoch"] for e in history.epochs] == [1, 2]
    first = history.steps[:3]
    assert history.epochs[0]["loss"] == pytest.approx(
        (40 * first[0]["loss"] + 40 * first[1]["loss"] + 10 * first[2]["loss"]) / 90
    )
    assert history.column("validation_accuracy")[-1] == trainer.evaluate((x, y))["accuracy"]
    assert history.stopped == "epochs done"
    trainer.fit(data.Loader(x, y, 40), epochs=1)
    assert [e["epoch"] for e in history.epochs] == [1, 2, 3], "the record goes on"


def test_evaluate_is_in_evaluation_mode_and_restores_the_mode(blobs):
    x, y = blobs
    model = nn.Sequential(nn.Dense(2, 50), nn.Dropout(0.9), nn.Dense(50, 2))
    trainer = trainer_for(model)
    results = [trainer.evaluate((x, y)) for _ in range(2)]
    assert results[0] == results[1]
    assert model.training
    expected = ops.cross_entropy(model.eval()(x), y).item()
    assert results[0]["loss"] == pytest.approx(expected, rel=1e-5)
    accuracy = (model(x).data.argmax(axis=1) == y).mean()
    assert results[0]["accuracy"] == accuracy


def test_evaluate_restores_the_mode_of_every_module(blobs):
    model = nn.Sequential(nn.BatchNorm(2), nn.Dense(2, 2))
    model[0].eval()
    trainer_for(model).evaluate(blobs)
    assert model.training
    assert not model[0].training


def test_integer_targets_of_one_output_have_no_accuracy(rng):
    class First(nn.Module):
        def __init__(self):
            self.dense = nn.Dense(3, 1)

        def forward(self, x):
            return ops.reshape(self.dense(x), (-1,))

    model = First()
    x = rng.standard_normal((8, 3)).astype(np.float32)
    trainer = trainer_for(model, loss=lambda outputs, y: ops.mse(outputs, y.astype(np.float32)))
    assert "accuracy" not in trainer.fit(data.Loader(x, np.arange(8), 8)).epochs[0]


def test_regression_has_no_accuracy(rng):
    x = rng.standard_normal((50, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [2.0], [3.0]], np.float32)
    history = trainer_for(models.mlp([3, 1]), loss=nn.MSE()).fit(data.Loader(x, y, 10), (x, y), epochs=20)
    assert "accuracy" not in history.epochs[0]
    assert history.column("validation_loss")[-1] < 0.01


def test_a_loss_object_receives_the_progress_and_a_function_does_not(blobs):
    x, y = blobs
    seen = []

    class Watching(nn.Loss):
        def __call__(self, outputs, labels, progress=0.0):
            seen.append(progress)
            return ops.cross_entropy(outputs, labels)

    trainer_for(models.mlp([2, 2]), loss=Watching()).fit(data.Loader(x, y, 45), epochs=2)
    assert seen == [0, 0.25, 0.5, 0.75]
    trainer_for(models.mlp([2, 2]), loss=ops.cross_entropy).fit(data.Loader(x, y, 45), epochs=1)


def test_nesterov_is_evaluated_at_the_true_iterate(blobs):
    x, y = blobs
    model = models.mlp([2, 2])
    optimizer = optim.Nesterov(model, lr=0.1)
    weights = []

    class Watch(training.Callback):
        def on_epoch(self, trainer):
            flat = np.concatenate([parameter.data.ravel() for parameter in model.parameters()])
            weights.append((flat, optimizer.weights))

    training.Trainer(model, optimizer, callbacks=[Watch()], progress=False).fit(data.Loader(x, y, 30), (x, y), epochs=2)
    for flat, iterate in weights:
        np.testing.assert_array_equal(flat, iterate)


def test_callbacks_are_told_in_order_and_can_stop(blobs):
    x, y = blobs
    events = []

    class Watch(training.Callback):
        def on_start(self, trainer):
            events.append("start")

        def on_step(self, trainer):
            events.append(f"step {trainer.steps_done}")
            if trainer.steps_done == 4:
                trainer.stop("enough")

        def on_stop(self, trainer):
            events.append(f"stop after {len(trainer.history.epochs)} epochs")

        def on_epoch(self, trainer):
            events.append(f"epoch {trainer.epoch}")

        def on_end(self, trainer):
            events.append(trainer.history.stopped)

    trainer_for(models.mlp([2, 2]), callbacks=[Watch()]).fit(data.Loader(x, y, 30), epochs=9)
    first = ["start", "step 1", "step 2", "step 3", "epoch 1"]
    assert events == [*first, "step 4", "stop after 1 epochs", "epoch 2", "enough"]


def test_a_training_that_is_stopped_before_its_first_step_makes_none(blobs):
    class Stop(training.Callback):
        def on_start(self, trainer):
            trainer.stop("too late")

    history = trainer_for(models.mlp([2, 2]), callbacks=[Stop()]).fit(data.Loader(*blobs, 30))
    assert (history.steps, history.epochs, history.stopped) == ([], [], "too late")


def test_the_running_accuracy_is_that_of_the_epoch_so_far(blobs):
    x, y = blobs
    seen = []

    class Watch(training.Callback):
        def on_step(self, trainer):
            seen.append(trainer.running_accuracy)

    history = trainer_for(models.mlp([2, 2]), callbacks=[Watch()]).fit(data.Loader(x, y, 45), epochs=2)
    assert [seen[1], seen[3]] == history.column("accuracy")
    assert all(round(45 * accuracy, 9) % 1 == 0 for accuracy in seen[::2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t, x, y: t.fit((x, y)), TypeError, "train is tuple, expected a data.Loader"),
        (lambda t, x, y: t.fit(data.Loader(x, y), epochs=0), ValueError, "epochs is 0"),
        (lambda t, x, y: t.fit(data.Loader(x, y), validation=x), TypeError, "validation is ndarray"),
        (lambda t, x, y: t.fit(data.Loader(x, y + 1)), ValueError, "labels contain 2, expected class indices 0 to 1"),
        (lambda t, x, y: t.fit(data.Loader(x[:, :1], y)), ValueError, "Dense: x has shape"),
    ],
)
def test_bad_input_is_a_clear_error(blobs, call, error, message):
    with pytest.raises(error, match=message):
        call(trainer_for(models.mlp([2, 2])), *blobs)


def test_trainer_checks_its_parts():
    model = models.mlp([2, 2])
    with pytest.raises(TypeError, match="model is function, expected Module"):
        training.Trainer(lambda x: x, optim.SGD(model))
    with pytest.raises(TypeError, match="optimizer is str, expected Optimizer"):
        training.Trainer(model, "adam")
    with pytest.raises(ValueError, match="the optimizer holds none of the model's parameters"):
        training.Trainer(model, optim.SGD(models.mlp([2, 2])))


# ---------------------------------------------------------------- a loss that is no number


def named_net():
    return nn.Sequential(first=nn.Dense(2, 3), relu=nn.ReLU(), drop=nn.Dropout(0.5), second=nn.Dense(3, 2))


def test_divergence_names_step_layer_and_keeps_the_weights_before(blobs):
    x, y = blobs
    model = named_net()
    optimizer = optim.SGD(model, lr=0.1)
    trainer = training.Trainer(model, optimizer, progress=False)
    trainer.fit(data.Loader(x, y, 30))
    kept = optimizer.weights
    model.second.weight.data = np.full((3, 2), 3e38)
    poisoned = optimizer.weights
    with np.errstate(all="ignore"), pytest.raises(training.NonFiniteLossError) as caught:
        trainer.fit(data.Loader(x, y, 30))
    assert caught.value.step == 4
    assert caught.value.where == "the output of layer 'second' (Dense)"
    assert "at step 4, epoch 2, which was not made; it began in the output of layer 'second'" in str(caught.value)
    np.testing.assert_array_equal(optimizer.weights, poisoned)
    assert kept.shape == poisoned.shape
    assert len(trainer.history.steps) == 3


def test_divergence_names_bad_weights_and_a_bad_loss(blobs):
    x, y = blobs
    model = named_net()
    trainer = trainer_for(model)
    model.first.bias.data = [np.nan, 0, 0]
    with pytest.raises(training.NonFiniteLossError, match="the weights of layer 'first' \\(Dense\\): bias"):
        trainer.fit(data.Loader(x, y, 30))
    infinite = trainer_for(named_net(), loss=lambda outputs, labels: (outputs * 0).sum() + np.inf)
    with pytest.raises(training.NonFiniteLossError, match="the loss itself, from finite outputs"):
        infinite.fit(data.Loader(x, y, 30))


def test_divergence_undoes_buffers_and_generators(blobs):
    x, y = blobs
    model = nn.Sequential(
        norm=nn.BatchNorm(2), drop=nn.Dropout(0.5, generator=np.random.default_rng(5)), last=nn.Dense(2, 2)
    )
    trainer = trainer_for(model, loss=lambda outputs, labels: outputs.sum() * np.inf)
    state, generator = model.state_dict(), model.drop.generator.bit_generator.state
    with np.errstate(all="ignore"), pytest.raises(training.NonFiniteLossError):
        trainer.fit(data.Loader(x, y, 30))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    assert model.drop.generator.bit_generator.state == generator
    assert trainer.history.stopped == "an error"


def test_a_validation_loss_that_is_no_number_is_an_error_too(blobs):
    x, y = blobs
    trainer = trainer_for(models.mlp([2, 2]), lr=1e38)
    with np.errstate(all="ignore"), pytest.raises(training.NonFiniteLossError) as caught:
        trainer.fit(data.Loader(x, y, 90), (x, y))
    assert "the validation loss is" in str(caught.value)
    assert "after step 1, epoch 1; it began in the output of layer '1' (Dense)" in str(caught.value)


def test_nesterov_stands_at_the_iterate_after_divergence(blobs):
    x, y = blobs
    model = named_net()
    optimizer = optim.Nesterov(model, lr=0.1)
    trainer = training.Trainer(model, optimizer, progress=False)
    trainer.fit(data.Loader(x, y, 30))
    trainer.loss = lambda outputs, labels: outputs.sum() * np.inf
    before = optimizer.weights
    with np.errstate(all="ignore"), pytest.raises(training.NonFiniteLossError):
        trainer.fit(data.Loader(x, y, 30))
    np.testing.assert_array_equal(np.concatenate([p.data.ravel() for p in model.parameters()]), before)


# ---------------------------------------------------------------- Ctrl-C


def test_ctrl_c_ends_after_the_step_and_keeps_what_was_learned(blobs):
    x, y = blobs
    model = models.mlp([2, 2])

    class PressAtStep(training.Callback):
        def on_step(self, trainer):
            if trainer.steps_done == 3:
                os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    history = trainer_for(model, callbacks=[PressAtStep()]).fit(data.Loader(x, y, 10), (x, y), epochs=100)
    assert history.stopped == "interrupted"
    assert 3 <= len(history.steps) <= 4
    assert len(history.epochs) == 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_raises():
    def press_twice():
        with deferred_interrupt(lambda: None):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        press_twice()


def test_training_in_another_thread_leaves_signals_alone(blobs):
    x, y = blobs
    results = []
    thread = threading.Thread(
        target=lambda: results.append(trainer_for(models.mlp([2, 2])).fit(data.Loader(x, y, 30)).stopped)
    )
    thread.start()
    thread.join()
    assert results == ["epochs done"]


# ---------------------------------------------------------------- history files and the progress bar


def test_history_is_saved_as_json_lines_and_read_back(blobs, tmp_path):
    x, y = blobs
    history = trainer_for(models.mlp([2, 2])).fit(data.Loader(x, y, 30), (x, y), epochs=2)
    path = tmp_path / "history.jsonl"
    history.save(path)
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["step"] * 6 + ["epoch"] * 2 + ["end"]
    assert training.History.load(path) == history
    assert os.listdir(tmp_path) == ["history.jsonl"]


@pytest.mark.parametrize("line", ["not json", "[]", '{"kind": "other"}', '{"step": 1}', "3"])
def test_a_foreign_history_file_is_a_clear_error(tmp_path, line):
    path = tmp_path / "history.jsonl"
    path.write_text('{"kind": "end", "stopped": ""}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"line 2 of .*history.jsonl is not a record of a run"):
        training.History.load(path)


def test_a_failed_save_leaves_the_old_file(blobs, tmp_path):
    path = tmp_path / "history.jsonl"
    training.History(stopped="first").save(path)
    with pytest.raises(ValueError, match="Out of range float"):
        training.History(steps=[{"loss": float("nan")}]).save(path)
    assert training.History.load(path).stopped == "first"
    assert os.listdir(tmp_path) == ["history.jsonl"]


def test_progress_is_plain_lines_without_a_terminal(blobs, capsys):
    x, y = blobs
    model = models.mlp([2, 2])
    training.Trainer(model, optim.SGD(model)).fit(data.Loader(x, y, 30), (x, y), epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  loss ")
    for word in ("accuracy", "validation loss", "rate 0.01", " s"):
        assert word in lines[0]


def test_progress_is_a_live_bar_on_a_terminal():
    code = (
        "import numpy as np; from minidl import data, models, optim, training\n"
        "m = models.mlp([2, 2]); x = np.ones((400, 2), np.float32); y = np.zeros(400, int)\n"
        "training.Trainer(m, optim.SGD(m)).fit(data.Loader(x, y, 2), (x, y), epochs=2)\n"
    )
    environment = os.environ | {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "140", "TTY_COMPATIBLE": "1"}
    output = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert "epoch 2/2" in output
    assert "400/400" in output
    assert "━" in output


@pytest.mark.parametrize("method", [optim.Newton, optim.LevenbergMarquardt, optim.SteepestDescent])
def test_methods_that_need_one_and_the_same_function_are_refused(method):
    model = models.mlp([2, 2])
    with pytest.raises(ValueError, match=f"Trainer: optimizer is {method.__name__}.*Use training.minimize"):
        training.Trainer(model, method(model))


# ---------------------------------------------------------------- what cannot learn, and callbacks that are none


def frozen_then_made():
    model = models.mlp([2, 4, 2])
    first = next(module for _, module in model.named_modules() if isinstance(module, nn.Dense))
    first.freeze()
    return model, first, trainer_for(model)


def test_what_is_unfrozen_and_in_no_optimizer_is_warned_of(blobs):
    model, first, trainer = frozen_then_made()
    trainer.fit(data.Loader(*blobs, 30))  # frozen, it is not missed
    model.unfreeze()
    names = [
        name for name, parameter in model.named_parameters() if any(parameter is own for own in first.parameters())
    ]
    with pytest.warns(
        UserWarning, match=f"fit: no optimizer holds {', '.join(names)}, so they will not learn"
    ) as caught:
        trainer.fit(data.Loader(*blobs, 30))
    assert caught[0].filename == __file__
    other = optim.SGD(first)
    trainer.fit(data.Loader(*blobs, 30))  # it is the other one's business
    del other


def test_a_model_that_is_all_frozen_is_an_error_before_any_work(blobs):
    model = models.mlp([2, 2])
    trainer = trainer_for(model)
    model.freeze()
    with pytest.raises(ValueError, match="fit: all that the optimizer holds is frozen, so nothing would be learned"):
        trainer.fit(data.Loader(*blobs, 30))
    assert trainer.steps_done == 0


@pytest.mark.parametrize("callbacks", [training.Checkpoint("a"), [training.Checkpoint], [lambda trainer: None]])
def test_callbacks_are_a_sequence_of_objects(callbacks):
    with pytest.raises(
        TypeError, match="Trainer: callbacks is .*, expected a sequence of objects of the type Callback"
    ):
        trainer_for(models.mlp([2, 2]), callbacks=callbacks)


def test_a_state_that_could_not_be_saved_is_said_at_once(blobs):
    with pytest.raises(TypeError, match=r"Seen: state is 'seen', expected a tuple of names: \('seen',\)"):
        type("Seen", (training.Callback,), {"state": ("seen")})

    class Late(training.Callback):
        state = ("seen", "told")

        def on_start(self, trainer):
            self.told = 1

        def on_step(self, trainer):
            self.seen = True

    trainer = trainer_for(models.mlp([2, 2]), callbacks=[Late()])
    with pytest.raises(ValueError, match="Late: state names seen, not set by on_start"):
        trainer.fit(data.Loader(*blobs, 30))
    assert trainer.steps_done == 0


def test_saving_to_a_missing_folder_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder .*no does not exist: '.*no/h.jsonl'"):
        training.History().save(tmp_path / "no" / "h.jsonl")
