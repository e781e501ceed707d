"""How a long study shows that it lives: lines that stay, and below them a bar where there is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from minidl.training import Callback, Trainer


class StudyProgress(Callback):
    """A bar over all epochs of a study, as a context and as the callback of each of its trainings.

    Parameters
    ----------
    epochs : int
        How many epochs the whole study trains.
    quiet : bool, default False
        Show nothing at all.
    """

    def __init__(self, epochs: int, quiet: bool = False) -> None:
        console = Console(file=sys.stdout, quiet=quiet, highlight=False, markup=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._task = self._bar.add_task("", total=epochs)
        self._begun = 0.0

    def __enter__(self) -> StudyProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._bar.console.print(text, soft_wrap=True)

    def describe(self, what: str) -> None:
        """Say beside the bar what is being trained."""
        self._bar.update(self._task, description=what)

    def advance(self, epochs: int = 1) -> None:
        """Say that so many epochs more are done."""
        self._bar.advance(self._task, epochs)

    def begin(self, what: str) -> None:
        """Say what the next part is."""
        self.describe(what)
        self._begun = self._bar.tasks[0].completed

    def reach(self, epochs: int) -> None:
        """Say that so many epochs of this part are done, those that were not trained again among them."""
        self._bar.update(self._task, completed=self._begun + epochs)

    def on_epoch(self, trainer: Trainer) -> None:
        self.advance()
