"""Cross-validation: train anew on each split, judge on what was held out."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import nn, tables
from minidl.backend import check_seed, seeded
from minidl.data import Loader, Standardization
from minidl.data.augment import compose
from minidl.data.splits import Splits
from minidl.files import replacing
from minidl.ops.arguments import positive_integer
from minidl.tensor import Tensor
from minidl.training.diagnosis import NonFiniteLossError, first_non_finite
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
        training mode), `epochs`, `stopped`, `seconds`. Accuracies are fractions, where labels are class indices. After
        `EarlyStopping` the final weights are the best ones: the figures of the held-out part are theirs, those of the
        training part still of the last epoch.
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
        number = f"{len(self.folds)} fold{'s' * (len(self.folds) != 1)}{' (interrupted)' * self.interrupted}"
        title = f"{number}, mean ± standard deviation"
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
        and the thread's random generator starts each time from the seed and the number of the fold. Folds may share
        layers that are frozen; parameters that could learn in an earlier fold are refused. A model that was trained
        elsewhere, or a copy of one of any fold, cannot be told from a new one: the result is then too good.
    x, y : (N, …) arrays
        Samples and labels, as for `data.Loader`.
    splits : iterable of (training indices, held-out indices)
        Of `data.splits`, of scikit-learn's `split`, or one pair of arrays, as of `hold_out`.
    epochs : int, default 1
        As for `Trainer.fit`.
    prepare : callable, optional
        Called with each fold's training samples; returns what is applied to the samples of both parts, as `augment` is,
        and after it. With `data.Standardization` the mean and deviation are those of the training part, as they must
        be: statistics that have seen the held-out samples make the result too good. Images of the type uint8 come to
        `prepare` as they are, 0…255, as floats would take four times the memory; what it returns is applied to batches,
        where they are floats in [0, 1], as in `data.Loader`. `data.Standardization` reckons with that.
    validate : bool, default True
        Whether the held-out part is also judged after every epoch, for the histories. Stopping rules that watch it
        choose the number of epochs by it: the result is then too good by a little.
    seed : int, default 0
        Of initial weights, dropout and batches.
    show : bool, default True
        Print a line for each fold.
    **loading
        For each fold's `data.Loader`: batch_size, augment, drop_last, …; the batch size for the held-out part too.
        `augment` and `blend` change the training part alone.

    Returns
    -------
    CrossValidation

    Raises
    ------
    ValueError
        If x and y differ in length, or the splits are of another number of samples; if a split is empty, out of range
        or holds out samples that it trains on; if `make_trainer` returns a Trainer or an optimizer that has made steps,
        or a parameter that could learn in an earlier fold.
    TypeError
        If `prepare` or what it returns, or `augment`, cannot be called; if either is a `data.Standardization` that has
        been fitted already, or `augment` contains one: the held-out part would be seen, or not be standardized.
    NonFiniteLossError
        If a fold's loss on either part becomes NaN or infinite.
    KeyboardInterrupt
        After Ctrl-C in the first fold. In a later one the folds that were done are returned.

    Notes
    -----
    An error in a fold ends it all. It carries the fold's number as a note and the table of the folds that were done as
    another one. To have their histories and models even then, let `make_trainer` put every Trainer into a list.

    Examples
    --------
    >>> def make_trainer():
    ...     model = models.mlp([64, 32, 10])
    ...     return training.Trainer(model, optim.Adam(model), progress=False)
    >>> folds = data.splits.stratified_k_fold(y, 5)
    >>> result = training.cross_validate(make_trainer, x, y, folds, epochs=2, prepare=data.Standardization, show=False)
    >>> len(result.folds), sorted(result.mean)
    (5, ['accuracy', 'loss', 'training_accuracy', 'training_loss'])
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"cross_validate: x has shape {x.shape} and y {y.shape}, expected as many of both")
    positive_integer(epochs, "cross_validate", "epochs")
    check_seed(seed, "cross_validate")
    _check_changes(prepare, loading.get("augment"))
    done: list[tuple[dict[str, Any], History]] = []
    learned: dict[int, weakref.ref[Tensor]] = {}  # by id; weak, for they would keep every fold's weights in memory
    interrupted = False
    try:
        for number, split in enumerate(_pairs(splits, len(x)), start=1):
            kept, held = _checked(split, len(x), number)
            with _annotated(number), seeded([seed, number]):
                began = time.perf_counter()
                trainer = _new(make_trainer, learned)
                change = _prepared(prepare, x[kept])
                settings = {"seed": seed} | loading | {"augment": _chain(loading.get("augment"), change)}
                train = Loader(x[kept], y[kept], **settings)
                judged = Loader(x[held], y[held], train.batch_size, shuffle=False, augment=_chain(change))
                figures = _figures(trainer, train, judged, epochs, validate)
            seconds = time.perf_counter() - began
            sizes = {"fold": number, "training": len(kept), "held_out": len(held)}
            done.append((sizes | figures | {"seconds": seconds}, trainer.history))
            learned |= _learning(trainer)  # once more: a callback may have unfrozen some
            del trainer  # and its optimizer, which would refuse layers that come again before `_new` can say why
            if show:
                judgement = (f"{name} {_written(name, figures[name])}" for name in FIGURES[:2] if name in figures)
                print(f"fold {number}  {'  '.join(judgement)}  {seconds:.1f} s", flush=True)
    except KeyboardInterrupt:
        if not done:
            raise
        interrupted = True
    except Exception as error:
        if done:
            error.add_note(str(_result(done, interrupted=True)))
        raise
    if not done:
        raise ValueError("cross_validate: splits is empty, expected at least one pair (training, held out)")
    return _result(done, interrupted)


def _result(done: list[tuple[dict[str, Any], History]], interrupted: bool) -> CrossValidation:
    folds, histories = [fold for fold, _ in done], [history for _, history in done]
    columns = {name: [fold[name] for fold in folds] for name in FIGURES if name in folds[0]}
    mean = {name: statistics.fmean(values) for name, values in columns.items()}
    deviation = {name: statistics.stdev(values) if len(values) > 1 else None for name, values in columns.items()}
    return CrossValidation(folds, mean, deviation, histories, interrupted)


def _figures(trainer: Trainer, train: Loader, judged: Loader, epochs: int, validate: bool) -> dict[str, Any]:
    """Train, and return what a fold's record says of it."""
    history = trainer.fit(train, judged if validate else None, epochs)
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    judgement = trainer.evaluate(judged)
    if not math.isfinite(judgement["loss"]):
        with nn.evaluating(trainer.model):
            where = first_non_finite(trainer.model, next(iter(judged))[0])
        raise NonFiniteLossError(len(history.steps), len(history.epochs), judgement["loss"], where, validation=True)
    last = history.epochs[-1]
    training = {f"training_{name}": last[name] for name in ("loss", "accuracy") if name in last}
    return judgement | training | {"epochs": len(history.epochs), "stopped": history.stopped}


