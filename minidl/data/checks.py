"""What images and labels must be, whoever brings them."""

from __future__ import annotations

from typing import Any

import numpy as np

ROUNDING = 1e-6  # by so much floats may leave [0, 1]


def images(x: Any, who: str) -> Any:
    """Return images as an array (N, …), uint8 or floating-point, or raise in the name of `who`."""
    x = np.asarray(x)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise TypeError(f"{who} has dtype {x.dtype}, expected uint8 (0…255) or floats ([0, 1])")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{who} has shape {x.shape}, expected (N, height, width, channels) and none of them 0")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError(f"{who} contains NaN or infinite values, the first at {_first(~np.isfinite(x))}")
    if x.dtype.kind == "f" and ((low := x.min()) < -ROUNDING or x.max() > 1 + ROUNDING):
        hint = ": divide by 255" if low >= 0 else ""
        raise ValueError(f"{who} holds floats that reach from {low:.6g} to {x.max():.6g}, expected [0, 1]{hint}")
    return x


def indices(y: Any, who: str) -> Any:
    """Return labels as an array (N,) of integers, or raise in the name of `who`."""
    y = np.asarray(y)
    if y.dtype.kind not in "iu" or y.ndim != 1:
        names = y.ndim == 1 and y.dtype.kind in "OUS"
        hint = "; of names, np.unique(names, return_inverse=True) makes the classes and these" if names else ""
        raise TypeError(
            f"{who} has dtype {y.dtype} and shape {y.shape}, expected (N,) integers, the class indices{hint}"
        )
    return y


def labels(y: Any, classes: int, who: str) -> Any:
    """Return class indices as an array (N,) of int64, or raise in the name of `who`."""
    y = indices(y, who)
    wrong = (y < 0) | (y >= classes)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"{who}: label {y[first]} at {first}, expected 0 … {classes - 1}")
    return y.astype(np.int64, copy=False)


def _first(wrong: Any) -> list[int]:
    return [int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape)]
