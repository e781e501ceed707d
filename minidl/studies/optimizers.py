"""The optimizer study: plain, and with all adjustments. P, table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minidl import tables
from minidl.studies.arm import Arm
from minidl.studies.conduct import Results
from minidl.studies.recipe import Recipe
from minidl.studies.run import part_name
from minidl.studies.space import Range, Value
from minidl.studies.study import Options, Study
from minidl.studies.summary import NOTHING

PLAIN, ADJUSTED = "plain", "adjusted"
PLAIN_EPOCHS = 10  # P's first training cycle
METHODS: dict[str, tuple[str, str, float, float]] = {
    # name: the optimizer plain and adjusted, and the rate (of Adadelta the ε) in the middle of the grid of each
    "SGD": ("SGD", "HeavyBall(beta={beta})", 0.03, 0.01),
    "Nesterov": ("Nesterov", "Nesterov(beta={beta})", 0.01, 0.01),
    "AdaGrad": ("AdaGrad", "AdaGrad", 0.01, 0.01),
    "RMSProp": ("RMSProp", "RMSProp(gamma={gamma})", 1e-3, 1e-3),
    "Adadelta": ("Adadelta(eps={eps})", "Adadelta(eps={eps})", 1e-6, 1e-6),
    "Adam": ("Adam", "Adam", 1e-3, 1e-3),
    "AdaMax": ("AdaMax", "AdaMax", 2e-3, 2e-3),
    "Nadam": ("Nadam", "Nadam", 1e-3, 1e-3),
    "AMSGrad": ("AMSGrad", "AMSGrad", 1e-3, 1e-3),
}
STEPS = (0.1, 0.3, 1, 3, 10)
"""The grid of every optimizer, times its middle."""
STRENGTHS: dict[str, Value] = {"fall": 0.01, "weight_decay": 5e-5, "beta": 0.9, "gamma": 0.95}
TABLE_1 = {"Adam": (72.07, 85.50), "SGD": (61.65, 83.30), "RMSProp": (70.88, 84.50), "AdaMax": (70.99, 84.79)}
"""P's initial and final accuracy in percent."""


def plan(options: Options) -> list[Recipe]:
    """Return each optimizer plain, and with schedule, batch normalization, dropout, L2 and, for SGD, momentum."""
    recipes = []
    for group in (PLAIN, ADJUSTED):
        adjusted = group == ADJUSTED
        epochs = options.epochs if adjusted else min(options.epochs, PLAIN_EPOCHS)
        for name, (plain, better, *middles) in METHODS.items():
            rate = "Exponential({rate}, rate={fall}, decay_steps={epochs})" if adjusted else "{rate}"
            values: dict[str, Value] = {"batch_norm": adjusted, "dropout": 0.25 * adjusted}
            recipes.append(
                Recipe(
                    name,
                    options.model,
                    better if adjusted else plain,
                    rate="" if name == "Adadelta" else rate,
                    penalty="L2({weight_decay}, convention='sum')" if adjusted else "",
                    batch_size=options.batch_size,
                    epochs=epochs,
                    values=values | {tuned(name): middles[adjusted]} | STRENGTHS,
                    group=group,
                )
            )
    return recipes


def tuning(recipe: Recipe) -> Mapping[str, Sequence[float]]:
    """Return the grid of an optimizer's rate, or of Adadelta's ε."""
    middle = METHODS[recipe.name][3] if ADJUSTED in recipe.group else METHODS[recipe.name][2]
    return {tuned(recipe.name): [float(f"{step * middle:.2g}") for step in STEPS]}


def tuned(name: str) -> str:
    """Return the hyper-parameter that sets the size of an optimizer's steps."""
    return "eps" if name == "Adadelta" else "rate"


