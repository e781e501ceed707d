"""The race of optimizers on a surface: one call that runs them all and writes a table and every picture."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import minidl
from minidl import surfaces
from minidl.files import alone, replacing, writable_folder
from minidl.ops.arguments import positive_integer
from minidl.optim import catalogue
from minidl.surfaces import Problem, Sweep
from minidl.surfaces.sweep import NEAR
from minidl.viz.animation import race_animation
from minidl.viz.counterexample import amsgrad_counterexample
from minidl.viz.inside import METHODS, effective_steps, inside_one_step
from minidl.viz.momentum import momentum_map
from minidl.viz.page import write_race_page
from minidl.viz.sensitivity import rate_momentum_map, rate_sensitivity
from minidl.viz.sheet import race_sheet
from minidl.viz.style import save
from minidl.viz.surface import best_runs, counted, in_words

# The long ones first, so that several processes end at about the same time.
PICTURES: dict[str, Callable[[Sweep, Path], Path]] = {
    "sheet": lambda sweep, folder: save(race_sheet(sweep), folder / "race.png"),
    "page": lambda sweep, folder: write_race_page(sweep, folder / "race.html"),
    "animation": lambda sweep, folder: race_animation(sweep, folder / "race"),
    "sensitivity": lambda sweep, folder: save(rate_sensitivity(sweep), folder / "sensitivity.png"),
    "map": lambda sweep, folder: save(rate_momentum_map(sweep), folder / "map.png"),
    "inside": lambda sweep, folder: save(inside_one_step(*_inside(sweep)), folder / "inside.png"),
    "effective": lambda sweep, folder: save(effective_steps(*_inside(sweep)), folder / "effective.png"),
    "momentum": lambda sweep, folder: save(momentum_map(), folder / "momentum.png"),
    "amsgrad": lambda sweep, folder: save(amsgrad_counterexample(), folder / "amsgrad.png"),
}
"""What a race can draw, by name; the last two are the same for every surface."""


@dataclass(frozen=True)
class Race:
    """The result of `race`: the runs, a row of the table for each method, best first, and the files written."""

    sweep: Sweep
    rows: tuple[dict[str, Any], ...]
    files: tuple[Path, ...]
    interrupted: bool = False


def race(
    surface: str | Problem = "rosenbrock",
    optimizers: Sequence[str] | str = catalogue.RACE,
    *,
    steps: int = surfaces.STEPS,
    start: Sequence[float] | None = None,
    pictures: Sequence[str] | str = tuple(PICTURES),
    out: str | os.PathLike[str] = "minidl-race",
    processes: int = 1,
    quiet: bool = False,
) -> Race:
    """Race optimizers on a surface, first and second order, and write a table and pictures of it.

    Every method runs over the same grid of learning rates and momenta, as far as it has these settings, and is shown at
    its best one; the page and the maps show all of them.

    Parameters
    ----------
    surface : str or Problem, default "rosenbrock"
        A name of `surfaces.PROBLEMS`, or a problem in two dimensions such as `surfaces.quadratic(1000)`.
    optimizers : sequence of str or str, default: all
        Names of `optim.catalogue`.
    steps : int, default 200
    start : pair of float, optional
        Default: the problem's.
    pictures : sequence of str or str, default: all
        "sheet", "page" (interactive), "animation", "sensitivity", "map", "inside", "effective", "momentum", "amsgrad".
        One that shows none of the methods is left out, and named.
    out : path, default "minidl-race"
        The folder for the files.
    processes : int, default 1
        More than one: that many further processes draw the pictures. Call it then from a script's
        ``if __name__ == "__main__":``, since each of them imports the script.
    quiet : bool, default False
        Print nothing.

    Returns
    -------
    Race

    Raises
    ------
    ValueError
        For unknown names or bad numbers, before anything is run.
    """
    problem = surface if isinstance(surface, Problem) else surfaces.problem(surface)
    chosen = _checked_pictures(pictures)
    surfaces.check(problem, optimizers, start, steps)
    positive_integer(processes, "race", "processes")
    folder = writable_folder(out, "out")
    console = Console(file=sys.stdout, quiet=quiet, highlight=False, markup=False)
    began = time.perf_counter()

    def say(line: str) -> None:
        console.print(f"{time.perf_counter() - began:5.1f} s  {line}", soft_wrap=True)

    with alone(folder, "racing", quiet), _artists(processes) as artists:
        for _ in range(processes):
            artists.submit(_be_ready)  # imports while the optimizers run
        sweep = surfaces.sweep(
            problem, optimizers, start=start, steps=steps, notice=lambda method: say(f"running {method.label}")
        )
        rows = tuple(_row(run) for run in best_runs(sweep))
        files = list(_write_table(folder, sweep, rows))
        drawn, interrupted = [], False
        for name in chosen:
            if _shows(name, sweep):
                drawn.append(artists.submit(_draw, name, sweep, folder))
            else:
                say(f"no picture '{name}': it shows none of these methods")
        try:
            for picture in as_completed(drawn):
                say(f"wrote {picture.result()}")
        except KeyboardInterrupt:
            interrupted = True
            artists.shutdown(cancel_futures=True)
            say("interrupted: the table is complete, some pictures are missing")
        files += [picture.result() for picture in drawn if not picture.cancelled() and picture.exception() is None]
    return Race(sweep, rows, tuple(files), interrupted)


def _artists(processes: int) -> Executor:
    """Return who draws: a thread of this process, or processes of their own."""
    if processes == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # Ctrl-C is for the process that waits
    )


def _be_ready() -> None:
    pass


def _draw(name: str, sweep: Sweep, folder: Path) -> Path:
    return PICTURES[name](sweep, folder)


def show_race(result: Race) -> None:
    """Print the table and the paths of the files."""
    problem = result.sweep.problem
    console = Console(file=sys.stdout, highlight=False)
    table = Table(title=f"{problem.title} after {counted(result.sweep.steps, 'step')}, best first")
    table.add_column("optimizer")
    table.add_column("best setting")
    for heading in ("loss at the end", "at a minimum from step"):
        table.add_column(heading, justify="right")
    for row in result.rows:
        end = in_words(row["loss"]) if row["stopped_at"] is None else row["fate"]
        setting = row["setting"] + (" *" if row["at_edge"] else "")
        table.add_row(row["label"], setting, end, "–" if row["met_at"] is None else str(row["met_at"]))
    table.caption = (
        f"loss at the end: the median of the last quarter of the steps\nat a minimum: stays closer to it than {NEAR:g}"
    )
    if any(row["at_edge"] for row in result.rows):
        table.caption += "\n* the edge of its grid: a larger grid might hold a better setting"
    console.print(table)
    for path in result.files:
        console.print(f"wrote {path}", soft_wrap=True)


def _checked_pictures(pictures: Sequence[str] | str) -> list[str]:
    names = [name.strip() for name in (pictures.split(",") if isinstance(pictures, str) else pictures)]
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        raise ValueError(f"pictures: unknown {', '.join(map(repr, unknown))}; expected some of {', '.join(PICTURES)}")
    return list(dict.fromkeys(names))


def _shows(picture: str, sweep: Sweep) -> bool:
    """Say whether a picture has something to show of these methods."""
    methods = [family.method for family in sweep.families]
    if picture in ("inside", "effective"):
        return bool(_inside(sweep)[1])
    if picture in ("sensitivity", "map"):
        return any(method.tuned and (picture == "sensitivity" or method.momentum) for method in methods)
    return True


def _inside(sweep: Sweep) -> tuple[Problem, list[str]]:
    """Return the problem from the sweep's start, and the methods that `viz.inside` knows."""
    names = [family.method.name for family in sweep.families]
    return replace(sweep.problem, start=sweep.start), [name for name in METHODS if name in names]


def _row(run: Any) -> dict[str, Any]:
    return {
        "optimizer": run.method.name,
        "label": run.name,
        "setting": run.setting,
        "at_edge": run.at_edge,
        "loss": run.end if run.stopped is None else None,
        "met_at": run.met,
        "stopped_at": run.stopped,
        "fate": "" if run.stopped is None else run.fate,
    }


def _write_table(folder: Path, sweep: Sweep, rows: Sequence[dict[str, Any]]) -> tuple[Path, Path]:
    table, record = folder / "race.csv", folder / "race.json"
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    settings = {
        "surface": sweep.problem.name,
        "equation": sweep.problem.equation,
        "start": sweep.start,
        "steps": sweep.steps,
        "minidl": minidl.__version__,
        "grids": {
            family.method.name: {"values": family.values, "momenta": family.momenta} for family in sweep.families
        },
    }
    with replacing(record) as temporary:
        content = json.dumps({"settings": settings, "runs": rows}, indent=1, allow_nan=False, ensure_ascii=False)
        temporary.write_text(content + "\n", encoding="utf-8")
    return table, record
