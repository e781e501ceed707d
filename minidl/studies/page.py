"""The page of a study, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minidl.studies.arm import Arm
from minidl.studies.conduct import Results
from minidl.studies.found import written
from minidl.studies.recipe import PARTS

MAXIMUM = (
    "A maximum over epochs is chosen by the test images, as the papers do, and so a little too good; the mean of the "
    "last 10 % of epochs is not."
)


def page(results: Results, subject: str, command: str, table: str, extra: str, pictures: Sequence[Path]) -> str:
    """Return the page: what was asked and made, the table, pictures, how recipes were tuned, and the recipes."""
    records = [record for arm in results.arms for record in arm.records.values()]
    parameters = _span(record["parameters"] for record in records)
    judged = _span(record["judged_images"] for record in records)
    parts = [
        f"# {results.study.title}",
        results.study.source,
        f"Here: {subject}; {parameters} parameters, judged on {judged} test images after every epoch. {MAXIMUM}",
        f"```sh\n{command}\n```",
        table,
    ]
    if results.interrupted:
        parts.append("The study was interrupted: not all trials have ended.")
    if extra:
        parts.append(f"```text\n{extra}\n```")
    parts += [f"![{path.stem}]({path.name})" for path in pictures]
    tuned = [_tuning(results, arm) for arm in results.arms if arm.tuned]
    if tuned:
        parts += ["## Tuning", "By the accuracy on training images that were held out.", "\n".join(tuned)]
    recipes = dict.fromkeys(_recipe(results, arm) for arm in results.arms)
    parts += ["## Recipes", "\n".join(recipes), _circumstances([record["made"] for record in records])]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _tuning(results: Results, arm: Arm) -> str:
    """Return what was tried for an arm, as an item."""
    differ = list(arm.chosen)
    tried = "; ".join(f"{_values(each['values'], differ)}: {each['accuracy']:.2%}" for each in arm.tuned)
    chosen = _values(arm.recipe.values, differ)
    edge = ""
    if results.search is None and chosen in (_values(arm.tuned[i]["values"], differ) for i in (0, -1)):
        edge = ", the edge of its grid: a larger one might find better"
    name = " · ".join(filter(None, (results.group(arm), results.title(arm))))
    return f"- {name}: {len(arm.tuned)} tried: {tried}. Chosen: {chosen}{edge}."


def _values(values: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name} {written(values[name])}" for name in names)


def _recipe(results: Results, arm: Arm) -> str:
    recipe = arm.recipe
    name = " · ".join(filter(None, (recipe.group, results.title(arm))))
    told = "; ".join(f"{part} `{recipe.text(part)}`" for part in PARTS if recipe.text(part))
    return f"- **{name}**: {told}; {recipe.epochs} epochs in batches of {recipe.batch_size}"


def _circumstances(made: Sequence[Mapping[str, Any]]) -> str:
    """Return when and where the runs were made, all of what differs between them."""

    def all_of(name: str) -> str:
        return " and ".join(
            dict.fromkeys(", ".join(each[name]) if name == "blas" else str(each[name]) for each in made)
        )

    days = sorted({each["date"][:10] for each in made})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"Made on {when} with minidl {all_of('minidl')}, Python {all_of('python')}, NumPy {all_of('numpy')}, "
        f"{all_of('blas')}, on {all_of('device')}, {all_of('machine')}; {all_of('processes')} runs at the same time, "
        f"{all_of('threads')} threads each. Seconds are the median of the trials."
    )


def _span(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    least, most = found[0], found[-1]
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
