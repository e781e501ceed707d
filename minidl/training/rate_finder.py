"""The learning-rate range test: a short run with a rising rate, after which everything is as it was before."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import nn
from minidl.data import Loader
from minidl.ops.arguments import number
from minidl.optim import Optimizer
from minidl.tensor import Tensor
from minidl.training.callbacks import Callback
from minidl.training.diagnosis import NonFiniteLossError, Rewind
from minidl.training.stopping import StepLimit
from minidl.training.trainer import Trainer

LEAST_STEPS = 10


@dataclass(frozen=True, eq=False)
class RateRange:
    """The result of `find_rate`, over the T steps that were made.

    Attributes
    ----------
    rates : (T,) array
        The rate of each step.
    losses : (T,) array
        The loss of its mini-batch, computed before the step: it shows what the smaller rates have done.
    smoothed : (T,) array
        Its exponential running mean, corrected for its start.
    suggestion : float
        The rate where the smoothed loss falls most steeply against the logarithm of the rate; NaN if it never falls.
    steepest : float
        The slope there, in loss per factor of 10.
    least : float
        The rate where the smoothed loss is least. It is too high to train with.
    diverged_at : float or None
        The rate of the step at which the loss had left every bound; None if it never did.
    """

    rates: np.ndarray[Any, Any]
    losses: np.ndarray[Any, Any]
    smoothed: np.ndarray[Any, Any]
    suggestion: float
    steepest: float
    least: float
    diverged_at: float | None


def find_rate(
    model: nn.Module,
    optimizer: Optimizer,
    train: Loader,
    loss: Callable[..., Tensor] | None = None,
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.1,
    divergence: float = 4.0,
) -> RateRange:
    r"""Find a learning rate by training for a while with rates that rise from `low` to `high`.

    .. math:: \eta_i = \mathrm{low} \cdot (\mathrm{high} / \mathrm{low})^{i / (steps - 1)}, \qquad i = 0, …, steps - 1

    While the rate is too low the loss stays; then it falls; when the rate is too high it rises. Afterwards weights,
    buffers, modes, the optimizer's state and rate, random generators and the Loader's `epoch` are as before, also after
    an error, and gradients are None: a training that follows is the one that it would have been without the test.

    Parameters
    ----------
    model : nn.Module
    optimizer : optim.Optimizer
        Over the model's parameters, with a learning rate.
    train : data.Loader
        Gone through as often as needed.
    loss : nn.Loss or callable, default nn.CrossEntropy()
        As for the `Trainer`; an `nn.Loss` sees no progress, it stays as at the beginning of a training.
    low, high : float, default 1e-7 and 10
    steps : int of at least 10, default 100
    smoothing : float in (0, 1], default 0.1
        The weight of the newest loss in the running mean.
    divergence : float above 1, default 4
        The test ends early when the smoothed loss is above this multiple of its least value, or the loss is not finite.

    Returns
    -------
    RateRange
        `viz.rate_range` draws it.

    Raises
    ------
    ValueError
        If the optimizer has no learning rate, such as `Adadelta`.
    ArithmeticError
        If the loss is not finite from the first step on.
    KeyboardInterrupt
        After Ctrl-C, when everything is as before.

    Notes
    -----
    Smith 2017, "Cyclical learning rates for training neural networks", §3.3. The first tenth of the steps is not
    judged, since a mean of few losses is noise, and the steepest fall is looked for up to the least value. The running
    mean lags about 1 / `smoothing` steps behind, so that with few steps the suggestion comes out too high.

    Examples
    --------
    >>> found = training.find_rate(model, optim.SGD(model), loader, steps=20)
    >>> len(found.rates), bool(found.suggestion < found.least)
    (20, True)
    """
    _check(optimizer, train, low, high, steps, smoothing, divergence)
    given = nn.CrossEntropy() if loss is None else loss
    unannealed = lambda outputs, labels: given(outputs, labels)
    watch = _Watch(smoothing, divergence)
    trainer = Trainer(model, optimizer, unannealed, callbacks=[watch, StepLimit(steps)], progress=False)
    rates = np.geomspace(low, high, steps)
    diverged = False
    with _undone(model, optimizer, train), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        begun = optimizer.t
        optimizer.lr = lambda t: float(rates[t - begun])
        try:
            trainer.fit(train, epochs=math.ceil(steps / len(train)))
        except NonFiniteLossError:
            diverged = True
    if trainer.history.stopped == "interrupted":
        raise KeyboardInterrupt
    made = len(watch.smoothed)
    if made < 2:
        raise ArithmeticError(f"find_rate: the loss is not finite at step {made + 1}, with the rate {rates[made]:g}")
    diverged_at = float(rates[made]) if diverged else float(rates[made - 1]) if watch.diverged else None
    losses = np.array([step["loss"] for step in trainer.history.steps])
    return _judged(rates[:made], losses, np.array(watch.smoothed), diverged_at)


class _Watch(Callback):
    """Smooths the loss, and stops when it has left every bound."""

    def __init__(self, smoothing: float, divergence: float) -> None:
        self.smoothing, self.divergence = smoothing, divergence
        self.mean = self.weight = 0.0
        self.smoothed: list[float] = []
        self.diverged = False

    def on_step(self, trainer: Trainer) -> None:
        self.mean += self.smoothing * (trainer.history.steps[-1]["loss"] - self.mean)
        self.weight += self.smoothing * (1 - self.weight)
        self.smoothed.append(self.mean / self.weight)
        best = min(self.smoothed)
        if self.smoothed[-1] > best + (self.divergence - 1) * abs(best):  # a multiple, of a negative loss as well
            self.diverged = True
            trainer.stop("diverged")


def _judged(rates: Any, losses: Any, smoothed: Any, diverged_at: float | None) -> RateRange:
    """Read the suggestion off the curve."""
    slopes = np.gradient(smoothed, np.log10(rates))
    settled = len(rates) // 10
    least = settled + int(smoothed[settled:].argmin())
    steepest = settled + int(slopes[settled : least + 1].argmin())
    slope = float(slopes[steepest])
    suggestion = float(rates[steepest]) if slope < 0 else math.nan
    return RateRange(rates, losses, smoothed, suggestion, slope, float(rates[least]), diverged_at)


@contextlib.contextmanager
def _undone(model: nn.Module, optimizer: Optimizer, train: Loader) -> Iterator[None]:
    """Undo at the end of this context all that training in it has changed."""
    rewind = Rewind(model)
    rewind.mark()
    modes = [(module, module.training) for _, module in model.named_modules()]
    W, state, lr, epoch = optimizer.weights, optimizer.state_dict(), optimizer.lr, train.epoch
    try:
        yield
    finally:
        for tensor, (_, part) in zip(optimizer.params, optimizer.layout.parts(W), strict=True):
            tensor.data = part
        for tensor in (*optimizer.params, *model.parameters()):
            tensor.grad = None
        for module, mode in modes:
            module.training = mode
        optimizer.lr, train.epoch = lr, epoch
        optimizer.load_state_dict(state)
        rewind.back()


def _check(
    optimizer: Any, train: Any, low: float, high: float, steps: int, smoothing: float, divergence: float
) -> None:
    if isinstance(optimizer, Optimizer) and optimizer.lr is None:
        raise ValueError(f"find_rate: {type(optimizer).__name__} has no learning rate to find")
    if not isinstance(train, Loader):
        raise TypeError(f"find_rate: train is {type(train).__name__}, expected a data.Loader")
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or steps < LEAST_STEPS:
        raise ValueError(f"find_rate: steps is {steps!r}, expected an integer of at least {LEAST_STEPS}")
    if number(low, "find_rate", "low", "(0, inf)") >= number(high, "find_rate", "high", "(0, inf)"):
        raise ValueError(f"find_rate: low is {low!r} and high {high!r}, expected low < high")
    number(smoothing, "find_rate", "smoothing", "(0, 1]")
    number(divergence, "find_rate", "divergence", "(1, inf)")
