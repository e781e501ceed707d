"""A training that was interrupted goes on as if it had never stopped, to the last bit."""

from __future__ import annotations

import os
import re
import shutil
import signal

import numpy as np
import pytest

import minidl as ml
from minidl import data, models, nn, ops, optim, training
from minidl.optim import catalogue
from minidl.optim.deterministic import DeterministicOptimizer

# ---------------------------------------------------------------- every optimizer, schedule and rule


class SaveEverywhere(training.Checkpoint):
    """Saves after every step and every epoch, each to a file of its own: "05-step", "06-epoch"."""

    def __init__(self, folder):
        super().__init__(folder / "run", every_steps=1)
        self.folder = folder

    def on_step(self, trainer):
        self.path = self.folder / f"{trainer.steps_done:02}-step"
        super().on_step(trainer)

    def on_epoch(self, trainer):
        self.path = self.folder / f"{trainer.steps_done:02}-epoch"
        super().on_epoch(trainer)

    def on_stop(self, trainer):
        self.path = self.folder / f"{trainer.steps_done:02}-stop"
        super().on_stop(trainer)


def jitter(x, generator):
    return x + np.float32(0.05) * generator.standard_normal(x.shape, dtype=np.float32)


class Run:
    """A small training with everything that is random or has a state; `make` makes optimizer and callbacks."""

    def __init__(self, make, callbacks=(), frozen=False, seed=0, classes=2, batch_size=8, **settings):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((30, 5)).astype(np.float32)
        y = (x[:, 0] > 0).astype(int)
        ml.manual_seed(4)
        self.model = nn.Sequential(
            body=nn.Sequential(nn.Dense(5, 6), nn.BatchNorm(6), nn.ReLU()),
            drop=nn.Dropout(0.3),
            own=nn.Dropout(0.2, generator=np.random.default_rng(9)),
            head=nn.Dense(6, classes),
        )
        self.optimizer = make(self.model)
        if frozen:
            self.model.body.freeze()
        self.train = data.Loader(x[:22], y[:22], batch_size, seed=seed, augment=jitter)
        self.validation = data.Loader(x[22:], y[22:], 3, seed=1)
        self.trainer = training.Trainer(self.model, self.optimizer, callbacks=callbacks, progress=False, **settings)

    def fit(self, epochs=4, resume=None):
        self.trainer.fit(self.train, self.validation, epochs, resume)
        return self

    def state(self):
        """Return all that the training has changed, in a form that `==` compares."""
        history = self.trainer.history
        epochs = [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history.epochs]
        optimizer = {name: np.asarray(value).tolist() for name, value in self.optimizer.state_dict().items()}
        weights = {name: value.tolist() for name, value in self.model.state_dict().items()}
        generators = [each.bit_generator.state for each in (ml.backend.default_generator(), self.model.own.generator)]
        modes = [(name, module.training, module.frozen) for name, module in self.model.named_modules()]
        passes = self.train.epoch, self.validation.epoch, self.trainer.steps_done, self.trainer.epoch
        return [weights, optimizer, history.steps, epochs, history.stopped, generators, modes, passes]


def resumes_everywhere(tmp_path, make, rules=lambda: [], at=None, epochs=4, **settings):
    """Compare a run with those that go on from each of its checkpoints, or from those named; return the former."""
    whole = Run(make, [SaveEverywhere(tmp_path), *rules()], **settings).fit(epochs)
    expected = whole.state()
    names = sorted(os.listdir(tmp_path)) if at is None else at
    for name in names:
        again = Run(make, [*rules(), training.Checkpoint(tmp_path / "other")], **settings)
        assert again.fit(epochs, resume=tmp_path / name).state() == expected, name
        (tmp_path / "other").unlink(missing_ok=True)
    return whole


STOCHASTIC = [
    method
    for method in catalogue.METHODS
    if not isinstance(method.make(models.mlp([2, 2])), DeterministicOptimizer)  # which a Trainer does not take
]


