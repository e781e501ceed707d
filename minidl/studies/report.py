"""What a study leaves: a table for the terminal, the same in Markdown, a picture, and all numbers as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minidl import viz
from minidl.files import replacing
from minidl.studies import summary
from minidl.studies.arm import Arm
from minidl.studies.conduct import Results
from minidl.studies.run import accuracies, circumstances, part_name
from minidl.studies.study import Options, Published, Study
from minidl.trials import TrialCurves


@dataclass(frozen=True)
class Report:
    """What was written: the text for the terminal and the paths of the files."""

    text: str
    files: tuple[Path, ...]


def write_report(results: Results) -> Report:
    """Write tables, pictures and numbers of a study's results into its folder.

    Raises
    ------
    ValueError
        If no trial has ended yet.
    """
    study, options, folder = results.study, results.options, results.folder
    if not results.arms:
        raise ValueError(f"study {study.name}: no trial has ended yet, there is nothing to report")
    curves = results.curves
    baseline = study.baseline if any(curve.name == study.baseline for curve in curves) else None
    summaries = summary.summarize(curves, baseline)
    columns = _columns(results)
    title = f"{study.title}: {subject(options)}"
    table: dict[str, Any] = {"statistics": study.statistics, "difference": study.difference, "columns": columns}
    text = [summary.text_table(summaries, title, **table)]
    picture = folder / f"{study.name}.png"
    reference = _reference(results)
    viz.save(viz.learning_curves(curves, study.title, subject(options), reference=reference, statistic="last"), picture)
    pictures = [picture, *_sweeps(results, curves)]
    extra, files = study.extras(results) if study.extras is not None else ("", ())
    text += [extra] if extra else []
    numbers = folder / f"{study.name}.json"
    with replacing(numbers) as temporary:
        content = json.dumps(_numbers(results, summaries), indent=1, allow_nan=False) + "\n"
        temporary.write_text(content, encoding="utf-8")
    page = folder / f"{study.name}.md"
    with replacing(page) as temporary:
        content = _page(results, summary.markdown_table(summaries, **table), extra, [*pictures, *files])
        temporary.write_text(content, encoding="utf-8")
    return Report("\n\n".join(text), (page, numbers, *pictures, *files))


def subject(options: Options) -> str:
    """Return on what a study is made, in a line."""
    parts = ", ".join(part_name(fraction) for fraction in options.fractions)
    images = options.data if options.fractions == (1.0,) else f"{parts} of {options.data}"
    trials = f"{options.trials} trial{'s' * (options.trials != 1)} from seed {options.seed}"
    return f"{options.model} on {images}, {options.epochs} epochs, batches of {options.batch_size}, {trials}"


def command(study: Study, options: Options) -> str:
    """Return the command that makes the study."""
    words = ["minidl", "study", study.name, "--data", options.data, "--fraction"]
    words += [part_name(fraction) for fraction in options.fractions]
    for name in ("model", "epochs", "trials", "seed", "batch_size"):
        words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    for name, values in options.grid.items():
        words += ["--grid", f"{name}={','.join(map(str, values))}"]
    for part in options.only:
        words += ["--only", part]
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words
    )


def _columns(results: Results) -> dict[str, list[str]]:
    """Return what stands at the right of the table: what was published, if anything was, and the time."""
    published = [_published(results, arm) for arm in results.arms]
    columns: dict[str, list[str]] = {}
    for name, heading in (("maximum", "published maximum (%)"), ("last", "published last 10 % (%)")):
        values = [None if one is None else getattr(one, name) for one in published]
        if any(value is not None for value in values) and name in results.study.statistics:
            columns[heading] = [summary.NOTHING if value is None else f"{100 * value:.2f}" for value in values]
    return columns | {"seconds": [f"{arm.seconds:.1f}" for arm in results.arms]}


def _published(results: Results, arm: Arm) -> Published | None:
    """Return what was published for an arm on the same part of the same data, if anything was."""
    place = arm.recipe.name, results.options.data
    found = (one for one in results.study.published if (one.recipe, one.data) == place)
    return next((one for one in found if abs(one.fraction - arm.fraction) < 1e-9), None)


def _reference(results: Results) -> list[tuple[str, float]]:
    """Return what was published as marks for the picture's ranking."""
    pairs = [(results.curves[i].label, _published(results, arm)) for i, arm in enumerate(results.arms)]
    return [(label, one.last) for label, one in pairs if one is not None and one.last is not None]