def _check_changes(prepare: Any, augment: Any) -> None:
    """Raise unless these can be called, and leave the two parts comparable."""
    for name, change in (("prepare", prepare), ("augment", augment)):
        if change is not None and not callable(change):
            raise TypeError(f"cross_validate: {name} is {change!r}, expected a callable")
    if isinstance(prepare, Standardization):
        advice = "the class data.Standardization itself, to be fitted on each fold's training part"
        raise TypeError(f"cross_validate: prepare is {prepare!r}, expected {advice}")
    for change in _parts(augment):
        if change is Standardization or isinstance(change, Standardization):
            advice = "which the held-out part would not get; give it as prepare=data.Standardization"
            raise TypeError(f"cross_validate: augment contains a Standardization, {advice}")


def _parts(change: Any) -> Iterator[Any]:
    """Yield the changes that one is composed of."""
    if isinstance(change, compose):
        for part in change.changes:
            yield from _parts(part)
    else:
        yield change


def _prepared(prepare: Callable[[Any], Any] | None, x: Any) -> Any:
    """Return the change that is fitted on these samples, or None."""
    if prepare is None:
        return None
    change = prepare(x)
    if not callable(change):
        expected = "a callable that is applied to the samples of both parts"
        raise TypeError(f"cross_validate: prepare returned {type(change).__name__}, expected {expected}")
    return change


def _pairs(splits: Any, count: int) -> Iterator[Any]:
    """Return the pairs, also if there is but one, by itself."""
    if isinstance(splits, Splits) and splits.samples != count:
        raise ValueError(f"cross_validate: splits is of {splits.samples} samples, but x has {count}")
    if isinstance(splits, (tuple, list)) and len(splits) == 2 and all(isinstance(part, np.ndarray) for part in splits):
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


def _new(make_trainer: Callable[[], Trainer], learned: dict[int, weakref.ref[Tensor]]) -> Trainer:
    """Make a Trainer, and remember what will learn in it; raise if any of it has learned before, as far as it shows."""
    trainer = make_trainer()
    if not isinstance(trainer, Trainer):
        raise TypeError(f"cross_validate: make_trainer returned {type(trainer).__name__}, expected a Trainer")
    again = [name for name, one in trainer.model.named_parameters() if id(one) in learned and learned[id(one)]() is one]
    what = ""
    if again:  # frozen now or not: it knows the samples of that fold
        what = f"a model whose {', '.join(again[:3])}{', …' * (len(again) > 3)} could learn in an earlier fold"
    elif trainer.history.steps:
        what = "a Trainer that has made steps"
    elif trainer.optimizer.t:
        what = "an optimizer that has made steps"
    if what:
        raise ValueError(f"cross_validate: make_trainer returned {what}; make all of it anew for every fold")
    learned |= _learning(trainer)
    return trainer


def _learning(trainer: Trainer) -> dict[int, weakref.ref[Tensor]]:
    """Return references to the parameters that are not frozen, by their ids."""
    return {id(one): weakref.ref(one) for one in trainer.model.parameters() if one.requires_grad}


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


def _written(name: str, value: float) -> str:
    return f"{value:.2%}" if "accuracy" in name else f"{value:.4f}"