@pytest.mark.parametrize("method", STOCHASTIC, ids=lambda method: method.name)
def test_every_optimizer_goes_on_bit_by_bit(tmp_path, method):
    resumes_everywhere(tmp_path, method.make, at=["01-step", "05-step", "06-step", "06-epoch", "12-epoch"])


SCHEDULES = {
    "decay": lambda: optim.schedules.Decay(0.1, 0.05),
    "warm up": lambda: optim.schedules.WarmUp(0.01, 0.1, 4, 12),
    "plateau": lambda: optim.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=0, threshold=0.5),
    "epochs": lambda: optim.schedules.InEpochs(optim.schedules.PiecewiseConstant([0.1, 0.02], [2]), 3),
    "function": lambda: lambda t: 0.1 / (t + 1),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_go_on(tmp_path, name):
    whole = resumes_everywhere(tmp_path, lambda model: optim.Nesterov(model, lr=SCHEDULES[name]()))
    if name == "plateau":
        assert whole.optimizer.lr.cuts, "the schedule has had something to remember"


def test_it_goes_on_with_a_frozen_body_a_penalty_and_clipping(tmp_path):
    make = lambda model: optim.HeavyBall(
        model, lr=0.1, penalty=optim.penalties.L2(0.1), clip=optim.ClipNorm(0.5), lr_scale={"head": 0.5}
    )
    resumes_everywhere(tmp_path, make, frozen=True)


def test_what_a_callback_has_frozen_and_unfrozen_is_so_again(tmp_path):
    class Thaw(training.Callback):
        def on_step(self, trainer):
            body = trainer.model.body
            if trainer.steps_done == 4:
                body.freeze()
            if trainer.steps_done == 8:
                body.unfreeze()
            if trainer.steps_done == 10:
                trainer.model.own.eval()  # until the next epoch

    whole = resumes_everywhere(tmp_path, optim.Adam, lambda: [Thaw()])
    assert not whole.model.own.training


class Script(training.Trainer):
    """A Trainer whose validation losses are given."""

    script = (5, 3, 4, 2, 2.5, 3, 4, 5, 6, 7)

    def evaluate(self, batches):
        list(batches)
        return {"loss": self.script[len(self.history.epochs)]}


def scripted(run):
    run.trainer.__class__ = Script
    return run


