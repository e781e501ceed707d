"""Cross-validation: train anew on each split, judge on what was held out."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import tables
from minidl.backend import check_seed, default_generator
from minidl.data import Loader
from minidl.files import replacing
from minidl.ops.arguments import positive_integer
from minidl.training.history import History
from minidl.training.trainer import Trainer

FIGURES = ("loss", "accuracy", "training_loss", "training_accuracy")
ROWS = 20  # of folds that a printed table shows


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The result of `cross_validate`; printed, it is a table.

    Attributes
    ----------
    folds : list of dict
        For each fold: `fold` (from 1), `training` and `held_out` (numbers of samples), `loss` and `accuracy` on the
        held-out part by the final weights, `training_loss` and `training_accuracy` (means over the last epoch, in
        training mode), `epochs`, `stopped`, `seconds`. Accuracies are fractions, where labels are class indices.
    mean, deviation : dict
        Of each of the four figures over the folds: the mean, and the standard deviation with n − 1 in the denominator,
        None for a single fold.
    histories : list of History
    interrupted : bool
        Whether Ctrl-C ended it; the folds are then those that were done.

    Notes
    -----
    The deviation tells how much one training varies with its data (and initial weights). It is not the error of the
    mean: the folds share most of their training samples, so that they are not independent.
    """

    folds: list[dict[str, Any]]
    mean: dict[str, float]
    deviation: dict[str, float | None]
    histories: list[History]
    interrupted: bool = False

    def __str__(self) -> str:
        """Return a table of the folds (the first twenty) and of mean ± standard deviation."""
        headings = (
            "fold",
            "training",
            "held out",
            *(name.replace("_", " ") for name in self.mean),
            "epochs",
            "seconds",
        )
        rows = [
            (
                *(f"{fold[name]:,}" for name in ("fold", "training", "held_out")),
                *(_written(name, fold[name]) for name in self.mean),
                str(fold["epochs"]),
                f"{fold['seconds']:.1f}",
            )
            for fold in self.folds[:ROWS]
        ]
        seconds = sum(fold["seconds"] for fold in self.folds)
        total = ("mean", "", "", *(self._spread(name) for name in self.mean), "", f"{seconds:.1f}")
        title = f"{len(self.folds)} folds, mean ± standard deviation"
        return tables.as_text(title, headings, rows, total=total, more=max(0, len(self.folds) - ROWS))

    def _spread(self, name: str) -> str:
        deviation = self.deviation[name]
        spread = "" if deviation is None else f" ± {_written(name, deviation)}"
        return _written(name, self.mean[name]) + spread

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write folds, mean, deviation and the epochs of every history as JSON."""
        content = {
            "folds": self.folds,
            "mean": self.mean,
            "deviation": self.deviation,
            "histories": [history.epochs for history in self.histories],
            "interrupted": self.interrupted,
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def cross_validate(
    make_trainer: Callable[[], Trainer],
    x: Any,
    y: Any,
    splits: Iterable[tuple[Any, Any]],
    epochs: int = 1,
    *,
    prepare: Callable[[Any], Callable[..., Any]] | None = None,
    validate: bool = True,
    seed: int = 0,
    show: bool = True,
    **loading: Any,
) -> CrossValidation:
    """Train anew on the training part of every split, and judge by the part that was held out. N §1.2.2.

    Parameters
    ----------
    make_trainer : callable
        Takes nothing and returns a new Trainer with a new model, optimizer and callbacks. It is called for each fold,
        and the thread's random generator starts each time from the seed and the number of the fold.
    x, y : (N, …) arrays
        Samples and labels, as for `data.Loader`.
    splits : iterable of (training indices, held-out indices)
        Of `data.splits`, of scikit-learn's `split`, or one pair, as of `hold_out`.
    epochs : int, default 1
        As for `Trainer.fit`.
    prepare : callable, optional
        Called with each fold's training samples; returns what is applied to the samples of both parts, as `augment` is,
        and after it. With `data.Standardization` the mean and deviation are those of the training part, as they must
        be: statistics that have seen the held-out samples make the result too good.
    validate : bool, default True
        Whether the held-out part is also judged after every epoch, for the histories. Stopping rules that watch it
        choose the number of epochs by it: the result is then too good by a little.
    seed : int, default 0
        Of initial weights, dropout and batches.
    show : bool, default True
        Print a line for each fold.
    **loading
        For each fold's `data.Loader`: batch_size, augment, drop_last, …; the batch size for the held-out part too.

    Returns
    -------
    CrossValidation

    Raises
    ------
    ValueError
        If a split is empty, out of range or holds out samples that it trains on; if `make_trainer` returns a Trainer or
        a model that has been trained before. Errors of a fold's training carry its number as a note.
    KeyboardInterrupt
        After Ctrl-C in the first fold. In a later one the folds that were done are returned.

    Examples
    --------
    >>> def make_trainer():
    ...     model = models.lenet5()
    ...     return training.Trainer(model, optim.Adam(model), progress=False)
    >>> folds = data.splits.stratified_k_fold(y, 10)
    >>> print(training.cross_validate(make_trainer, x, y, folds, epochs=5, prepare=data.Standardization))
    """
    x, y = np.asarray(x), np.asarray(y)
    positive_integer(epochs, "cross_validate", "epochs")
    check_seed(seed, "cross_validate")
    folds: list[dict[str, Any]] = []
    histories: list[History] = []
    used: Trainer | None = None
    interrupted = False
    for number, split in enumerate(_pairs(splits), start=1):
        kept, held = _checked(split, len(x), number)
        try:
            with _annotated(number), _seeded([seed, number]):
                began = time.perf_counter()
                used = _new(make_trainer, used)
                change = None if prepare is None else prepare(x[kept])
                settings = {"seed": seed} | loading | {"augment": _chain(loading.get("augment"), change)}
                train = Loader(x[kept], y[kept], **settings)
                judged = Loader(x[held], y[held], train.batch_size, shuffle=False, augment=_chain(change))
                figures = _figures(used, train, judged, epochs, validate)
        except KeyboardInterrupt:
            if not folds:
                raise
            interrupted = True
            break
        sizes = {"fold": number, "training": len(kept), "held_out": len(held)}
        folds.append(sizes | figures | {"seconds": time.perf_counter() - began})
        histories.append(used.history)
        if show:
            judgement = (f"{name} {_written(name, figures[name])}" for name in FIGURES[:2] if name in figures)
            print(f"fold {number}  {'  '.join(judgement)}  {folds[-1]['seconds']:.1f} s", flush=True)
    if not folds:
        raise ValueError("cross_validate: splits is empty, expected at least one pair (training, held out)")
    columns = {name: [fold[name] for fold in folds] for name in FIGURES if name in folds[0]}
    mean = {name: statistics.fmean(values) for name, values in columns.items()}
    deviation = {name: statistics.stdev(values) if len(values) > 1 else None for name, values in columns.items()}
    return CrossValidation(folds, mean, deviation, histories, interrupted)


def _figures(trainer: Trainer, train: Loader, judged: Loader, epochs: int, validate: bool) -> dict[str, Any]:
    """Train, and return what a fold's record says of it."""
    history = trainer.fit(train, judged if validate else None, epochs)
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    last = history.epochs[-1]
    training = {f"training_{name}": last[name] for name in ("loss", "accuracy") if name in last}
    return trainer.evaluate(judged) | training | {"epochs": len(history.epochs), "stopped": history.stopped}


