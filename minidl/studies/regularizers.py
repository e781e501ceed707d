"""The study of regularizers: which helps most against overfitting? N §1.1.2, §1.1.3, §1.1.4 and §1.2.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minidl import tables
from minidl.studies.arm import Arm
from minidl.studies.conduct import Results
from minidl.studies.recipe import Recipe
from minidl.studies.run import HELD_OUT, Run, accuracies, part_name
from minidl.studies.space import Range
from minidl.studies.study import Options, Study
from minidl.trials import estimate

P = "{p}"
BASELINE = "none"
UPRIGHT = ("digits", "mnist", "svhn")  # a mirrored digit is none

RECIPES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    # name: the parts that differ from the baseline's, and the strengths that they begin with
    "L1": ({"penalty": "L1({l1})"}, {"l1": 3e-5}),
    "L2": ({"penalty": "L2({l2})"}, {"l2": 3e-3}),
    "elastic": ({"penalty": "Elastic({l1}, {l2})"}, {"l1": 3e-5, "l2": 1e-3}),
    "L2 decoupled": ({"penalty": "L2({decay}, decoupled=True)"}, {"decay": 1e-4}),
    "per layer": (
        {"penalty": "PerLayer({{'conv1': ({conv}, 1), 'dense1': {dense}}})"},  # p = 1, and p = 2
        {"conv": 3e-5, "dense": 1.5e-3},
    ),
    "maximum norm": ({"penalty": "MaxNorm({limit})"}, {"limit": 1.0}),
    "dropout": ({}, {"p": 0.3}),
    "label smoothing": ({"loss": "LabelSmoothing({eps})"}, {"eps": 0.1}),
    "mixup": ({"blend": "mixup(alpha={alpha})"}, {"alpha": 0.2}),
    "cutmix": ({"blend": "cutmix(alpha={alpha})"}, {"alpha": 1.0}),
    "crop": ({"augment": "crop({pixels})"}, {"pixels": 1}),
    "crop and flip": ({"augment": "crop({pixels}), flip"}, {"pixels": 1}),
    "erasing": ({"augment": "erase({share})"}, {"share": 0.5}),
}


def plan(options: Options) -> list[Recipe]:
    """Return the network without a regularizer, and with each alone.

    Where left and right matter, as in digits, images are not mirrored. Dropout needs a model with a place for its p,
    which all other recipes have filled with 0.
    """
    left_out = {"crop and flip"} if options.data in UPRIGHT else set()
    if P not in options.model:
        left_out.add("dropout")
    if not options.model.startswith("small_cnn"):  # whose layers have these names
        left_out.add("per layer")

    def recipe(name: str, parts: Mapping[str, Any], values: Mapping[str, float]) -> Recipe:
        return Recipe(
            name,
            options.model if "p" in values else options.model.replace(P, "0"),
            "HeavyBall(beta=0.9)",
            batch_size=options.batch_size,
            epochs=options.epochs,
            values={"rate": 0.01, **values},
            **parts,
        )

    regularized = [recipe(name, *each) for name, each in RECIPES.items() if name not in left_out]
    return [recipe(BASELINE, {}, {}), *regularized]


def space(recipe: Recipe) -> Mapping[str, Any]:
    """Return where a search looks: around each strength."""
    ranges = {
        "rate": Range(1e-3, 0.3, log=True),
        "l1": Range(1e-6, 1e-3, log=True),
        "l2": Range(1e-5, 1e-1, log=True),
        "decay": Range(1e-6, 1e-2, log=True),
        "conv": Range(1e-6, 1e-2, log=True),
        "dense": Range(1e-6, 1e-2, log=True),
        "limit": Range(0.5, 4.0, log=True),
        "p": Range(0.05, 0.8),
        "eps": Range(0.01, 0.4),
        "alpha": Range(0.05, 2.0, log=True),
        "pixels": Range(1, 4, integer=True),
        "share": Range(0.1, 1.0),
    }
    return {name: ranges[name] for name in ranges if name in recipe.used}


def early_stopping(results: Results) -> tuple[str, list[Path]]:
    """Return what the training without a regularizer reaches where images that were held out say that it shall end.

    For each seed 30 % of the training images are held out, and the epoch with the lowest loss on them is found; then
    counts the accuracy after so many epochs of the training with all of them, which the study has made.

    The test images choose nothing. A rule in the recipe would watch the images that the study judges by.
    """
    rows = []
    for arm in _plain(results.arms):
        pairs = [
            (record, results.further.get(_held_out(results.options, arm, seed).key))
            for seed, record in arm.records.items()
        ]
        found = [(record, held) for record, held in pairs if held is not None]
        rows.append((part_name(arm.fraction), arm.recipe.label, *_compared(arm, found)))
    if not rows:
        return "", []
    caption = (
        "Stopped: after the epoch with the lowest loss on 30 % of the training images, held out from another training; "
        "in percent."
    )
    headings = ("part", "recipe", "epoch", "stopped", "last epoch", "difference", "trials")
    return tables.as_text("Early stopping", headings, rows, caption=caption), []


def further(options: Options, arms: Sequence[Arm]) -> list[Run]:
    """Return the trainings whose images held out say when to stop."""
    return [_held_out(options, arm, seed) for arm in _plain(arms) for seed in arm.records]


def _plain(arms: Sequence[Arm]) -> list[Arm]:
    return [arm for arm in arms if arm.recipe.name == BASELINE]


def _held_out(options: Options, arm: Arm, seed: int) -> Run:
    return Run(arm.recipe, options.data, arm.fraction, seed, HELD_OUT)


def _compared(arm: Arm, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> tuple[str, ...]:
    """Return the cells of a row, of the trials that have not diverged; each with its record of images held out."""
    epochs, stopped, last = [], [], []
    for record, held in pairs:
        if record["failure"] or not held["epochs"]:
            continue
        best = min(held["epochs"], key=lambda epoch: epoch["validation_loss"])["epoch"]
        reached = accuracies(record)
        epochs.append(best)
        stopped.append(reached[best - 1])
        last.append(reached[-1])
    if not epochs:
        return "–", "–", "–", "–", "0"
    differences = [one - other for one, other in zip(stopped, last, strict=True)]
    means = [estimate(values) for values in (stopped, last, differences)]
    span = str(epochs[0]) if min(epochs) == max(epochs) else f"{min(epochs)} to {max(epochs)}"
    cells = [mean.percent(sign=i == 2) for i, mean in enumerate(means) if mean is not None]
    return span, *cells, str(len(epochs))


STUDY = Study(
    name="regularizers",
    title="Regularizers",
    source=(
        "N, the lecture notes, which give no numbers: norms of the weights and limits for them (§1.1.3), dropout "
        "(§1.1.4), augmentation and blending of images (§1.1.2), early stopping (§1.2.1); label smoothing: R's "
        "comparison. Few images, a constant rate and many epochs let the network learn them by heart, which is where a "
        "regularizer can show what it does. The strengths are starting points, usual ones and some chosen by a single "
        "run on training images that were held out: `--grid` varies them, and `--search` tunes each."
    ),
    plan=plan,
    space=space,
    options=Options(
        "fashion-mnist", (1 / 16,), f"small_cnn(dropout='dropout', p={P})", epochs=20, trials=5, batch_size=32
    ),
    quick={"data": "digits", "fractions": (1 / 4,), "epochs": 12, "trials": 3},
    full={"fractions": (1.0, 1 / 8), "epochs": 60},
    baseline=BASELINE,
    further=further,
    extras=early_stopping,
)