@pytest.mark.parametrize("restore_best", [True, False])
def test_early_stopping_goes_on_and_brings_the_same_weights_back(tmp_path, restore_best):
    rule = lambda: training.EarlyStopping(3, restore_best=restore_best)
    whole = scripted(Run(optim.Adam, [SaveEverywhere(tmp_path), rule()])).fit(10)
    assert whole.trainer.history.stopped.startswith("EarlyStopping: validation_loss = 4 at epoch 7")
    for name in sorted(os.listdir(tmp_path)):
        early = rule()
        again = scripted(Run(optim.Adam, [early])).fit(10, resume=tmp_path / name)
        assert again.state() == whole.state(), name
        assert (early.best, early.best_epoch) == (2, 4)


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (lambda: training.StepLimit(7), 7),
        (lambda: training.StepLimit(9), 9),
        (lambda: training.SmallStep(0.05), None),
        (lambda: training.SmallChange(0.04), None),
        (lambda: training.SmallChange(0.1, every="epoch"), None),
    ],
    ids=["in an epoch", "at its end", "SmallStep", "SmallChange", "SmallChange of epochs"],
)
def test_a_rule_ends_a_resumed_run_where_it_ends_the_whole_one(tmp_path, rule, steps):
    whole = resumes_everywhere(tmp_path, lambda model: optim.SGD(model, lr=lambda t: 0.2 * 0.9**t), lambda: [rule()])
    made = len(whole.trainer.history.steps)
    assert whole.trainer.history.stopped.startswith(type(rule()).__name__)
    assert 3 < made < 12
    assert steps in (None, made)
    assert len(whole.trainer.history.epochs) == -(-made // 3), "an epoch that was cut short is recorded once"


def test_a_callback_of_ones_own_goes_on_with_what_it_names(tmp_path):
    class Average(training.Callback):
        state = ("mean", "count")

        def on_start(self, trainer):
            self.mean, self.count = 0 * trainer.optimizer.weights, 0

        def on_step(self, trainer):
            self.count += 1
            self.mean = self.mean + (trainer.optimizer.weights - self.mean) / self.count

    whole = Average()
    Run(optim.SGD, [SaveEverywhere(tmp_path), whole]).fit()
    for name in ("01-step", "05-step", "06-epoch"):
        again = Average()
        Run(optim.SGD, [again]).fit(resume=tmp_path / name)
        np.testing.assert_array_equal(again.mean, whole.mean, strict=True)
        assert again.count == whole.count == 12


def test_a_resumed_run_is_resumed_again(tmp_path):
    whole = Run(optim.Nesterov).fit()
    path = tmp_path / "run"
    for stop in (2, 3, 7, 12):

        class Stop(training.Callback):
            def on_step(self, trainer):
                if trainer.steps_done == stop:
                    trainer.stop("interrupted")

        parts = Run(optim.Nesterov, [Stop(), training.Checkpoint(path, None)])
        parts.fit(resume=path if path.exists() else None)
        assert parts.trainer.steps_done == stop
    assert Run(optim.Nesterov).fit(resume=path).state() == whole.state()


# ---------------------------------------------------------------- the end of a run


def test_a_finished_run_makes_no_step_and_a_longer_one_goes_on(tmp_path):
    path = tmp_path / "run"
    short = Run(optim.Adam, [training.Checkpoint(path, every_epochs=3)]).fit(2)
    before = path.read_bytes()
    again = Run(optim.Adam, [training.Checkpoint(path)]).fit(2, resume=path)
    assert again.state() == short.state()
    assert again.trainer.history.stopped == "epochs done"
    assert path.read_bytes() == before
    assert Run(optim.Adam).fit(5, resume=path).state() == Run(optim.Adam).fit(5).state()
    with pytest.raises(ValueError, match="the trainer in .*run does not fit: it is in epoch 2, and epochs is 1"):
        Run(optim.Adam).fit(1, resume=path)


def test_a_second_fit_goes_on_too(tmp_path):
    def two_fits(resume=None):
        run = Run(optim.Adam, [training.Checkpoint(tmp_path / "run", every_steps=2)] if resume is None else [])
        if resume is None:
            run.fit(2)
            shutil.copy(tmp_path / "run", tmp_path / "first")
        return run.fit(3, resume)

    whole = two_fits()
    assert [epoch["epoch"] for epoch in whole.trainer.history.epochs] == [1, 2, 3, 4, 5]
    assert two_fits(resume=tmp_path / "run").state() == whole.state()
    assert Run(optim.Adam).fit(2, resume=tmp_path / "first").fit(3).state() == whole.state()


@pytest.mark.parametrize("moment", ["on_step", "validation", "on_epoch"])
def test_a_run_that_ctrl_c_ended_goes_on_after_its_last_step(tmp_path, moment):
    whole = Run(optim.Nesterov).fit()

    def press(trainer):
        if trainer.steps_done == 6 - (moment == "on_step"):
            os.kill(os.getpid(), signal.SIGINT)

    class Press(training.Callback):
        pass

    path = tmp_path / "run"
    run = Run(optim.Nesterov, [training.Checkpoint(path, every_epochs=None), Press()])
    if moment == "validation":
        evaluate = run.trainer.evaluate
        run.trainer.evaluate = lambda batches: (press(run.trainer), evaluate(batches))[1]
    else:
        setattr(Press, moment, lambda self, trainer: press(trainer))
    run.fit()
    assert run.trainer.history.stopped == "interrupted"
    assert run.trainer.steps_done == (5 if moment == "on_step" else 6)
    assert len(run.trainer.history.epochs) == 2
    assert Run(optim.Nesterov).fit(resume=path).state() == whole.state()


def test_an_interrupted_run_with_early_stopping_goes_on_from_the_last_weights_not_the_best(tmp_path):
    class Stop(training.Callback):
        def on_epoch(self, trainer):
            if trainer.epoch == 3:
                trainer.stop("interrupted")

    path = tmp_path / "run"
    whole = scripted(Run(optim.Adam, [training.EarlyStopping(9)])).fit(6)
    rules = [training.EarlyStopping(9), training.Checkpoint(path, every_epochs=None), Stop()]
    assert scripted(Run(optim.Adam, rules)).fit(6).trainer.steps_done == 9
    assert scripted(Run(optim.Adam, [training.EarlyStopping(9)])).fit(6, resume=path).state() == whole.state()


def test_a_rule_counts_before_ctrl_c_in_the_same_step(tmp_path):
    class Press(training.Callback):
        def on_step(self, trainer):
            if trainer.steps_done == 4:
                os.kill(os.getpid(), signal.SIGINT)

    path = tmp_path / "run"
    run = Run(optim.SGD, [Press(), training.StepLimit(4), training.Checkpoint(path)]).fit()
    assert run.trainer.history.stopped == "StepLimit: t = 4 ≥ 4"
    again = Run(optim.SGD, [training.StepLimit(4)]).fit(resume=path)
    assert again.state() == run.state()


def test_after_an_error_the_last_good_checkpoint_stays(tmp_path):
    calls = []

    def failing(outputs, labels):
        calls.append(1)
        return ops.cross_entropy(outputs, labels) * (np.inf if len(calls) == 10 else 1)

    path = tmp_path / "run"
    run = Run(optim.SGD, [training.Checkpoint(path, None, every_steps=2)], loss=failing)
    with np.errstate(all="ignore"), pytest.raises(training.NonFiniteLossError):
        run.trainer.fit(run.train, epochs=4)
    history = training.History()
    training.load_checkpoint(path, history=history)
    assert len(history.steps) == 8
    assert run.trainer.history.stopped == "an error"


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    class Poison(training.Callback):
        def on_step(self, trainer):
            if trainer.steps_done == 5:
                trainer.model.head.bias.data = [np.nan, 0]

    path = tmp_path / "run"
    run = Run(optim.SGD, [training.Checkpoint(path, 1, 1), Poison()])
    with (
        pytest.warns(
            UserWarning, match="run is not saved while head.bias contains NaN or infinite .* step 5"
        ) as caught,
        pytest.raises(training.NonFiniteLossError, match="at step 6, .*the weights of layer 'head'"),
    ):
        run.fit()
    assert len(caught) == 1
    history = training.History()
    training.load_checkpoint(path, history=history, model=run.model)
    assert len(history.steps) == 4
    assert np.isfinite(run.optimizer.weights).all()


# ---------------------------------------------------------------- what is refused


def other_model(model):
    model.extra = nn.Dense(2, 2)
    return optim.Adam(model)


def head_alone(model):
    model.body.freeze()
    return optim.Adam(model.head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"make": other_model}, "the model in .* does not fit: load_state_dict: missing: extra.bias, extra.weight"),
        ({"classes": 3}, r"the model .*: head.weight has shape \(6, 2\), expected \(6, 3\); head.bias"),
        ({"make": optim.AMSGrad}, "the optimizer in .* does not fit: AMSGrad.load_state_dict: the entries are"),
        ({"make": head_alone}, "the optimizer in .*: Adam.load_state_dict: the parameters in W differ: weight"),
        (
            {"make": lambda model: optim.Adam(reversed(list(model.parameters())))},
            r"the parameters in W differ: params\[0",
        ),
        ({"make": optim.AdaMax}, "the optimizer in .* does not fit"),
        ({"seed": 1}, "the loader in .* does not fit: .*the batches would be others: seed is 1, in the state 0"),
        ({"batch_size": 7}, "the loader in .* batch_size is 7, in the state 8"),
    ],
)
def test_another_model_optimizer_or_data_is_refused_and_nothing_is_changed(tmp_path, change, message):
    path = tmp_path / "run"
    Run(optim.Adam, [training.Checkpoint(path)]).fit(2)
    run = Run(**{"make": optim.Adam} | change).fit(1)
    before = run.state()
    with pytest.raises(ValueError, match=message) as caught:
        run.fit(4, resume=path)
    assert str(path) in str(caught.value)
    assert run.state() == before


