"""One training of a study: a recipe on a dataset from a seed, and the record of it."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

import minidl
from minidl import backend, data, threads, training
from minidl.files import finite_json, replacing
from minidl.studies.recipe import Recipe

FORMAT = "minidl run 1"
HELD_OUT = 0.3


@dataclass(frozen=True)
class Run:
    """A recipe on a dataset from a seed: all that decides what comes out of a training.

    Attributes
    ----------
    recipe : Recipe
    dataset : str
        A name for `data.load`; the digits are enlarged to 28 × 28.
    fraction : float in (0, 1], default 1
        Of the training images, of every class alike; which they are follows from the seed.
    seed : int, default 0
    held_out : float in [0, 1), default 0
        Judge by this fraction of the training images instead of by the test images, as is right for choosing
        hyper-parameters.
    """

    recipe: Recipe
    dataset: str
    fraction: float = 1.0
    seed: int = 0
    held_out: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return what `from_dict` makes the run of again, for JSON."""
        return {
            "recipe": self.recipe.as_dict(),
            "dataset": self.dataset,
            "fraction": self.fraction,
            "seed": self.seed,
            "held_out": self.held_out,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Run:
        """Make the run that `as_dict` described; ValueError if an entry is missing or unexpected."""
        names = ("dataset", "fraction", "seed", "held_out")
        if not isinstance(content, Mapping) or content.keys() != {"recipe", *names}:
            raise ValueError(f"this is no run, expected the entries recipe, {', '.join(names)}")
        if not isinstance(content["dataset"], str):
            raise TypeError(f"run: dataset is {content['dataset']!r}, expected a name")
        for name, inside in (("fraction", lambda part: 0 < part <= 1), ("held_out", lambda part: 0 <= part < 1)):
            part = content[name]
            if isinstance(part, bool) or not isinstance(part, (int, float)) or not inside(part):
                raise ValueError(f"run: {name} is {part!r}, expected a number from 0 to 1")
        backend.check_seed(content["seed"], "run")  # it becomes a part of file names
        return cls(Recipe.from_dict(content["recipe"]), **{name: content[name] for name in names})

    @property
    def key(self) -> str:
        """A file name that no other training has: that of the recipe, the seed, and a digest of all that decides it."""
        content = json.dumps(self._essence | {"device": backend.device()}, sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        name = re.sub(r"[^a-z0-9]+", "-", self.recipe.name.lower()).strip("-")[:40]
        return f"{name}-seed{self.seed}-{digest}"

    @property
    def _essence(self) -> dict[str, Any]:
        return self.as_dict() | {"recipe": self.recipe.training}

    def describe(self) -> str:
        """Return the run as a few words."""
        part = "" if self.fraction == 1 else f" · {part_name(self.fraction)}"
        group = f"{self.recipe.group} · " if self.recipe.group else ""
        return f"{group}{self.recipe.label}{part} · seed {self.seed}"

    def data(self) -> data.Dataset:
        """Return the images to train on and to judge by."""
        loaded = _load(self.dataset, self.fraction, self.seed if self.fraction < 1 else 0)
        if not self.held_out:
            return loaded
        x, y = loaded.train_x, loaded.train_y
        kept, held = data.splits.hold_out(len(x), self.held_out, seed=self.seed)
        return data.Dataset(x[kept], y[kept], x[held], y[held], loaded.classes)

    def train(self, folder: Path, callbacks: Sequence[training.Callback] = (), processes: int = 1) -> dict[str, Any]:
        """Train, write the record to the folder, and return it; or return the record that is there already.

        After every epoch a checkpoint is written, from which an interrupted run goes on, to the same result. The record
        tells `processes`, how many runs shared the machine.

        Raises
        ------
        KeyboardInterrupt
            If the training was interrupted; the checkpoint is kept.
        ValueError
            If the file in the place of the record holds something else.
        """
        path, checkpoint = folder / f"{self.key}.json", self._checkpoint(folder)
        if path.exists():
            record = read_record(path)
            if Run.from_dict(record["run"])._essence != self._essence:
                raise ValueError(f"{path} is the record of another run: remove it, and this one is made")
            if checkpoint.exists():  # the process was killed between the two
                self.forget(folder)
            return record
        prepared = self.recipe.prepare(self.data(), self.seed)
        trainer, failure = prepared.trainer, ""
        trainer.callbacks += [*callbacks, training.Checkpoint(checkpoint)]
        resume = checkpoint if checkpoint.exists() else None
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a rate that is too high may diverge
                history = trainer.fit(prepared.train, prepared.test, self.recipe.epochs, resume=resume)
        except training.NonFiniteLossError as error:
            history, failure = trainer.history, str(error)
        if history.stopped == "interrupted":
            raise KeyboardInterrupt
        record = {
            "format": FORMAT,
            "run": self.as_dict(),
            "training_images": len(prepared.train.x),
            "judged_images": len(prepared.test.x),
            "parameters": sum(parameter.size for parameter in trainer.model.parameters()),
            "seconds": round(sum(history.column("seconds")), 3),
            "failure": failure,
            "epochs": history.epochs,
            "made": circumstances() | {"processes": processes},
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        self.forget(folder)
        return record

    def forget(self, folder: Path) -> None:
        """Remove the checkpoint of a training that shall not go on."""
        self._checkpoint(folder).unlink(missing_ok=True)

    def _checkpoint(self, folder: Path) -> Path:
        return folder / f"{self.key}.safetensors"


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the record of a run.

    Raises
    ------
    ValueError
        If the file holds none; the message names it.
    """
    try:
        record = finite_json(Path(path).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"the format is {record['format']!r}, expected {FORMAT!r}")
        Run.from_dict(record["run"])
        accuracies(record)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is no record of a run: {error}") from error
    return record


def accuracies(record: Mapping[str, Any]) -> list[float]:
    """Return the accuracy after each epoch, on the images that the run was judged by."""
    return [float(epoch["validation_accuracy"]) for epoch in record["epochs"]]


def repeat(path: str | os.PathLike[str], folder: Path, callbacks: Sequence[training.Callback] = ()) -> dict[str, Any]:
    """Train again what a record tells, in another folder, and return the new record.

    On the same device, with the same versions, its accuracies and losses are those of the first one, to the last bit.
    """
    return Run.from_dict(read_record(path)["run"]).train(folder, callbacks)


def part_name(fraction: float) -> str:
    """Return a fraction as people write it: "1/8", "0.3", or "all"."""
    if fraction == 1:
        return "all"
    whole = round(1 / fraction)
    return f"1/{whole}" if 1 / whole == fraction else repr(fraction)


def circumstances() -> dict[str, Any]:
    """Return when and where something is made: date, versions, device, threads."""
    pools = threadpoolctl.threadpool_info()
    blas = {f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in pools}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "minidl": minidl.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": sorted(blas),
        "device": backend.device(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": threads.get_threads(),
    }


@functools.lru_cache(maxsize=2)
def _load(name: str, fraction: float, seed: int) -> data.Dataset:
    return data.load(name, size=28 if name == "digits" else None, fraction=fraction, seed=seed)
