"""The Trainer: the loop that everybody writes, once."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minidl import backend, nn
from minidl.data import Loader
from minidl.files import user_path
from minidl.graph import no_grad
from minidl.ops.arguments import positive_integer
from minidl.optim import Optimizer
from minidl.tensor import Tensor
from minidl.training.callbacks import Callback, Checkpoint, ProgressBar, assigned, changed_batch, start, states_of
from minidl.training.captured import CapturedSteps
from minidl.training.checkpoint import frozen_names, load_checkpoint
from minidl.training.checks import check_learned, check_parts
from minidl.training.diagnosis import NonFiniteLossError, Rewind, first_non_finite
from minidl.training.history import History
from minidl.training.interrupts import deferred_interrupt
from minidl.training.totals import EpochTotals, Totals


class Trainer:
    """Trains a model with an optimizer.

    Parameters
    ----------
    model : nn.Module
    optimizer : optim.Optimizer
        Over the model's parameters. A schedule with a method `observe(t, loss)` is told, after every epoch, the number
        of finished steps and the validation loss, or the training loss where there is no validation data.
    loss : nn.Loss or callable, default nn.CrossEntropy()
        An `nn.Loss` is called with (outputs, labels, progress), any other callable with (outputs, labels).
    callbacks : sequence of Callback
        Told of every step and epoch in this order, but a `Checkpoint` after all others.
    progress : bool, default True
        Whether to show a `ProgressBar`.
    capture : bool, default False
        On the GPU: make the steps as CUDA graphs, which are launched as a whole. That is for small networks, where to
        launch kernels takes longer than to run them; the result is the same. See the notes.

    Attributes
    ----------
    history : History
        Grows over all calls of `fit`.
    epoch, steps_done : int
        The epoch of this `fit`, from 1, and the steps that it has made.
    epochs, steps_per_epoch : int
        What this `fit` is to do.
    resumed : path or None
        The file from which this `fit` went on.

    Notes
    -----
    A captured step repeats what the second step with batches of its shape did. The batch, the rate, the progress that
    losses are told and random masks are those of each step. What else your code reads from the host is frozen: a loss
    or a layer that changes a number of its own from step to step needs ``capture=False``. The optimizer must be one of
    `optim`'s first-order methods, or another whose update is made by array operations alone.

    Examples
    --------
    >>> trainer = training.Trainer(model, optim.Adam(model, lr=0.01), progress=False)
    >>> history = trainer.fit(data.Loader(x, y, 20), validation=(test_x, test_y), epochs=10)
    >>> len(history.steps), history.column("validation_accuracy")[-1] > 0.5
    (50, True)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: Callable[..., Tensor] | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
        capture: bool = False,
    ) -> None:
        check_parts(model, optimizer, callbacks)
        self.model, self.optimizer = model, optimizer
        self.loss = nn.CrossEntropy() if loss is None else loss
        self.callbacks = [*callbacks, *([ProgressBar()] if progress else [])]
        self.history = History()
        self.epoch = self.epochs = self.steps_done = self.steps_per_epoch = 0
        self.resumed: Path | None = None
        self.capture = capture
        self._captured: CapturedSteps | None = None
        self._train: Loader | None = None
        self._held_out: Loader | None = None
        self._totals: EpochTotals | None = None  # of the epoch in progress
        self._stop_reason, self._interrupted = "", False
        self._fit = 1  # which one this is; one that was interrupted or failed does not count
        self._frozen: list[str] = []  # at the beginning of the run
        self._states: list[tuple[Callback, dict[str, Any]]] = []  # of callbacks, from a checkpoint

    def stop(self, reason: str) -> None:
        """End the training after the current step; the reason goes into `history.stopped`.

        The first reason counts. A run that was ended so stays ended when it is resumed from a checkpoint, unless the
        reason is "interrupted", which is also that of Ctrl-C: then it goes on.
        """
        self._stop_reason = self._stop_reason or reason

    @property
    def running_accuracy(self) -> float | None:
        """The accuracy over the batches of the epoch in progress; None where labels are no class indices."""
        return None if self._totals is None else self._totals.accuracy

    @property
    def ended(self) -> str:
        """Why no step will follow: "epochs done", "interrupted" or another reason; empty while one may."""
        done = self._totals is None and self.epoch >= self.epochs
        return self._ending or ("epochs done" if done else "")

    # -- training

    def fit(
        self, train: Loader, validation: Any = None, epochs: int = 1, resume: str | os.PathLike[str] | None = None
    ) -> History:
        """Train for a number of epochs.

        Ctrl-C ends the training after the current step and keeps what was learned (`history.stopped` is then
        "interrupted"); pressed twice it raises KeyboardInterrupt.

        Parameters
        ----------
        train : data.Loader
        validation : data.Loader or (x, y), optional
            Evaluated after every epoch.
        epochs : int, default 1
        resume : path, optional
            A file of the callback `Checkpoint`: go on where it was saved, in the middle of an epoch too. With the same
            model, optimizer, data, loss and callbacks, made anew by the same code, every weight and every number in the
            history, but for the seconds, will be what it would have been without the interruption, to the last bit.
            `epochs` counts from the beginning of that run; it may be larger than it was then, but a loss that reads the
            progress of the training then sees another one. See the notes.

        Returns
        -------
        History

        Raises
        ------
        NonFiniteLossError
            If the loss or the validation loss becomes NaN or infinite; the message names the step and the layer where
            it began. A step whose loss fails is not made: weights, buffers and generators are as they were before it.
        FloatingPointError
            If a step has a finite loss, but a gradient that is not, or overflows: it is not made either.
        FileNotFoundError
            If there is no file to resume from.
        ValueError
            If the optimizer holds nothing but frozen parameters. If that file is damaged, or from another model,
            optimizer, schedule, other data or an earlier fit of this Trainer; or if other layers are frozen than were
            when that run began. Weights, states and history are then as before; but what a callback refuses in its
            `on_start`, it refuses when the file has been loaded.

        Warns
        -----
        UserWarning
            If parameters require gradients that no optimizer holds, so that they will not learn.

        Notes
        -----
        Freeze before resuming what was frozen when that run began; what a callback froze or unfroze later is so again.
        A file knows schedules, but no rate that is a number, β, penalties, loss: those of the objects given are used.

        A run that was finished makes no step, and one that a rule has ended stays so: see `history.stopped`. To train
        on from there, or with another schedule, rules or data, load what stays and begin a new run:
        ``load_checkpoint(path, model=model)``, if you wish with `optimizer`, and `fit` without `resume`.
        """
        if not isinstance(train, Loader):
            raise TypeError(f"fit: train is {type(train).__name__}, expected a data.Loader")
        check_learned(self.model, self.optimizer)
        self.epochs = positive_integer(epochs, "fit", "epochs")
        self._train, self.steps_per_epoch = train, len(train)
        self._held_out = None if validation is None else _as_loader(validation, train.batch_size)
        self._begin(None if resume is None else user_path(resume, "fit", "resume"))
        with deferred_interrupt(self._interrupt), contextlib.ExitStack() as ends:
            if self._captured is not None:
                ends.enter_context(self._captured.in_stream())
            for callback in self.callbacks:
                start(callback, self)
                ends.callback(callback.on_end, self)
            for callback, state in self._states:
                callback.load_state_dict(state)
            try:
                while self._totals or not self.ended:
                    totals = self._totals or self._begin_epoch()  # a run may be resumed in the middle of an epoch
                    self._make_steps(train, totals)
                    self._end_epoch(totals)
                self.history.stopped = self.ended
            except BaseException:
                self.history.stopped = "an error"
                raise
        self._fit += self.history.stopped != "interrupted"
        return self.history

    def _begin(self, resume: Path | None) -> None:
        """Stand before the first step of a run, or where the checkpoint was saved."""
        self._frozen, self._interrupted = frozen_names(self.model), False
        if resume is None:
            self.epoch = self.steps_done = 0
            self._totals, self._stop_reason, self._states = None, "", []
        else:
            load_checkpoint(resume, **self.parts)  # calls our own load_state_dict too, after those of the others
        self.resumed = resume
        self.history.stopped = ""
        self._rewind = Rewind(self.model)
        self._captured = None
        if self.capture:
            self._captured = CapturedSteps(self.model, self.optimizer, self._loss_at, self._rewind)
        self.callbacks.sort(key=lambda callback: isinstance(callback, Checkpoint))

    def _begin_epoch(self) -> EpochTotals:
        self.epoch += 1
        self._totals = EpochTotals(rate=self.optimizer.rate)
        self.model.train()
        return self._totals

    def _make_steps(self, train: Loader, totals: EpochTotals) -> None:
        """Make the steps of an epoch, or those that are left of it."""
        began = time.perf_counter()
        for x, y in train.rest(totals.batches) if totals.batches else train:
            if self._ending and totals.batches:  # at least one, or the epoch would have no mean to record
                break
            totals.add(*self._step(x, y))
            totals.seconds += time.perf_counter() - began
            self._tell("on_step")
            began = time.perf_counter()
        if self._ending:
            self.stop("interrupted")  # if there is no reason yet: what on_stop saves must be final
            self._tell("on_stop")

    def _step(self, x: Any, y: Any) -> tuple[float, Any, Any]:
        """Make a step; return the loss, the main output and the labels of its batch."""
        rate = self.optimizer.rate
        if self._captured is None:
            self._rewind.mark()
            x, y = changed_batch(self.callbacks, self, x, y)
            loss, outputs = self._plain_step(x, y)
        else:
            loss, outputs = self._captured_step(self._captured, x, y)
        self.steps_done += 1
        step = {"step": len(self.history.steps) + 1, "epoch": len(self.history.epochs) + 1, "loss": loss, "rate": rate}
        self.history.steps.append(step)
        return loss, outputs, y

    def _plain_step(self, x: Any, y: Any) -> tuple[float, Any]:
        outputs: Any = None

        def closure() -> float:
            nonlocal outputs
            outputs = self.model(x)
            loss = self.compute_loss(outputs, y)
            value = loss.item()
            if not math.isfinite(value):
                raise self._failure(value, x, y)
            loss.backward()
            return value

        try:
            return self.optimizer.step(closure), nn.main_output(outputs).data
        except FloatingPointError:  # of the step itself, from a finite loss
            self._rewind.back()
            raise

    def _captured_step(self, steps: CapturedSteps, x: Any, y: Any) -> tuple[float, Any]:
        steps.follow()
        with backend.capturable():
            self._rewind.mark(buffers=False)
            x, y = changed_batch(self.callbacks, self, x, y)
            step = steps.find(x, y)
            if step is None:
                self._rewind.values = self._rewind.buffers()
                return self._plain_step(x, y)
            loss = step.gradients(x, y, self._progress)
            if not math.isfinite(loss):
                self.optimizer.not_stepped()
                raise self._failure(loss, x, y)
            step.update()
            return loss, step.outputs

    def _end_epoch(self, totals: EpochTotals) -> None:
        record: dict[str, Any] = {"epoch": len(self.history.epochs) + 1} | totals.means()
        if self._held_out is not None:
            record |= {f"validation_{name}": value for name, value in self.evaluate(self._held_out).items()}
            if not math.isfinite(record["validation_loss"]):
                with nn.evaluating(self.model):
                    where = first_non_finite(self.model, next(iter(self._held_out))[0])
                step, epoch, loss = len(self.history.steps), record["epoch"], record["validation_loss"]
                raise NonFiniteLossError(step, epoch, loss, where, validation=True)
        self.history.epochs.append(record | {"rate": totals.rate, "seconds": totals.seconds})
        observe = getattr(self.optimizer.lr, "observe", None)
        if observe is not None:
            observe(self.optimizer.t, record.get("validation_loss", record["loss"]))
        self._totals = None
        self._tell("on_epoch")

    def _failure(self, loss: float, x: Any, y: Any) -> NonFiniteLossError:
        """Undo what the failed forward pass changed, find where it failed by running it again, and undo that too."""
        self._rewind.back()
        where = first_non_finite(self.model, x, y)
        self._rewind.back()
        return NonFiniteLossError(len(self.history.steps) + 1, len(self.history.epochs) + 1, loss, where)

    def compute_loss(self, outputs: Any, labels: Any) -> Tensor:
        """Return the loss of a batch, as it is at this point of the training."""
        return self._loss_at(outputs, labels, self._progress)

    def _loss_at(self, outputs: Any, labels: Any, progress: Any) -> Tensor:
        return self.loss(outputs, labels, progress) if isinstance(self.loss, nn.Loss) else self.loss(outputs, labels)

    @property
    def _progress(self) -> float:
        """The share of this `fit` that is done."""
        return self.steps_done / max(1, self.steps_per_epoch * self.epochs)

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)

    @property
    def _ending(self) -> str:
        """Why the training is to end now; empty while it is not."""
        return self._stop_reason or ("interrupted" if self._interrupted else "")

    def _interrupt(self) -> None:
        self._interrupted = True

    # -- evaluation

    @no_grad()
    def evaluate(self, batches: Any) -> dict[str, float]:
        """Return the loss, and the accuracy if labels are class indices, of the model in evaluation mode.

        Parameters
        ----------
        batches : data.Loader or (x, y)
        """
        totals = Totals()
        with nn.evaluating(self.model):
            for x, y in _as_loader(batches, 256):
                outputs = self.model(x)
                totals.add(self.compute_loss(outputs, y).item(), nn.main_output(outputs).data, y)
        return totals.means()

    # -- saving and loading

    @property
    def parts(self) -> dict[str, Any]:
        """What makes up this training, for `save_checkpoint(path, **trainer.parts)`; the last one is the Trainer."""
        data = {"loader": self._train, "validation": self._held_out}
        return {"model": self.model, "optimizer": self.optimizer, **data, "history": self.history, "trainer": self}

    def state_dict(self) -> dict[str, Any]:
        """Return the counters of this `fit` and the callbacks' states; the other `parts` have their own."""
        return {
            "fit": self._fit,
            "frozen": self._frozen,
            "epoch": self.epoch,
            "steps_done": self.steps_done,
            "stopped": "" if self._ending == "interrupted" else self._ending,
            "totals": None if self._totals is None else self._totals.state(),
            "callbacks": states_of(self.callbacks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; callbacks do so after their `on_start`.

        Raises
        ------
        ValueError
            If the state is beyond the epochs of this `fit`, of an earlier one, of a run that began with other layers
            frozen, or of a callback that is not here. Nothing has been loaded then.
        """
        if state["fit"] < self._fit:
            advice = "use one path for each, or a new Trainer to go on with that one"
            raise ValueError(f"it is of fit {state['fit']} of its Trainer, and this is fit {self._fit}; {advice}")
        if state["frozen"] != self._frozen:
            now, then = (", ".join(names[:3]) or "nothing" for names in (self._frozen, state["frozen"]))
            raise ValueError(f"frozen is {now}, and when that run began it was {then}; freeze what was frozen then")
        if state["epoch"] > self.epochs:
            raise ValueError(f"it is in epoch {state['epoch']}, and epochs is {self.epochs}")
        totals = None if state["totals"] is None else EpochTotals(**state["totals"])
        states = assigned(state["callbacks"], self.callbacks)
        self.epoch, self.steps_done, self._stop_reason = state["epoch"], state["steps_done"], state["stopped"]
        self._fit = state["fit"]
        self._totals, self._states = totals, states


def _as_loader(source: Any, batch_size: int) -> Loader:
    if isinstance(source, Loader):
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return Loader(*source, batch_size=batch_size, shuffle=False)
    raise TypeError(f"Trainer: validation is {type(source).__name__}, expected a data.Loader or a pair (x, y)")
