"""Learning-rate schedules: each is its equation, a function of t alone, so that it can be plotted and resumed.

t = 0, 1, 2, … counts finished steps, or epochs: what is t in an equation is in the unit of the schedule's own lengths.
An optimizer counts steps; `InEpochs` stands between it and a schedule that counts epochs.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from minidl.optim.plateau import ReduceOnPlateau
from minidl.optim.schedule import Schedule

__all__ = [
    "Constant",
    "Cosine",
    "Decay",
    "Exponential",
    "InEpochs",
    "PiecewiseConstant",
    "ReduceOnPlateau",
    "Restarts",
    "Schedule",
    "SquareRoot",
    "WarmUp",
    "from_state_dict",
]

ROUNDING = 1e-10  # a t that lies no further before a restart, in parts of itself, lies at it
NEAR = 1e-6  # but never further than this part of a period


class Constant(Schedule):
    r"""The same rate always.

    .. math:: \eta_t = \eta_0

    Parameters
    ----------
    lr : float
        :math:`\eta_0`.

    Notes
    -----
    N §1.2.3.2.
    """

    def __init__(self, lr: float) -> None:
        self.lr = self.checked("lr", lr)

    def at(self, t):
        return self.lr


class Decay(Schedule):
    r"""Each rate is the last one, divided by a little more.

    .. math:: \eta_t = \frac{\eta_{t-1}}{1 + \tau_t\, t}, \qquad \tau_t = \tau \quad\text{or}\quad
        \tau_t = \tau\, \alpha^{\lfloor t/T \rfloor}

    Parameters
    ----------
    lr : float
        :math:`\eta_0`.
    tau : float
        τ.
    step : int, optional
        T, after how many steps each τ becomes ατ. Without it τ is constant.
    alpha : float in (0, 1], default 0.9
        α.

    Notes
    -----
    N §1.2.3.2. The divisors multiply: with a constant τ the rate falls faster than any exponential, as
    :math:`\eta_0 / \prod_k (1 + \tau k)`. t takes whole numbers only. The recursion goes on from the last t that was
    asked for, or from 0 if that was a later one.

    Examples
    --------
    >>> rate = optim.schedules.Decay(0.1, tau=0.1)
    >>> [round(rate(t), 4) for t in (0, 1, 2, 3)]
    [0.1, 0.0909, 0.0758, 0.0583]
    """

    whole = True

    def __init__(self, lr: float, tau: float, step: int | None = None, alpha: float = 0.9) -> None:
        self.lr = self.checked("lr", lr)
        self.tau = self.checked("tau", tau)
        self.step = None if step is None else self.checked("step", step, "[1, inf)", whole=True)
        self.alpha = self.checked("alpha", alpha, "(0, 1]")
        self._reached = (0, self.lr)

    def at(self, t):
        k, rate = self._reached
        if k > t:
            k, rate = 0, self.lr
        while k < t and rate > 0:
            k += 1
            tau = self.tau if self.step is None else self.tau * self.alpha ** (k // self.step)
            rate = rate / (1 + tau * k)
            if self._vanished(k, tau):
                k = t
        self._reached = (k, rate)
        return rate

    def _vanished(self, k: int, tau: float) -> bool:
        """Say whether no later τ t can change the rate: τ is 0, or is lost beside 1 and falls faster than t grows."""
        if self.step is None or tau == 0:
            return tau == 0
        end = k + self.step  # this τ is another one by then
        return 1 + tau * end == 1 and self.alpha * end <= k


class Exponential(Schedule):
    r"""Exponential decrease, in one of two forms.

    .. math:: \eta_t = \eta_0 \exp(-\alpha t) \qquad\text{or}\qquad \eta_t = \eta_0 \cdot rate^{\,t/decay\_steps}

    Parameters
    ----------
    lr : float
        :math:`\eta_0`.
    alpha : float, optional
        α.
    rate : float in (0, 1], optional
        The second form's base, by which the rate is multiplied in every `decay_steps`.
    decay_steps : float, optional
        Goes with `rate`.

    Raises
    ------
    ValueError
        If not exactly one of the two forms is given.

    Notes
    -----
    N §1.2.3.2; the second form is P's.

    Examples
    --------
    >>> Exponential(0.1, 0.01)
    Exponential(lr=0.1, alpha=0.01)
    >>> Exponential(0.1, rate=0.96, decay_steps=1000)
    Exponential(lr=0.1, rate=0.96, decay_steps=1000)
    """

    def __init__(
        self, lr: float, alpha: float | None = None, *, rate: float | None = None, decay_steps: float | None = None
    ) -> None:
        if (rate is None) != (decay_steps is None) or (alpha is None) == (rate is None):
            given = f"alpha is {alpha!r}, rate is {rate!r}, decay_steps is {decay_steps!r}"
            raise ValueError(f"Exponential: {given}; expected either alpha, or rate and decay_steps")
        self.lr = self.checked("lr", lr)
        self.alpha = None if alpha is None else self.checked("alpha", alpha)
        self.rate = None if rate is None else self.checked("rate", rate, "(0, 1]")
        self.decay_steps = None if decay_steps is None else self.checked("decay_steps", decay_steps, "(0, inf)")

    def at(self, t):
        if self.alpha is not None:
            return self.lr * math.exp(-self.alpha * t)
        return self.lr * self.rate ** (t / self.decay_steps)


class SquareRoot(Schedule):
    r"""The rate falls with the square root of time.

    .. math:: \eta_t = \eta_0\, (t + 1)^{-1/2}

    Parameters
    ----------
    lr : float
        :math:`\eta_0`.

    Notes
    -----
    N §1.2.3.2.

    Examples
    --------
    >>> rate = optim.schedules.SquareRoot(0.1)
    >>> [round(rate(t), 4) for t in (0, 3, 99)]
    [0.1, 0.05, 0.01]
    """

    def __init__(self, lr: float) -> None:
        self.lr = self.checked("lr", lr)

    def at(self, t):
        return self.lr / math.sqrt(t + 1)


def half_cosine(start: float, final: float, fraction: float) -> float:
    """Return what lies at this fraction of the way from `start` down to `final`, exactly them at 0 and 1."""
    weight = (1 + math.cos(math.pi * fraction)) / 2
    return weight * start + (1 - weight) * final


class Cosine(Schedule):
    r"""Half a period of the cosine, from the first rate to the last.

    .. math:: \eta_t = \begin{cases} \eta_T + \dfrac{\eta_0 - \eta_T}{2}\big(1 + \cos(\pi t/T)\big) & t < T \\
        \eta_T & t \ge T \end{cases}

    Parameters
    ----------
    lr : float
        :math:`\eta_0`.
    steps : float
        T.
    final : float, default 0
        :math:`\eta_T`.

    Notes
    -----
    N §1.2.3.2; Loshchilov and Hutter 2017.

    Examples
    --------
    >>> rate = optim.schedules.Cosine(0.1, steps=100, final=0.001)
    >>> [round(rate(t), 4) for t in (0, 50, 100, 200)]
    [0.1, 0.0505, 0.001, 0.001]
    >>> optimizer = optim.SGD(model, lr=rate)
    """

    def __init__(self, lr: float, steps: float, final: float = 0.0) -> None:
        self.lr = self.checked("lr", lr)
        self.steps = self.checked("steps", steps, "(0, inf)")
        self.final = self.checked("final", final)

    def at(self, t):
        return half_cosine(self.lr, self.final, t / self.steps) if t < self.steps else self.final


class WarmUp(Schedule):
    r"""A line up to the peak, then the cosine down.

    .. math:: \eta_t = \begin{cases} \eta_0 + \alpha t, \quad \alpha = (\eta_p - \eta_0) / T & t < T \\
        \eta_S + \dfrac{\eta_p - \eta_S}{2}\Big(1 + \cos\dfrac{\pi (t - T)}{S - T}\Big) & T \le t < S \\
        \eta_S & t \ge S \end{cases}

    Parameters
    ----------
    lr : float
        :math:`\eta_0`, the first rate.
    peak : float
        :math:`\eta_p \ge \eta_0`, the rate that is reached at T.
    warmup : float
        T.
    steps : float
        S > T, where the cosine ends.
    final : float, default 0
        :math:`\eta_S`.

    Notes
    -----
    N §1.2.3.2. The notes' own formula jumps at T: it goes on with
    :math:`\eta_T + \frac{\eta_0 - \eta_T}{2}(1 + \cos(\pi t/T))`, which begins at the cosine's lowest point and rises
    again. Here the cosine begins at T, from the rate that the line has reached, so that the schedule is continuous.

    Examples
    --------
    >>> rate = optim.schedules.WarmUp(0.0, peak=0.1, warmup=10, steps=100)
    >>> [round(rate(t), 4) for t in (0, 5, 10, 55, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """

    def __init__(self, lr: float, peak: float, warmup: float, steps: float, final: float = 0.0) -> None:
        self.lr = self.checked("lr", lr)
        self.peak = self.checked("peak", peak, f"[{self.lr!r}, inf)")
        self.warmup = self.checked("warmup", warmup, "(0, inf)")
        self.steps = self.checked("steps", steps, f"({self.warmup!r}, inf)")
        self.final = self.checked("final", final)

    def at(self, t):
        if t < self.warmup:
            return self.lr + (self.peak - self.lr) * (t / self.warmup)
        return half_cosine(self.peak, self.final, min(1, (t - self.warmup) / (self.steps - self.warmup)))


class Restarts(Schedule):
    r"""The cosine, begun anew from the first rate after every period (warm restarts, SGDR).

    .. math:: \eta_t = \eta_T + \frac{\eta_0 - \eta_T}{2}\Big(1 + \cos\frac{\pi (t - t_i)}{T_i}\Big), \qquad
        t_i \le t < t_{i+1} = t_i + T_i, \quad T_{i+1} = mult \cdot T_i

    Parameters
    ----------
    lr : float
        :math:`\eta_0`, the rate at every restart.
    period : float
        :math:`T_0`.
    mult : float of at least 1, default 1
        What each period is multiplied by to give the next.
    final : float, default 0
        :math:`\eta_T`, which each period approaches, and the next restart leaves.

    Notes
    -----
    N §1.2.3.2; Loshchilov and Hutter 2017.

    Examples
    --------
    >>> rate = optim.schedules.Restarts(0.1, period=10)
    >>> [round(rate(t), 4) for t in (0, 5, 9, 10)]
    [0.1, 0.05, 0.0024, 0.1]
    """

    def __init__(self, lr: float, period: float, mult: float = 1, final: float = 0.0) -> None:
        self.lr = self.checked("lr", lr)
        self.period = self.checked("period", period, "(0, inf)")
        self.mult = self.checked("mult", mult, "[1, inf)")
        self.final = self.checked("final", final)

    def at(self, t):
        growth = self.mult - 1
        if growth == 0:
            begins = lambda cycle: self.period * cycle
            cycle = math.floor(t / self.period)
        else:  # the lengths are a geometric series
            begins = lambda cycle: self.period * (math.expm1(cycle * math.log1p(growth)) / growth)
            cycle = math.floor(math.log1p(t / self.period * growth) / math.log1p(growth))
        length = self.period * self.mult**cycle
        if math.ulp(t) > length / 2:
            raise ValueError(f"Restarts: t is {t}, where floats are too coarse for a period of {length:.4g}")
        latest = t + min(ROUNDING * t, NEAR * length)
        while begins(cycle) > latest:  # the logarithm may be off by one
            cycle -= 1
        while begins(cycle + 1) <= latest:
            cycle += 1
        return half_cosine(self.lr, self.final, max(0, t - begins(cycle)) / (self.period * self.mult**cycle))


class PiecewiseConstant(Schedule):
    r"""A rate for each stretch of the training.

    .. math:: \eta_t = \eta^{(i)} \quad\text{for}\quad b_i \le t < b_{i+1}, \qquad b_0 = 0

    Parameters
    ----------
    rates : sequence of float
        :math:`\eta^{(0)}, \eta^{(1)}, \dots`
    boundaries : sequence of float
        :math:`b_1, b_2, \dots`, one less than rates, rising: from `boundaries[i]` on, itself included, the rate is
        `rates[i + 1]`.

    Notes
    -----
    N §1.2.3.2 and R, which trains with 0.1 for the first 75 % of the epochs and with 0.001 from then on.

    Examples
    --------
    >>> epochs = 160
    >>> InEpochs(PiecewiseConstant([0.1, 0.001], [0.75 * epochs]), steps_per_epoch=391)
    InEpochs(schedule=PiecewiseConstant(rates=(0.1, 0.001), boundaries=(120.0,)), steps_per_epoch=391)
    """

    def __init__(self, rates: Iterable[float], boundaries: Iterable[float]) -> None:
        self.rates = self._numbers("rates", rates)
        self.boundaries = self._numbers("boundaries", boundaries, "(0, inf)")
        if len(self.rates) != len(self.boundaries) + 1:
            lengths = f"{len(self.rates)} rates and {len(self.boundaries)} boundaries"
            raise ValueError(f"PiecewiseConstant: there are {lengths}, expected one rate more than boundaries")
        if any(earlier >= later for earlier, later in pairwise(self.boundaries)):
            raise ValueError(f"PiecewiseConstant: boundaries is {self.boundaries}, expected rising numbers")

    def _numbers(self, name: str, values: Any, within: str = "[0, inf)") -> tuple[float, ...]:
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise TypeError(f"PiecewiseConstant: {name} is {values!r}, expected a sequence of numbers")
        return tuple(self.checked(f"{name}[{i}]", value, within) for i, value in enumerate(values))

    def at(self, t):
        return self.rates[bisect_right(self.boundaries, t)]


class InEpochs(Schedule):
    """A schedule that counts epochs, for an optimizer that counts steps.

    Parameters
    ----------
    schedule : Schedule
        Its lengths are in epochs.
    steps_per_epoch : int
    smooth : bool, default False
        Whether the rate changes in every step, at the fraction t / `steps_per_epoch`, and not only from epoch to epoch.
    """

    def __init__(self, schedule: Schedule, steps_per_epoch: int, smooth: bool = False) -> None:
        if not isinstance(schedule, Schedule):
            raise TypeError(f"InEpochs: schedule is {schedule!r}, expected one of optim.schedules")
        self.schedule = schedule
        self.steps_per_epoch = self.checked("steps_per_epoch", steps_per_epoch, "[1, inf)", whole=True)
        if not isinstance(smooth, (bool, np.bool_)):
            raise TypeError(f"InEpochs: smooth is {smooth!r}, expected True or False")
        if smooth and schedule.whole:
            raise ValueError(f"InEpochs: smooth is True, but {type(schedule).__name__} takes whole epochs only")
        self.smooth = bool(smooth)

    def at(self, t):
        return self.schedule(t / self.steps_per_epoch if self.smooth else t // self.steps_per_epoch)

    def observe(self, t: float, loss: float) -> None:
        """Pass the loss on, t in epochs; without `smooth` a cut amid an epoch holds from the next one on."""
        self.schedule.observe(self.checked("t", t) / self.steps_per_epoch, loss)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.check_entries(state)
        self.check_settings(self._around(self.schedule, state))
        self.schedule.load_state_dict(state["schedule"])

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Schedule:
        cls.check_entries(state)
        return cls._around(from_state_dict(state["schedule"]), state)

    @classmethod
    def _around(cls, schedule: Schedule, state: Mapping[str, Any]) -> InEpochs:
        try:
            return cls(schedule, state["steps_per_epoch"], state["smooth"])
        except TypeError as error:
            raise ValueError(str(error)) from error


KINDS: tuple[type[Schedule], ...] = (
    Constant,
    Decay,
    Exponential,
    SquareRoot,
    Cosine,
    WarmUp,
    Restarts,
    PiecewiseConstant,
    ReduceOnPlateau,
    InEpochs,
)


def from_state_dict(state: Mapping[str, Any]) -> Schedule:
    """Make the schedule again whose `state_dict` this is.

    Raises
    ------
    ValueError
        If it is none of this module's, or an entry is missing, unexpected or bad.
    """
    name = state.get("class") if isinstance(state, Mapping) else state
    kind = next((kind for kind in KINDS if kind.__name__ == name), None)
    if kind is None:
        known = ", ".join(kind.__name__ for kind in KINDS)
        raise ValueError(f"from_state_dict: the class is {name!r}, expected one of {known}")
    return kind.from_state(state)
