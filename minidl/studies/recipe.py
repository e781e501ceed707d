"""Recipes: how a network is trained, in words that a file can hold and a reader can check."""

from __future__ import annotations

import contextlib
import inspect
import string
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from minidl import backend, data, expressions, models, nn, optim, training
from minidl.data import augment
from minidl.optim import penalties, schedules
from minidl.studies.space import Value

CALLBACKS = ("ProgressiveSharpening", "AdversarialNoise")
ANNEALINGS = (nn.LogisticAnnealing, nn.LaplaceAnnealing)
TEST_BATCH = 500


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: one row of a study's table.

    Each part is an expression as one would write it in Python, of numbers, names in quotes and the classes of one
    module; `minidl.expressions` reads it, nothing is executed. Names in braces stand for `values`, and for `epochs` and
    `batch_size`.

    Attributes
    ----------
    name : str
        As in tables and pictures.
    model : str
        Of `minidl.models`. The number of classes, channels and the size of the images come from the data.
    optimizer : str
        Of `minidl.optim`, without parameters and rate.
    rate : str, default "{rate}"
        η: a number, or one of `optim.schedules`, which here counts epochs; empty for optimizers that have none.
    loss : str, default "CrossEntropy"
        Of `minidl.nn`.
    penalty, augment, blend, callbacks : str, default ""
        Of `optim.penalties`, `data.augment` (changes and blends) and `minidl.training`; empty for none.
    batch_size, epochs : int, default 128 and 10
    standardize : bool, default True
        Whether each channel of the images has mean 0 and deviation 1 over the training images.
    values : dict
        What the names in braces stand for: the hyper-parameters that can be varied and searched.
    group : str, default ""
        What it is compared within, where a study has several tables or panels.
    varied : dict
        Those of the values that a grid gave it.

    Examples
    --------
    >>> recipe = studies.Recipe(
    ...     "momentum", "small_cnn", "HeavyBall(beta=0.9)", rate="Cosine({rate}, {epochs})", values={"rate": 0.1}
    ... )
    """

    name: str
    model: str
    optimizer: str
    rate: str = "{rate}"
    loss: str = "CrossEntropy"
    penalty: str = ""
    augment: str = ""
    blend: str = ""
    callbacks: str = ""
    batch_size: int = 128
    epochs: int = 10
    standardize: bool = True
    values: Mapping[str, Value] = field(default_factory=dict)
    group: str = ""
    varied: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("values", "varied"):
            object.__setattr__(self, name, {key: _plain(value) for key, value in getattr(self, name).items()})
        for name in ("name", "group"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"recipe {self.name!r}: {name} is {getattr(self, name)!r}, expected a text")
        for name in ("batch_size", "epochs"):
            number = getattr(self, name)
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ValueError(f"recipe {self.name!r}: {name} is {number!r}, expected a positive integer")
        for name in PARTS:
            text = getattr(self, name)
            if not isinstance(text, str):
                raise TypeError(f"recipe {self.name!r}: {name} is {text!r}, expected a text")
            try:
                missing = _names(text) - self._known.keys()
            except ValueError as error:
                raise ValueError(f"recipe {self.name!r}: {name} is {text!r:.200}, {error}") from None
            if missing:
                absent = ", ".join(sorted(missing))
                raise ValueError(f"recipe {self.name!r}: {name} is {text!r:.200}, but there is no value for {absent}")

    @property
    def _known(self) -> dict[str, Value]:
        return {**self.values, "epochs": self.epochs, "batch_size": self.batch_size}

    @property
    def label(self) -> str:
        """The name, and the values that a grid gave it."""
        return ", ".join([self.name, *(f"{name} {value}" for name, value in self.varied.items())])

    @property
    def used(self) -> set[str]:
        """The names of the values that some part contains."""
        return {name for part in PARTS for name in _names(getattr(self, part))} & self.values.keys()

    def text(self, part: str) -> str:
        """Return a part with the values in the place of their names."""
        return str(getattr(self, part)).format_map({name: repr(value) for name, value in self._known.items()})

    @property
    def training(self) -> dict[str, Any]:
        """All that decides what the training is: the parts with their values, epochs, batches, standardization."""
        settings = {name: getattr(self, name) for name in ("batch_size", "epochs", "standardize")}
        return {part: self.text(part) for part in PARTS} | settings

    def changed(self, values: Mapping[str, Value]) -> Recipe:
        """Return the recipe with other values.

        Raises
        ------
        ValueError
            If the recipe has no such value.
        """
        unknown = values.keys() - self.values.keys()
        if unknown:
            known = ", ".join(self.values) or "none"
            raise ValueError(f"recipe {self.name!r} has no {', '.join(sorted(unknown))}, expected some of {known}")
        return replace(self, values={**self.values, **values})

    def as_dict(self) -> dict[str, Any]:
        """Return what `from_dict` makes the recipe of again, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Recipe:
        """Make the recipe that `as_dict` described.

        Raises
        ------
        ValueError
            If an entry is missing or unexpected.
        """
        known = {each.name for each in fields(cls)}
        if not isinstance(content, Mapping) or content.keys() != known or not isinstance(content["values"], Mapping):
            raise ValueError(f"this is no recipe, expected the entries {', '.join(sorted(known))}")
        return cls(**content)

    def prepare(self, dataset: data.Dataset, seed: int) -> Prepared:
        """Return a new Trainer, and the Loaders of the images to train on and to judge by.

        Initial weights, dropout, batches and augmentation follow from the seed: recipes that share a model and a seed
        begin with the same weights.

        Raises
        ------
        ValueError, TypeError
            Naming the recipe and the part that is not understood or does not fit the data.
        """
        standardize = data.Standardization(dataset.train_x) if self.standardize else None
        train = self._loader(dataset, seed, standardize)
        test = data.Loader(dataset.test_x, dataset.test_y, TEST_BATCH, shuffle=False, augment=standardize)
        backend.manual_seed(seed)
        model = self._part("model", _models(dataset))
        weights = self._parts("penalty", _derived(penalties, penalties.Penalty))
        settings: dict[str, Any] = {"penalty": weights}
        rate = self._rate(len(train))
        if rate is not None:
            settings["lr"] = rate
        optimizer = self._part("optimizer", _optimizers(model, settings))
        loss = self._part("loss", _derived(nn, nn.Loss, *ANNEALINGS))
        for penalty in weights:
            if isinstance(penalty, penalties.AdaptivePenalty):
                loss = penalty.observing(loss)
        callbacks = self._parts("callbacks", {name: getattr(training, name) for name in CALLBACKS})
        return Prepared(training.Trainer(model, optimizer, loss, callbacks=callbacks, progress=False), train, test)

    def _loader(self, dataset: data.Dataset, seed: int, standardize: data.Standardization | None) -> data.Loader:
        """Return the Loader of the training images."""
        changes = self._parts("augment", augment.CHANGES)
        changes += [standardize] if standardize else []
        blends = {name: partial(blend, classes=len(dataset.classes)) for name, blend in augment.BLENDS.items()}
        return data.Loader(
            dataset.train_x,
            dataset.train_y,
            self.batch_size,
            seed=seed,
            augment=augment.compose(*changes) if changes else None,
            blend=self._part("blend", blends) if self.blend else None,
        )

    def _rate(self, steps_per_epoch: int) -> Any:
        """Return the rate as a number, or as a schedule that counts steps; None if there is none."""
        text = self.text("rate")
        if not text:
            return None
        with contextlib.suppress(ValueError):
            return float(text)
        schedule = self._part("rate", {kind.__name__: kind for kind in schedules.KINDS})
        return schedules.InEpochs(schedule, steps_per_epoch, smooth=not schedule.whole)

    def _part(self, part: str, known: Mapping[str, Callable[..., Any]]) -> Any:
        """Return the one object that a part names."""
        made = self._parts(part, known)
        if len(made) != 1:
            raise ValueError(f"recipe {self.name!r}: {part} is {self.text(part)!r}, expected one, as {EXAMPLES[part]}")
        return made[0]

    def _parts(self, part: str, known: Mapping[str, Callable[..., Any]]) -> list[Any]:
        """Return all objects that a part names."""
        text = self.text(part)
        return expressions.parse(text, known, f"recipe {self.name!r}: {part}", EXAMPLES[part]) if text else []


