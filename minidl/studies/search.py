"""The search for good hyper-parameters: a grid, at random, or by what earlier trials have taught."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

import minidl
from minidl import backend
from minidl.ops.arguments import positive_integer
from minidl.studies import shared
from minidl.studies.found import Found, gathered, written
from minidl.studies.progress import StudyProgress
from minidl.studies.space import Choice, Range, Value, as_json, checked_space, grid_point, grid_size
from minidl.training import NonFiniteLossError

__all__ = ["Choice", "Found", "Pruned", "Range", "search"]

METHODS = ("bayesian", "random", "grid")
DIRECTIONS = ("maximize", "minimize")
STORAGE = "minidl-search.journal"
PAUSE = 0.5  # seconds between two looks at what other processes are still at

Report = Callable[[int, float], None]


class Pruned(Exception):  # noqa: N818  (it is no error)
    """Ends a trial that is worse than half of the others were at its epoch; `report` raises it."""


def search(
    objective: Callable[[dict[str, Value], Report], float],
    space: Mapping[str, Choice | Range],
    *,
    name: str,
    method: str = "bayesian",
    trials: int | None = None,
    direction: str = "maximize",
    seed: int = 0,
    storage: Any = None,
    quiet: bool = False,
) -> Found:
    """Search for the hyper-parameters with the best value of an objective, alone or with other processes.

    Needs Optuna: ``pip install "minidl[search]"``.

    Parameters
    ----------
    objective : callable
        Takes a dict of values and `report`, returns a number. What it should judge by is a part of the training
        samples that was held out, never the test samples. A number that is not finite, or a `NonFiniteLossError` of the
        Trainer, is the worst value there is: the trial counts and is never the best.

        It may call `report(epoch, value)` after each epoch, with what it would return at this point. When five trials
        are finished, `report` raises `Pruned` if the best value that the trial has reported so far is worse than the
        median of what they reported for this epoch: the trial counts, and its value is the last one reported. An
        objective that never calls it is never pruned.
    space : dict of str to Choice or Range
        The hyper-parameters by name.
    name : str
        Of the study in the storage. The same call with the same name and storage goes on with the trials that are
        there, or only returns them: a changed objective needs another name.
    method : {"bayesian", "random", "grid"}, default "bayesian"
        "bayesian": ten random trials, then where earlier ones say that good values are, by the tree-structured Parzen
        estimator of Optuna (Bergstra et al. 2011). "random": all drawn evenly. "grid": every combination of the
        choices; a `Range` is then an error.
    trials : int, optional
        How many are done in all, by all processes and earlier calls; a larger number goes on. Default for a grid: all
        its points, and nothing else is possible. The other methods need it.
    direction : {"maximize", "minimize"}, default "maximize"
    seed : int, default 0
        Of the search. What the objective draws it must seed itself.
    storage : path, URL or Optuna storage, default "minidl-search.journal" in the current folder
        A path: a file, which is made if it is missing and holds any number of studies (Optuna's journal). A URL with
        "://": a database as Optuna names it, "sqlite:///studies.db", "postgresql://…", "mysql://…". Processes, also on
        several machines, that call `search` with the same name and storage share the trials. A file on a network must
        be on a file system whose locks hold between machines; where that is not certain use a database.
    quiet : bool, default False
        Print nothing.

    Returns
    -------
    Found
        After all trials are done, those of other processes too.

    Raises
    ------
    ImportError
        Without Optuna, or without the driver of a database.
    ValueError
        If an argument is none of those above; if the storage is a foreign or damaged file; if the study is there with
        another space, method, direction or seed.
    OSError
        If the storage cannot be opened.
    TypeError
        If the objective returns or reports something else than a number.
    KeyboardInterrupt
        After Ctrl-C before any trial was done; later, those that were done are returned.

    Notes
    -----
    A trial that an interruption or an error ended is run again by the next call. So is one whose process was killed: on
    the same machine that is noticed at once, on another one after two minutes without a sign of life.

    The values of a grid's and of random trials depend on nothing but the seed and the number of the trial. Those of a
    Bayesian search depend on the trials before: with one process they are the same every time with the same version of
    Optuna, whether it was interrupted or not, if the objective is the same; with several they depend on who is faster.
    So does in all methods what is pruned.

    Ctrl-C during `Trainer.fit` ends the training, and `fit` returns; the objective should then end as well, or a
    half-trained network is taken for a result.

    Examples
    --------
    >>> def objective(values, report):
    ...     backend.manual_seed(0)
    ...     model = models.mlp([64, 32, 10])
    ...     trainer = training.Trainer(model, optim.HeavyBall(model, **values), progress=False)
    ...     for epoch in range(5):
    ...         history = trainer.fit(loader, (test_x, test_y))
    ...         if history.stopped == "interrupted":
    ...             raise KeyboardInterrupt
    ...         report(epoch, history.column("validation_accuracy")[-1])
    ...     return history.column("validation_accuracy")[-1]
    >>> space = {"lr": studies.Range(1e-3, 1.0, log=True), "beta": studies.Range(0.0, 0.99)}
    >>> print(studies.search(objective, space, name="mlp", trials=30))  # doctest: +SKIP
    """
    if not callable(objective):
        raise TypeError(f"search: objective is {objective!r}, expected a callable")
    space = checked_space(space, "search")
    if not isinstance(name, str) or not name:
        raise TypeError(f"search: name is {name!r}, expected a string that is not empty")
    for argument, given, known in (("method", method, METHODS), ("direction", direction, DIRECTIONS)):
        if given not in known:
            raise ValueError(f"search: {argument} is {given!r}, expected one of {', '.join(known)}")
    count = _count(space, method, trials)
    settings = {
        "method": method,
        "direction": direction,
        "seed": backend.check_seed(seed, "search"),
        "space": as_json(space),
    }
    versions = {"minidl": minidl.__version__, "optuna": shared.need_optuna().__version__}
    storage = STORAGE if storage is None else storage
    with shared.quiet(), shared.opened(storage) as opened:
        study = shared.SharedStudy(opened, name, settings)
        space = {key: space[key] for key in study.settings["space"]}  # in the order of who began
        with StudyProgress(count, quiet) as progress:
            where = storage if isinstance(storage, (str, os.PathLike)) else type(storage).__name__
            progress.line(f"search {name}: {method} over {', '.join(space)}; {count} trials; {shared.shown(where)}")
            interrupted = _work(_Searcher(objective, space, method, direction, seed, study), count, progress)
        return gathered(study.holders(), {"name": name} | settings | versions, interrupted)


def _count(space: Mapping[str, Choice | Range], method: str, trials: int | None) -> int:
    """Return how many trials there will be."""
    if method != "grid":
        if trials is None:
            raise ValueError(f"search: trials is None, expected a positive integer for the method {method!r}")
        return positive_integer(trials, "search", "trials")
    points = grid_size(space, "search")
    if trials not in (None, points):
        raise ValueError(
            f"search: trials is {trials!r}, but the grid has {points:,} points, and all are done: leave it out"
        )
    return points


@dataclass(frozen=True)
class _Searcher:
    """What all trials of this process share."""

    objective: Callable[[dict[str, Value], Report], float]
    space: Mapping[str, Choice | Range]
    method: str
    direction: str
    seed: int
    study: shared.SharedStudy

    @property
    def worst(self) -> float:
        return -math.inf if self.direction == "maximize" else math.inf

    def propose(self, place: int, held: Mapping[int, Any]) -> dict[str, Value]:
        """Return the values to try at a place, given Optuna's trials at other places."""
        if self.method == "grid":
            return grid_point(self.space, place)
        if self.method == "random":
            rng = np.random.default_rng([self.seed, place])
            return {name: values.draw(rng) for name, values in self.space.items()}
        optuna = shared.need_optuna()
        seed = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        with shared.no_warnings():  # a sampler of its own for each place, so that a search can be taken up at any
            adviser = optuna.create_study(direction=self.direction, sampler=optuna.samplers.TPESampler(seed=seed))
            adviser.add_trials(held.values())
            return dict(adviser.ask(shared.distributions(self.space)).params)

    def run(self, running: shared.Running) -> tuple[float, str, bool]:
        """Call the objective; return the value, the failure if there was one, and whether the trial counts."""

        def report(epoch: int, value: float) -> None:
            if not isinstance(epoch, Integral) or isinstance(epoch, bool) or epoch < 0:
                raise ValueError(f"report: epoch is {epoch!r}, expected a non-negative integer")
            if epoch in running.reported:
                raise ValueError(f"report: epoch {epoch} was reported already")
            running.reported[int(epoch)] = number = _number(value, "report: value is")
            running.pruned |= self.study.report(running, int(epoch), number if math.isfinite(number) else math.nan)
            if running.pruned:
                raise Pruned(f"worse than the median of the other trials at epoch {epoch}")

        failure = ""
        with self.study.alive(running):
            try:
                value = _number(self.objective(dict(running.values), report), "search: the objective returned")
            except Pruned:
                value = math.nan
            except NonFiniteLossError as error:
                value, failure = math.nan, str(error)
        if running.pruned:
            value = list(running.reported.values())[-1]
        value = value if math.isfinite(value) else self.worst
        return value, failure, self.study.finish(running, value, failure)


def _work(searcher: _Searcher, count: int, progress: StudyProgress) -> bool:
    """Run trials until all are done, here or elsewhere; return whether Ctrl-C ended it."""
    study, done = searcher.study, 0

    def advance() -> bool:
        nonlocal done
        now = sum(place < count and trial.state.is_finished() for place, trial in study.holders().items())
        progress.advance(now - done)
        done = now
        return done >= count

    try:
        advance()
        if done:
            progress.line(f"{done} of {count} are done already")
        while not advance():
            progress.describe("trials")
            running = study.claim(count, searcher.propose, searcher.space)
            if running is None:
                progress.describe("waiting for other processes")
                time.sleep(PAUSE)
                continue
            try:
                value, failure, counts = searcher.run(running)
            except Exception as error:
                error.add_note(
                    f"search: in trial {running.place + 1}, {_line(running.values)}; finished trials are kept"
                )
                raise
            outcome = (
                f"{value:.5g}{', pruned' * running.pruned}" if math.isfinite(value) else f"diverged {failure}".strip()
            )
            lost = "" if counts else " (does not count: others took this process for ended)"
            progress.line(f"{running.place + 1:>{len(str(count))}}/{count}  {_line(running.values)}  {outcome}{lost}")
    except KeyboardInterrupt:
        study.give_up()
        advance()
        if not done:
            raise
        progress.line("interrupted: the finished trials are kept, and the same call goes on")
        return True
    except BaseException:
        study.give_up()
        raise
    return False


def _number(value: Any, what: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{what} {value!r}, expected a number")
    return float(value)


def _line(values: Mapping[str, Value]) -> str:
    return "  ".join(f"{name} {written(value)}" for name, value in values.items())
