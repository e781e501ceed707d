"""The schedule that watches the loss."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise

from minidl.optim.schedule import Schedule


class ReduceOnPlateau(Schedule):
    r"""The rate is cut when the watched loss has stopped falling.

    .. math:: \eta_t = \max(\eta_0\, f^{\,n_t},\ least), \qquad n_t = \text{the number of cuts at or before } t

    Give the loss to `observe`. A loss falls if it is below (1 − threshold) times the best so far. When more than
    `patience` losses in a row have not fallen, the rate is cut, and `cooldown` losses are let pass before they count
    again. The times of the cuts are kept, so that the rates can be plotted afterwards.

    Parameters
    ----------
    lr : float
        :math:`\eta_0`.
    factor : float in (0, 1), default 0.1
        f.
    patience : int, default 10
    threshold : float in [0, 1), default 1e-4
    cooldown : int, default 0
    least : float of at most `lr`, default 0

    Attributes
    ----------
    cuts : list
        When the rate was cut. At `least` there is nothing to cut any more.

    Notes
    -----
    The wait is that of PyTorch's `ReduceLROnPlateau(mode="min", threshold_mode="rel", eps=0)`, which is made for losses
    that are not negative: below 0, what is no worse than the best by the threshold falls. NaN and ±∞ have not fallen.
    """

    state = ("cuts", "best", "waited", "cooling", "seen")

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        least: float = 0.0,
    ) -> None:
        self.lr = self.checked("lr", lr)
        self.factor = self.checked("factor", factor, "(0, 1)")
        self.patience = self.checked("patience", patience, whole=True)
        self.threshold = self.checked("threshold", threshold, "[0, 1)")
        self.cooldown = self.checked("cooldown", cooldown, whole=True)
        self.least = self.checked("least", least, f"[0, {self.lr!r}]")
        self.cuts: list[float] = []
        self.best: float | None = None
        self.waited = self.cooling = 0  # losses since the best; losses still to be let pass
        self.seen: float | None = None  # the t of the last loss

    def at(self, t):
        return max(self.lr * self.factor ** bisect_right(self.cuts, t), self.least)

    def observe(self, t: float, loss: float) -> None:
        """Take note of the watched loss after t finished steps; a cut holds from this t on.

        Raises
        ------
        ValueError
            If t is not later than the last one.
        """
        t, loss = self.checked("t", t), self.number("loss", loss)
        if self.seen is not None and t <= self.seen:
            raise ValueError(f"ReduceOnPlateau.observe: t is {t}, expected more than the last one, {self.seen}")
        self.seen = t
        if math.isfinite(loss) and (self.best is None or loss < self.best * (1 - self.threshold)):
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.waited > self.patience:
            if self.at(t) > self.least:
                self.cuts.append(t)
            self.cooling, self.waited = self.cooldown, 0

    def _take_state(self, state):
        cuts, seen = state["cuts"], state["seen"]
        if not isinstance(cuts, list):
            raise TypeError(f"ReduceOnPlateau: cuts is {cuts!r}, expected a list")
        self.cuts = [self.checked(f"cuts[{i}]", cut) for i, cut in enumerate(cuts)]
        if any(earlier >= later for earlier, later in pairwise(self.cuts)):
            raise ValueError(f"ReduceOnPlateau: cuts is {cuts}, expected rising numbers")
        self.best = None if state["best"] is None else self.checked("best", state["best"], "(-inf, inf)")
        self.waited = self.checked("waited", state["waited"], f"[0, {self.patience}]", whole=True)
        self.cooling = self.checked("cooling", state["cooling"], f"[0, {self.cooldown}]", whole=True)
        last_cut = self.cuts[-1] if self.cuts else 0
        self.seen = None if seen is None and not cuts else self.checked("seen", seen, f"[{last_cut!r}, inf)")
