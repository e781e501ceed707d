"""What can be done while a Trainer trains."""

from __future__ import annotations

import copy
import errno
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from minidl.files import user_path, writable_folder
from minidl.ops.arguments import positive_integer
from minidl.training.checkpoint import save_checkpoint
from minidl.training.diagnosis import all_finite

if TYPE_CHECKING:
    from minidl.training.trainer import Trainer


class Callback:
    """The base: override what is needed. `trainer.history` holds what has happened; `trainer.stop(reason)` ends it.

    Callbacks are told in their order, but a `Checkpoint` last, so that it saves what the others have made of the step;
    of the end they are told in reverse, and all of them, also after an error.

    Name in `state` the attributes that a checkpoint shall keep, and set them in `on_start` at the latest: numbers,
    strings, arrays, None, lists and tuples, which come back as lists, and dictionaries with strings for keys. A fit
    that goes on from a checkpoint calls `on_start`, then `load_state_dict`, which sets them again.
    """

    state: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        if isinstance(cls.state, str):
            raise TypeError(f"{cls.__name__}: state is {cls.state!r}, expected a tuple of names: ({cls.state!r},)")

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step of a `fit`; if it goes on from a checkpoint, the trainer stands there already."""

    def on_batch(self, trainer: Trainer, x: Any, y: Any) -> tuple[Any, Any]:
        """Before a step: return the inputs and labels to make it with. The arrays given stay as they are."""
        return x, y

    def on_step(self, trainer: Trainer) -> None:
        """After a step; `trainer.history.steps[-1]` is its record."""

    def on_stop(self, trainer: Trainer) -> None:
        """After the last step, if the training was stopped in an epoch; its validation and record come next."""

    def on_epoch(self, trainer: Trainer) -> None:
        """After an epoch and its validation; `trainer.history.epochs[-1]` is its record."""

    def on_end(self, trainer: Trainer) -> None:
        """After everything else, also after an error."""

    def state_dict(self) -> dict[str, Any]:
        """Return the attributes that `state` names."""
        return {name: getattr(self, name) for name in self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        ValueError
            If an entry is missing or unexpected. Nothing has been loaded then.
        """
        if state.keys() != set(self.state):
            who = f"{type(self).__name__}.load_state_dict"
            raise ValueError(f"{who}: the entries are {sorted(state)}, expected {sorted(self.state)}")
        vars(self).update(state)


def start(callback: Callback, trainer: Trainer) -> None:
    """Call `on_start`; raise if the callback could not be saved from then on."""
    callback.on_start(trainer)
    missing = [name for name in callback.state if not hasattr(callback, name)]
    if missing:
        kind = type(callback).__name__
        raise ValueError(f"{kind}: state names {', '.join(missing)}, not set by on_start; set it there or in __init__")


def changed_batch(callbacks: Sequence[Callback], trainer: Trainer, x: Any, y: Any) -> tuple[Any, Any]:
    """Return the batch as the callbacks make it, one after the other."""
    for callback in callbacks:
        made = callback.on_batch(trainer, x, y)
        if not isinstance(made, tuple) or len(made) != 2:
            kind = type(made).__name__
            raise TypeError(f"{type(callback).__name__}.on_batch returned {kind}, expected a pair (x, y)")
        for name, new, old in zip(("inputs", "labels"), made, (x, y), strict=True):
            kind = getattr(new, "dtype", type(new).__name__)
            if not hasattr(new, "ndim") or (old.dtype.kind == "f" and kind != old.dtype):
                who = f"{type(callback).__name__}.on_batch"
                raise TypeError(f"{who} returned {name} of {kind}, expected an array of {old.dtype}, as it was given")
        x, y = made
        if len(x) != len(y) or not len(x):
            sizes = f"{len(x)} inputs and {len(y)} labels"
            raise ValueError(f"{type(callback).__name__}.on_batch returned {sizes}, expected as many of both, not 0")
    return x, y


