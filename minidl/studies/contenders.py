"""Who races on a network: optimizers of the catalogue, each with the small grid that it is tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minidl.optim import catalogue
from minidl.optim.catalogue import Method


@dataclass(frozen=True)
class Contender:
    """An optimizer in a study: its method, and the values of its tuned hyper-parameter that are tried."""

    method: Method
    grid: tuple[float, ...]

    def at_edge(self, value: float | None) -> bool:
        """Say whether a tuned value is the grid's first or last: a larger grid might have found a better one."""
        return value in (self.grid[0], self.grid[-1])


GRIDS = {
    "sgd": (0.01, 0.03, 0.1),
    "heavyball": (0.003, 0.01, 0.03),
    "nesterov": (0.01, 0.03, 0.1),
    "adagrad": (0.003, 0.01, 0.03),
    "adagrad-exp": (0.03, 0.1, 0.3),
    "rmsprop": (0.001, 0.003, 0.01),
    "adadelta": (1e-7, 1e-6, 1e-5),
    "adam": (0.003, 0.01, 0.03),
    "adamax": (0.002, 0.006, 0.02),
    "nadam": (0.001, 0.003, 0.01),
    "amsgrad": (0.001, 0.003, 0.01),
    "adam-uncorrected": (0.001, 0.003, 0.01),
    "rmsprop-outside": (0.001, 0.003, 0.01),
}
"""As many values for every optimizer, half a decade apart."""

NAMES = tuple(GRIDS)
DEFAULT = NAMES[:11]


def pick(names: Sequence[str] | str) -> list[Contender]:
    """Return the contenders of these names, a list or separated by commas, in this order; ValueError for others."""
    return [Contender(method, GRIDS[method.name]) for method in catalogue.pick(names, among=NAMES)]