@dataclass(frozen=True)
class Prepared:
    """What a recipe has made: a Trainer that has made no step, and the Loaders to train with and to judge by."""

    trainer: training.Trainer
    train: data.Loader
    test: data.Loader


EXAMPLES = {
    "model": "lenet5(dropout=0.5)",
    "optimizer": "HeavyBall(beta=0.9)",
    "rate": "Cosine(0.1, 20)",
    "loss": "LabelSmoothing(0.1)",
    "penalty": "L2(0.0001)",
    "augment": "crop(4), flip",
    "blend": "mixup(alpha=0.2)",
    "callbacks": "ProgressiveSharpening(4, 2)",
}
PARTS = tuple(EXAMPLES)


def _plain(value: Value) -> Value:
    """Return a value of Python's own kind, which is written as it is read."""
    return value.item() if isinstance(value, np.generic) else value


def _names(text: str) -> set[str]:
    """Return the names in braces; with nothing beside them, as a width, which might fill the memory with spaces."""
    try:
        found = [parts[1:] for parts in string.Formatter().parse(text) if parts[1] is not None]
    except ValueError as error:
        raise ValueError(f"which is no expression with names in braces: {error}") from None
    if any(width or conversion for _, width, conversion in found):
        raise ValueError("which has more than names in its braces, expected as in 'Cosine({rate}, 10)'")
    return {str(name) for name, _, _ in found}


def _models(dataset: data.Dataset) -> dict[str, Callable[..., Any]]:
    """Return the functions of `minidl.models`, which know classes, channels and size already."""
    height, width, channels = dataset.train_x.shape[1:]
    context = {"classes": len(dataset.classes), "channels": channels, "size": (height, width)}
    known: dict[str, Callable[..., Any]] = {}
    for name in models.__all__:
        function = getattr(models, name)
        accepted = inspect.signature(function).parameters
        known[name] = partial(function, **{key: value for key, value in context.items() if key in accepted})
    inputs = height * width * channels
    return known | {"mlp": lambda *hidden: models.mlp([inputs, *hidden, len(dataset.classes)])}


def _optimizers(model: nn.Module, settings: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    kinds = _derived(optim, optim.Optimizer)
    clips = {kind.__name__: kind for kind in (optim.ClipNorm, optim.ClipValue)}
    return {**{name: partial(kind, model, **settings) for name, kind in kinds.items()}, **clips}


def _derived(module: Any, base: type, *others: type) -> dict[str, Callable[..., Any]]:
    """Return the classes of a module that derive from a base, and some others, by their names."""
    kinds = [kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, base)]
    return {kind.__name__: kind for kind in (*kinds, *others) if kind is not base}