def _pairs(splits: Any) -> Iterator[Any]:
    """Return the pairs, also if there is but one, by itself."""
    if isinstance(splits, tuple) and len(splits) == 2 and all(isinstance(part, np.ndarray) for part in splits):
        return iter([splits])
    try:
        return iter(splits)
    except TypeError as error:
        kind = type(splits).__name__
        raise TypeError(f"cross_validate: splits is {kind}, expected pairs (training, held out)") from error


def _checked(split: Any, count: int, number: int) -> tuple[Any, Any]:
    """Return the two arrays of indices; raise unless a training can be judged by them."""
    who = f"cross_validate: fold {number}"
    if not isinstance(split, (tuple, list)) or len(split) != 2:
        raise TypeError(f"{who} is {split!r:.80}, expected a pair (training indices, held-out indices)")
    parts = []
    for name, indices in zip(("training", "held-out"), split, strict=True):
        part = np.asarray(indices)
        if part.ndim != 1 or not len(part) or part.dtype.kind not in "iu":
            got = f"{part.dtype} of the shape {part.shape}"
            raise ValueError(f"{who}: the {name} part is {got}, expected indices, at least one")
        if part.min() < 0 or part.max() >= count:
            wrong = part.min() if part.min() < 0 else part.max()
            raise ValueError(f"{who}: the {name} part contains {wrong}, expected indices 0 to {count - 1}")
        parts.append(part)
    shared = np.intersect1d(parts[0], parts[1])
    if len(shared):
        raise ValueError(f"{who} holds out {len(shared)} samples that it trains on, the first is {shared[0]}")
    return parts[0], parts[1]


def _new(make_trainer: Callable[[], Trainer], used: Trainer | None) -> Trainer:
    """Make a Trainer; raise if it or its model knows samples of another fold."""
    trainer = make_trainer()
    if not isinstance(trainer, Trainer):
        raise TypeError(f"cross_validate: make_trainer returned {type(trainer).__name__}, expected a Trainer")
    again = used is not None and (trainer.model is used.model or trainer.optimizer is used.optimizer)
    if again or trainer.history.steps:
        what = "the model or optimizer of the fold before" if again else "a Trainer that has made steps"
        raise ValueError(f"cross_validate: make_trainer returned {what}; make all of it anew for every fold")
    return trainer


def _chain(*changes: Any) -> Any:
    """Return the changes of samples one after the other as one, or None if there are none."""
    given = [change for change in changes if change is not None]
    if not given:
        return None

    def chained(x: Any, generator: Any) -> Any:
        for change in given:
            x = change(x, generator)
        return x

    return chained


@contextlib.contextmanager
def _annotated(number: int) -> Iterator[None]:
    """Add the fold's number to an error."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in fold {number} of cross_validate")
        raise


@contextlib.contextmanager
def _seeded(seed: list[int]) -> Iterator[None]:
    """Let this thread's generator start from a seed in this context, and afterwards be where it was."""
    state = default_generator().bit_generator.state
    default_generator().bit_generator.state = np.random.default_rng(seed).bit_generator.state
    try:
        yield
    finally:
        default_generator().bit_generator.state = state


def _written(name: str, value: float) -> str:
    return f"{value:.2%}" if "accuracy" in name else f"{value:.4f}"
