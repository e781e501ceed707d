"""Who races: every optimizer by the name that the command line knows it by, with the small grid that it is tuned on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from minidl import optim


@dataclass(frozen=True)
class Contender:
    """An optimizer in a study.

    Attributes
    ----------
    name : str
        As on the command line.
    label : str
        As in tables and pictures.
    factory : callable
        Takes the parameters, and `tuned=value` under the name of the tuned hyper-parameter.
    grid : tuple of float
        The values that are tried; as many for every optimizer, half a decade apart.
    tuned : str
        The hyper-parameter that the grid is for: "lr", or "eps" for a method without a rate.
    """

    name: str
    label: str
    factory: Callable[..., optim.Optimizer]
    grid: tuple[float, ...]
    tuned: str = "lr"

    def make(self, params: Any, value: float | None) -> optim.Optimizer:
        """Return the optimizer over `params`, with the tuned hyper-parameter at `value` or at its default."""
        return self.factory(params) if value is None else self.factory(params, **{self.tuned: value})

    def at_edge(self, value: float | None) -> bool:
        """Say whether a tuned value is the grid's first or last: a larger grid might have found a better one."""
        return value in (self.grid[0], self.grid[-1])

    def setting(self, value: float | None) -> str:
        """Return the setting in words: "η 0.01"."""
        return "default" if value is None else f"{'η' if self.tuned == 'lr' else 'ε'} {value:g}"


ALL = (
    Contender("sgd", "SGD", optim.SGD, (0.01, 0.03, 0.1)),
    Contender("heavyball", "Heavy ball", optim.HeavyBall, (0.003, 0.01, 0.03)),
    Contender("nesterov", "Nesterov", optim.Nesterov, (0.01, 0.03, 0.1)),
    Contender("adagrad", "AdaGrad", optim.AdaGrad, (0.003, 0.01, 0.03)),
    Contender("adagrad-exp", "AdaGrad exp", partial(optim.AdaGrad, accumulate="exp"), (0.03, 0.1, 0.3)),
    Contender("rmsprop", "RMSProp", optim.RMSProp, (0.001, 0.003, 0.01)),
    Contender("adadelta", "Adadelta", optim.Adadelta, (1e-7, 1e-6, 1e-5), tuned="eps"),
    Contender("adam", "Adam", optim.Adam, (0.003, 0.01, 0.03)),
    Contender("adamax", "AdaMax", optim.AdaMax, (0.002, 0.006, 0.02)),
    Contender("nadam", "Nadam", optim.Nadam, (0.001, 0.003, 0.01)),
    Contender("amsgrad", "AMSGrad", optim.AMSGrad, (0.001, 0.003, 0.01)),
    Contender("adam-uncorrected", "Adam uncorr.", partial(optim.Adam, bias_correction=False), (0.001, 0.003, 0.01)),
    Contender("rmsprop-outside", "RMSProp ε out", partial(optim.RMSProp, eps_inside=False), (0.001, 0.003, 0.01)),
)
NAMES = tuple(contender.name for contender in ALL)
DEFAULT = NAMES[:11]


def pick(names: Sequence[str] | str) -> list[Contender]:
    """Return the contenders of these names, a list or separated by commas, in this order.

    Raises
    ------
    ValueError
        Naming the unknown ones and listing the known, or if there are none or one comes twice.
    """
    names = names.split(",") if isinstance(names, str) else names
    names = [name.strip() for name in names]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"optimizers: unknown {', '.join(map(repr, unknown))}; expected some of {', '.join(NAMES)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"optimizers: {', '.join(names) or 'none'} given, expected at least one, each once")
    return [next(contender for contender in ALL if contender.name == name) for name in names]
