"""Looking for the op that makes the first NaN, forward or backward."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl import backend, forward


class AnomalyError(FloatingPointError):
    """An op made a NaN (or, if asked for, an infinite value) of inputs without any."""


class _Mode(threading.local):
    on = False
    infinite = False


mode = _Mode()


class detect_anomaly:
    """Raise where the first NaN is made: `with ml.detect_anomaly(): ...`.

    Forward, the error names the op, where in its result the NaN is, and the range of each input. Backward, it names the
    op whose derivative made it and the line that had called the op, in a block of this kind too. A NaN that is in the
    inputs already is named as such: it came with the data or the weights. Other threads are not affected.

    Every result and every gradient is looked through, and every call remembered: for finding a fault, not for training.

    Parameters
    ----------
    infinite : bool, default False
        Whether infinite values count as NaN does.

    Raises
    ------
    AnomalyError
        A FloatingPointError.
    RuntimeError
        For ops whose launches are being captured: nobody can look into them.

    Examples
    --------
    >>> import numpy as np
    >>> import minidl as ml
    >>> x = ml.Tensor([-1.0, 4.0], requires_grad=True)
    >>> with np.errstate(invalid="ignore"), ml.detect_anomaly():
    ...     y = ml.ops.sqrt(x)
    Traceback (most recent call last):
    minidl.anomaly.AnomalyError: sqrt: the result holds nan at (0); x has shape (2,) and lies in [-1, 4]
    """

    def __init__(self, infinite: bool = False) -> None:
        self.infinite = infinite

    def __enter__(self) -> None:
        self._before = mode.on, mode.infinite
        mode.on, mode.infinite = True, self.infinite

    def __exit__(self, *exception: object) -> None:
        mode.on, mode.infinite = self._before


def looked_into(name: str, names: Sequence[str], arrays: Sequence[Any], data: Any, derivatives: Any) -> Any:
    """Raise AnomalyError if an op's result holds what is looked for; return its derivatives, which will do the same.

    Parameters
    ----------
    name, names : str, sequence of str
        Of the op and of its arguments.
    arrays, data, derivatives
        The arguments, the result, and the derivatives: a function, a tuple of them, or a `graph.Joint`.
    """
    if backend.capturing():
        raise RuntimeError(f"{name}: detect_anomaly cannot look into a captured step; train with capture=False")
    names = [*names, *(f"argument {place + 1}" for place in range(len(names), len(arrays)))]
    inputs = [(key, forward.value(x)) for key, x in zip(names, arrays, strict=False) if _floats(forward.value(x))]
    for key, array in inputs:
        if found := _first(array, mode.infinite):
            raise AnomalyError(f"{name}: {key} held {found} before: it came with the data or the weights")
    if found := _first(forward.value(data), mode.infinite):
        given = "; ".join(f"{key} has shape {array.shape} and {_range(array)}" for key, array in inputs)
        raise AnomalyError(f"{name}: the result holds {found}; {given}")
    return _checking(derivatives, name, names)


def _checking(derivatives: Any, name: str, names: Sequence[str]) -> Any:
    """Return the derivatives of an op so that each looks through the gradient that it returns."""
    infinite = mode.infinite
    called = "".join(traceback.format_list(traceback.extract_stack()[:-3][-6:]))

    def check(gradient: Any, g: Any, place: int) -> Any:
        if found := _first(gradient, infinite):
            origin = "g held it already" if _first(g, infinite) else f"g {_range(g)}"
            raise AnomalyError(
                f"{name}: the gradient with respect to {names[place]} holds {found}; {origin}. The op was called at\n"
                f"{called}"
            )
        return gradient

    if isinstance(derivatives, tuple):
        return tuple(
            derivative and (lambda g, place=place, derivative=derivative: check(derivative(g), g, place))
            for place, derivative in enumerate(derivatives)
        )
    if hasattr(derivatives, "needed"):
        joint = derivatives.function
        derivatives.function = lambda g, needed: [
            check(gradient, g, place) if wanted else gradient
            for place, (gradient, wanted) in enumerate(zip(joint(g, needed), needed, strict=False))
        ]
        return derivatives
    return derivatives and (lambda g: check(derivatives(g), g, 0))


def _floats(array: Any) -> bool:
    return hasattr(array, "dtype") and array.dtype.kind in "fc"


def _first(array: Any, infinite: bool) -> str | None:
    """Say which is the first value that is looked for, and where; None if there is none."""
    if not _floats(array):
        return None
    xp = backend.array_module(array)
    bad = ~xp.isfinite(array) if infinite else xp.isnan(array)
    if not bad.any():
        return None
    place = np.unravel_index(int(bad.argmax()), array.shape)
    return f"{array[place].item()} at ({', '.join(str(i) for i in place)})"


def _range(array: Any) -> str:
    if not array.size or array.dtype.kind != "f":
        return "has no range"
    return f"lies in [{float(array.min()):.4g}, {float(array.max()):.4g}]"
