"""The study of progressive sharpening: do blurred images first, and sharper ones later, train better networks? S."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from minidl import data, viz
from minidl.studies.conduct import Results
from minidl.studies.recipe import Recipe
from minidl.studies.report import subject
from minidl.studies.space import Choice, Range
from minidl.studies.study import Options, Study

PLAIN, SHARPENED = "sharp images only", "progressive sharpening"
STAGES = 5  # as in S's figure: the original and four blurs
OPTIMIZERS = {"Adam": 1e-3, "HeavyBall": 0.01}


def plan(options: Options) -> list[Recipe]:
    """Return for each optimizer the curriculum and, with as many epochs, the sharp images alone."""
    if options.epochs < STAGES:
        raise ValueError(f"study sharpening: epochs is {options.epochs}, expected at least {STAGES}: as many as stages")
    stages: dict[str, float] = {"K": STAGES, "stage_epochs": options.epochs // STAGES}
    recipes = []
    for optimizer, rate in OPTIMIZERS.items():
        for name, callbacks, values in (
            (PLAIN, "", {}),
            (SHARPENED, "ProgressiveSharpening({K}, {stage_epochs})", stages),
        ):
            recipes.append(
                Recipe(
                    name,
                    options.model,
                    optimizer,
                    callbacks=callbacks,
                    batch_size=options.batch_size,
                    epochs=options.epochs,
                    values={"rate": rate} | values,
                    group=optimizer,
                )
            )
    return recipes


def space(recipe: Recipe) -> Mapping[str, Any]:
    """Return where a search looks: every choice leaves an epoch for the originals."""
    widths = [k for k in range(2, STAGES + 2) if k <= recipe.epochs]
    lengths = [n for n in range(1, 4) if (widths[-1] - 1) * n < recipe.epochs]
    ranges = {"rate": Range(1e-4, 0.1, log=True), "K": Choice(widths), "stage_epochs": Choice(lengths)}
    return {name: ranges[name] for name in ranges if name in recipe.used}


def stages(results: Results) -> tuple[str, list[Path]]:
    """Draw the learning curves of the first part and optimizer over the stages of blur."""
    arms = [arm for arm in results.arms if arm.fraction == results.arms[0].fraction]
    arms = [arm for arm in arms if arm.recipe.group == arms[0].recipe.group]
    sharpened = next((arm for arm in arms if arm.recipe.callbacks), None)
    if sharpened is None:
        return "", []
    record = next((record for record in sharpened.records.values() if not record["failure"]), None)
    if record is None:
        return "", []
    blurs = [epoch["blur"] for epoch in record["epochs"]]
    options = replace(results.options, fractions=(sharpened.fraction,))
    image = data.load(options.data, size=28 if options.data == "digits" else None).astype("float32").train_x[0]
    figure = viz.sharpening_stages(
        [
            arm.curves(results.title(arm), results.note(arm), results.group(arm))
            for arm in (sharpened, *(arm for arm in arms if not arm.recipe.callbacks))
        ],
        blurs,
        image,
        results.study.title,
        f"{sharpened.recipe.group}, {subject(options)}",
    )
    return "", [viz.save(figure, results.folder / "sharpening-stages.png")]


STUDY = Study(
    name="sharpening",
    title="Progressive sharpening",
    source=(
        "S: S. Trivedi, *Optimisation with Progressive Sharpening*, 2021: LeNet-5 with dropout on MNIST, blurred by "
        "box filters of N × N pixels, N = K, …, 1, a few epochs each. S gives no numbers to compare with. Here both "
        "arms have the same total number of epochs, initial weights and batches; the last stage, the originals, has "
        "all epochs that the blurred ones leave."
    ),
    plan=plan,
    space=space,
    options=Options("mnist", (1 / 8, 1 / 32), "lenet5(dropout=0.5)", epochs=15, trials=5, batch_size=64),
    quick={"data": "digits", "fractions": (1.0, 1 / 4), "epochs": 10, "trials": 3},
    full={"fractions": (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 32), "epochs": 50},
    baseline=PLAIN,
    extras=stages,
)