def _sweeps(results: Results, curves: Sequence[TrialCurves]) -> list[Path]:
    """Draw the accuracy against each hyper-parameter of the grid that is a number."""
    written = []
    for name, values in results.options.grid.items():
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        if len(numbers) < max(2, len(values)):
            continue
        schemes: dict[str, dict[float, TrialCurves]] = {}
        others = []
        for arm, curve in zip(results.arms, curves, strict=True):
            if name in arm.recipe.used:
                value = arm.recipe.values[name]
                scheme = curve.label.replace(f", {name} {value}", "")
                schemes.setdefault(scheme, {})[numbers[values.index(value)]] = curve
            else:
                others.append(curve)
        picture = results.folder / f"{results.study.name}-{name}.png"
        figure = viz.parameter_sweep(
            schemes, f"{results.study.title}: {name}", subject(results.options), parameter=name, baselines=others,
            statistic="last",
        )  # fmt: skip
        written.append(viz.save(figure, picture))
    return written


def _numbers(results: Results, summaries: Sequence[summary.Summary]) -> dict[str, Any]:
    """Return everything that a study has found, for JSON."""
    rows = []
    for arm, each in zip(results.arms, summaries, strict=True):
        one = _published(results, arm)
        rows.append(
            each.row()
            | {
                "fraction": arm.fraction,
                "seconds": round(arm.seconds, 3),
                "published": None if one is None else asdict(one),
                "recipe_text": arm.recipe.as_dict(),
                "tuned": arm.tuned,
                "failures": {seed: record["failure"] for seed, record in arm.records.items() if record["failure"]},
                "accuracies": {seed: accuracies(record) for seed, record in arm.records.items()},
            }
        )
    options = asdict(results.options) | {"grid": dict(results.options.grid)}
    return {
        "study": results.study.name,
        "command": command(results.study, results.options),
        "interrupted": results.interrupted,
        "options": options,
        "rows": rows,
        "made": circumstances(),
    }


def _page(results: Results, table: str, extra: str, pictures: Sequence[Path]) -> str:
    """Return the study's page in Markdown."""
    study, options = results.study, results.options
    made = circumstances()
    record = next(iter(results.arms[0].records.values()))
    where = record["made"]
    lines = [
        f"# {study.title}",
        study.source,
        f"Here: {subject(options)}; {record['parameters']:,} parameters, judged on {record['judged_images']:,} test "
        "images after every epoch. A maximum over epochs is chosen by the test images, as the papers do, and so a "
        "little too good; the mean of the last 10 % of epochs is not.",
        f"```sh\n{command(study, options)}\n```",
        table,
    ]
    if results.interrupted:
        lines.append("The study was interrupted: not all trials have ended.")
    lines += [f"```text\n{extra}\n```"] if extra else []
    lines += [f"![{path.stem}]({path.name})" for path in pictures]
    tuned = [_tuning(results, arm) for arm in results.arms if arm.tuned]
    if tuned:
        lines += ["## Tuning", "On training images that were held out, the same budget for all:", "\n".join(tuned)]
    lines += [
        "## Recipes",
        "\n".join(_recipe(arm) for arm in results.arms if arm.fraction == results.arms[0].fraction),
        f"Made on {where['date'][:10]} with minidl {where['minidl']}, Python {where['python']}, NumPy "
        f"{where['numpy']}, {', '.join(where['blas'])}, {where['device']}, {where['machine']}, {where['threads']} "
        f"threads for each run; reported on {made['date'][:10]}.",
    ]
    return "\n\n".join(line.rstrip("\n") for line in lines) + "\n"


def _tuning(results: Results, arm: Arm) -> str:
    tried = "; ".join(f"{_changed(each['values'], arm)}: {each['accuracy']:.2%}" for each in arm.tuned)
    return f"- {results.group(arm)} {arm.recipe.name}: {tried}; chosen {results.note(arm)}".replace("-  ", "- ")


def _changed(values: Mapping[str, Any], arm: Arm) -> str:
    """Return the values in which the combinations that were tried differ."""
    differ = [name for name in values if len({str(each["values"][name]) for each in arm.tuned}) > 1]
    return ", ".join(f"{name} {values[name]}" for name in differ)


def _recipe(arm: Arm) -> str:
    parts = ("model", "optimizer", "rate", "loss", "penalty", "augment", "blend", "callbacks")
    told = "; ".join(f"{part} `{arm.recipe.text(part)}`" for part in parts if arm.recipe.text(part))
    return f"- **{arm.recipe.name}**: {told}"
