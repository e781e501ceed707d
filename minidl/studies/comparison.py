"""Optimizers side by side: the same network, data, batches and initial weights, the same budget for tuning."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import minidl
from minidl import backend, data, models, training, viz
from minidl.files import alone, replacing, writable_folder
from minidl.studies import contenders
from minidl.studies.contenders import Contender
from minidl.studies.progress import StudyProgress

TUNING_EPOCHS = 2
HELD_OUT = 0.3


@dataclass
class Run:
    """What one optimizer reached. Accuracies are fractions of the test images, one an epoch; seconds of training."""

    contender: Contender
    value: float | None
    trials: list[tuple[float | None, float]]  # (value, loss on the held-out part), inf where it diverged
    accuracies: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failure: str = ""

    @property
    def at_edge(self) -> bool:
        """Whether tuning chose the first or last value of the grid."""
        return bool(self.trials) and self.contender.at_edge(self.value)

    def row(self) -> dict[str, Any]:
        """Return the run as a row of the table."""
        return {
            "optimizer": self.contender.method.name,
            "tuned": self.contender.method.tuned,
            "value": self.value,
            "at_edge": self.at_edge,
            "first": self.accuracies[0] if self.accuracies else None,
            "best": max(self.accuracies, default=None),
            "final": self.accuracies[-1] if self.accuracies and not self.failure else None,
            "seconds": round(self.seconds, 3),
            "failure": self.failure,
        }


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`: the runs, best first, the settings, and the files that were written."""

    runs: tuple[Run, ...]
    settings: dict[str, Any]
    files: tuple[Path, ...]
    interrupted: bool


@dataclass(frozen=True)
class _Race:
    """What all contenders share."""

    make_model: Callable[[], Any]
    dataset: data.Dataset
    batch_size: int
    seed: int
    progress: StudyProgress

    def train(
        self, contender: Contender, value: float | None, train: Any, test: Any, epochs: int
    ) -> tuple[training.History, str]:
        """Train a network from the seed's initial weights on the seed's batches; return its record and its failure."""
        backend.manual_seed(self.seed)
        model = self.make_model()
        optimizer = contender.method.make(model, value)
        trainer = training.Trainer(model, optimizer, callbacks=[self.progress], progress=False)
        x, y = train
        loader = data.Loader(x, y, self.batch_size, seed=self.seed)
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a rate that is too high may diverge
                trainer.fit(loader, test, epochs)
        except training.NonFiniteLossError as error:
            return trainer.history, str(error)
        return trainer.history, ""


