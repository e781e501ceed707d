"""What happened during training, step by step and epoch by epoch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidl.files import replacing


@dataclass
class History:
    """The record of a training run.

    Attributes
    ----------
    steps : list of dict
        `step` (from 1), `epoch` (from 1), `loss` (of the batch), `rate`.
    epochs : list of dict
        `epoch`, `loss` and `accuracy` (mean over the epoch's batches, in training mode), `validation_loss` and
        `validation_accuracy` if there is validation data, `rate`, `seconds` (of training alone, in this epoch).
        Accuracies are fractions and present only where labels are class indices.
    stopped : str
        Why the run ended: "epochs done", "interrupted", a callback's reason, or "an error".
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    def column(self, name: str) -> list[Any]:
        """Return one quantity over the epochs, for example `history.column("validation_accuracy")`."""
        return [epoch[name] for epoch in self.epochs]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record as JSON lines: one object a step, an epoch, and one for the end."""
        lines = [{"kind": "step", **step} for step in self.steps]
        lines += [{"kind": "epoch", **epoch} for epoch in self.epochs]
        lines.append({"kind": "end", "stopped": self.stopped})
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If a line is not such a record; the message names the file and the line.
        """
        history = cls()
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = json.loads(line)
                kind = record.pop("kind")
                if kind == "end":
                    history.stopped = record["stopped"]
                else:
                    {"step": history.steps, "epoch": history.epochs}[kind].append(record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"History.load: line {number} of {path} is not a record of a run: {error}") from error
        return history
