"""Steps that leave the range of floats: they are refused, and nothing is lost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.backend import array_module
from minidl.optim.vector import Layout


def check_weights(W: Any, layout: Layout, who: str) -> None:
    """Raise a ValueError, in the name of `who`, if a weight is NaN or infinite."""
    finite = array_module(W).isfinite(W)
    if not finite.all():
        first = int(finite.argmin())
        raise ValueError(f"{who}: {layout.locate(first)} is {W[first].item()}, expected finite weights to begin with")


@contextlib.contextmanager
def all_or_nothing(optimizer: Any, g: Any) -> Iterator[None]:
    """Raise, with the optimizer's state as it was, if g or the arithmetic of this block leaves the range of floats.

    Not where NumPy's warnings of that are ignored (`np.errstate`), and not on a GPU, which gives none.

    Raises
    ------
    FloatingPointError
        It names a gradient that is no number, or the largest one and the optimizer's settings.
    """
    if array_module(g) is not np:
        yield
        return
    settings = np.geterr()
    watched: Any = {kind: "raise" for kind in ("over", "divide", "invalid") if settings[kind] != "ignore"}
    if "invalid" in watched and not _finite(g):
        first = int(np.isfinite(g).argmin())
        raise FloatingPointError(
            f"{_place(optimizer)} the gradient of {optimizer.layout.locate(first)} is {g[first]}; nothing has moved. "
            "Within ml.detect_anomaly the op is named that made it"
        )
    state = {name: getattr(optimizer, name) for name in ("t", *optimizer.state)}
    try:
        with np.errstate(**watched):
            yield
    except FloatingPointError as error:
        vars(optimizer).update(state)
        largest = int(np.abs(g).argmax())
        raise FloatingPointError(
            f"{_place(optimizer)}: {error}; nothing has moved. The largest gradient is {g[largest]:.3g}, of "
            f"{optimizer.layout.locate(largest)}, the optimizer {optimizer!r}. Clip the gradient or lower the rate"
        ) from None


def _finite(g: Any) -> bool:
    """Say whether all elements are; mostly g·g tells, which is faster, but it overflows before they do."""
    with np.errstate(all="ignore"):
        square = np.dot(g, g)
    return math.isfinite(square) or bool(np.isfinite(g).all())


def _place(optimizer: Any) -> str:
    return f"{type(optimizer).__name__}.step: at step {optimizer.t + 1}"