def test_a_checkpoint_of_a_rule_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "run"
    Run(optim.Adam, [training.EarlyStopping(), training.Checkpoint(path)]).fit(2)
    with pytest.raises(ValueError, match="it holds the state of EarlyStopping, which is not among the callbacks"):
        Run(optim.Adam).fit(4, resume=path)
    new = training.SmallChange(1e-9)
    run = Run(optim.Adam, [new, training.EarlyStopping()]).fit(4, resume=path)
    assert len(run.trainer.history.steps) == 12, "a rule that is new begins anew"


def test_other_validation_data_is_refused(tmp_path):
    path = tmp_path / "run"
    Run(optim.Adam, [training.Checkpoint(path)]).fit(2)
    run = Run(optim.Adam)
    run.validation = (run.train.x[:5], run.train.y[:5])
    with pytest.raises(
        ValueError, match=r"the validation in .* data is float32 \(5, 5\) and .*, in the state float32 \(8, 5\)"
    ):
        run.fit(4, resume=path)


def test_other_data_of_the_same_shape_are_refused(tmp_path):
    path = tmp_path / "run"
    Run(optim.Adam, [training.Checkpoint(path)]).fit(2)
    run = Run(optim.Adam)
    run.train = data.Loader(run.train.x + 1, run.train.y, 8, augment=jitter)
    with pytest.raises(ValueError, match="the loader in .* does not fit: .* data is .* checksum .*, in the state"):
        run.fit(4, resume=path)


