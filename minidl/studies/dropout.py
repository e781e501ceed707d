"""The study of dropout: which kind helps most against overfitting? N §1.1.4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.studies.recipe import Recipe
from minidl.studies.space import Range
from minidl.studies.study import Options, Study

P, KIND, ACTIVATION = "{p}", "{dropout}", "{activation}"
BASELINE = "none"
USUAL = 0.3  # p of plain dropout
GROUPS: dict[str, tuple[str, str, dict[str, float]]] = {
    # group: activation, the kind without dropout, and the kinds with the p that they begin with
    "ReLU, maximum pooling": (
        "relu",
        "none",
        {"dropout": USUAL, "gaussian": 0.5, "spatial": 0.2, "max-pooling": 0.2, "maxdrop": 0.5},
    ),
    "ReLU, mean pooling": ("relu", "average-pooling", {"average-pooling": 0.2}),
    "SELU": ("selu", "none", {"alpha": 0.3}),
}


def plan(options: Options) -> list[Recipe]:
    """Return each kind of dropout, and in its group the same network without.

    Average pooling and SELU, without which two of the kinds cannot be, make another network, and so a group. A model
    with a place for p but none for the kind has plain dropout: then there are two recipes.

    Raises
    ------
    ValueError
        If the model has no place for p.
    """
    if P not in options.model:
        raise ValueError(
            f"study dropout: model is {options.model!r}, expected one with the place {P}, as in 'lenet5(dropout={P})' "
            f"or {STUDY.options.model!r}"
        )

    def recipe(name: str, kind: str, activation: str, group: str, p: float | None = None) -> Recipe:
        model = options.model.replace(KIND, repr(kind)).replace(ACTIVATION, repr(activation))
        return Recipe(
            name,
            model if p is not None else model.replace(P, "0"),
            "HeavyBall(beta=0.9)",
            batch_size=options.batch_size,
            epochs=options.epochs,
            values={"rate": 0.01} | ({} if p is None else {"p": p}),
            group=group,
        )

    if KIND not in options.model:
        return [recipe(BASELINE, "", "", ""), recipe("dropout", "", "", "", USUAL)]
    recipes = []
    for group, (activation, without, kinds) in GROUPS.items():
        if activation == "relu" or ACTIVATION in options.model:
            recipes.append(recipe(BASELINE, without, activation, group))
            recipes += [recipe(kind, kind, activation, group, p) for kind, p in kinds.items()]
    return recipes


def space(recipe: Recipe) -> Mapping[str, Any]:
    """Return where a search looks: at the rate, and at p up to 0.8, of Max-Drop's noise p (1 − p) up to its largest."""
    most = 0.5 if recipe.name.startswith("maxdrop") else 0.8
    ranges = {"rate": Range(1e-3, 0.3, log=True), "p": Range(0.02, most)}
    return {name: ranges[name] for name in ranges if name in recipe.used}


STUDY = Study(
    name="dropout",
    title="Dropout",
    source=(
        "N §1.1.4, the lecture notes, which give no numbers. Each kind of dropout stands in the place of a small "
        "network that it is made for, as the table of `models.small_cnn` tells, and is compared with the same network "
        "without: average pooling, and SELU with LeCun's initial weights, have a baseline of their own. Few images, a "
        "constant rate and many epochs let the network learn them by heart, which is where dropout can show what it "
        "does. Each p is a starting point, usual or chosen by a single run on training images that were held out: "
        "`--grid` varies it, and `--search` tunes each."
    ),
    plan=plan,
    space=space,
    options=Options(
        "fashion-mnist",
        (1 / 16,),
        f"small_cnn(dropout={KIND}, p={P}, activation={ACTIVATION})",
        epochs=20,
        trials=5,
        batch_size=32,
    ),
    quick={"data": "digits", "fractions": (1 / 4,), "epochs": 12, "trials": 3},
    full={"fractions": (1.0, 1 / 8), "epochs": 60},
    baseline=BASELINE,
)
