"""Splitting samples for validation."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import check_seed


def hold_out(count: int, fraction: float = 0.3, *, seed: int = 0) -> tuple[Any, Any]:
    """Split the indices 0 … count − 1 at random into (training, held out).

    Parameters
    ----------
    count : int
        The number of samples, at least 2.
    fraction : float in (0, 1), default 0.3
        How many are held out, rounded, but at least one on each side. N §1.2.2.
    seed : int, default 0

    Returns
    -------
    Two sorted arrays of indices.
    """
    if not isinstance(count, (int, np.integer)) or count < 2:
        raise ValueError(f"hold_out: count is {count!r}, expected an integer of at least 2")
    if not 0 < fraction < 1:
        raise ValueError(f"hold_out: fraction is {fraction}, expected a number between 0 and 1")
    held = min(max(1, round(count * fraction)), count - 1)
    order = np.random.default_rng(check_seed(seed, "hold_out")).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])