def test_a_run_goes_on_with_its_own_schedule_or_begins_anew_with_another(tmp_path):
    path = tmp_path / "run"
    cosine = lambda steps: lambda model: optim.SGD(model, lr=optim.schedules.Cosine(0.1, steps))
    short = Run(cosine(6), [training.Checkpoint(path)]).fit(2)
    run = Run(cosine(12))
    with pytest.raises(
        ValueError, match="Cosine.load_state_dict: steps is 12, in the state 6; .* load the weights alone"
    ):
        run.fit(4, resume=path)
    assert run.optimizer.lr(6) == pytest.approx(0.05)
    training.load_checkpoint(path, model=run.model)
    np.testing.assert_array_equal(run.optimizer.weights, short.optimizer.weights)
    run.fit(1)
    rates = [step["rate"] for step in run.trainer.history.steps]
    assert rates == [optim.schedules.Cosine(0.1, 12)(t) for t in range(3)]


def test_other_layers_frozen_at_the_beginning_are_refused(tmp_path):
    for name, frozen in (("all", False), ("head", True)):
        Run(optim.Adam, [training.Checkpoint(tmp_path / name)], frozen=frozen).fit(2)
    for name, frozen, message in (
        ("all", True, "frozen is body, body.0, body.1, and when that run began it was nothing; freeze what was"),
        ("head", False, "frozen is nothing, and when that run began it was body, body.0, body.1; freeze"),
    ):
        run = Run(optim.Adam, frozen=frozen)
        before = run.state()
        with pytest.raises(ValueError, match=f"the trainer in .* does not fit: {message}"):
            run.fit(4, resume=tmp_path / name)
        assert run.state() == before
    run = Run(optim.Adam)
    run.model.head.bias.requires_grad = False
    with pytest.raises(ValueError, match="frozen is head.bias, and"):
        run.fit(4, resume=tmp_path / "all")


