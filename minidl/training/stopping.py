"""When a run ends: the stopping rules of the notes, for the `Trainer` and for `minimize`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from minidl.backend import array_module
from minidl.ops.arguments import number, positive_integer
from minidl.training.callbacks import Callback

if TYPE_CHECKING:
    from minidl.training.trainer import Trainer


class StoppingRule(Callback):
    """The base: write `check`, which looks at one step and says why the run shall end.

    A rule is a callback of the `Trainer`, and one of the `rules` of `minimize`. It looks at every step, or with
    `every = "epoch"` at every epoch. A run is one call of `fit` or `minimize`; t counts as in `history`, over all calls
    of `fit`. Each rule costs the Trainer one copy of W every time that it looks.

    Examples
    --------
    >>> class Enough(training.StoppingRule):
    ...     def check(self, t, W, e):
    ...         return f"Enough: the loss is {e:.3g} at step {t}" if e < 0.1 else None
    """

    every = "step"
    watch = "loss"  # the entry of the step's or epoch's record that is e

    def start(self, W: Any) -> None:
        """Begin a run at W: forget what was seen in the last one."""

    def check(self, t: int, W: Any, e: float) -> str | None:
        """Say why the run shall end, naming the rule and the figures; None to go on.

        Parameters
        ----------
        t : int
            The number of the step (or epoch), from 1.
        W : (n,) array
            The weights after it; a copy, which the rule may keep.
        e : float
            Its loss. That of a step was computed before the step was made.
        """
        raise TypeError(f"{type(self).__name__} has no check method")

    def on_start(self, trainer: Trainer) -> None:
        self.start(trainer.optimizer.weights)

    def on_step(self, trainer: Trainer) -> None:
        if self.every == "step":
            self._ask(trainer, trainer.history.steps[-1])

    def on_epoch(self, trainer: Trainer) -> None:
        if self.every == "epoch":
            self._ask(trainer, trainer.history.epochs[-1])

    def _ask(self, trainer: Trainer, record: dict[str, Any]) -> None:
        reason = self.check(record[self.every], trainer.optimizer.weights, record[self.watch])
        if reason:
            trainer.stop(reason)


class StepLimit(StoppingRule):
    r"""End when :math:`t \ge t_{limit}`. N §1.2.1.

    Parameters
    ----------
    t_limit : int
        In the Trainer it counts the steps of all calls of `fit`, so that a continued run ends where one run would have.
    """

    def __init__(self, t_limit: int) -> None:
        self.t_limit = positive_integer(t_limit, "StepLimit", "t_limit")

    def check(self, t: int, W: Any, e: float) -> str | None:
        return f"StepLimit: t = {t} ≥ {self.t_limit}" if t >= self.t_limit else None


class SmallStep(StoppingRule):
    r"""End when the weights hardly move: :math:`\|W^t - W^{t-1}\|_2 < \epsilon`. N §1.2.1.

    A step that leaves W where it was ends the run too, such as one that a second-order method has rejected.

    Parameters
    ----------
    eps : float
        ε.

    Notes
    -----
    It keeps a copy of W: that much memory, and two passes over W a step, fewer than an optimizer's update makes.
    """

    def __init__(self, eps: float) -> None:
        self.eps = number(eps, "SmallStep", "eps", "(0, inf)")

    def start(self, W: Any) -> None:
        self._before = W

    def check(self, t: int, W: Any, e: float) -> str | None:
        size = float(array_module(W).linalg.norm(W - self._before))
        self._before = W
        return f"SmallStep: ‖ΔW‖ = {size:.2g} < {self.eps:g} at step {t}" if size < self.eps else None


class SmallChange(StoppingRule):
    r"""End when the loss hardly changes: :math:`|e_t - e_{t-1}| < \epsilon`. N §1.2.1.

    Parameters
    ----------
    eps : float
        ε.
    every : {"step", "epoch"}, default "step"
        Whether e is the loss of a step or, in the Trainer, the mean training loss of an epoch. On mini-batches the
        loss of a step is noisy, and two of them may be close by chance.
    """

    state = ("before",)

    def __init__(self, eps: float, every: str = "step") -> None:
        self.eps = number(eps, "SmallChange", "eps", "(0, inf)")
        if every not in ("step", "epoch"):
            raise ValueError(f"SmallChange: every is {every!r}, expected 'step' or 'epoch'")
        self.every = every
        self.start(None)

    def start(self, W: Any) -> None:
        self.before = math.nan

    def check(self, t: int, W: Any, e: float) -> str | None:
        change = abs(e - self.before)
        self.before = e
        return f"SmallChange: |Δe| = {change:.2g} < {self.eps:g} at {self.every} {t}" if change < self.eps else None


class EarlyStopping(StoppingRule):
    """End when the validation has not become better for some epochs, and return to the best weights. N §1.2.1.

    It looks at epochs, so it is for the Trainer alone. The best weights and buffers are kept in memory.

    Parameters
    ----------
    patience : int, default 10
        The run ends with this many epochs in a row that are no better than the best one.
    min_delta : float, default 0
        By how much an epoch must be better to count as better. NaN is never better.
    watch : {"validation_loss", "validation_accuracy", "loss", "accuracy"}, default "validation_loss"
        The entry of `history.epochs`; of accuracies the larger is better. The last two do without validation data.
    restore_best : bool, default True
        Whether the model returns to its state after the best epoch when the run ends, however it ends: by this rule or
        another, with its epochs done, by Ctrl-C or by an error. The optimizer's state is that of the last step.

    Attributes
    ----------
    best : float or None
        The best value of this run; None before there is one.
    best_epoch : int or None
        Its epoch, as in `history`.

    Examples
    --------
    >>> stopping = training.EarlyStopping(patience=2)
    >>> trainer = training.Trainer(model, optimizer, callbacks=[stopping], progress=False)
    >>> history = trainer.fit(loader, validation=(test_x, test_y), epochs=5)
    """

    every = "epoch"
    state = ("best", "best_epoch", "best_weights", "waited")

    def __init__(
        self, patience: int = 10, min_delta: float = 0.0, watch: str = "validation_loss", restore_best: bool = True
    ) -> None:
        self.patience = positive_integer(patience, "EarlyStopping", "patience")
        self.min_delta = number(min_delta, "EarlyStopping", "min_delta")
        if watch not in ("validation_loss", "validation_accuracy", "loss", "accuracy"):
            expected = "'validation_loss', 'validation_accuracy', 'loss' or 'accuracy'"
            raise ValueError(f"EarlyStopping: watch is {watch!r}, expected {expected}")
        self.watch = watch
        self.restore_best = restore_best
        self.start(None)

    def start(self, W: Any) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.best_weights: dict[str, Any] | None = None
        self.waited = 0

    def check(self, t: int, W: Any, e: float) -> str | None:
        if self._better(e):
            self.best, self.best_epoch, self.waited = e, t, 0
            return None
        self.waited += 1
        if self.waited < self.patience:
            return None
        past = "" if self.best is None else f"; the best is {self.best:.6g} at epoch {self.best_epoch}"
        return f"EarlyStopping: {self.watch} = {e:.6g} at epoch {t}, none better for {self.waited} in a row{past}"

    def _better(self, e: float) -> bool:
        if self.best is None:
            return not math.isnan(e)
        gain = e - self.best if "accuracy" in self.watch else self.best - e
        return gain > self.min_delta

    def on_epoch(self, trainer: Trainer) -> None:
        record = trainer.history.epochs[-1]
        if self.watch not in record:
            raise ValueError(
                f"EarlyStopping: epoch {record['epoch']} has no {self.watch}, only {', '.join(record)}; a validation_… "
                "needs validation data, given to fit, and an accuracy needs labels that are class indices"
            )
        super().on_epoch(trainer)
        if self.restore_best and self.best_epoch == record["epoch"]:
            self.best_weights = trainer.model.state_dict()

    def on_end(self, trainer: Trainer) -> None:
        if self.best_weights is not None:
            trainer.model.load_state_dict(self.best_weights)
            self.best_weights = None
