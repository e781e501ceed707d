"""Steps that leave the range of floats: they are refused, and nothing is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minidl.backend import array_module
from minidl.optim.vector import Layout

KINDS = ("over", "divide", "invalid")


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
    settings: Mapping[str, object] = np.geterr()
    watched = [kind for kind in KINDS if settings[kind] != "ignore"] if array_module(g) is np else []
    where = f"{type(optimizer).__name__}.step: at step {optimizer.t + 1}"
    if "invalid" in watched and not np.isfinite(g).all():
        first = int(np.isfinite(g).argmin())
        raise FloatingPointError(
            f"{where} the gradient of {optimizer.layout.locate(first)} is {g[first]}; nothing has moved. "
            "Within ml.detect_anomaly the op is named that made it"
        )
    raised: Any = dict.fromkeys(watched, "raise")
    state = {name: getattr(optimizer, name) for name in ("t", *optimizer.state)}
    try:
        with np.errstate(**raised):
            yield
    except FloatingPointError as error:
        vars(optimizer).update(state)
        largest = int(np.abs(g).argmax())
        raise FloatingPointError(
            f"{where}: {error}; nothing has moved. The largest gradient is {g[largest]:.3g}, of "
            f"{optimizer.layout.locate(largest)}, the optimizer {optimizer!r}. Clip the gradient or lower the rate"
        ) from None