def test_a_body_that_thaws_in_the_middle_goes_on_from_a_frozen_one(tmp_path):
    class Thaw(training.Callback):
        def on_step(self, trainer):
            if trainer.steps_done == 5:
                trainer.model.body.unfreeze()

    whole = resumes_everywhere(tmp_path, optim.Adam, lambda: [Thaw()], frozen=True)
    assert whole.model.body.training


def test_each_fit_needs_a_path_of_its_own(tmp_path):
    def phases(*paths):
        run = Run(optim.Adam)
        for path, epochs in zip(paths, (1, 3), strict=True):
            run.trainer.callbacks = [training.Checkpoint(path)]
            run.fit(epochs, resume=path if path.exists() else None)
        return run

    with pytest.raises(
        ValueError, match=r"trainer in .*one does not fit: it is of fit 1 of its Trainer, and this is fit 2"
    ):
        phases(tmp_path / "one", tmp_path / "one")
    paths = tmp_path / "a", tmp_path / "b"
    whole = phases(*paths)
    assert whole.trainer.steps_done == 9
    assert phases(*paths).state() == whole.state(), "both have ended, and no step is made"


def test_a_fit_that_failed_or_was_interrupted_is_tried_again(tmp_path):
    whole = Run(optim.Adam).fit()
    path = tmp_path / "run"

    class Trouble(training.Callback):
        def on_step(self, trainer):
            if trainer.steps_done in trouble:
                kind = trouble.pop(trainer.steps_done)
                if kind == "Ctrl-C":
                    os.kill(os.getpid(), signal.SIGINT)
                else:
                    raise RuntimeError(kind)

    trouble = {4: "Ctrl-C", 8: "no memory"}
    run = Run(optim.Adam, [training.Checkpoint(path, every_steps=1), Trouble()])
    run.fit()
    assert run.trainer.history.stopped == "interrupted"
    with pytest.raises(ValueError, match="it is in epoch 2, and epochs is 1"):
        run.fit(1, resume=path)
    assert (run.trainer.steps_done, run.trainer.epoch) == (4, 2)
    with pytest.raises(RuntimeError, match="no memory"):
        run.fit(resume=path)
    run.fit(resume=path)
    assert run.state() == whole.state()


def test_a_rule_that_ended_a_run_is_got_rid_of_by_a_new_one(tmp_path, capsys):
    path = tmp_path / "run"
    rules = [training.StepLimit(7), training.EarlyStopping(), training.Checkpoint(path)]
    Run(optim.Adam, rules).fit()
    again = Run(optim.Adam, [training.StepLimit(15), training.EarlyStopping(), training.ProgressBar()]).fit(resume=path)
    assert again.trainer.history.stopped == again.trainer.ended == "StepLimit: t = 7 ≥ 7"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "already ended: StepLimit: t = 7 ≥ 7"
    assert [line[:9] for line in lines[1:]] == ["epoch 3/4"], "the epoch that was cut short is recorded"
    assert again.trainer.steps_done == 7
    run = Run(optim.Adam)
    training.load_checkpoint(path, model=run.model, optimizer=run.optimizer)
    assert run.fit(1).optimizer.t == 10


