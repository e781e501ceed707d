"""What can be done while a Trainer trains."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidl.training.trainer import Trainer


class Callback:
    """The base: override what is needed. `trainer.history` holds what has happened; `trainer.stop(reason)` ends it."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step of a `fit`."""

    def on_step(self, trainer: Trainer) -> None:
        """After a step; `trainer.history.steps[-1]` is its record."""

    def on_epoch(self, trainer: Trainer) -> None:
        """After an epoch and its validation; `trainer.history.epochs[-1]` is its record."""

    def on_end(self, trainer: Trainer) -> None:
        """After the last step, also after an error."""


def describe_epoch(record: dict[str, Any]) -> str:
    """Return an epoch's record as one line: losses, accuracies, rate and seconds."""
    parts = [f"loss {record['loss']:.4f}"]
    if "accuracy" in record:
        parts.append(f"accuracy {record['accuracy']:.2%}")
    if "validation_loss" in record:
        parts.append(f"validation loss {record['validation_loss']:.4f}")
    if "validation_accuracy" in record:
        parts.append(f"accuracy {record['validation_accuracy']:.2%}")
    if record["rate"] is not None:
        parts.append(f"rate {record['rate']:.3g}")
    return "  ".join([*parts, f"{record['seconds']:.1f} s"])


class ProgressBar(Callback):
    """A live bar with loss, accuracy, rate and time left; plain lines, one an epoch, where there is no terminal."""

    def __init__(self) -> None:
        self._live: Any = None

    def on_start(self, trainer: Trainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=sys.stdout)
        if not console.is_terminal:
            return
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
        self._live = Progress(*columns, TimeRemainingColumn(), console=console)
        self._live.start()
        self._task = self._live.add_task("epoch 1", total=trainer.steps_per_epoch * trainer.epochs, figures="")
        self._drawn = 0.0

    def on_step(self, trainer: Trainer) -> None:
        if self._live is None or time.monotonic() - self._drawn < 0.05:
            return
        self._drawn = time.monotonic()
        step = trainer.history.steps[-1]
        figures = f"loss {step['loss']:.4f}"
        if trainer.running_accuracy is not None:
            figures += f"  accuracy {trainer.running_accuracy:.1%}"
        if step["rate"] is not None:
            figures += f"  rate {step['rate']:.3g}"
        description = f"epoch {trainer.epoch}/{trainer.epochs}"
        self._live.update(self._task, completed=trainer.steps_done, description=description, figures=figures)

    def on_epoch(self, trainer: Trainer) -> None:
        line = f"epoch {trainer.epoch}/{trainer.epochs}  {describe_epoch(trainer.history.epochs[-1])}"
        if self._live is not None:
            self._live.update(self._task, completed=trainer.steps_done)
            self._live.console.print(line, highlight=False)
        else:
            print(line, flush=True)

    def on_end(self, trainer: Trainer) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