def compare(
    optimizers: Sequence[str] | str = contenders.DEFAULT,
    *,
    model: str = "lenet5",
    dataset: str = "digits",
    epochs: int = 10,
    batch_size: int = 64,
    lr: float | str = "grid",
    seed: int = 0,
    out: str | os.PathLike[str] = "minidl-compare",
    quiet: bool = False,
) -> Comparison:
    """Race optimizers on one network, and write a table (CSV, JSON) and a picture.

    All start from the same weights and see the same batches. With `lr="grid"` each is first tuned with the same
    budget: every value of a grid of three, two epochs on 70 % of the training images, judged by the loss on the other
    30 %. Then it is trained on all training images; the test images are only looked at after each epoch.

    Parameters
    ----------
    optimizers : sequence of str, default: eleven
        Names (`studies.contenders.NAMES`).
    model : {"lenet5", "mlp", "cifar_cnn", "resnet20"}, default "lenet5"
        Without dropout, so that the optimizers alone make the difference.
    dataset : str, default "digits"
        A name for `data.load`; the digits are enlarged to 28 × 28.
    epochs, batch_size : int, default 10 and 64
    lr : float, "grid" or "default", default "grid"
        A number: this rate for all. "default": each optimizer's own default. In both cases nothing is tuned.
    seed : int, default 0
        Of the initial weights, the batches, and the split for tuning.
    out : path, default "minidl-compare"
        The folder for the files.
    quiet : bool, default False
        Print nothing.

    Returns
    -------
    Comparison
    """
    picked = contenders.pick(optimizers)
    if model not in MODELS:
        raise ValueError(f"model is {model!r}, expected one of {', '.join(MODELS)}")
    values = {contender.method.name: _values(contender, lr) for contender in picked}
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} is {number!r}, expected a positive integer")
    backend.check_seed(seed, "compare")
    loaded = data.load(dataset, size=28) if dataset == "digits" else data.load(dataset)
    folder = writable_folder(out, "out")

    def make_model() -> Any:
        return MODELS[model](loaded)

    parameters = sum(parameter.size for parameter in make_model().parameters())
    settings = {
        "model": model,
        "parameters": parameters,
        "data": dataset,
        "training_images": len(loaded.train_x),
        "test_images": len(loaded.test_x),
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "device": backend.device(),
        "minidl": minidl.__version__,
        "numpy": np.__version__,
    }
    runs: list[Run] = []
    interrupted = False
    trials = sum(len(tried) for tried in values.values() if len(tried) > 1)
    with StudyProgress(trials * TUNING_EPOCHS + len(picked) * epochs, quiet) as progress:
        for line in _header(settings, picked):
            progress.line(line)
        race = _Race(make_model, loaded, batch_size, seed, progress)
        try:
            for contender in picked:
                run, interrupted = _race_one(race, contender, values[contender.method.name], epochs)
                if run.accuracies or run.failure:
                    runs.append(run)
                    progress.line(f"{len(runs):>2}/{len(picked)}  {_line(run)}")
                if interrupted:
                    break
        except KeyboardInterrupt:  # between two trainings; during one, the Trainer ends it
            interrupted = True
        if interrupted:
            progress.line("interrupted: the table holds what was reached until then")
    runs.sort(key=lambda run: (bool(run.failure), -(run.accuracies[-1] if run.accuracies else 0)))
    with alone(folder, "writing its results", quiet):  # or table and picture might be of two races
        files = _write(folder, runs, settings) if runs else ()
    return Comparison(tuple(runs), settings, files, interrupted)


MODELS: dict[str, Callable[[data.Dataset], Any]] = {
    "lenet5": lambda d: models.lenet5(len(d.classes), dropout=0, channels=d.train_x.shape[-1]),
    "mlp": lambda d: models.mlp([math.prod(d.train_x.shape[1:]), 128, len(d.classes)]),
    "cifar_cnn": lambda d: models.cifar_cnn(len(d.classes), d.train_x.shape[-1], d.train_x.shape[1:3]),
    "resnet20": lambda d: models.resnet(20, len(d.classes), d.train_x.shape[-1]),
}


def _values(contender: Contender, lr: float | str) -> tuple[float | None, ...]:
    """Return the values to try: the grid, or the one that was asked for (None is the optimizer's default)."""
    if lr == "grid":
        return contender.grid
    if lr == "default" or contender.method.tuned != "lr":
        return (None,)
    if isinstance(lr, str) or not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr is {lr!r}, expected a positive number, 'grid' or 'default'")
    return (float(lr),)


def _header(settings: dict[str, Any], picked: Sequence[Contender]) -> tuple[str, str]:
    """Return what is compared, and how it is tuned, as two lines."""
    what = (
        "{model} ({parameters:,} parameters) on {data} ({training_images:,} training and {test_images:,} test images), "
        "{epochs} epochs, batches of {batch_size}, seed {seed}, {device}".format(**settings)
    )
    if settings["lr"] == "grid":
        tuning = (
            f"tuning budget of every optimizer: {len(picked[0].grid)} values × {TUNING_EPOCHS} epochs on "
            f"{1 - HELD_OUT:.0%} of the training images, judged by the loss on the other {HELD_OUT:.0%}"
        )
    elif settings["lr"] == "default":
        tuning = "no tuning: every optimizer with its default"
    else:
        tuning = f"no tuning: rate {settings['lr']:g} for all that have one"
    return f"{len(picked)} optimizers: {what}", tuning


