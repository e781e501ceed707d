"""Sums over the batches of a pass, of which the means are reported."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Totals:
    """Losses and right answers so far.

    Attributes
    ----------
    batches, samples : int
        How many have been counted.
    loss : float
        The sum over the samples.
    right : int, or an array of shape () on the GPU
        How many samples were classified rightly. On the GPU it is counted there, and fetched when it is asked for.
    classes : bool
        Whether the last batch had labels that are class indices, so that an accuracy has a meaning.
    """

    batches: int = 0
    samples: int = 0
    loss: float = 0.0
    right: Any = 0
    classes: bool = False

    def add(self, loss: float, outputs: Any, y: Any) -> None:
        """Count a batch: its mean loss, the main output as an array, and the labels."""
        self.batches += 1
        self.samples += len(y)
        self.loss += loss * len(y)
        self.classes = outputs.ndim == 2 and y.ndim == 1 and y.dtype.kind in "iu"
        if self.classes:
            self.right = self.right + (outputs.argmax(axis=-1) == y).sum()

    @property
    def accuracy(self) -> float | None:
        """The fraction classified rightly; None where it has no meaning."""
        return int(self.right) / self.samples if self.classes else None

    def state(self) -> dict[str, Any]:
        """Return all of it as plain numbers by name."""
        self.right = int(self.right)
        return asdict(self)

    def means(self) -> dict[str, float]:
        """Return `loss`, and `accuracy` where it has a meaning."""
        return {"loss": self.loss / self.samples} | ({} if self.accuracy is None else {"accuracy": self.accuracy})


@dataclass
class EpochTotals(Totals):
    """Those of an epoch of training, with the rate of its first step and the seconds spent on its steps."""

    rate: float | None = None
    seconds: float = 0.0
