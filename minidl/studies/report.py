"""What a study leaves: a table for the terminal, the same in Markdown, a picture, and all numbers as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from minidl import backend, viz
from minidl.files import alone, replacing
from minidl.studies import summary
from minidl.studies.arm import Arm
from minidl.studies.conduct import Results
from minidl.studies.page import page
from minidl.studies.run import Run, accuracies, circumstances, part_name
from minidl.studies.space import Value
from minidl.studies.study import Options, Published
from minidl.trials import TrialCurves

SCHEMES = 6  # in one picture of a sweep


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
    with alone(folder, "writing its report"):  # or table and pictures might be of two studies
        summaries = summary.summarize(results.curves, results.baseline)
        columns = _columns(results)
        table: dict[str, Any] = {"statistics": study.statistics, "difference": study.difference, "columns": columns}
        extra, files = study.extras(results) if study.extras is not None else ("", ())
        text = [summary.text_table(summaries, f"{study.title}: {subject(options)}", **table), *filter(None, [extra])]
        numbers, markdown, picture = (folder / f"{study.name}.{ending}" for ending in ("json", "md", "png"))
        _write(numbers, json.dumps(_numbers(results, summaries) | {"extra": extra}, indent=1, allow_nan=False) + "\n")
        sweeps = {folder / f"{study.name}-{name}.png": drawn for name, drawn in _sweeps(results)}
        pictures = [picture, *sweeps, *files]
        table_text = summary.markdown_table(summaries, **table)
        _write(markdown, page(results, subject(options), command(results), table_text, extra, pictures))
        about = subject(options)
        reference = _reference(results)
        viz.save(
            viz.learning_curves(results.curves, study.title, about, reference=reference, statistic="last"), picture
        )
        for path, draw in sweeps.items():
            viz.save(draw(), path)
        return Report("\n\n".join(text), (markdown, numbers, *pictures))


def _write(path: Path, content: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def subject(options: Options) -> str:
    """Return on what a study is made, in a line."""
    parts = ", ".join(part_name(fraction) for fraction in options.fractions)
    images = options.data if options.fractions == (1.0,) else f"{parts} of {options.data}"
    trials = f"{options.trials} trial{'s' * (options.trials != 1)} from seed {options.seed}"
    epochs = f"{options.epochs} epoch{'s' * (options.epochs != 1)}"
    return f"{options.model} on {images}, {epochs}, batches of {options.batch_size}, {trials}"


def command(results: Results) -> str:
    """Return the command that makes the study."""
    study, options, search = results.study, results.options, results.search
    words = ["minidl", "study", study.name, "--data", options.data, "--fraction"]
    words += [part_name(fraction) for fraction in options.fractions]
    for name in ("model", "epochs", "trials", "seed", "batch_size"):
        words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    for name, values in options.grid.items():
        words += ["--grid", f"{name}={','.join(map(str, values))}"]
    for part in options.only:
        words += ["--only", part]
    if study.tuning is not None and search is None:
        words += ["--tuning-epochs", str(options.tuning_epochs), "--tuning-images", str(options.tuning_images)]
    if search is not None:
        words += ["--search", search.method] + (["--budget", str(search.trials)] if search.method != "grid" else [])
    if backend.device() != "cpu":
        words += ["--device", backend.device()]
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words
    )


def _columns(results: Results) -> dict[str, list[str]]:
    """Return what stands at the right of the table: what was published, if anything was, and the time."""
    published = [_published(results, arm) for arm in results.arms]
    columns: dict[str, list[str]] = {}
    for name, heading in (("maximum", "published max. (%)"), ("last", "published last (%)")):
        values = [None if one is None else getattr(one, name) for one in published]
        if any(value is not None for value in values) and name in results.study.statistics:
            columns[heading] = [summary.NOTHING if value is None else f"{100 * value:.2f}" for value in values]
    return columns | {"seconds": [f"{arm.seconds:.1f}" for arm in results.arms]}


def _run(results: Results, arm: Arm, seed: int) -> Run:
    return Run(arm.recipe, results.options.data, arm.fraction, seed)


def _published(results: Results, arm: Arm) -> Published | None:
    """Return what was published for an arm on the same part of the same data, if anything was."""
    place = arm.recipe.name, results.options.data
    found = (one for one in results.study.published if (one.recipe, one.data) == place and not arm.recipe.varied)
    return next((one for one in found if abs(one.fraction - arm.fraction) < 1e-9), None)


def _reference(results: Results) -> list[tuple[str, float]]:
    """Return what was published as marks for the picture's ranking."""
    pairs = [(curve.label, _published(results, arm)) for arm, curve in zip(results.arms, results.curves, strict=True)]
    return [(label, one.last) for label, one in pairs if one is not None and one.last is not None]


def _sweeps(results: Results) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what draws the accuracy against a hyper-parameter of the grid that is a number, each with its name."""
    for name, values in results.options.grid.items():
        numbers: dict[Value, float] = {value: float(value) for value in values if isinstance(value, (int, float))}
        if len(numbers) < max(2, len(values)):
            continue
        schemes: dict[str, list[tuple[float, TrialCurves]]] = {}
        baselines = []
        for arm in results.arms:
            curve = arm.curves(results.title(arm, name), results.note(arm), results.group(arm, name))
            if name in arm.recipe.varied:
                schemes.setdefault(curve.name, []).append((numbers[arm.recipe.varied[name]], curve))
            elif arm.recipe.name == results.study.baseline:
                baselines.append(curve)
        for i in range(0, len(schemes), SCHEMES):
            some = dict(list(schemes.items())[i : i + SCHEMES])
            groups = {curve.group for points in some.values() for _, curve in points}
            beside = [curve for curve in baselines if curve.group in groups]
            part = f"{name}-{i // SCHEMES + 1}" if len(schemes) > SCHEMES else name
            yield part, partial(_sweep, results, name, some, beside)


def _sweep(results: Results, name: str, schemes: Mapping[str, Any], beside: Sequence[TrialCurves]) -> Any:
    title, about = f"{results.study.title}: {name}", subject(results.options)
    return viz.parameter_sweep(schemes, title, about, parameter=name, baselines=beside, statistic="last")


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
                "settings": arm.recipe.as_dict(),
                "tuned": arm.tuned,
                "failures": {seed: record["failure"] for seed, record in arm.records.items() if record["failure"]},
                "records": {seed: f"runs/{_run(results, arm, seed).key}.json" for seed in arm.records},
                "accuracies": {seed: accuracies(record) for seed, record in arm.records.items()},
            }
        )
    options = asdict(results.options) | {"grid": dict(results.options.grid)}
    return {
        "study": results.study.name,
        "command": command(results),
        "interrupted": results.interrupted,
        "options": options,
        "rows": rows,
        "made": circumstances(),
    }
