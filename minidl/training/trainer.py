"""The Trainer: the loop that everybody writes, once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minidl import nn
from minidl.data import Loader
from minidl.graph import no_grad
from minidl.optim import Optimizer
from minidl.optim.deterministic import DeterministicOptimizer
from minidl.tensor import Tensor
from minidl.training.callbacks import Callback, ProgressBar
from minidl.training.diagnosis import NonFiniteLossError, Rewind, first_non_finite
from minidl.training.history import History
from minidl.training.interrupts import deferred_interrupt

Batches = Iterable[tuple[Any, Any]]


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
    progress : bool, default True
        Whether to show a `ProgressBar`.

    Attributes
    ----------
    history : History
        Grows over all calls of `fit`.

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
        self.running_accuracy: float | None = None
        self._stop_reason = ""

    def stop(self, reason: str) -> None:
        """End the training after the current step; the reason goes into `history.stopped`."""
        self._stop_reason = self._stop_reason or reason

    # -- training

    def fit(self, train: Loader, validation: Any = None, epochs: int = 1) -> History:
        """Train for a number of epochs.

        Ctrl-C ends the training after the current step and keeps what was learned (`history.stopped` is then
        "interrupted"); pressed twice it raises KeyboardInterrupt.

        Parameters
        ----------
        train : data.Loader
        validation : data.Loader or (x, y), optional
            Evaluated after every epoch.
        epochs : int, default 1

        Returns
        -------
        History

        Raises
        ------
        NonFiniteLossError
            If the loss or the validation loss becomes NaN or infinite; the message names the step and the layer where
            it began. A step whose loss fails is not made: weights, buffers and generators are as they were before it.
        """
        if not isinstance(train, Loader):
            raise TypeError(f"fit: train is {type(train).__name__}, expected a data.Loader")
        if not isinstance(epochs, (int, np.integer)) or isinstance(epochs, bool) or epochs < 1:
            raise ValueError(f"fit: epochs is {epochs!r}, expected a positive integer")
        held_out = None if validation is None else _as_batches(validation, train.batch_size)
        self.epochs, self.steps_per_epoch, self.steps_done = int(epochs), len(train), 0
        self._stop_reason, self.history.stopped = "", "an error"
        self._rewind = Rewind(self.model)
        self._tell("on_start")
        try:
            with deferred_interrupt(lambda: self.stop("interrupted")):
                for epoch in range(1, self.epochs + 1):
                    self.epoch = epoch
                    self._train_epoch(train, held_out)
                    if self._stop_reason:
                        break
            self.history.stopped = self._stop_reason or "epochs done"
        finally:
            self._tell("on_end")
        return self.history

    def _train_epoch(self, train: Loader, held_out: Batches | None) -> None:
        self.model.train()
        total, right, seen, seconds = 0.0, 0, 0, 0.0
        rate = self.optimizer.rate
        began = time.perf_counter()
        for x, y in train:
            loss, outputs = self._step(x, y)
            total += loss * len(x)
            seen += len(x)
            if _are_classes(outputs, y):
                right += int((outputs.argmax(axis=-1) == y).sum())
                self.running_accuracy = right / seen
            else:
                self.running_accuracy = None
            seconds += time.perf_counter() - began
            self._tell("on_step")
            if self._stop_reason:
                break
            began = time.perf_counter()
        record = {"epoch": len(self.history.epochs) + 1, "loss": total / seen}
        if self.running_accuracy is not None:
            record["accuracy"] = self.running_accuracy
        if held_out is not None:
            record |= {f"validation_{name}": value for name, value in self.evaluate(held_out).items()}
            if not math.isfinite(record["validation_loss"]):
                with nn.evaluating(self.model):
                    where = first_non_finite(self.model, next(iter(held_out))[0])
                step, epoch = len(self.history.steps), len(self.history.epochs) + 1
                raise NonFiniteLossError(step, epoch, record["validation_loss"], where, validation=True)
        self.history.epochs.append(record | {"rate": rate, "seconds": seconds})
        observe = getattr(self.optimizer.lr, "observe", None)
        if observe is not None:
            observe(self.optimizer.t, record.get("validation_loss", record["loss"]))
        self._tell("on_epoch")

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

    # -- evaluation

    @no_grad()
    def evaluate(self, batches: Any) -> dict[str, float]:
        """Return the loss, and the accuracy if labels are class indices, of the model in evaluation mode.

        Parameters
        ----------
        batches : data.Loader or (x, y)
        """
        total, right, seen = 0.0, 0, 0
        classes = False
        with nn.evaluating(self.model):
            for x, y in _as_batches(batches, 256):
                outputs = self.model(x)
                total += self._loss(outputs, y).item() * len(x)
                seen += len(x)
                outputs = nn.main_output(outputs)
                classes = _are_classes(outputs, y)
                if classes:
                    right += int((outputs.data.argmax(axis=-1) == y).sum())
        return {"loss": total / seen} | ({"accuracy": right / seen} if classes else {})


def _as_batches(source: Any, batch_size: int) -> Batches:
    if isinstance(source, Loader):
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return Loader(*source, batch_size=batch_size, shuffle=False)
    raise TypeError(f"Trainer: validation is {type(source).__name__}, expected a data.Loader or a pair (x, y)")


def _are_classes(outputs: Any, y: Any) -> bool:
    """Say whether the outputs are one score a class and y the right classes, so that an accuracy has a meaning."""
    return outputs.ndim == 2 and y.ndim == 1 and y.dtype.kind in "iu"
