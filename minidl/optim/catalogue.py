"""Every optimizer by the name that the command line and the pictures know it by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from minidl.optim.adaptive import Adadelta, AdaGrad, Adam, AdaMax, AMSGrad, Nadam, RMSProp
from minidl.optim.first_order import SGD, HeavyBall, Nesterov
from minidl.optim.line_search import SteepestDescent
from minidl.optim.optimizer import Optimizer
from minidl.optim.second_order import GaussNewton, LevenbergMarquardt, Newton


@dataclass(frozen=True)
class Method:
    """An optimizer and which of its hyper-parameters one would tune.

    Attributes
    ----------
    name : str
        As on the command line.
    label : str
        As in tables and pictures.
    factory : callable
        Takes the parameters, and hyper-parameters by name.
    tuned : {"lr", "eps", None}
        The hyper-parameter that sets the size of the steps; None if the method finds it itself.
    momentum : {"beta", "gamma", "betas", None}
        The hyper-parameter that says how much of the past is kept (of "betas" the first), if there is one.
    closure : {"loss", "residuals"}
        What the closure that is given to `step` computes: a loss and its gradient, or the vector of residuals.
    """

    name: str
    label: str
    factory: Callable[..., Optimizer]
    tuned: str | None = "lr"
    momentum: str | None = None
    closure: str = "loss"

    def make(self, params: Any, value: float | None = None, momentum: float | None = None, **options: Any) -> Optimizer:
        """Return the optimizer over `params`; what is None stays at its default."""
        if value is not None and self.tuned is not None:
            options[self.tuned] = value
        if momentum is not None and self.momentum is not None:
            options[self.momentum] = (momentum, 0.999) if self.momentum == "betas" else momentum
        return self.factory(params, **options)

    def setting(self, value: float | None) -> str:
        """Return the tuned value in words: "η 0.01"."""
        return "default" if value is None else f"{'η' if self.tuned == 'lr' else 'ε'} {value:g}"


METHODS = (
    Method("sgd", "SGD", SGD),
    Method("heavyball", "Heavy ball", HeavyBall, momentum="beta"),
    Method("nesterov", "Nesterov", Nesterov, momentum="beta"),
    Method("adagrad", "AdaGrad", AdaGrad),
    Method("adagrad-exp", "AdaGrad exp", partial(AdaGrad, accumulate="exp")),
    Method("rmsprop", "RMSProp", RMSProp, momentum="gamma"),
    Method("adadelta", "Adadelta", Adadelta, tuned="eps", momentum="gamma"),
    Method("adam", "Adam", Adam, momentum="betas"),
    Method("adamax", "AdaMax", AdaMax, momentum="betas"),
    Method("nadam", "Nadam", Nadam, momentum="betas"),
    Method("amsgrad", "AMSGrad", AMSGrad, momentum="betas"),
    Method("adam-uncorrected", "Adam uncorr.", partial(Adam, bias_correction=False), momentum="betas"),
    Method("rmsprop-outside", "RMSProp ε out", partial(RMSProp, eps_inside=False), momentum="gamma"),
    Method("steepest", "Steepest descent", SteepestDescent, tuned=None),
    Method("newton", "Newton", Newton, tuned=None),
    Method("gauss-newton", "Gauss–Newton", GaussNewton, tuned=None, closure="residuals"),
    Method("lm", "Levenberg–Marq.", LevenbergMarquardt, tuned=None, closure="residuals"),
)
NAMES = tuple(method.name for method in METHODS)
RACE = tuple(name for name in NAMES if name not in ("adam-uncorrected", "rmsprop-outside"))  # one form of each


def pick(names: Sequence[str] | str, among: Sequence[str] = NAMES) -> list[Method]:
    """Return the methods of these names, a list or separated by commas, in this order.

    Raises
    ------
    ValueError
        Naming the unknown ones and listing the known, or if there are none or one comes twice.
    """
    names = names.split(",") if isinstance(names, str) else names
    names = [name.strip() for name in names]
    unknown = [name for name in names if name not in among]
    if unknown:
        raise ValueError(f"optimizers: unknown {', '.join(map(repr, unknown))}; expected some of {', '.join(among)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"optimizers: {', '.join(names) or 'none'} given, expected at least one, each once")
    return [next(method for method in METHODS if method.name == name) for name in names]