def test_what_is_passed_for_a_path_and_is_none_is_named(tmp_path):
    checkpoint = training.Checkpoint(tmp_path / "run")
    for wrong, said in ((True, "True"), (checkpoint, "<minidl.training.callbacks.Checkpoint object")):
        with pytest.raises(TypeError, match=f"fit: resume is {said}.*, expected a path"):
            Run(optim.Adam).fit(resume=wrong)
    with pytest.raises(TypeError, match="Checkpoint: path is None, expected a path"):
        training.Checkpoint(None)
    with pytest.raises(
        ValueError, match=f"{re.escape(str(tmp_path))} is not a whole checkpoint of minidl: it is a folder"
    ):
        Run(optim.Adam).fit(resume=tmp_path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.safetensors does not exist"):
        Run(optim.Adam).fit(resume=tmp_path / "nothing.safetensors")


# ---------------------------------------------------------------- the callback


def test_the_checkpoint_saves_as_often_as_it_is_told(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        "minidl.training.callbacks.save_checkpoint", lambda path, **parts: saved.append(parts["trainer"].steps_done)
    )
    for settings, expected in (
        ({}, [3, 6, 9, 12]),
        ({"every_epochs": 3}, [9, 12]),
        ({"every_epochs": None}, [12]),
        ({"every_epochs": None, "every_steps": 5}, [5, 10, 12]),
        ({"every_epochs": 2, "every_steps": 4}, [4, 6, 8, 12, 12]),
    ):
        saved.clear()
        Run(optim.SGD, [training.Checkpoint(tmp_path / "run", **settings)]).fit()
        assert saved == expected, settings


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "2"])
def test_bad_intervals_are_refused(value):
    for name in ("every_epochs", "every_steps"):
        with pytest.raises(ValueError, match=re.escape(f"Checkpoint: {name} is {value!r}, expected a positive")):
            training.Checkpoint("run", **{name: value})


def test_the_checkpoint_is_told_last_and_of_the_end_first():
    told = []

    class Note(training.Callback):
        def __init__(self, name):
            self.name = name

        def on_step(self, trainer):
            told.append(f"{self.name} step")

        def on_end(self, trainer):
            told.append(f"{self.name} end")

    class Last(Note, training.Checkpoint):
        def on_start(self, trainer):
            pass

        def on_stop(self, trainer):
            pass

        def on_epoch(self, trainer):
            pass

    run = Run(optim.SGD, [Last("checkpoint"), Note("first"), Note("second")], batch_size=22)
    run.trainer.fit(run.train)
    assert told == ["first step", "second step", "checkpoint step", "checkpoint end", "second end", "first end"]


def test_all_callbacks_are_told_of_the_end_even_if_one_of_them_fails(tmp_path):
    ended = []

    class Note(training.Callback):
        def on_end(self, trainer):
            ended.append(trainer.history.stopped)
            raise RuntimeError("at the end")

    run = Run(optim.SGD, [Note(), Note()])
    with pytest.raises(RuntimeError, match="at the end"):
        run.fit()
    assert ended == ["epochs done"] * 2


def test_a_folder_is_made_and_one_that_is_in_the_way_is_named(tmp_path):
    Run(optim.SGD, [training.Checkpoint(tmp_path / "a" / "b" / "run.safetensors")]).fit(1)
    assert os.listdir(tmp_path / "a" / "b") == ["run.safetensors"]
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path / "a" / "b", "is a folder"), (tmp_path / "file" / "run", "cannot write")):
        run = Run(optim.SGD, [training.Checkpoint(path)])
        with pytest.raises(OSError, match=re.escape(str(path if message == "is a folder" else path.parent))):
            run.fit(1)
        assert run.trainer.steps_done == 0


