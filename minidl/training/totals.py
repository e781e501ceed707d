"""Sums over the batches of a pass, of which the means are reported."""

from __future__ import annotations

from dataclasses import dataclass
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
    right : int
        How many samples were classified rightly.
    classes : bool
        Whether the last batch had labels that are class indices, so that an accuracy has a meaning.
    """

    batches: int = 0
    samples: int = 0
    loss: float = 0.0
    right: int = 0
    classes: bool = False

    def add(self, loss: float, outputs: Any, y: Any) -> None:
        """Count a batch: its mean loss, the main output as an array, and the labels."""
        self.batches += 1
        self.samples += len(y)
        self.loss += loss * len(y)
        self.classes = outputs.ndim == 2 and y.ndim == 1 and y.dtype.kind in "iu"
        if self.classes:
            self.right += int((outputs.argmax(axis=-1) == y).sum())

    @property
    def accuracy(self) -> float | None:
        """The fraction classified rightly; None where it has no meaning."""
        return self.right / self.samples if self.classes else None

    def means(self) -> dict[str, float]:
        """Return `loss`, and `accuracy` where it has a meaning."""
        return {"loss": self.loss / self.samples} | ({} if self.accuracy is None else {"accuracy": self.accuracy})


@dataclass
class EpochTotals(Totals):
    """Those of an epoch of training, with the rate of its first step and the seconds spent on its steps."""

    rate: float | None = None
    seconds: float = 0.0
