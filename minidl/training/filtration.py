"""Data filtration: samples that a network finds hardest, which are often mislabelled or spoiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl import nn, ops, tables
from minidl.backend import to_numpy
from minidl.data import Loader
from minidl.graph import no_grad
from minidl.ops.arguments import number, positive_integer
from minidl.tensor import Tensor

ROWS = 20  # of suspects that the report shows


@no_grad()
def sample_losses(
    model: nn.Module,
    x: Any,
    y: Any,
    loss: Callable[..., Tensor] | None = None,
    *,
    batch_size: int = 256,
    augment: Any = None,
) -> Any:
    """Return the loss of each sample by itself, by the model in evaluation mode.

    Parameters
    ----------
    model : nn.Module
    x, y : (N, …) arrays
        As for `data.Loader`.
    loss : callable, default cross entropy
        Called with (outputs, labels). One that returns a loss for each sample, shape (B,), is taken at its word; of one
        that returns their mean, as those of a Trainer do, it is the value for the sample alone, which takes a call for
        each: about a second for 10,000 samples.
    batch_size : int, default 256
    augment : callable, optional
        As of `data.Loader`: for the standardization that the model was trained with.

    Returns
    -------
    (N,) float64

    Examples
    --------
    >>> losses = training.sample_losses(model, x, y)
    >>> hardest = losses.argsort()[::-1]  # indices of the samples
    """
    (losses,) = _judged(model, x, y, loss, batch_size, augment, lambda outputs: ())
    return losses


@dataclass(frozen=True, eq=False)
class Suspects:
    """The result of `suspects`, the samples with the largest losses first; printed, it is a report.

    Attributes
    ----------
    count : int
        How many samples were judged.
    indices : (S,) array
        Of the suspects.
    losses : (S,) array
    labels, predictions : (S,) arrays
        The label that a sample has, and the class that the model gives it.
    confidences : (S,) array
        The probability that the model gives that class.
    median : float
        Of the losses of all samples, to compare with.
    classes : tuple of str
        The classes' names; empty if they were not given.
    """

    count: int
    indices: Any
    losses: Any
    labels: Any
    predictions: Any
    confidences: Any
    median: float
    classes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def kept(self) -> Any:
        """The indices of all other samples, in ascending order: what to train on if the suspects are removed."""
        return np.setdiff1d(np.arange(self.count), self.indices)

    def named(self, label: int) -> str:
        """Return the name of a class, or its number if there is no name."""
        return self.classes[label] if label < len(self.classes) else str(label)

    def __str__(self) -> str:
        """Return the numbers found, and the first twenty suspects."""
        share = f"{len(self.indices):,} of {self.count:,} samples ({len(self.indices) / self.count:.2%})"
        otherwise = int((self.labels != self.predictions).sum())
        rows = [
            (f"{index:,}", f"{loss:.3f}", self.named(label), self.named(prediction), f"{confidence:.1%}")
            for index, loss, label, prediction, confidence in zip(
                self.indices, self.losses, self.labels, self.predictions, self.confidences, strict=True
            )
        ]
        return tables.as_text(
            f"suspects: {share}, median loss of all {self.median:.3g}",
            ("sample", "loss", "label", "prediction", "its probability"),
            rows[:ROWS],
            more=max(0, len(rows) - ROWS),
            caption=f"of {otherwise:,} the model predicts another class",
        )


@no_grad()
def suspects(
    model: nn.Module,
    x: Any,
    y: Any,
    *,
    share: float = 0.01,
    above: float = 0.0,
    loss: Callable[..., Tensor] | None = None,
    classes: Iterable[str] = (),
    batch_size: int = 256,
    augment: Any = None,
) -> Suspects:
    """Find the samples with the largest losses: the first to be looked at for wrong labels and spoiled images.

    Parameters
    ----------
    model : nn.Module
        A classifier that returns logits, trained. Best on other samples than these, or not for long: a network that
        has learned a wrong label by heart finds nothing wrong with it.
    x : (N, …) array
    y : (N,) integers
    share : float in (0, 1], default 0.01
        How many to take, of all samples, rounded, but at least one.
    above : float, default 0
        Only those with a loss above this one.
    loss, batch_size, augment : optional
        As for `sample_losses`.
    classes : sequence of str, optional
        The classes' names, for the report: `dataset.classes`.

    Returns
    -------
    Suspects
        `viz.suspects` draws them.

    Notes
    -----
    N §1.1.2. To judge every sample by a network that has not seen it, train on each training part of
    `data.splits.k_fold` and take `sample_losses` of the part held out. A large loss is a reason to look, not yet one
    to remove: rare but right samples have it too.

    Examples
    --------
    >>> found = training.suspects(model, digits.train_x, digits.train_y, share=0.02, classes=digits.classes)
    >>> x, y = digits.train_x[found.kept], digits.train_y[found.kept]
    >>> len(digits.train_x), len(x)
    (1442, 1413)
    """
    number(share, "suspects", "share", "(0, 1]")
    number(above, "suspects", "above")
    y = np.asarray(to_numpy(y))
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(f"suspects: y has shape {y.shape} and dtype {y.dtype}, expected class indices (N,)")
    losses, predictions, confidences = _judged(model, x, y, loss, batch_size, augment, _decisions)
    if not np.isfinite(losses).all():
        wrong = int(np.argmin(np.isfinite(losses)))
        raise ValueError(f"suspects: the loss of sample {wrong} is {losses[wrong]}; has the training diverged?")
    hardest = np.argsort(-losses, kind="stable")[: max(1, round(share * len(losses)))]
    hardest = hardest[losses[hardest] > above]
    return Suspects(
        len(losses),
        hardest,
        losses[hardest],
        y[hardest],
        predictions[hardest],
        confidences[hardest],
        float(np.median(losses)),
        tuple(map(str, classes)),
    )


def _judged(
    model: nn.Module,
    x: Any,
    y: Any,
    loss: Callable[..., Tensor] | None,
    batch_size: int,
    augment: Any,
    more: Callable[[Tensor], tuple[Any, ...]],
) -> list[Any]:
    """Return the losses of the samples, and the arrays that `more` makes of the main outputs of a batch.

    Nothing else is kept of the outputs: images, or the logits of many classes, would fill the memory.
    """
    positive_integer(batch_size, "sample_losses", "batch_size")
    each = (lambda outputs, labels: ops.cross_entropy(outputs, labels, reduction="none")) if loss is None else loss
    batches: list[tuple[Any, ...]] = []
    with nn.evaluating(model):
        for inputs, labels in Loader(x, y, batch_size, shuffle=False, augment=augment):
            outputs = nn.main_output(model(inputs))
            batches.append((_of_each(each, outputs, labels), *more(outputs)))
    return [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]


def _decisions(outputs: Tensor) -> tuple[Any, Any]:
    """Return the classes that a model gives the samples of a batch, and their probabilities."""
    if outputs.ndim != 2:
        raise ValueError(f"suspects: the model returned the shape {outputs.shape}, expected logits (N, classes)")
    logits = to_numpy(outputs.data).astype(np.float64)
    with np.errstate(invalid="ignore"):  # of a model that has diverged: its losses tell
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return logits.argmax(axis=1), (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)


def _of_each(loss: Callable[..., Tensor], outputs: Tensor, labels: Any) -> Any:
    """Return a loss for each sample of a batch."""
    value = loss(outputs, labels)
    if value.shape == () and len(labels) > 1:
        return np.array([loss(outputs[i : i + 1], labels[i : i + 1]).item() for i in range(len(labels))])
    if value.size != len(labels):
        raise ValueError(f"sample_losses: the loss has shape {value.shape}, expected () or {(len(labels),)}")
    return to_numpy(value.data).reshape(-1).astype(np.float64)