def test_a_file_that_would_be_lost_is_warned_of(tmp_path):
    path = tmp_path / "run"
    run = Run(optim.SGD, [training.Checkpoint(path)]).fit(1)
    run.fit(1)  # of its own it may replace
    for settings in ({}, {"resume": tmp_path / "copy"}):
        shutil.copy(path, tmp_path / "copy")
        run = Run(optim.SGD, [training.Checkpoint(path)])
        message = f'Checkpoint: {path} exists and will be replaced; pass resume="{path}" to fit to go on from it'
        with pytest.warns(UserWarning, match=re.escape(message)) as caught:
            run.trainer.fit(run.train, run.validation, 1, **settings)
        assert caught[0].filename == __file__
    link = tmp_path / "link"
    link.symlink_to(path)
    Run(optim.SGD, [training.Checkpoint(link)]).fit(1, resume=path)
    assert link.is_symlink()


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = Run(optim.SGD, [training.Checkpoint("~/runs/a")]).fit(1)
    assert os.listdir() == ["runs"]
    assert Run(optim.SGD, [training.Checkpoint("~/runs/a")]).fit(1, resume="~/runs/a").state() == run.state()
    training.save_checkpoint("~/b", model=run.model)
    training.load_checkpoint("~/b", model=run.model)
    assert sorted(os.listdir()) == ["b", "runs"]


def test_a_buffer_may_be_infinite(tmp_path):
    path = tmp_path / "run"
    run = Run(optim.SGD, [training.Checkpoint(path)])
    run.model.least = nn.Buffer(np.full(2, np.inf, np.float32))
    run.fit(1)
    assert path.exists()


def test_generators_in_lists_and_dictionaries_go_on(tmp_path):
    class Noise(nn.Module):
        def __init__(self, seed):
            self.generators = [np.random.default_rng(seed), {"b": np.random.default_rng(seed + 1)}]

        def forward(self, x):
            return x

    saved, model = Noise(0), Noise(5)
    training.save_checkpoint(
        tmp_path / "run", model=(both := nn.Sequential(a=nn.Dense(1, 1), n=saved)), optimizer=optim.SGD(both)
    )
    both = nn.Sequential(a=nn.Dense(1, 1), n=model)
    training.load_checkpoint(tmp_path / "run", model=both, optimizer=optim.SGD(both))
    assert model.generators[0].random() == saved.generators[0].random()
    assert model.generators[1]["b"].random() == saved.generators[1]["b"].random()


def test_ctrl_c_in_the_last_save_does_not_spoil_it(tmp_path, monkeypatch):
    path, fsync = tmp_path / "run", os.fsync

    def pressed(descriptor):
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(os, "fsync", fsync)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", pressed)
    run = Run(optim.Adam, [training.Checkpoint(path, every_epochs=None)]).fit(2)
    assert run.trainer.history.stopped == "epochs done"
    assert Run(optim.Adam).fit(2, resume=path).state() == run.state()


def test_the_progress_bar_says_where_it_goes_on(tmp_path, capsys):
    path = tmp_path / "run"
    Run(optim.SGD, [training.StepLimit(5), training.Checkpoint(path, None)]).fit()

    class Stop(training.Callback):
        def on_step(self, trainer):
            trainer.stop("interrupted")

    Run(optim.SGD, [Stop(), training.Checkpoint(tmp_path / "other")]).fit(2)
    assert not capsys.readouterr().out
    Run(optim.SGD, [training.ProgressBar()]).fit(2, resume=tmp_path / "other")
    assert capsys.readouterr().out.splitlines()[0] == "resumed at epoch 1/2, step 1"
    Run(optim.SGD, [training.ProgressBar(), training.Checkpoint(tmp_path / "third")]).fit(2)
    assert "resumed" not in capsys.readouterr().out
    Run(optim.SGD, [training.ProgressBar()]).fit(2, resume=tmp_path / "third")
    assert capsys.readouterr().out == "already ended: epochs done\n"


def test_the_progress_bar_begins_where_the_run_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "run"
    Run(optim.SGD, [training.Checkpoint(path)]).fit(2)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    bar, seen = training.ProgressBar(), []

    class Look(training.Callback):
        def on_start(self, trainer):
            task = bar._live.tasks[0]
            seen.append((task.completed, task.total, task.description))

    Run(optim.SGD, [bar, Look()]).fit(4, resume=path)
    assert seen == [(6, 12, "epoch 2/4")]