def _race_one(race: _Race, contender: Contender, values: tuple[float | None, ...], epochs: int) -> tuple[Run, bool]:
    """Tune if there is a choice, then train; return the run and whether it was interrupted."""
    x, y = race.dataset.train_x, race.dataset.train_y
    trials: list[tuple[float | None, float]] = []
    if len(values) > 1:
        kept, held = data.splits.hold_out(len(x), HELD_OUT, seed=race.seed)
        for value in values:
            race.progress.describe(f"tuning {contender.method.label}")
            history, failure = race.train(contender, value, (x[kept], y[kept]), (x[held], y[held]), TUNING_EPOCHS)
            if history.stopped == "interrupted":
                return Run(contender, None, trials), True
            trials.append((value, math.inf if failure else history.column("validation_loss")[-1]))
    race.progress.describe(f"training {contender.method.label}")
    value = min(trials, key=lambda trial: trial[1])[0] if trials else values[0]
    history, failure = race.train(contender, value, (x, y), (race.dataset.test_x, race.dataset.test_y), epochs)
    run = Run(
        contender,
        value,
        trials,
        accuracies=history.column("validation_accuracy"),
        losses=[step["loss"] for step in history.steps],
        seconds=sum(history.column("seconds")),
        failure=failure,
    )
    return run, history.stopped == "interrupted"


def _line(run: Run) -> str:
    what = f"{run.contender.method.label:<15}{run.contender.method.setting(run.value):<12}"
    if run.failure:
        return f"{what}diverged: {run.failure}"
    return f"{what}accuracy {run.accuracies[0]:.1%} → {run.accuracies[-1]:.1%}  {run.seconds:.1f} s"


# ---------------------------------------------------------------- what is written and shown


def _write(folder: Path, runs: Sequence[Run], settings: dict[str, Any]) -> tuple[Path, ...]:
    """Write the table as CSV and JSON, and the picture; return the paths."""
    rows = [run.row() for run in runs]
    table, record, picture = (folder / f"compare.{ending}" for ending in ("csv", "json", "png"))
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    full = [
        row
        | {
            "trials": [{"value": value, "loss": loss if math.isfinite(loss) else None} for value, loss in run.trials],
            "accuracies": run.accuracies,
            "losses": run.losses,
        }
        for row, run in zip(rows, runs, strict=True)
    ]
    with replacing(record) as temporary:
        content = {"settings": settings, "runs": full}
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    viz.save(figure(runs, settings), picture)
    return table, record, picture


def figure(runs: Sequence[Run], settings: dict[str, Any]) -> Any:
    """Draw the loss and the accuracy of every run as small multiples."""
    steps = -(-settings["training_images"] // settings["batch_size"])
    curves = [
        viz.LearningCurve(
            run.contender.method.label,
            run.contender.method.setting(run.value),
            run.losses,
            run.accuracies,
            steps,
            bool(run.failure),
        )
        for run in runs
    ]
    tuned = "each tuned with the same budget" if settings["lr"] == "grid" else f"learning rate: {settings['lr']}"
    return viz.small_multiples(
        curves,
        f"{len(runs)} optimizers on {settings['model']}, {settings['data']}",
        f"{settings['parameters']:,} parameters, {settings['training_images']:,} training images, "
        f"batches of {settings['batch_size']}, seed {settings['seed']}; same initial weights and batches, {tuned}",
    )


def show_table(comparison: Comparison) -> None:
    """Print the table and the paths of the files."""
    console = Console(file=sys.stdout, highlight=False)
    table = Table(title="accuracy on the test images, best first")
    table.add_column("optimizer")
    table.add_column("setting")
    for heading in ("first epoch", "best", "final", "seconds"):
        table.add_column(heading, justify="right")
    for run in comparison.runs:
        row = run.row()
        cells = ["–" if row[name] is None else f"{row[name]:.2%}" for name in ("first", "best", "final")]
        if run.failure:
            cells[-1] = "diverged"
        setting = run.contender.method.setting(run.value) + (" *" if run.at_edge else "")
        table.add_row(run.contender.method.label, setting, *cells, f"{run.seconds:.1f}")
    if any(run.at_edge for run in comparison.runs):
        table.caption = "* the edge of its grid: a larger grid might find a better value"
    console.print(table)
    for path in comparison.files:
        console.print(f"wrote {path}", soft_wrap=True)
