"""What `minidl study` does with its arguments."""

from __future__ import annotations

import argparse
import ast
import os
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from minidl import backend
from minidl.studies import dropout, normalization, optimizers, regularizers, report, sharpening, smoothing
from minidl.studies import run as runs
from minidl.studies.conduct import conduct
from minidl.studies.found import written
from minidl.studies.space import Value
from minidl.studies.study import Options, Study
from minidl.studies.tuning import Search

BUDGET = 20
STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (smoothing, sharpening, optimizers, regularizers, normalization, dropout)
}


def run(arguments: argparse.Namespace) -> int:
    """Carry the study out and report it; return the exit status."""
    study = STUDIES[arguments.study]
    options = chosen(study, arguments)
    processes = arguments.processes
    if processes is None:
        processes = 1 if backend.device() == "gpu" else os.cpu_count() or 1
    search = None
    if arguments.search:
        search = Search(arguments.search, BUDGET if arguments.budget is None else arguments.budget, arguments.storage)
    elif arguments.budget is not None or arguments.storage is not None:
        raise ValueError("--budget and --storage belong to --search, which is not given")
    print(f"{study.title}: {report.subject(options)}", flush=True)
    results = conduct(study, options, out=arguments.out or "", processes=processes, search=search)
    if results.arms:
        written = report.write_report(results)
        print(f"\n{written.text}\n")
        for path in written.files:
            print(f"wrote {path}")
    if results.interrupted:
        print("interrupted: the same command goes on from here")
    return 130 if results.interrupted else 0


def chosen(study: Study, arguments: argparse.Namespace) -> Options:
    """Return the options that the arguments ask for: the study's own, as --quick or --full has them, and the rest."""
    if arguments.quick and arguments.full:
        raise ValueError("--quick and --full are both given, expected one of them")
    changes: dict[str, Any] = dict(study.quick if arguments.quick else study.full if arguments.full else {})
    for field in fields(Options):
        given = getattr(arguments, field.name, None)
        if given is not None and field.name not in ("grid", "only"):
            changes[field.name] = given
    if arguments.fraction:
        changes["fractions"] = tuple(_fraction(text) for text in arguments.fraction)
    axes = [_axis(text) for text in arguments.grid]
    if len(dict(axes)) < len(axes):
        raise ValueError(f"--grid is given twice for a name, expected all its values at once: {arguments.grid}")
    changes |= {"grid": dict(axes), "only": tuple(arguments.only)}
    return replace(study.options, **changes)


def show_list() -> None:
    """Print every study's settings, and its recipes with the values that a grid can vary."""
    for study in STUDIES.values():
        print(f"{study.name}: {study.title}")
        for how, changes in (("", {}), ("--quick", study.quick), ("--full", study.full)):
            print(f"  {how or 'default':<8} {report.subject(replace(study.options, **changes))}")
        for recipe in study.recipes(study.options):
            values = ", ".join(
                f"{name} {written(recipe.values[name])}" for name in recipe.values if name in recipe.used
            )
            group = f"{recipe.group} · " if recipe.group else ""
            print(f"    {group}{recipe.name}{f': {values}' if values else ''}")
        print()


def repeat(path: str) -> int:
    """Make a run again, print how the two compare, and return the exit status: 1 if they differ."""
    before = runs.read_record(path)
    with tempfile.TemporaryDirectory() as folder:
        after = runs.repeat(path, Path(folder))
    rows = [(r["epoch"], r["validation_accuracy"], r["validation_loss"], r["loss"]) for r in before["epochs"]]
    again = [(r["epoch"], r["validation_accuracy"], r["validation_loss"], r["loss"]) for r in after["epochs"]]
    same = rows == again and before["failure"] == after["failure"]
    for name, record in (("recorded", before), ("now", after)):
        reached = runs.accuracies(record)
        made = record["made"]
        what = f"accuracy {reached[-1]:.4%} after {len(reached)} epochs" if reached else record["failure"]
        print(f"{name:<9} {what}, minidl {made['minidl']}, NumPy {made['numpy']}, {', '.join(made['blas'])}")
    print("the same, to the last bit" if same else "they differ: other versions or another processor round differently")
    return 0 if same else 1


def _fraction(text: str) -> float:
    upper, _, lower = text.partition("/")
    try:
        return 1.0 if text == "all" else float(upper) / float(lower or 1)  # Fraction("1e999999999") would never end
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"--fraction is {text!r}, expected a number as 1/8 or 0.125") from None


def _axis(text: str) -> tuple[str, tuple[Value, ...]]:
    """Return name and values of a hyper-parameter: "b=0.1,0.5"."""
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise ValueError(f"--grid is {text!r}, expected as in b=0.1,0.3,0.5")
    return name.strip(), tuple(_value(value.strip()) for value in values.split(","))


def _value(text: str) -> Value:
    try:
        value = ast.literal_eval(text)
        if isinstance(value, int):
            float(value)
    except (ArithmeticError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return text
    return value if isinstance(value, (int, float, str, bool)) else text