def space(recipe: Recipe) -> Mapping[str, Any]:
    """Return where a search looks: around the grid, and at the strengths of the adjustments."""
    ((name, grid),) = tuning(recipe).items()
    ranges = {
        name: Range(grid[0] / 3, grid[-1] * 3, log=True),
        "weight_decay": Range(1e-6, 1e-2, log=True),
        "dropout": Range(0.0, 0.5),
        "beta": Range(0.5, 0.99),
        "gamma": Range(0.8, 0.999),
        "fall": Range(1e-3, 1.0, log=True),
    }
    return {each: ranges[each] for each in (ranges if ADJUSTED in recipe.group else [name]) if each in recipe.used}


def table_1(results: Results) -> tuple[str, list[Path]]:
    """Return P's table with ours beside it: accuracy after the plain training, and the highest of the adjusted one."""
    options, rows = results.options, []
    if options.grid:  # then each optimizer has several rows
        return "", []
    of_paper = TABLE_1 if options.data == "cifar10" else {}
    for fraction in options.fractions:
        arms = {(arm.recipe.name, arm.recipe.group): arm for arm in results.arms if arm.fraction == fraction}
        for name in dict.fromkeys(arm.recipe.name for arm in results.arms):
            plain, adjusted = (arms.get((name, group)) for group in (PLAIN, ADJUSTED))
            cells = [_reached(plain, "final"), _reached(adjusted, "maximum")]
            paper = [f"{value:.2f}" for value in of_paper.get(name, ())] or [NOTHING] * 2
            seconds = [NOTHING if arm is None else f"{arm.seconds:.0f}" for arm in (plain, adjusted)]
            rows.append((part_name(fraction), name, *cells, *paper, *seconds))
    headings = ("part", "optimizer", "initial (%)", "final (%)", "P: initial", "P: final", "plain s", "adjusted s")
    epochs = f"{min(options.epochs, PLAIN_EPOCHS)} epochs"
    caption = f"Initial: after {epochs} of the plain training. Final: the highest of {options.epochs} adjusted epochs."
    return tables.as_text("As table 1 of P", headings, rows, caption=caption), []


def _reached(arm: Arm | None, statistic: str) -> str:
    found = None if arm is None else arm.curves("").estimate(statistic)
    return NOTHING if found is None else found.percent()


STUDY = Study(
    name="optimizers",
    title="Optimizers, plain and adjusted",
    source=(
        "P: R. T. Chaparala, S. Tenneti, *Optimizing Convolutional Neural Networks (CNNs) for Image Classification "
        "through Advanced Gradient Descent Techniques*, table 1: CIFAR-10, a network of convolutions with ReLU, "
        "pooling, dropout and dense layers; accuracy after the first training, and the highest after all adjustments. "
        "P leaves widths, rates and epochs open, and adjusted each optimizer in its own way (batch normalization for "
        "Adam alone). Here all get the same adjustments: P's exponential schedule, down to a hundredth, batch "
        "normalization, dropout, P's L2, and SGD momentum; Adadelta, which has no rate, no schedule. Rates are tuned, "
        "for the plain trainings too, with the same budget for each."
    ),
    plan=plan,
    tuning=tuning,
    space=space,
    options=Options(
        "cifar10",
        (1 / 8,),
        "cifar_cnn(batch_norm={batch_norm}, dropout={dropout}, widths=(16, 32))",
        epochs=10,
        trials=3,
        batch_size=64,
    ),
    quick={
        "data": "digits",
        "fractions": (1 / 2,),
        "model": "cifar_cnn(batch_norm={batch_norm}, dropout={dropout}, widths=(4, 8))",
        "epochs": 4,
        "trials": 3,
        "tuning_epochs": 2,
        "tuning_images": 600,
    },
    full={
        "fractions": (1.0,),
        "model": "cifar_cnn(batch_norm={batch_norm}, dropout={dropout})",
        "epochs": 50,
        "trials": 5,
        "tuning_epochs": 10,
        "tuning_images": 50_000,
    },
    baseline="SGD",
    extras=table_1,
)
