"""What happened during training, step by step and epoch by epoch."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from minidl.files import finite_json, replacing


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
        Why the run ended: "epochs done", "interrupted", a callback's reason, or "an error"; empty while it is running.

    Examples
    --------
    >>> trainer = training.Trainer(model, optimizer, progress=False)
    >>> history = trainer.fit(loader, validation=(test_x, test_y), epochs=2)
    >>> history.stopped, len(history.steps), history.column("epoch")
    ('epochs done', 4, [1, 2])
    >>> history.column("loss")[1] < history.column("loss")[0]
    True
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
            If a line is not such a record, or the last one is missing; the message names the file and the line.
        """
        history, ended = cls(), False
        for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
            try:
                if ended:
                    raise ValueError("there is more after the end")
                record = finite_json(line.decode())
                kind = record.pop("kind")
                if kind == "end":
                    history.stopped, ended = record["stopped"], True
                    if not isinstance(history.stopped, str):
                        raise ValueError(f"stopped is {history.stopped!r}, expected a text")
                else:
                    {"step": history.steps, "epoch": history.epochs}[kind].append(record)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(f"History.load: line {number} of {path} is not a record of a run: {error}") from error
        if not ended:
            raise ValueError(f"History.load: {path} is cut off: its last line does not say how the run ended")
        return history

    # -- in a checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Return the records as columns: a million steps would be slow as a million dictionaries."""
        return {"steps": _columns(self.steps), "epochs": _columns(self.epochs), "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        steps, epochs = _records(state["steps"]), _records(state["epochs"])
        self.steps, self.epochs, self.stopped = steps, epochs, state["stopped"]


def _columns(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return records of the same entries as columns, and others as they are."""
    names = list(records[0]) if records else []
    if names and set(map(len, records)) == {len(names)}:
        with contextlib.suppress(KeyError):
            return {"names": names, "columns": [_column(list(map(itemgetter(name), records))) for name in names]}
    return {"records": list(records)}


def _column(values: list[Any]) -> Any:
    """Return an array, where it gives the very same values back, or else the list."""
    kinds = set(map(type, values))
    if kinds in ({float}, {int}):
        with contextlib.suppress(OverflowError):  # an integer of more than 64 bits
            return np.array(values, np.float64 if kinds == {float} else np.int64)
    return values


def _records(state: dict[str, Any]) -> list[dict[str, Any]]:
    if "records" in state:
        return list(state["records"])
    columns = (column.tolist() if isinstance(column, np.ndarray) else column for column in state["columns"])
    return [dict(zip(state["names"], row, strict=True)) for row in zip(*columns, strict=True)]