def states_of(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """Return class and state of each callback that has a state."""
    states = [{"class": type(callback).__name__, "state": callback.state_dict()} for callback in callbacks]
    return [each for each in states if each["state"]]


def assigned(states: list[dict[str, Any]], callbacks: Sequence[Callback]) -> list[tuple[Callback, dict[str, Any]]]:
    """Return what `states_of` returned, each with the callback of its class that shall load it; nothing is loaded yet.

    Raises
    ------
    ValueError
        If there is no such callback, or it refuses the state.
    """
    left, pairs = list(callbacks), []
    for each in states:
        callback = next((callback for callback in left if type(callback).__name__ == each["class"]), None)
        if callback is None:
            raise ValueError(f"it holds the state of {each['class']}, which is not among the callbacks")
        copy.copy(callback).load_state_dict(each["state"])
        left.remove(callback)
        pairs.append((callback, each["state"]))
    return pairs


class Checkpoint(Callback):
    """Saves the training to one file, from which `fit` goes on as if it had never stopped, bit by bit.

    It saves as often as you say, and when the training ends: because its epochs are done, by a stopping rule, or by
    Ctrl-C. Not after an error, and not while a weight is NaN or infinite, of which a UserWarning tells once: then the
    last good file stays.

    Parameters
    ----------
    path : path
        Of the file; its folder is made if it is missing. If there is a file from which this fit does not go on, a
        UserWarning says that it will be replaced. Each fit of a Trainer needs a path of its own.
    every_epochs : int or None, default 1
    every_steps : int or None, default None
        Steps of this fit. A step in the middle of an epoch is as good a place to go on from as its end.

    Raises
    ------
    OSError
        From `fit`, naming the path, if the file cannot be written. The last one is still there.

    Notes
    -----
    Safe against SIGKILL and power failure at any moment: see `save_checkpoint`, which says what is saved. Here it is
    the Trainer too: its counters, the running means of the epoch, the history, and the callbacks' states. The weights
    are those of the last step, also at the end of a run with `EarlyStopping`, which brings the best ones back only
    then: save these with `save_checkpoint`, after `fit`. The file is about as large as the weights, as many vectors
    like them as the optimizer has (Adam: two), and the best weights that `EarlyStopping` keeps.

    Examples
    --------
    >>> path = Path("run.safetensors")
    >>> trainer = training.Trainer(model, optimizer, callbacks=[training.Checkpoint(path)], progress=False)
    >>> history = trainer.fit(loader, epochs=3, resume=path if path.exists() else None)
    >>> path.exists()
    True
    """

    def __init__(
        self, path: str | os.PathLike[str], every_epochs: int | None = 1, every_steps: int | None = None
    ) -> None:
        self.path = user_path(path, "Checkpoint")
        for name, value in (("every_epochs", every_epochs), ("every_steps", every_steps)):
            if value is not None:
                positive_integer(value, "Checkpoint", name)
        self.every_epochs, self.every_steps = every_epochs, every_steps
        self._own_file = False

    def on_start(self, trainer: Trainer) -> None:
        writable_folder(self.path.parent, "Checkpoint")
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"Checkpoint: {self.path} is a folder, expected the path of a file")
        resumed = trainer.resumed is not None and os.path.realpath(trainer.resumed) == os.path.realpath(self.path)
        if self.path.exists() and not (resumed or self._own_file):
            advice = f'pass resume="{self.path}" to fit to go on from it'
            warnings.warn(f"Checkpoint: {self.path} exists and will be replaced; {advice}", stacklevel=4)  # at fit
        self._saved = trainer.steps_done
        self._over = self._warned = False

    def on_step(self, trainer: Trainer) -> None:
        if self.every_steps and trainer.steps_done % self.every_steps == 0:
            self._save(trainer)

    def on_stop(self, trainer: Trainer) -> None:
        self._end(trainer)  # here and not later, where the epoch would seem to be done

    def on_epoch(self, trainer: Trainer) -> None:
        if self.every_epochs and trainer.epoch % self.every_epochs == 0 and not self._over:
            self._save(trainer)

    def on_end(self, trainer: Trainer) -> None:
        if trainer.history.stopped != "an error":
            self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        if not self._over and trainer.steps_done > self._saved:
            self._save(trainer)
        self._over = True

    def _save(self, trainer: Trainer) -> None:
        bad = [name for name, parameter in trainer.model.named_parameters() if not all_finite(parameter.data)]
        if not bad:
            save_checkpoint(self.path, **trainer.parts)
            self._saved, self._own_file = trainer.steps_done, True
        elif not self._warned:
            what = f"{', '.join(bad)} contains NaN or infinite values after step {trainer.steps_done} of this fit"
            warnings.warn(f"Checkpoint: {self.path} is not saved while {what}", stacklevel=2)
            self._warned = True


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
    """A live bar with loss, accuracy, rate and time left; plain lines, one an epoch, where there is no terminal.

    Of a run that is resumed it says where it goes on, or that it has ended already.
    """

    def __init__(self) -> None:
        self._live: Any = None

    def on_start(self, trainer: Trainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if trainer.steps_done:
            place = f"epoch {trainer.epoch}/{trainer.epochs}, step {trainer.steps_done}"
            print(f"already ended: {trainer.ended}" if trainer.ended else f"resumed at {place}", flush=True)
        console = Console(file=sys.stdout)
        if not console.is_terminal:
            return
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
        self._live = Progress(*columns, TimeRemainingColumn(), console=console)
        self._live.start()
        total = trainer.steps_per_epoch * trainer.epochs
        description = f"epoch {max(1, trainer.epoch)}/{trainer.epochs}"
        self._task = self._live.add_task(description, total=total, completed=trainer.steps_done, figures="")
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
