"""The study of normalization: which kind trains best with large and small batches, and with large rates? N §1.1.5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.models.small_cnn import NORMALIZATIONS
from minidl.studies.recipe import Recipe
from minidl.studies.space import Range
from minidl.studies.study import Options, Study

PLACE = "{normalization}"
SMALL_BATCH = 4
HIGH_RATE = 10
FAST = f", rate × {HIGH_RATE}"


def plan(options: Options) -> list[Recipe]:
    """Return all kinds of normalization, with batches as asked for and of 4, at a rate and at ten times the rate.

    Raises
    ------
    ValueError
        If the model has no place for the kind.
    """
    if PLACE not in options.model:
        raise ValueError(
            f"study normalization: model is {options.model!r}, expected one with the place {PLACE}, as in "
            f"'small_cnn(normalization={PLACE})'"
        )
    recipes = []
    for batch_size in dict.fromkeys((options.batch_size, SMALL_BATCH)):
        for factor in (1, HIGH_RATE):
            fast = "" if factor == 1 else FAST
            recipes += [
                Recipe(
                    kind,
                    options.model.replace(PLACE, repr(kind)),
                    "HeavyBall(beta=0.9)",
                    rate="Cosine({rate}, {epochs})" if factor == 1 else f"Cosine({factor} * {{rate}}, {{epochs}})",
                    batch_size=batch_size,
                    epochs=options.epochs,
                    values={"rate": 0.01},
                    group=f"batches of {batch_size}{fast}",
                )
                for kind in NORMALIZATIONS
            ]
    return recipes


def space(recipe: Recipe) -> Mapping[str, Any]:
    """Return where a search looks: at the rate, and not where it is ten times another one."""
    return {} if FAST in recipe.group else {"rate": Range(1e-4, 1.0, log=True)}


STUDY = Study(
    name="normalization",
    title="Normalization",
    source=(
        "N §1.1.5, the lecture notes, which give no numbers but say: batch normalization allows larger rates, trains "
        "faster and generalizes better, and loses accuracy where batches are small; group normalization and weight "
        "standardization are made for small batches. Here each kind acts on the convolutions of a small network, as "
        "the table of `models.small_cnn` tells; the rate falls to 0 along a cosine. Its first value is a starting "
        "point: `--search` finds one for each kind."
    ),
    plan=plan,
    space=space,
    options=Options("fashion-mnist", (1 / 32,), f"small_cnn(normalization={PLACE})", epochs=10, trials=3),
    quick={"data": "digits", "fractions": (1 / 4,), "epochs": 4, "trials": 3},
    full={"fractions": (1.0, 1 / 8, 1 / 32), "epochs": 30},
    baseline="none",
)
