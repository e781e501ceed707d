"""The Trainer: the loop that everybody writes, once."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from minidl import nn
from minidl.data import Loader
from minidl.graph import no_grad
from minidl.ops.arguments import positive_integer
from minidl.optim import Optimizer
from minidl.optim.deterministic import DeterministicOptimizer
from minidl.tensor import Tensor
from minidl.training.callbacks import Callback, Checkpoint, ProgressBar, assigned, states_of
from minidl.training.checkpoint import load_checkpoint
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

    Attributes
    ----------
    history : History
        Grows over all calls of `fit`.
    epoch, steps_done : int
        The epoch of this `fit`, from 1, and the steps that it has made.
    epochs, steps_per_epoch : int
        What this `fit` is to do.

    Examples
    --------
    >>> trainer = Trainer(model, optim.Adam(model))
    >>> history = trainer.fit(data.Loader(x, y, 128), validation=(test_x, test_y), epochs=3)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: Callable[..., Tensor] | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
    ) -> None:
        for name, value, kind in (("model", model, nn.Module), ("optimizer", optimizer, Optimizer)):
            if not isinstance(value, kind):
                raise TypeError(f"Trainer: {name} is {type(value).__name__}, expected {kind.__name__}")
        if isinstance(optimizer, DeterministicOptimizer):
            raise ValueError(
                f"Trainer: optimizer is {type(optimizer).__name__}, which tries several places in a step, on one and "
                "the same function; a Trainer's batches differ. Use training.minimize, on all the data"
            )
        if not {id(tensor) for tensor in optimizer.params} & {id(parameter) for parameter in model.parameters()}:
            raise ValueError("Trainer: the optimizer holds none of the model's parameters, so nothing would be learned")
        self.model, self.optimizer = model, optimizer
        self.loss = nn.CrossEntropy() if loss is None else loss
        self.callbacks = [*callbacks, *([ProgressBar()] if progress else [])]
        self.history = History()
        self.epoch = self.epochs = self.steps_done = self.steps_per_epoch = 0
        self._train: Loader | None = None
        self._held_out: Loader | None = None
        self._totals: EpochTotals | None = None  # of the epoch in progress
        self._stop_reason, self._interrupted = "", False
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
            progress of the training then sees another one. A run that was finished makes no step.

        Returns
        -------
        History

        Raises
        ------
        NonFiniteLossError
            If the loss or the validation loss becomes NaN or infinite; the message names the step and the layer where
            it began. A step whose loss fails is not made: weights, buffers and generators are as they were before it.
        FileNotFoundError
            If there is no file to resume from.
        ValueError
            If that file is damaged, or from another model, optimizer or other data; nothing has been changed then.
        """
        if not isinstance(train, Loader):
            raise TypeError(f"fit: train is {type(train).__name__}, expected a data.Loader")
        self.epochs = positive_integer(epochs, "fit", "epochs")
        self._train, self.steps_per_epoch = train, len(train)
        self._held_out = None if validation is None else _as_loader(validation, train.batch_size)
        self._begin(train, resume)
        with contextlib.ExitStack() as ends:
            for callback in self.callbacks:
                callback.on_start(self)
                ends.callback(callback.on_end, self)
            for callback, state in self._states:
                callback.load_state_dict(state)
            try:
                with deferred_interrupt(self._interrupt):
                    while self._totals is not None or (self.epoch < self.epochs and not self._ending):
                        totals = self._train_epoch(train)
                        self._end_epoch(totals)
                self.history.stopped = self._ending or "epochs done"
            except BaseException:
                self.history.stopped = "an error"
                raise
        return self.history

    def _begin(self, train: Loader, resume: str | os.PathLike[str] | None) -> None:
        """Stand before the first step of a run, or where the checkpoint was saved."""
        self.epoch = self.steps_done = 0
        self._totals, self._stop_reason, self._interrupted, self._states = None, "", False, []
        if resume is not None:
            load_checkpoint(resume, **self.parts)
            if self._totals is not None:
                train.epoch -= 1  # its pass begins once more, without the batches that are done
        self.history.stopped = ""
        self._rewind = Rewind(self.model)
        self.callbacks.sort(key=lambda callback: isinstance(callback, Checkpoint))

    def _train_epoch(self, train: Loader) -> EpochTotals:
        """Make the steps of an epoch, or of what is left of the one in which a resumed run was saved."""
        if self._totals is None:
            self.epoch += 1
            self._totals = EpochTotals(rate=self.optimizer.rate)
            self.model.train()
        totals = self._totals
        began = time.perf_counter()
        for x, y in train.batches(skip=totals.batches):
            if self._ending and totals.batches:
                break
            loss, outputs = self._step(x, y)
            totals.add(loss, outputs, y)
            totals.seconds += time.perf_counter() - began
            self._tell("on_step")
            began = time.perf_counter()
        if self._ending:
            self.stop("interrupted")  # if there is no other reason; what comes now changes it no more
            self._tell("on_stop")
        return totals

    def _step(self, x: Any, y: Any) -> tuple[float, Any]:
        self._rewind.mark()
        rate = self.optimizer.rate
        outputs: Any = None

        def closure() -> float:
            nonlocal outputs
            outputs = self.model(x)
            loss = self._loss(outputs, y)
            value = loss.item()
            if not math.isfinite(value):
                raise self._failure(value, x)
            loss.backward()
            return value

        loss = self.optimizer.step(closure)
        self.steps_done += 1
        step = {"step": len(self.history.steps) + 1, "epoch": len(self.history.epochs) + 1, "loss": loss, "rate": rate}
        self.history.steps.append(step)
        return loss, nn.main_output(outputs).data

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

    def _failure(self, loss: float, x: Any) -> NonFiniteLossError:
        """Undo what the failed forward pass changed, find where it failed by running it again, and undo that too."""
        self._rewind.back()
        where = first_non_finite(self.model, x)
        self._rewind.back()
        return NonFiniteLossError(len(self.history.steps) + 1, len(self.history.epochs) + 1, loss, where)

    def _loss(self, outputs: Any, labels: Any) -> Tensor:
        if isinstance(self.loss, nn.Loss):
            return self.loss(outputs, labels, self.steps_done / max(1, self.steps_per_epoch * self.epochs))
        return self.loss(outputs, labels)

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
                totals.add(self._loss(outputs, y).item(), nn.main_output(outputs).data, y)
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
            "epoch": self.epoch,
            "steps_done": self.steps_done,
            "stopped": "" if self._ending == "interrupted" else self._ending,
            "totals": None if self._totals is None else asdict(self._totals),
            "callbacks": states_of(self.callbacks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; callbacks do so after their `on_start`.

        Raises
        ------
        ValueError
            If the state is beyond the epochs of this `fit`, or of a callback that is not here. Nothing has been loaded
            then.
        """
        if state["epoch"] > self.epochs:
            raise ValueError(f"it is in epoch {state['epoch']}, and epochs is {self.epochs}")
        totals = None if state["totals"] is None else EpochTotals(**state["totals"])
        states = assigned(state["callbacks"], self.callbacks)
        self.epoch, self.steps_done, self._stop_reason = state["epoch"], state["steps_done"], state["stopped"]
        self._totals, self._states = totals, states


def _as_loader(source: Any, batch_size: int) -> Loader:
    if isinstance(source, Loader):
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return Loader(*source, batch_size=batch_size, shuffle=False)
    raise TypeError(f"Trainer: validation is {type(source).__name__}, expected a data.Loader or a pair (x, y)")
