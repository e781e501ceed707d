"""Annealings: how strongly the residuals are smoothed in the course of the training.

Each is the density of a distribution, scaled so that its maximum is 1: s rises up to the peak at μ and falls after it,
towards the original objective.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import array_module
from minidl.ops.arguments import number, positive_integer


class Annealing:
    r"""The base: write `at(z)`, the curve in the distance from the peak, :math:`z = |t - \mu| / b`.

    Parameters
    ----------
    b : float, positive
        The width of the peak, as a share of the training or, with ``unit="epoch"``, in epochs.
    mu : float in [0, 1], default 0.75
        μ, where the peak is: always the share of the training that is done there, whatever the unit of b.
    unit : {"progress", "epoch"}, default "progress"
    epochs : int, optional
        How many epochs the training has; given with ``unit="epoch"``, and only then.

    Raises
    ------
    ValueError, TypeError
        If a setting is no number in its interval, the unit is none of the two, or `epochs` does not go with it.
    """

    def __init__(self, b: float, mu: float = 0.75, unit: str = "progress", epochs: int | None = None) -> None:
        who = type(self).__name__
        if unit not in ("progress", "epoch"):
            raise ValueError(f"{who}: unit is {unit!r}, expected 'progress' or 'epoch'")
        if unit == "epoch" and epochs is None:
            raise ValueError(f"{who}: unit is 'epoch', and epochs is missing, expected those of the whole training")
        if unit == "progress" and epochs is not None:
            raise ValueError(f"{who}: epochs is {epochs!r}, expected none with unit 'progress'")
        self.b, self.mu, self.unit = number(b, who, "b", "(0, inf)"), number(mu, who, "mu", "[0, 1]"), unit
        self.epochs = None if epochs is None else positive_integer(epochs, who, "epochs")

    def at(self, z: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no at method")

    def __call__(self, t: Any) -> Any:
        """Return s in [0, 1] at t.

        Parameters
        ----------
        t : float in [0, 1], or an array of them
            The share of the training that is done, whatever the unit of b: what losses are told as `progress`. Of an
            array on a GPU, s is another one there, and the values are not checked, for which the host would wait.
        """
        if array_module(t) is not np:
            return self._scaled(t)
        times = np.asarray(t)
        if times.dtype.kind not in "iuf":
            raise TypeError(f"{type(self).__name__}: t is {t!r}, expected a number in [0, 1]")
        if not ((times >= 0) & (times <= 1)).all():  # NaN too
            raise ValueError(f"{type(self).__name__}: t is {t!r}, expected the share of the training done, in [0, 1]")
        with np.errstate(over="ignore"):  # a tiny b: s is 0 but at the peak itself
            s = self._scaled(times)
        return s if times.ndim else float(s)

    def _scaled(self, times: Any) -> Any:
        return self.at(abs(times - self.mu) * (self.epochs or 1) / self.b)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        unit = "" if self.epochs is None else f", unit='epoch', epochs={self.epochs}"
        return f"{type(self).__name__}(b={self.b}, mu={self.mu}{unit})"


class LogisticAnnealing(Annealing):
    r"""The density of the logistic distribution, scaled to the maximum 1.

    .. math:: s^t = 4b\, y_1(t; \mu, b) = \operatorname{sech}^2 \frac{t - \mu}{2b}

    Parameters
    ----------
    b : float, positive
        The width of the peak, as a share of the training (R: 0.1 to 0.9) or, with ``unit="epoch"``, in epochs.
    mu : float in [0, 1], default 0.75
        μ, where the peak is: always the share of the training that is done there, whatever the unit of b.
    unit : {"progress", "epoch"}, default "progress"
    epochs : int, optional
        How many epochs the training has; given with ``unit="epoch"``, and only then.

    Notes
    -----
    R, equations 13, 16 and 21, which leave the unit of t and b open. At a distance of 1.76 b from μ, s is 1/2.

    Examples
    --------
    >>> s = nn.LogisticAnnealing(0.1, mu=0.75)
    >>> [round(s(t), 3) for t in (0.0, 0.5, 0.75, 1.0)]
    [0.002, 0.28, 1.0, 0.28]
    """

    def at(self, z: Any) -> Any:
        fall = np.exp(-z)
        return np.minimum(4 * fall / (1 + fall) ** 2, 1)  # sech²(z / 2), which cannot overflow, nor be 1 + rounding


class LaplaceAnnealing(Annealing):
    r"""The density of the Laplace distribution, scaled to the maximum 1.

    .. math:: s^t = 2b\, y_2(t; \mu, b) = e^{-|t - \mu| / b}

    Parameters
    ----------
    b : float, positive
        The width of the peak, as a share of the training (R: 0.1 to 0.9) or, with ``unit="epoch"``, in epochs.
    mu : float in [0, 1], default 0.75
        μ, where the peak is: always the share of the training that is done there, whatever the unit of b.
    unit : {"progress", "epoch"}, default "progress"
    epochs : int, optional
        How many epochs the training has; given with ``unit="epoch"``, and only then.

    Notes
    -----
    R, equations 14, 16 and 21, which leave the unit of t and b open. At a distance of 0.69 b from μ, s is 1/2.
    """

    def at(self, z: Any) -> Any:
        return np.exp(-z)
