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
Grid = tuple[float, ...]
METHODS: dict[str, tuple[str, str, tuple[Grid, Grid]]] = {
    # name: the optimizer plain and adjusted, and the rates (of Adadelta the ε) that each is tuned on
    "SGD": ("SGD", "HeavyBall(beta={beta})", ((0.01, 0.03, 0.1), (0.003, 0.01, 0.03))),
    "Nesterov": ("Nesterov", "Nesterov(beta={beta})", ((0.003, 0.01, 0.03), (0.003, 0.01, 0.03))),
    "AdaGrad": ("AdaGrad", "AdaGrad", ((0.003, 0.01, 0.03), (0.003, 0.01, 0.03))),
    "RMSProp": ("RMSProp", "RMSProp(gamma={gamma})", ((3e-4, 1e-3, 3e-3), (3e-4, 1e-3, 3e-3))),
    "Adadelta": ("Adadelta(eps={eps})", "Adadelta(eps={eps})", ((1e-7, 1e-6, 1e-5), (1e-7, 1e-6, 1e-5))),
    "Adam": ("Adam", "Adam", ((3e-4, 1e-3, 3e-3), (3e-4, 1e-3, 3e-3))),
    "AdaMax": ("AdaMax", "AdaMax", ((7e-4, 2e-3, 6e-3), (7e-4, 2e-3, 6e-3))),
    "Nadam": ("Nadam", "Nadam", ((3e-4, 1e-3, 3e-3), (3e-4, 1e-3, 3e-3))),
    "AMSGrad": ("AMSGrad", "AMSGrad", ((3e-4, 1e-3, 3e-3), (3e-4, 1e-3, 3e-3))),
}
"""As many values for every optimizer."""
TABLE_1 = {"Adam": (72.07, 85.50), "SGD": (61.65, 83.30), "RMSProp": (70.88, 84.50), "AdaMax": (70.99, 84.79)}
"""P's initial and final accuracy in percent."""


def plan(options: Options) -> list[Recipe]:
    """Return each optimizer plain, and with schedule, batch normalization, dropout, L2 and, for SGD, momentum."""
    recipes = []
    for group in (PLAIN, ADJUSTED):
        adjusted = group == ADJUSTED
        epochs = options.epochs if adjusted else min(options.epochs, PLAIN_EPOCHS)
        for name, (plain, better, grids) in METHODS.items():
            rate = "Cosine({rate}, {epochs})" if adjusted else "{rate}"
            values: dict[str, Value] = {"batch_norm": adjusted, "dropout": 0.25 * adjusted}
            recipes.append(
                Recipe(
                    name,
                    options.model,
                    better if adjusted else plain,
                    rate="" if name == "Adadelta" else rate,
                    penalty="L2({weight_decay})" if adjusted else "",
                    batch_size=options.batch_size,
                    epochs=epochs,
                    values=values | {tuned(name): grids[adjusted][1], "weight_decay": 1e-4, "beta": 0.9, "gamma": 0.95},
                    group=group,
                )
            )
    return recipes


def tuning(recipe: Recipe) -> Mapping[str, Sequence[float]]:
    """Return the grid of an optimizer's rate, or of Adadelta's ε."""
    return {tuned(recipe.name): METHODS[recipe.name][2][recipe.group == ADJUSTED]}


def tuned(name: str) -> str:
    """Return the hyper-parameter that sets the size of an optimizer's steps."""
    return "eps" if name == "Adadelta" else "rate"


def space(recipe: Recipe) -> Mapping[str, Any]:
    """Return where a search looks: around the grid, and at the strengths of the adjustments."""
    ((name, grid),) = tuning(recipe).items()
    ranges = {
        name: Range(grid[0] / 10, grid[-1] * 10, log=True),
        "weight_decay": Range(1e-6, 1e-2, log=True),
        "dropout": Range(0.0, 0.5),
        "beta": Range(0.5, 0.99),
        "gamma": Range(0.8, 0.999),
    }
    return {each: ranges[each] for each in (ranges if recipe.group == ADJUSTED else [name]) if each in recipe.used}


def table_1(results: Results) -> tuple[str, list[Path]]:
    """Return P's table with ours beside it: accuracy after the plain training, and the highest of the adjusted one."""
    rows = []
    for fraction in results.options.fractions:
        arms = {(arm.recipe.name, arm.recipe.group): arm for arm in results.arms if arm.fraction == fraction}
        for name in METHODS:
            found = [arms.get((name, group)) for group in (PLAIN, ADJUSTED)]
            if not any(found):
                continue
            cells = [_reached(arm, statistic) for arm, statistic in zip(found, ("final", "maximum"), strict=True)]
            paper = [f"{value:.2f}" for value in TABLE_1[name]] if name in TABLE_1 else [NOTHING] * 2
            seconds = [NOTHING if arm is None else f"{arm.seconds:.0f}" for arm in found]
            rows.append((part_name(fraction), name, *cells, *paper, *seconds))
    headings = ("part", "optimizer", "initial (%)", "final (%)", "P: initial", "P: final", "plain s", "adjusted s")
    caption = (
        f"Initial: after {min(results.options.epochs, PLAIN_EPOCHS)} epochs of the plain training. Final: the highest "
        f"of {results.options.epochs} epochs with schedule, batch normalization, dropout and L2, SGD with momentum "
        "too. P's network is another one."
    )
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
        "P leaves the widths, the rates and the number of epochs open."
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
        "trials": 2,
    },
    full={
        "fractions": (1.0,),
        "model": "cifar_cnn(batch_norm={batch_norm}, dropout={dropout})",
        "epochs": 50,
        "trials": 5,
    },
    baseline="SGD",
    extras=table_1,
)
